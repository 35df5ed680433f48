"""Following the directory: syncrepl refreshAndPersist (RFC 4533) with reconnect.

One long search. slapd answers with everything there is, then with every change as it is committed (1 to 2 ms later). A lost
connection is opened again and the search resumed with the cookie; what was deleted meanwhile is told then.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from typing import Any

import ldap
from ldap.ldapobject import SimpleLDAPObject
from ldap.syncrepl import SyncreplConsumer

from vmcloud.domain.errors import Invalid

from . import codec
from .client import EVERYTHING, Settings, connect
from .controls import CONTROLS
from .errors import describe
from .port import Callback, Changed, Down, Event, Malformed, Removed, Synced, key_of

log = logging.getLogger(__name__)

FILTER = "(|(objectClass=vmcVE)(objectClass=vmcNode)(objectClass=vmcImage)(objectClass=vmcStray)(objectClass=vmcTombstone))"
POLL = 0.5
"""Seconds after which a silent wait looks at the stop event."""

BACKOFF = (0.05, 5.0)
"""First and longest pause (s) between attempts to connect; doubled each time."""

REFRESH_REQUIRED = 4096
"""e-syncRefreshRequired (RFC 4533, 2.7): the cookie is of no use. python-ldap has no class for it."""


class Watcher:
    """One watch. Keeps entryUUID → (kind, key, version) of what it told, so that it can say what was removed.

    ``run`` belongs in a thread of the caller; the callback is called there, one event at a time, and an exception from it ends
    the watch. Only the leader should watch: each watcher slows every write.
    """

    def __init__(self, settings: Settings, suffix: str) -> None:
        self._settings = settings
        self._suffix = suffix
        self._known: dict[str, tuple[str, str, str]] = {}
        self._cookie: str | None = None

    def run(self, callback: Callback, stop: threading.Event) -> None:
        """Tell events until ``stop`` is set (noticed within half a second). After each Down everything known may be old; the next
        Synced ends that. An entry that was not changed in between is not told again."""
        pause = BACKOFF[0]
        while not stop.is_set():
            try:
                link = _connect(self._settings)
            except ldap.LDAPError as error:
                callback(Down(describe(error)))
                stop.wait(pause)
                pause = min(pause * 2, BACKOFF[1])
                continue
            feed = _Feed(self, callback)
            link.feed = feed
            try:
                self._follow(link, stop)
            except ldap.LDAPError as error:
                if _result_code(error) == REFRESH_REQUIRED:
                    self._cookie = None
                callback(Down(describe(error)))
            finally:
                _close(link)
            if feed.synced:
                pause = BACKOFF[0]
            else:
                stop.wait(pause)
                pause = min(pause * 2, BACKOFF[1])

    def _follow(self, link: _Link, stop: threading.Event) -> None:
        message = link.syncrepl_search(
            self._suffix,
            ldap.SCOPE_SUBTREE,
            mode="refreshAndPersist",
            cookie=self._cookie,
            filterstr=FILTER,
            attrlist=list(EVERYTHING),
        )
        while not stop.is_set():
            try:
                if not link.syncrepl_poll(msgid=message, timeout=POLL, all=0):
                    raise ldap.SERVER_DOWN({"desc": "the directory ended the watch"})
            except ldap.TIMEOUT:
                continue

    # What the feed does to the memory of the watcher.

    def entry(self, uuid: str, dn: str, attributes: codec.Attributes) -> Iterable[Event]:
        """Events for an entry as it is now."""
        try:
            record = codec.decode(dn, attributes)
        except Invalid as error:
            return [Malformed(dn, str(error), codec.uuid_of(attributes))]
        except Exception as error:  # one entry must not end the watch of all others, which would only meet it again
            log.exception("%s can not be read", dn)
            return [Malformed(dn, f"it can not be read: {error}", codec.uuid_of(attributes))]
        if record is None:
            return self.gone(uuid)
        kind, key = key_of(record)
        before = self._known.get(uuid)
        self._known[uuid] = (kind, key, record.version)
        if before is None:
            return [Changed(record)]
        if before[:2] != (kind, key):
            return [Removed(*before[:2]), Changed(record)]
        return [] if before[2] == record.version else [Changed(record)]

    def gone(self, uuid: str) -> Iterable[Event]:
        """Events for an entry that is no more."""
        before = self._known.pop(uuid, None)
        return [] if before is None else [Removed(*before[:2])]

    def absent(self, present: set[str]) -> Iterable[Event]:
        """Events for everything known that is not present."""
        for uuid in [uuid for uuid in self._known if uuid not in present]:
            yield from self.gone(uuid)

    def remember(self, cookie: str) -> None:
        """Where to resume."""
        self._cookie = cookie


class _Feed:
    """One connection's answers, turned into events. Present phases (RFC 4533, 3.3.1) belong to one connection."""

    def __init__(self, watcher: Watcher, callback: Callback) -> None:
        self.watcher = watcher
        self.callback = callback
        self.present: set[str] = set()
        self.synced = False

    def tell(self, events: Iterable[Event]) -> None:
        for event in events:
            self.callback(event)


class _Link(SimpleLDAPObject, SyncreplConsumer):
    """python-ldap's consumer, handing everything to its feed."""

    feed: _Feed

    def result4(self, *args: Any, **named: Any) -> Any:
        return super().result4(*args, **{**named, "resp_ctrl_classes": CONTROLS})

    def syncrepl_set_cookie(self, cookie: str) -> None:
        self.feed.watcher.remember(cookie)

    def syncrepl_get_cookie(self) -> str | None:
        return None

    def syncrepl_entry(self, dn: str, attributes: codec.Attributes, uuid: str) -> None:
        self.feed.tell(self.feed.watcher.entry(uuid, dn, attributes))

    def syncrepl_delete(self, uuids: list[str]) -> None:
        for uuid in uuids:
            self.feed.tell(self.feed.watcher.gone(uuid))

    def syncrepl_present(self, uuids: list[str] | None, refreshDeletes: bool = False) -> None:
        feed = self.feed
        if uuids is not None:
            feed.present.update(uuids)
            return
        if not refreshDeletes:
            feed.tell(feed.watcher.absent(feed.present))
        feed.present = set()

    def syncrepl_refreshdone(self) -> None:
        self.feed.synced = True
        self.feed.tell([Synced()])


def _connect(settings: Settings) -> _Link:
    """A bound connection without a time limit on answers: silence is the normal state of a watch; keepalive finds dead peers."""
    link: _Link = connect(settings, _Link)
    link.set_option(ldap.OPT_TIMEOUT, -1)
    return link


def _close(link: _Link) -> None:
    try:
        link.unbind_ext()
    except ldap.LDAPError:
        pass


def _result_code(error: ldap.LDAPError) -> int:
    details = error.args[0] if error.args else None
    return int(details.get("result", 0)) if isinstance(details, dict) else 0
