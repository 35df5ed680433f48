"""The whole cn=config of a private slapd as LDIF (slapd-config(5)): a pure function of a few settings.

No ``olcRootPW`` anywhere: nobody can bind as a superuser. Root of the machine, over the local socket (SASL EXTERNAL, RFC 4422),
becomes ``cn=root,ou=services``, an administrator of the data who may also change cn=config for migrations of the schema.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import access
from .convert import LDIF

SCHEMA_FOLDER = Path("/etc/ldap/schema")
MODULE_FOLDER = Path("/usr/lib/ldap")
STANDARD_SCHEMAS = ("core", "cosine", "nis", "inetorgperson")
MODULES = ("back_mdb", "syncprov", "accesslog", "unique", "constraint", "refint")
MAP_SIZE = 16 << 30
"""Most bytes that each database may grow to. Address space, not disk; slapd's own default is 10 MiB."""
LOG_PURGE = "01+00:00 00+00:15"
"""How long the access log is kept, and how often it is looked through. A job is some 9 KB of it, so a day of two million fits."""
IDLE_SECONDS = 600
"""Seconds after which a connection that asks nothing is ended. A watch (a persistent search) asks all the time by this count; our
other clients connect anew when they have something to ask."""

LABEL = "[a-z0-9]([a-z0-9-]*[a-z0-9])?"
INDICES = (
    "objectClass,entryUUID,entryCSN eq",
    "cn,uid,member eq",
    "vmcUUID,vmcProject,vmcKind,vmcNodeName,vmcDesiredState,vmcOwner eq",
    "vmcObservedState,vmcObservedNode,ipHostNumber,macAddress eq",
)


@dataclass(frozen=True)
class Settings:
    """``folder`` holds ``db/`` and ``accesslog/``. ``root_uid``: whom the local socket maps to ``cn=root``. ``durable`` False is
    for tests only: a power cut may then lose or spoil the data."""

    folder: Path
    suffix: str
    root_uid: int = 0
    durable: bool = True


def render(settings: Settings) -> str:
    """The LDIF for ``slapadd -n 0``."""
    parts = [
        _global(settings),
        _block(
            "cn=module{0},cn=config",
            "olcModuleList",
            ["cn: module{0}", f"olcModulePath: {MODULE_FOLDER}", *_each("olcModuleLoad", MODULES)],
        ),
        _block("cn=schema,cn=config", "olcSchemaConfig", ["cn: schema"]),
        *((SCHEMA_FOLDER / f"{name}.ldif").read_text() for name in STANDARD_SCHEMAS),
        LDIF.read_text(),
        _frontend(),
        _config_database(settings),
        *_log_database(settings),
        *_data_database(settings),
    ]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def _block(dn: str, classes: str, lines: Sequence[str]) -> str:
    """One entry."""
    return "\n".join([f"dn: {dn}", *(f"objectClass: {name}" for name in classes.split()), *lines]) + "\n"


def _each(attribute: str, values: Sequence[str], *, numbered: bool = False) -> list[str]:
    return [f"{attribute}: {{{number}}}{value}" if numbered else f"{attribute}: {value}" for number, value in enumerate(values)]


def _global(settings: Settings) -> str:
    external = rf"gidNumber=[0-9]+\+uidNumber={settings.root_uid},cn=peercred,cn=external,cn=auth"
    return _block(
        "cn=config",
        "olcGlobal",
        [
            "cn: config",
            "olcLogLevel: none",
            "olcThreads: 8",
            f"olcIdleTimeout: {IDLE_SECONDS}",
            "olcSizeLimit: unlimited",
            "olcConnMaxPendingAuth: 1000",
            f"olcAuthzRegexp: {{0}}{external} cn=root,ou=services,{settings.suffix}",
        ],
    )


def _frontend() -> str:
    rules = ['to dn.base="" by * read', 'to dn.base="cn=Subschema" by * read', "to * by * none"]
    lines = ["olcDatabase: {-1}frontend", *_each("olcAccess", rules, numbered=True)]
    return _block("olcDatabase={-1}frontend,cn=config", "olcDatabaseConfig olcFrontendConfig", lines)


def _config_database(settings: Settings) -> str:
    lines = ["olcDatabase: {0}config", *_each("olcAccess", access.config_rules(settings.suffix), numbered=True)]
    return _block("olcDatabase={0}config,cn=config", "olcDatabaseConfig", lines)


