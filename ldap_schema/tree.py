"""The entries that every cloud's directory begins with, as LDIF (RFC 2849). The layout is in docs/design.md."""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Mapping

from .access import IDENTITIES

TREE_VERSION = 4
"""The version that this release of vmcloud makes and expects; :mod:`ldap_schema.migrate` brings older trees to it."""

PROJECT = "main"
UNITS = ("nodes", "ves", "images", "tombstones", "services", "groups", "people")

Entry = tuple[str, dict[str, list[str]]]


def hash_password(password: str, salt: bytes | None = None) -> str:
    """``{SSHA}`` (RFC 2307 with a salt): enough for the 256 random bits of a service's password, and cheap at each bind."""
    salt = salt if salt is not None else secrets.token_bytes(16)
    digest = hashlib.sha1(password.encode() + salt).digest()
    return "{SSHA}" + base64.b64encode(digest + salt).decode()


def entries(suffix: str, passwords: Mapping[str, str]) -> list[Entry]:
    """The base entries. ``passwords`` maps identities (``web``, ``server``, ``monitor``, ``reader``) to clear text; an identity
    without one is made without a password and can not bind."""
    unknown = set(passwords) - set(IDENTITIES)
    if unknown:
        raise ValueError(f"no identity of the directory is called {sorted(unknown)[0]!r}")
    first = suffix.split(",", 1)[0].partition("=")[2]
    root = f"cn=root,ou=services,{suffix}"
    made: list[Entry] = [(suffix, {"objectClass": ["organization", "dcObject"], "dc": [first], "o": ["vmcloud"]})]
    made += [(f"ou={name},{suffix}", {"objectClass": ["organizationalUnit"], "ou": [name]}) for name in UNITS]
    made.append((f"ou={PROJECT},ou=ves,{suffix}", {"objectClass": ["organizationalUnit"], "ou": [PROJECT]}))
    made.append((root, {"objectClass": ["organizationalRole"], "cn": ["root"], "description": ["root, over the local socket"]}))
    for name in IDENTITIES:
        service = {"objectClass": ["organizationalRole"], "cn": [name]}
        if name in passwords:
            service["objectClass"].append("simpleSecurityObject")
            service["userPassword"] = [hash_password(passwords[name])]
        made.append((f"cn={name},ou=services,{suffix}", service))
    for name in ("administrators", "operators"):
        group = {"objectClass": ["groupOfNames"], "cn": [name], "member": [root]}
        made.append((f"cn={name},ou=groups,{suffix}", group))
    version = {
        "objectClass": ["applicationProcess", "vmcTree"],
        "cn": ["schema"],
        "vmcTreeVersion": [str(TREE_VERSION)],
        "description": ["version of this tree; changed by migrations only"],
    }
    made.append((f"cn=schema,{suffix}", version))
    return made


def to_ldif(made: list[Entry]) -> str:
    """The entries as LDIF; every value in base64, so that none can end a line."""
    blocks = []
    for dn, attributes in made:
        lines = [f"dn:: {_base64(dn)}"]
        lines += [f"{name}:: {_base64(value)}" for name, values in attributes.items() for value in values]
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
