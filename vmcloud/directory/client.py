"""A thin LDAP client: a few connections to one server, time limits, errors of ours, controls that guard writes.

Thread-safe: each operation borrows a connection. Safe after fork: connections of another process are forgotten.
"""

from __future__ import annotations

import os

# Before libldap looks: /etc/ldap/ldap.conf and ~/.ldaprc are somebody else's settings (ldap.conf(5)).
os.environ.setdefault("LDAPNOINIT", "1")

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import ldap
import ldap.sasl
from ldap.controls import AssertionControl, RequestControl
from ldap.ldapobject import SimpleLDAPObject

from vmcloud.domain.errors import VmcloudError

from .codec import Attributes
from .controls import CONTROLS, ReadBack
from .errors import DEAD, Unavailable, translate

T = TypeVar("T")
Entry = tuple[str, Attributes]

EVERYTHING = ("*", "entryCSN")
PERMISSIVE = "1.2.840.113556.1.4.1413"
"""Permissive modify: adding a value that is there is no error (one of slapd's supportedControls)."""


@dataclass(frozen=True)
class Settings:
    """Where and who. No ``bind_dn``: SASL EXTERNAL, for root over ``ldapi://``.

    ``timeout``, in seconds, is for connecting and for each answer."""

    uri: str
    bind_dn: str = ""
    password: str = field(default="", repr=False)
    timeout: float = 3.0


def connect(settings: Settings, kind: Callable[[str], Any] = SimpleLDAPObject) -> Any:
    """An open, bound connection of class ``kind``. Raises LDAPError; the caller translates."""
    link = kind(settings.uri)
    link.set_option(ldap.OPT_PROTOCOL_VERSION, ldap.VERSION3)
    link.set_option(ldap.OPT_REFERRALS, 0)
    link.set_option(ldap.OPT_NETWORK_TIMEOUT, settings.timeout)
    link.set_option(ldap.OPT_TIMEOUT, settings.timeout)
    link.set_option(ldap.OPT_X_KEEPALIVE_IDLE, 10)
    link.set_option(ldap.OPT_X_KEEPALIVE_PROBES, 3)
    link.set_option(ldap.OPT_X_KEEPALIVE_INTERVAL, 3)
    if settings.bind_dn:
        if not settings.password:
            # Without a password a simple bind succeeds as nobody (RFC 4513, 5.1.2); that must not look like success.
            raise ldap.INVALID_CREDENTIALS({"desc": "no password was given"})
        link.simple_bind_s(settings.bind_dn, settings.password)
    else:
        link.sasl_interactive_bind_s("", ldap.sasl.external())
    return link


