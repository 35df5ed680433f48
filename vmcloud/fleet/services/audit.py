"""The audit: what was refused, to whom, from where, through which door, and why; and who logged in.

:func:`denied` only remembers, so that a refused request takes no longer than one that is granted, and :func:`flush` writes what
came together. The same again within a minute is a count in one row; of one source only so many rows a minute are kept, and of all
sources together, and what is beyond is counted in one row for each door. So nobody fills the disk by being refused.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from django.db import DatabaseError, close_old_connections
from django.db.models import F, Q, QuerySet, Sum

from vmcloud.domain.errors import Invalid, VmcloudError
from vmcloud.fleet.audit_models import Audit

from .accounts import Actor
from .moments import moment

log = logging.getLogger(__name__)

MINUTE = 60.0
PER_SOURCE = 20
"""Rows that one source leads to in a minute, in one process."""
PER_MINUTE = 500
"""Rows of all sources in a minute, in one process."""
ROWS_MAX = 100_000
"""Rows that are kept; the oldest go first."""
PAUSE = 2.0
"""Seconds between two times of writing what came together."""
BURST = 50
BURST_SECONDS = 300.0
"""This many refusals within this time are a burst, which people are told of."""
FILTERS = ("door", "who", "source", "allowed")


class Door(StrEnum):
    """Where somebody asked; ``RIGHTS``: whatever the way, an object was somebody else's."""

    REST = "rest"
    PAGES = "pages"
    LOGIN = "login"
    LDAP = "ldap"
    BROKER = "broker"
    NODE = "node"
    WEBHOOK = "webhook"
    RIGHTS = "rights"


Key = tuple[str, str, str, str, str, bool]
"""Door, who, source, what, why, allowed."""


@dataclass
class _Entry:
    """What is remembered of one key: ``row`` once it is written, ``count`` what is not written yet."""

    first: float
    last: float
    count: int = 0
    row: int = 0


