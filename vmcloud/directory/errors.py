"""What a directory operation can end with, and the one place where LDAP's result codes (RFC 4511, appendix A) become that."""

from __future__ import annotations

from typing import Any

import ldap

from vmcloud.domain import errors


class Gone(errors.NotFound):
    """The entry does not exist (any more)."""


class Exists(errors.Conflict):
    """An entry with that name, or another VE with that UUID, exists."""

    code = "exists"


class Stale(errors.Conflict):
    """Compare-and-swap lost: the entry is not what it was when it was read. Read again, decide again."""

    code = "stale"


class Denied(errors.Forbidden):
    """The access rules or the password say no."""


class Unavailable(errors.Unavailable):
    """The directory is down, busy or silent. Of a write it is not known whether it was done; every write of the store may safely
    be decided and tried again."""


class NoRoom(Unavailable, errors.NoRoom):
    """The directory's disk, or the size it may have, is used up."""

    http_status = errors.NoRoom.http_status
    code = errors.NoRoom.code


class Rejected(errors.Invalid):
    """Schema or constraints refuse the values; the text says which."""

    code = "rejected"


DEAD = (ldap.SERVER_DOWN, ldap.CONNECT_ERROR, ldap.TIMEOUT, ldap.UNAVAILABLE, ldap.DECODING_ERROR)
"""After these the connection is of no more use."""

_NO_ROOM = ("txn_commit failed", "No space left on device", "Disk quota exceeded", "MDB_MAP_FULL")
"""What slapd says of a write that did not reach its disk (of the first of these it does not say why: its log does)."""
_GONE = (ldap.NO_SUCH_OBJECT,)
_EXISTS = (ldap.ALREADY_EXISTS,)
_STALE = (ldap.ASSERTION_FAILED,)
_DENIED = (
    ldap.INSUFFICIENT_ACCESS,
    ldap.INVALID_CREDENTIALS,
    ldap.STRONG_AUTH_REQUIRED,
    ldap.CONFIDENTIALITY_REQUIRED,
    ldap.INAPPROPRIATE_AUTH,
)
_UNAVAILABLE = (*DEAD, ldap.BUSY, ldap.UNWILLING_TO_PERFORM, ldap.ADMINLIMIT_EXCEEDED, ldap.TIMELIMIT_EXCEEDED, ldap.REFERRAL)


def translate(error: ldap.LDAPError, dn: str) -> errors.VmcloudError:
    """The error to raise for ``error`` of an operation on ``dn``."""
    text = describe(error)
    if isinstance(error, _GONE):
        return Gone("no such entry", where=dn)
    if isinstance(error, _EXISTS):
        return Exists("the name is taken", where=dn)
    if isinstance(error, ldap.CONSTRAINT_VIOLATION) and "non-unique attributes" in text:
        return Exists("another VE has this UUID", where=dn)
    if isinstance(error, _STALE):
        return Stale("the entry was changed by somebody else", where=dn)
    if isinstance(error, _DENIED):
        return Denied("the directory does not allow this", where=dn, why=text)
    if isinstance(error, ldap.OTHER) and any(words in text for words in _NO_ROOM):
        return NoRoom("the directory has no room on its disk, or can not write to it", where=dn, why=text, todo=errors.MAKE_ROOM)
    if isinstance(error, _UNAVAILABLE):
        return Unavailable("the directory does not answer", where=dn, why=text, todo="Look at: vmcloud status.")
    return Rejected("the directory refuses the values", where=dn, why=text)


def describe(error: ldap.LDAPError) -> str:
    """LDAP's own words: the result code's text and the server's diagnostic message."""
    details: Any = error.args[0] if error.args else None
    if not isinstance(details, dict):
        return str(error) or type(error).__name__
    words = [str(details[key]) for key in ("desc", "info") if details.get(key)]
    return ": ".join(words) or type(error).__name__