def _storage(settings: Settings, folder: str) -> list[str]:
    lines = [f"olcDbDirectory: {settings.folder / folder}", f"olcDbMaxSize: {MAP_SIZE}"]
    if not settings.durable:
        lines += ["olcDbNoSync: TRUE", "olcDbEnvFlags: writemap"]
    return lines


def _log_database(settings: Settings) -> list[str]:
    """The access log: who wrote what (slapo-accesslog(5))."""
    name = "olcDatabase={1}mdb,cn=config"
    lines = [
        "olcDatabase: {1}mdb",
        "olcSuffix: cn=accesslog",
        "olcRootDN: cn=accesslog",
        *_storage(settings, "accesslog"),
        "olcDbIndex: entryCSN,objectClass,reqEnd,reqResult,reqStart,reqDN eq",
        *_each("olcAccess", access.log_rules(settings.suffix), numbered=True),
    ]
    return [_block(name, "olcDatabaseConfig olcMdbConfig", lines)]


def constraints(suffix: str) -> list[str]:
    """What values may be, as slapo-constraint(5) rules."""
    a_ve = f"restrict=ldap:///ou=ves,{suffix}??sub?(objectClass=vmcVE)"
    a_node = f"restrict=ldap:///ou=nodes,{suffix}??one?(objectClass=vmcNode)"
    return [
        "vmcKind regex ^(lxc|kvm|xen|openvz|simulated)$",
        "vmcDesiredState regex ^(running|stopped|suspended|absent)$",
        "vmcObservedState regex ^(running|stopped|suspended|crashed|starting|stopping|unknown)$",
        "vmcRestartPolicy regex ^(always|on-failure|never)$",
        "vmcDrift regex ^(report|apply)$",
        "vmcLeaseAction regex ^(stop|delete)$",
        "vmcLeaseGrace regex ^[0-9]{1,8}$",
        f"vmcProject,vmcNodeName,vmcRequestedNode,vmcObservedNode,vmcImageName regex ^{LABEL}$",
        "vmcSHA256 regex ^[0-9a-f]{64}$",
        f"cn regex ^{LABEL}$ {a_ve}",
        f"cn regex ^{LABEL}$ {a_node}",
        f"cn count 1 {a_ve}",
        f"description count 1 {a_ve}",
    ]


def _data_database(settings: Settings) -> list[str]:
    name, suffix = "olcDatabase={2}mdb,cn=config", settings.suffix
    lines = [
        "olcDatabase: {2}mdb",
        f"olcSuffix: {suffix}",
        # Overlays write their own changes under this name. It has no password and no entry, and nothing maps to it.
        f"olcRootDN: cn=slapd,{suffix}",
        *_storage(settings, "db"),
        # Without it the right to add an entry would be the right to fill it with anything.
        "olcAddContentAcl: TRUE",
        *_each("olcDbIndex", INDICES),
        *_each("olcAccess", access.rules(suffix), numbered=True),
    ]
    overlays = [
        ("syncprov", "olcSyncProvConfig", ["olcSpCheckpoint: 1000 10", "olcSpSessionlog: 10000"]),
        (
            "accesslog",
            "olcAccessLogConfig",
            [
                "olcAccessLogDB: cn=accesslog",
                "olcAccessLogOps: writes",
                "olcAccessLogSuccess: TRUE",
                f"olcAccessLogPurge: {LOG_PURGE}",
            ],
        ),
        # Without serialize two adds at once both pass (measured: 599 duplicates of 749).
        ("unique", "olcUniqueConfig", [f"olcUniqueURI: serialize ldap:///ou=ves,{suffix}?vmcUUID?sub?(objectClass=vmcVE)"]),
        ("constraint", "olcConstraintConfig", _each("olcConstraintAttribute", constraints(suffix))),
        ("refint", "olcRefintConfig", ["olcRefintAttribute: member", f"olcRefintNothing: cn=root,ou=services,{suffix}"]),
    ]
    blocks = [_block(name, "olcDatabaseConfig olcMdbConfig", lines)]
    for number, (overlay, kind, options) in enumerate(overlays):
        head = f"olcOverlay: {{{number}}}{overlay}"
        blocks.append(_block(f"olcOverlay={{{number}}}{overlay},{name}", f"olcOverlayConfig {kind}", [head, *options]))
    return blocks
