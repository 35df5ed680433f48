"""Who may read and write what, as slapd.access(5) rules.

The table in docs/design.md ("Facts and their writers") is enforced by the directory itself: the monitor can not write what is
wanted, nobody else what was seen, only the server counts generations. Attributes are listed by name; ``@class`` would also name
objectClass. Rules are tried in order; within a rule the first matching ``by`` decides.
"""

from __future__ import annotations

IDENTITIES = ("web", "server", "monitor", "reader")
"""Entries ``cn=<identity>,ou=services``, one for each part that binds. ``root`` is there too, without a password."""

CLAIM = (
    "vmcUUID",
    "vmcProject",
    "vmcKind",
    "vmcDesiredState",
    "vmcImageName",
    "vmcVCPUs",
    "vmcMemoryMiB",
    "vmcDiskMiB",
    "vmcRestartPolicy",
    "vmcDrift",
    "vmcPrivileged",
    "vmcGeneration",
    "vmcJob",
)
"""What every claim of a name holds; so the web's right to add them can add nothing to an entry that exists."""

IDENTITY = ("vmcUUID", "vmcProject", "vmcKind")
"""What of a claim stays as it is for the VE's life."""

OWNED = ("vmcVCPUs", "vmcMemoryMiB", "vmcDiskMiB", "vmcRestartPolicy", "vmcDrift")
"""What the owner of a VE may change in its entry, besides its power and its description."""

LEASE = ("vmcLeaseEnd", "vmcLeaseAction", "vmcLeaseGrace")
"""How long a VE may live; its owner may change it."""

OPTIONAL = ("vmcRequestedNode", "vmcOwner", "description", *LEASE)
"""What a claim may hold besides. The web can add one that is missing, until the VE is placed."""

DESIRED = (
    "vmcDesiredState",
    "vmcImageName",
    "vmcVCPUs",
    "vmcMemoryMiB",
    "vmcDiskMiB",
    "vmcRestartPolicy",
    "vmcDrift",
    "vmcRequestedNode",
    "vmcPrivileged",
    "vmcOwner",
    "description",
    *LEASE,
)
"""What people and programs may change in a VE entry."""

BOOKKEEPING = ("vmcGeneration", "vmcJob", "vmcNodeName", "vmcRefusal")
"""What only the server writes in a VE entry."""

OBSERVED = (
    "vmcObservedState",
    "vmcObservedNode",
    "vmcObservedEpoch",
    "vmcObservedSequence",
    "vmcObservedGeneration",
    "vmcStateSince",
    "vmcObservedVCPUs",
    "vmcObservedMemoryMiB",
    "vmcLastError",
    "vmcSnapshot",
    "ipHostNumber",
    "macAddress",
)
"""What only the monitor writes in a VE entry."""

NODE_FACTS = (
    "vmcOfferedKind",
    "vmcCapacityCPUs",
    "vmcCapacityMemoryMiB",
    "vmcCapacityDiskMiB",
    "vmcVersion",
    "vmcSimulated",
    "vmcObservedEpoch",
    "vmcObservedSequence",
    "ipHostNumber",
)
"""What only the monitor writes in a node entry."""

NODE_SWITCHES = ("vmcCordoned", "vmcMaintenance", "vmcLabel", "description")


