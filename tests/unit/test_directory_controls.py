"""What comes with the directory's answers: decoded as python-ldap decodes it, and what is something else is refused."""

from __future__ import annotations

import random

import ldap.syncrepl
import pytest
from ldap.controls.readentry import PostReadControl
from pyasn1.codec.ber import encoder
from pyasn1_modules.rfc2251 import LDAPDN, AttributeDescription, AttributeValue, SearchResultEntry

from vmcloud.directory.controls import ReadBack, SyncStateControl, decode


def encoded(dn: str, attributes: dict[str, list[bytes]]) -> bytes:
    entry = SearchResultEntry()
    entry["objectName"] = LDAPDN(dn.encode())
    entry.setComponentByName("attributes")
    for number, (name, values) in enumerate(attributes.items()):
        entry["attributes"].setComponentByPosition(number)
        entry["attributes"][number]["type"] = AttributeDescription(name.encode())
        for at, value in enumerate(values):
            entry["attributes"][number]["vals"][at] = AttributeValue(value)
    return encoder.encode(entry)


@pytest.mark.parametrize(
    "attributes",
    [
        {"cn": [b"web"]},
        {"cn": [b"web", b"www"], "description": ["Bücher".encode()], "vmcUUID": [b"x" * 36]},
        {"description": [b"a" * 127], "cn": [b"b" * 128], "jpegPhoto": [bytes(range(256)) * 300]},
        {f"attribute{number}": [str(number).encode()] for number in range(200)},
    ],
)
def test_an_entry_is_what_python_ldap_makes_of_it(attributes: dict[str, list[bytes]]) -> None:
    data = encoded("cn=web,ou=ves,dc=cloud", attributes)
    slow, quick = PostReadControl(), ReadBack()
    slow.decodeControlValue(data)
    quick.decodeControlValue(data)
    assert (quick.dn, quick.entry) == (slow.dn, slow.entry) == ("cn=web,ou=ves,dc=cloud", attributes)


@pytest.mark.parametrize("cookie", [None, b"rid=000,csn=20261121000000.000000Z#000000#000#000000"])
@pytest.mark.parametrize("state", range(4))
def test_a_sync_state_is_what_python_ldap_makes_of_it(state: int, cookie: bytes | None) -> None:
    value = ldap.syncrepl.SyncStateValue()
    value["state"], value["entryUUID"] = state, bytes(range(16))
    if cookie is not None:
        value["cookie"] = cookie
    data = encoder.encode(value)
    slow, quick = ldap.syncrepl.SyncStateControl(), SyncStateControl()
    slow.decodeControlValue(data)
    quick.decodeControlValue(data)
    assert (quick.state, quick.entryUUID, quick.cookie) == (slow.state, slow.entryUUID, slow.cookie)
    assert quick.entryUUID == "00010203-0405-0607-0809-0a0b0c0d0e0f"
    for size in range(len(data)):
        with pytest.raises(ValueError):
            SyncStateControl().decodeControlValue(data[:size])


def test_what_is_cut_off_or_changed_is_refused_or_still_an_entry_but_nothing_else_happens() -> None:
    data = encoded("cn=web,dc=cloud", {"cn": [b"web"], "description": [b"a" * 200]})
    for size in range(len(data)):
        with pytest.raises(ValueError):
            decode(data[:size])
    dice = random.Random(1)
    for _ in range(3000):
        broken = bytearray(data)
        broken[dice.randrange(len(broken))] = dice.randrange(256)
        try:
            decode(bytes(broken))
        except ValueError:
            continue
