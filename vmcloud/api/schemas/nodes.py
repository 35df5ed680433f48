"""Nodes, guests that do not belong where they were seen, and what is not as it is wanted."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from ninja import Field, Schema

from vmcloud.domain.vocabulary import Kind, NodeState, Observed

from .common import Page


class NodeOut(Schema):
    """A physical machine (or one that a worker simulates)."""

    name: str = Field(examples=["node-1"])
    state: NodeState
    cordoned: bool = Field(description="no new placements")
    maintenance: bool = Field(description="observed only")
    kinds: list[Kind]
    simulated: bool
    cpus: int = Field(examples=[8])
    memory_mib: int = Field(examples=[32768])
    memory_placed_mib: int = Field(description="sum of its VEs' memory", examples=[512])
    disk_mib: int
    ves: int = Field(description="how many VEs are placed here")
    guests_seen: int | None = Field(description="how many guests its last full list had")
    labels: list[str]
    address: str | None
    version: str = Field(description="vmcloud's version there")
    description: str
    heard: datetime | None = Field(description="when it was last heard")
    reason: str = Field(description="why it refused its last order, if it did")


class StrayOut(Schema):
    """A guest that does not belong where it was seen."""

    name: str = Field(description="node and native name", examples=["node-1/their-own"])
    node: str = Field(examples=["node-1"])
    native: str = Field(description="what its hypervisor calls it", examples=["their-own"])
    kind: Kind
    status: Literal["orphan", "duplicate", "wrong-node", "deleting"]
    reason: str
    observed: Observed
    ve: str | None = Field(description="the UUID that it bears; null: vmcloud did not make it")
    vcpus: int | None = Field(description="null: not known, or without a limit")
    memory_mib: int | None = Field(description="MiB; null: not known, or without a limit")
    addresses: list[str]
    mac: str | None
    since: datetime | None


class NodePage(Page):
    """A page of nodes, by name."""

    items: list[NodeOut]


class StrayPage(Page):
    """A page of guests that do not belong where they were seen, by node and native name."""

    items: list[StrayOut]


class FindingOut(Schema):
    """Something that is not as it is wanted, and what becomes of it."""

    rule: str = Field(description="as in the design: R1 to R12", examples=["R2"])
    name: str = Field(description="of the VE; node/name of a guest that is none", examples=["web-1"])
    project: str | None
    ve: str | None = Field(description="UUID")
    node: str | None
    action: str = Field(
        description="what the server does by itself: a verb, `want-stopped` (the guest's own doing is what is wanted now), "
        "`report` (nothing), `wait` (before it tries again)",
        examples=["report"],
    )
    reason: str = Field(examples=["seen running, wanted stopped"])
    fix: str | None = Field(description="what it does if it is asked to; null: nothing can be done by a rule", examples=["stop"])


class FindingsOut(Schema):
    """All that is not as it is wanted, by rule and name."""

    items: list[FindingOut]


class ReconcileIn(Schema):
    """Which part of it to mend; all where nothing is said."""

    ve: str = Field("", description="a name or UUID")
    project: str = Field("main", description="of the name")
    node: str = ""


class MoveOut(Schema):
    """What draining a node would do with one of its VEs."""

    ve: str = Field(description="UUID")
    name: str
    project: str
    kind: str
    memory_mib: int
    live: bool = Field(description="whether it runs, so that it would move live where its kind can")
    to: str | None = Field(description="the node that it would go to now")
    reason: str = Field(description="why it can not be moved, or has to wait; empty: it can be moved now")


class MovesOut(Schema):
    """All of a node's VEs."""

    items: list[MoveOut]