def rules(suffix: str) -> list[str]:
    """The rules of the data database, in order, without their ``{n}``."""
    web, server, monitor = (f'dn.exact="cn={name},ou=services,{suffix}"' for name in ("web", "server", "monitor"))
    administrators = f'group.exact="cn=administrators,ou=groups,{suffix}"'
    operators = f'group.exact="cn=operators,ou=groups,{suffix}"'
    # A set is worked out for each attribute that is read: the parts, which read all, are let pass before it.
    owner = (f'dn.children="ou=services,{suffix}" read', 'set="this/vmcOwner & user/uid" write')
    ves, nodes = f"ou=ves,{suffix}", f"ou=nodes,{suffix}"
    a_ve = f"^cn=[^,]+,ou=[^,]+,{ves}$"
    observed, facts = ",".join(OBSERVED), ",".join(NODE_FACTS)
    tables = []

    def rule(what: str, *by: str) -> None:
        tables.append(" ".join([f"to {what}", *(f"by {each}" for each in by)]))

    rule("attrs=userPassword", "self =xw", "anonymous auth", f"{administrators} =w", "* none")

    # VEs. slapd has one right for "in a new entry" and "a further value": the filter ends it with the placement.
    owned = ("description", *LEASE)
    for names, more in ((owned, owner), (tuple(name for name in OPTIONAL if name not in owned), ())):
        for placed in (" filter=(vmcNodeName=*)", ""):
            rule(
                f'dn.regex="{a_ve}"{placed} attrs={",".join(names)}',
                *(() if placed else (f"{web} add",)),
                f"{server} write",
                f"{administrators} write",
                *more,
                "users read",
            )
    rule(f'dn.regex="{a_ve}" attrs={observed}', f"{monitor} write", "users read")
    for name in ("ipHost", "ieee802Device"):
        rule(
            f'dn.subtree="{ves}" attrs=objectClass val="{name}"',
            f"{monitor} write",
            f"{administrators} write",
            "users read",
        )
    rule(
        f'dn.regex="{a_ve}" attrs=vmcDesiredState',
        f"{server} write",
        f"{administrators} write",
        f"{operators} write",
        f"{web} add",
        *owner,
        "users read",
    )
    rule(
        f'dn.regex="{a_ve}" attrs={",".join(OWNED)}',
        f"{server} write",
        f"{administrators} write",
        f"{web} add",
        *owner,
        "users read",
    )
    rule(f'dn.regex="{a_ve}" attrs=vmcNodeName,vmcRefusal', f"{server} write", "users read")
    rule(f'dn.regex="{a_ve}" attrs=vmcGeneration,vmcJob', f"{server} write", f"{web} add", "users read")
    for name in ("device", "vmcVE"):
        rule(
            f'dn.regex="{a_ve}" attrs=objectClass val="{name}"',
            f"{server} write",
            f"{administrators} write",
            f"{web} add",
            "users read",
        )
    # Who a VE is stays: an administrator may add an entry, not make another VE of one.
    rule(
        f'dn.subtree="{ves}" attrs=cn,{",".join(IDENTITY)}',
        f"{server} write",
        f"{administrators} add",
        f"{web} add",
        "users read",
    )
    rule(
        f'dn.regex="{a_ve}" attrs=entry,{",".join(name for name in CLAIM if name not in (*IDENTITY, *OWNED))}',
        f"{server} write",
        f"{administrators} write",
        f"{web} add",
        "users read",
    )
    rule(
        f'dn.regex="^ou=[^,]+,{ves}$" attrs=children',
        f"{server} write",
        f"{administrators} write",
        f"{web} add",
        "users read",
    )

    # Nodes, and what does not belong there, seen and noted by the monitor.
    rule(f'dn.regex="^cn=[^,]+,{nodes}$" attrs={facts}', f"{monitor} write", "users read")
    rule(
        f'dn.regex="^cn=[^,]+,{nodes}$" attrs=objectClass val="ipHost"',
        f"{monitor} write",
        f"{administrators} write",
        "users read",
    )
    rule(
        f'dn.regex="^cn=[^,]+,{nodes}$" attrs=children',
        f"{monitor} write",
        f"{server} write",
        f"{administrators} write",
        "users read",
    )
    rule(
        f'dn.regex="^cn=.+,cn=[^,]+,{nodes}$"',
        f"{monitor} write",
        f"{server} write",
        f"{administrators} write",
        "users read",
    )
    rule(
        f'dn.regex="^cn=[^,]+,{nodes}$" attrs={",".join(NODE_SWITCHES)}',
        f"{server} write",
        f"{administrators} write",
        f"{operators} write",
        "users read",
    )

    for name in ("ves", "nodes", "images", "tombstones"):
        rule(f'dn.subtree="ou={name},{suffix}"', f"{server} write", f"{administrators} write", "users read")
    rule(f'dn.subtree="{suffix}"', f"{administrators} write", "users read", "anonymous auth", "* none")
    return tables


def log_rules(suffix: str) -> list[str]:
    """The rules of the access log: the server learns there who wrote a foreign change."""
    return [
        f'to * by dn.exact="cn=server,ou=services,{suffix}" read '
        f'by group.exact="cn=administrators,ou=groups,{suffix}" read by * none'
    ]


def config_rules(suffix: str) -> list[str]:
    """The rules of cn=config: root of the directory's machine, over the local socket, for migrations of the schema."""
    return [f'to * by dn.exact="cn=root,ou=services,{suffix}" manage by * none']
