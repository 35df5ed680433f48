"""What comes with the directory's answers: the entry after a write (RFC 4527), the state of a watched entry (RFC 4533).

python-ldap decodes both with pyasn1, which takes about a millisecond for an entry of ours: as long as the write. The few rules
of BER (ITU-T X.690) that LDAP leaves (RFC 4511, 5.1: definite lengths, octet strings in one piece) are quicker followed here.
"""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

import ldap.syncrepl
from ldap.controls.readentry import PostReadControl

SEARCH_RESULT_ENTRY, SEQUENCE, SET, OCTET_STRING, ENUMERATED = 0x64, 0x30, 0x31, 0x04, 0x0A


class ReadBack(PostReadControl):  # type: ignore[misc, unused-ignore]
    """Asks for the entry as it is after the write; in an answer ``dn`` and ``entry`` are what it says."""

    def decodeControlValue(self, encodedControlValue: bytes) -> None:
        self.dn, self.entry = decode(encodedControlValue)


class SyncStateControl(ldap.syncrepl.SyncStateControl):  # type: ignore[misc, unused-ignore]
    """Says of a watched entry whether it is ``present``, or was the subject of an ``add``, ``modify`` or ``delete``. Named as
    python-ldap's own, which knows it by that name."""

    def decodeControlValue(self, encodedControlValue: bytes) -> None:
        (body,) = _parts(encodedControlValue, SEQUENCE)
        (state_tag, state), (uuid_tag, uuid), *rest = _elements(body)
        if (state_tag, uuid_tag, len(uuid)) != (ENUMERATED, OCTET_STRING, 16) or len(rest) > 1:
            raise ValueError("it is no sync state")
        self.state = self.opnames[int.from_bytes(state, "big")]
        self.entryUUID = str(UUID(bytes=uuid))
        self.cookie = rest[0][1].decode() if rest else None


CONTROLS = {control.controlType: control for control in (ReadBack, SyncStateControl)}
"""For python-ldap's ``resp_ctrl_classes``."""


def decode(data: bytes) -> tuple[str, dict[str, list[bytes]]]:
    """The name and the attributes of an encoded SearchResultEntry (RFC 4511, 4.5.2). ValueError if it is none."""
    (body,) = _parts(data, SEARCH_RESULT_ENTRY)
    (dn_tag, dn), (list_tag, attributes) = _elements(body)
    if (dn_tag, list_tag) != (OCTET_STRING, SEQUENCE):
        raise ValueError("it is no search result entry")
    entry: dict[str, list[bytes]] = {}
    for attribute in _parts(attributes, SEQUENCE):
        (name_tag, name), (set_tag, values) = _elements(attribute)
        if (name_tag, set_tag) != (OCTET_STRING, SET):
            raise ValueError("an attribute has no name and values")
        entry[name.decode()] = list(_parts(values, OCTET_STRING))
    return dn.decode(), entry


def _parts(data: bytes, wanted: int) -> Iterator[bytes]:
    """The contents of elements that all have one tag."""
    for tag, content in _elements(data):
        if tag != wanted:
            raise ValueError(f"tag {tag:#x} where {wanted:#x} belongs")
        yield content


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(tag, content) of the elements that ``data`` is made of."""
    at, end = 0, len(data)
    while at < end:
        if at + 2 > end:
            raise ValueError("an element is cut off")
        tag, size, at = data[at], data[at + 1], at + 2
        if size & 0x80:
            octets = size & 0x7F
            if not octets or at + octets > end:
                raise ValueError("an element's length is cut off, or is not said")
            size, at = int.from_bytes(data[at : at + octets], "big"), at + octets
        if at + size > end:
            raise ValueError("an element is cut off")
        yield tag, data[at : at + size]
        at += size