class Gatherer:
    """What this process has to write down. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._minute = 0.0
        self._entries: dict[Key, _Entry] = {}
        self._of_source: dict[str, int] = {}
        self._old: list[tuple[Key, _Entry]] = []

    def note(self, key: Key, now: float, count: int = 1) -> None:
        """Remember one more; never waits for the database."""
        with self._lock:
            if not self._minute <= now < self._minute + MINUTE:
                self._old += [(known, entry) for known, entry in self._entries.items() if entry.count]
                self._minute, self._entries, self._of_source = now, {}, {}
                del self._old[PER_MINUTE:]
            entry = self._entries.get(key)
            if entry is None:
                key = self._admitted(key)
                entry = self._entries.setdefault(key, _Entry(now, now))
            entry.last, entry.count = now, entry.count + count

    def _admitted(self, key: Key) -> Key:
        """``key``, or the one under which is counted what is too much."""
        door, who, source, *_, allowed = key
        if len(self._entries) >= PER_MINUTE:
            return door, "", "", "more from many sources", "only counted: too much in one minute", allowed
        spender = source or who
        rows = self._of_source.get(spender, 0)
        if rows >= PER_SOURCE:
            who = "" if source else who
            return door, who, source, "more from the same source", "only counted: too much in one minute", allowed
        self._of_source[spender] = rows + 1
        return key

    def write(self) -> None:
        """Write what came together. What can not be written now is tried again, and dropped after its minute."""
        with self._writing:
            with self._lock:
                due = [*self._old, *((key, entry) for key, entry in self._entries.items() if entry.count)]
                counts = [entry.count for _, entry in due]
                self._old = []
            for (key, entry), count in zip(due, counts, strict=True):
                if entry.row:
                    Audit.objects.filter(pk=entry.row).update(count=F("count") + count, last_at=entry.last)
                else:
                    row = _row(key, entry, count)
                    row.save(force_insert=True)
                    entry.row = row.pk
                with self._lock:
                    entry.count -= count

    def run(self) -> None:
        """Write again and again, in a thread of its own."""
        while True:
            time.sleep(PAUSE)
            try:
                self.write()
            except (DatabaseError, VmcloudError) as error:
                log.warning("the audit could not be written and is tried again: %s", error)
            finally:
                close_old_connections()


def _row(key: Key, entry: _Entry, count: int) -> Audit:
    door, who, source, what, why, allowed = key
    about: dict[str, Any] = {"door": door, "who": who, "source": source, "what": what, "why": why, "allowed": allowed}
    return Audit(at=entry.first, last_at=entry.last, count=count, **about)


def _clean(text: str, most: int) -> str:
    """What others wrote, without what no database takes."""
    return text[:most].replace("\0", "\ufffd").encode("utf-8", "replace").decode()


_gatherer = Gatherer()


def denied(door: Door, what: str, why: str, *, who: str = "", source: str = "", count: int = 1) -> None:
    """Somebody was refused ``what``. ``source``: the address or the node that it came from. Returns at once."""
    key = door.value, _clean(who, 150), _clean(source, 64), _clean(what, 200), _clean(why, 500), False
    _gatherer.note(key, time.time(), count)


def granted(door: Door, what: str, *, who: str, source: str = "") -> None:
    """Somebody was let in."""
    _gatherer.note((door.value, _clean(who, 150), _clean(source, 64), _clean(what, 200), "", True), time.time())


def flush() -> None:
    """Write what this process has gathered."""
    _gatherer.write()


def begin() -> None:
    """Have this process write by itself what it gathers."""
    threading.Thread(target=_gatherer.run, name="audit", daemon=True).start()


def of(actor: Actor, filters: Mapping[str, str] | None = None) -> QuerySet[Audit]:
    """The audit, newest first, for administrators. Filters: :data:`FILTERS`."""
    actor.demand_admin("read the audit")
    found = Audit.objects.order_by("-id")
    for name, value in (filters or {}).items():
        if name not in FILTERS:
            raise Invalid(f"no filter is called {name!r}", where=name, todo=f"Known filters: {', '.join(FILTERS)}.")
        if name == "allowed" and value not in ("true", "false"):
            raise Invalid("true or false is needed", where=name)
        found = found.filter(Q(allowed=value == "true") if name == "allowed" else Q(**{name: value}))
    return found


def audit_json(rows: Iterable[Audit]) -> list[dict[str, Any]]:
    """Rows as people and programs are shown them."""
    return [
        {
            "id": row.pk,
            "at": moment(row.at),
            "last": moment(row.last_at),
            "door": row.door,
            "who": row.who or None,
            "source": row.source or None,
            "what": row.what,
            "why": row.why,
            "allowed": row.allowed,
            "count": row.count,
        }
        for row in rows
    ]


def recent(now: float) -> dict[str, int]:
    """Refusals within the last :data:`BURST_SECONDS`, by door."""
    found = Audit.objects.filter(last_at__gt=now - BURST_SECONDS, at__gt=now - BURST_SECONDS - MINUTE, allowed=False)
    return dict(found.order_by().values_list("door").annotate(total=Sum("count")))


def burst(now: float) -> str:
    """What to tell people of a burst of refusals; empty where there is none."""
    counted = recent(now)
    total = sum(counted.values())
    if total < BURST:
        return ""
    doors = ", ".join(f"{door} {count}" for door, count in sorted(counted.items(), key=lambda item: -item[1]))
    return f"{total} refusals within {BURST_SECONDS / 60:.0f} minutes: {doors}"


def prune(before: float) -> None:
    """Forget what is old, and what is too much."""
    Audit.objects.filter(at__lt=before).delete()
    newest = Audit.objects.order_by("-id").values_list("pk", flat=True)[ROWS_MAX : ROWS_MAX + 1]
    for oldest in newest:
        Audit.objects.filter(pk__lte=oldest).delete()