class Client:
    """Operations on one server. Every method raises the errors of :mod:`vmcloud.directory.errors` only.

    An operation on a connection that turns out dead (the server was restarted) is repeated once on a new one. That is safe: each
    is either a read, or guarded by an assertion, or an add or delete whose second execution is an error the caller reads.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._idle: list[SimpleLDAPObject] = []
        self._lock = threading.Lock()
        self._pid = os.getpid()

    def search(
        self, base: str, filterstr: str = "(objectClass=*)", *, deep: bool = True, attributes: Sequence[str] = EVERYTHING
    ) -> list[Entry]:
        """Entries at and below ``base`` (``deep``), or just ``base``. Raises Gone if there is no ``base``."""
        scope = ldap.SCOPE_SUBTREE if deep else ldap.SCOPE_BASE

        def operation(link: SimpleLDAPObject) -> list[Entry]:
            message = link.search_ext(base, scope, filterstr, attrlist=list(attributes))
            found: list[Entry] = []
            # One answer at a time: python-ldap takes twice as long when it collects them itself.
            while True:
                kind, data, *_ = link.result3(message, all=0)
                if kind == ldap.RES_SEARCH_RESULT:
                    return found
                found.extend((dn, values) for dn, values in data if dn is not None)

        return self._run(operation, base)

    def add(self, dn: str, attributes: Attributes) -> Entry:
        """Add an entry and return it as stored. Raises Exists, Gone (no parent), Denied, Rejected."""

        def operation(link: SimpleLDAPObject) -> Entry:
            return _stored(link, link.add_ext(dn, list(attributes.items()), serverctrls=[_post_read()]))

        return self._run(operation, dn)

    def add_all(self, entries: Sequence[Entry]) -> list[Entry | VmcloudError]:
        """Add many, without waiting for each answer before the next is sent. Of each: the entry as stored, or what :meth:`add`
        would raise for it."""

        def operation(link: SimpleLDAPObject) -> list[Entry | VmcloudError]:
            sent = [link.add_ext(dn, list(attributes.items()), serverctrls=[_post_read()]) for dn, attributes in entries]
            return [_answer(link, message, dn) for message, (dn, _) in zip(sent, entries, strict=True)]

        return self._run(operation, entries[0][0])

    def modify(
        self, dn: str, changes: Mapping[str, list[bytes]], guard: str, *, classes: Mapping[str, bool] | None = None
    ) -> Entry:
        """Replace attributes (an empty list removes one) if ``guard``, a filter, holds for the entry, and return it as stored.

        ``classes``: object classes that the entry must, or must not, have afterwards. Raises Stale, Gone, Denied, Rejected.
        """
        mods, controls = _modification(changes, guard, classes)
        controls.append(_post_read())

        def operation(link: SimpleLDAPObject) -> Entry:
            return _stored(link, link.modify_ext(dn, mods, serverctrls=controls))

        return self._run(operation, dn)

    def overwrite(
        self, dn: str, changes: Mapping[str, list[bytes]], guard: str, *, classes: Mapping[str, bool] | None = None
    ) -> None:
        """The same for who does not ask what is stored."""
        mods, controls = _modification(changes, guard, classes)

        def operation(link: SimpleLDAPObject) -> None:
            link.result3(link.modify_ext(dn, mods, serverctrls=controls))

        self._run(operation, dn)

    def rename(self, dn: str, wanted: str) -> None:
        """Move an entry with all below it. Raises Exists, Gone, Denied."""
        leaf, _, parent = wanted.partition(",")

        def operation(link: SimpleLDAPObject) -> None:
            link.result3(link.rename(dn, leaf, parent, delold=1))

        self._run(operation, dn)

    def delete(self, dn: str, guard: str = "") -> None:
        """Delete a leaf if ``guard`` holds for it. Raises Gone, Stale, Denied."""
        controls = [AssertionControl(True, guard)] if guard else None

        def operation(link: SimpleLDAPObject) -> None:
            link.result3(link.delete_ext(dn, serverctrls=controls))

        self._run(operation, dn)

    def close(self) -> None:
        """Unbind all idle connections. The client may be used again."""
        with self._lock:
            idle, self._idle = self._idle, []
        for link in idle:
            _unbind(link)

    def _run(self, operation: Callable[[SimpleLDAPObject], T], dn: str) -> T:
        try:
            link = self._borrow()
            if link is not None:
                try:
                    return self._with(link, operation)
                except ldap.TIMEOUT:
                    raise
                except DEAD:
                    # All idle connections are as old as this one.
                    self.close()
            return self._with(connect(self.settings), operation)
        except ldap.LDAPError as error:
            raise translate(error, dn) from error

    def _with(self, link: SimpleLDAPObject, operation: Callable[[SimpleLDAPObject], T]) -> T:
        try:
            result = operation(link)
        except ldap.LDAPError as error:
            if isinstance(error, DEAD):
                _unbind(link)
            else:
                self._return(link)
            raise
        except BaseException:
            _unbind(link)
            raise
        self._return(link)
        return result

    def _borrow(self) -> SimpleLDAPObject | None:
        with self._lock:
            if self._pid != os.getpid():
                self._idle, self._pid = [], os.getpid()
            return self._idle.pop() if self._idle else None

    def _return(self, link: SimpleLDAPObject) -> None:
        with self._lock:
            self._idle.append(link)


def _modification(
    changes: Mapping[str, list[bytes]], guard: str, classes: Mapping[str, bool] | None
) -> tuple[list[tuple[int, str, Any]], list[Any]]:
    """What a modify does, and the controls that guard it."""
    mods: list[tuple[int, str, Any]] = [(ldap.MOD_REPLACE, name, values or None) for name, values in changes.items()]
    controls: list[Any] = [AssertionControl(True, guard)]
    if classes:
        controls.append(RequestControl(PERMISSIVE, criticality=True))
        for name, wanted in classes.items():
            mods.append((ldap.MOD_ADD, "objectClass", [name.encode()]))
            # slapd forgives adding a value that is there, but not deleting one that is not: hence add, then delete.
            if not wanted:
                mods.append((ldap.MOD_DELETE, "objectClass", [name.encode()]))
    return mods, controls


def _post_read() -> ReadBack:
    """Ask for the entry as it is after the write."""
    return ReadBack(criticality=True, attrList=list(EVERYTHING))


def _stored(link: SimpleLDAPObject, message: int) -> Entry:
    """The entry in the answer to a write with :func:`_post_read`."""
    _, _, _, controls, _, _ = link.result4(message, resp_ctrl_classes=CONTROLS)
    for control in controls:
        if isinstance(control, ReadBack):
            return control.dn, control.entry
    raise Unavailable("the directory did not say what it stored")


def _answer(link: SimpleLDAPObject, message: int, dn: str) -> Entry | VmcloudError:
    """The entry in the answer to an add, or why it was refused. Raises where there is no answer."""
    try:
        return _stored(link, message)
    except DEAD:
        raise
    except ldap.LDAPError as error:
        return translate(error, dn)


def _unbind(link: SimpleLDAPObject) -> None:
    try:
        link.unbind_ext()
    except ldap.LDAPError:
        pass
