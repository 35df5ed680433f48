"""Versioned migrations of the tree. ``cn=schema`` below the suffix holds the version; each migration takes it one further.

A migration is a function of an open connection of root (SASL EXTERNAL over the local socket) and the suffix. It must be safe
to run again: the version is raised after it, by compare-and-swap, so that of two at once one wins and the other finds it done.
Schema definitions are brought to this release's before the data, through cn=config.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ldap
from ldap.controls import AssertionControl

from . import access, config
from .config import IDLE_SECONDS, LOG_PURGE
from .convert import SCHEMA, parse
from .tree import TREE_VERSION

Migration = Callable[[Any, str], None]


def access_rules(connection: Any, suffix: str) -> None:
    """Give the data database this release's access rules. Raises LDAPError."""
    ours = f"(&(objectClass=olcMdbConfig)(olcSuffix={suffix}))"
    [(dn, _)] = connection.search_s("cn=config", ldap.SCOPE_ONELEVEL, ours, ["1.1"])
    rules = [f"{{{number}}}{rule}".encode() for number, rule in enumerate(access.rules(suffix))]
    connection.modify_s(dn, [(ldap.MOD_REPLACE, "olcAccess", rules)])


def leases(connection: Any, suffix: str) -> None:
    """This release's access rules, and its rules of what values may be. Raises LDAPError."""
    access_rules(connection, suffix)
    [(dn, _)] = connection.search_s("cn=config", ldap.SCOPE_SUBTREE, "(objectClass=olcConstraintConfig)", ["1.1"])
    rules = [rule.encode() for rule in config.constraints(suffix)]
    connection.modify_s(dn, [(ldap.MOD_REPLACE, "olcConstraintAttribute", rules)])


MIGRATIONS: dict[int, tuple[str, Migration]] = {
    2: ("the monitor may write vmcSnapshot", access_rules),
    3: ("owners may change their VEs, nobody who a VE is", access_rules),
    4: ("VEs may have a lease, their owners may change it", leases),
}
"""What to do to come *to* a version, with a sentence that says it. What :mod:`ldap_schema.tree` makes is of the last one."""


class TooNew(RuntimeError):
    """The tree was made by a later release of vmcloud; this one must not touch it."""


def version(connection: Any, suffix: str) -> int:
    """The version of the tree. Raises LDAPError."""
    [(_, attributes)] = connection.search_s(f"cn=schema,{suffix}", ldap.SCOPE_BASE, attrlist=["vmcTreeVersion"])
    return int(attributes["vmcTreeVersion"][0])


def migrate(
    connection: Any, suffix: str, migrations: dict[int, tuple[str, Migration]] | None = None, target: int = TREE_VERSION
) -> list[str]:
    """Bring schema and tree to ``target``; a sentence for each thing done, none if there was nothing to do.

    1. refuse a tree that is newer (:class:`TooNew`);
    2. add or replace definitions of ours, how long the log is kept and connections may idle, where that differs in cn=config;
    3. for each missing version: migrate, then raise the version from the one before.

    Raises LDAPError; whatever was done stays done, and the next run continues there.
    """
    migrations = MIGRATIONS if migrations is None else migrations
    current = version(connection, suffix)
    if current > target:
        raise TooNew(f"the tree has version {current}, this release knows {target}: run the newer release of vmcloud")
    done = update_schema(connection) + purge_log(connection) + end_idle(connection)
    for number in range(current + 1, target + 1):
        sentence, step = migrations[number]
        step(connection, suffix)
        change = [(ldap.MOD_REPLACE, "vmcTreeVersion", [str(number).encode()])]
        guard = AssertionControl(True, f"(vmcTreeVersion={number - 1})")
        try:
            connection.modify_ext_s(f"cn=schema,{suffix}", change, serverctrls=[guard])
        except ldap.ASSERTION_FAILED:
            if version(connection, suffix) < number:
                raise
        done.append(f"version {number}: {sentence}")
    return done


def purge_log(connection: Any) -> list[str]:
    """Have the access log kept as long as this release keeps it."""
    [(dn, attributes)] = connection.search_s("cn=config", ldap.SCOPE_SUBTREE, "(objectClass=olcAccessLogConfig)")
    if attributes.get("olcAccessLogPurge") == [LOG_PURGE.encode()]:
        return []
    connection.modify_s(dn, [(ldap.MOD_REPLACE, "olcAccessLogPurge", [LOG_PURGE.encode()])])
    return [f"access log: kept {LOG_PURGE}"]


def end_idle(connection: Any) -> list[str]:
    """Have idle connections ended when this release ends them."""
    [(dn, attributes)] = connection.search_s("cn=config", ldap.SCOPE_BASE, attrlist=["olcIdleTimeout"])
    wanted = [str(IDLE_SECONDS).encode()]
    if attributes.get("olcIdleTimeout") == wanted:
        return []
    connection.modify_s(dn, [(ldap.MOD_REPLACE, "olcIdleTimeout", wanted)])
    return [f"idle connections: ended after {IDLE_SECONDS} s"]


def update_schema(connection: Any) -> list[str]:
    """Make cn=config's definitions of ours those of this release's schema file. Definitions are never removed."""
    [(dn, attributes)] = connection.search_s("cn=schema,cn=config", ldap.SCOPE_ONELEVEL, "(cn=*vmcloud)")
    done = []
    for sort, attribute in (("attributetype", "olcAttributeTypes"), ("objectclass", "olcObjectClasses")):
        stored = [value.decode() for value in attributes.get(attribute, ())]
        have = {_number(text): text for text in stored}
        wanted = {each.oid: each for each in parse(SCHEMA.read_text()) if each.sort == sort}
        changed = [each for oid, each in wanted.items() if oid not in have or _plain(have[oid]) != _plain(each.text())]
        if not changed:
            continue
        # Replaced in place: cn=config numbers the values, and a definition must keep its number while it is in use.
        for each in changed:
            if each.oid in have:
                old = have[each.oid]
                index = old[: old.index("}") + 1]
                mods = [
                    (ldap.MOD_DELETE, attribute, [old.encode()]),
                    (ldap.MOD_ADD, attribute, [f"{index}{each.text()}".encode()]),
                ]
            else:
                mods = [(ldap.MOD_ADD, attribute, [each.text().encode()])]
            connection.modify_s(dn, mods)
            done.append(f"schema: {each.name}")
    return done


def _number(text: str) -> str:
    """The OID in ``{3}( 2.25.1 NAME ...``."""
    return text.split("(", 1)[1].split()[0]


def _plain(text: str) -> str:
    """A definition without the number that cn=config gives it, and with single spaces."""
    return " ".join(text[text.index("(") :].split())
