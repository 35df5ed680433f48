"""VEs, their snapshots and use, and what can be asked about them."""

from __future__ import annotations

from datetime import datetime

from ninja import Field, Schema

from vmcloud.domain.vocabulary import Desired, Drift, Kind, LeaseAction, Observed, Restart, Status

from .common import NAME, Page
from .jobs import TermsIn


class SnapshotOut(Schema):
    """A kept state of a VE's root file system."""

    name: str = Field(description=NAME, examples=["before-upgrade"])
    job: int = Field(description="the job that took it", examples=[17])
    at: datetime | None


class LeaseOut(Schema):
    """How long a VE may live."""

    end: datetime | None
    action: LeaseAction = Field(description="what becomes of it, besides being stopped at the end")
    grace: int = Field(description="seconds from the end until it is deleted, or stopped by force", examples=[3600])
    over: bool = Field(description="the end has passed: it is not started until the lease is renewed")


class VEOut(Schema):
    """A VE (virtual environment): container or virtual machine."""

    id: str = Field(description="UUID; stays for the VE's life", examples=["0d2c4a6e-5b1f-4c1e-9a55-0c2b6f0f6a11"])
    name: str = Field(description=NAME, examples=["web-1"])
    project: str = Field(examples=["main"])
    kind: Kind
    node: str | None = Field(description="where it is placed; null: not yet", examples=["node-1"])
    status: Status = Field(description="derived from wanted and seen")
    reason: str = Field(description="why the status is what it is, where that needs words", examples=[""])
    refusal: str = Field(description="why the last change that somebody made in the directory was undone", examples=[""])
    desired: Desired
    observed: Observed | None = Field(description="as its node last saw it; null: never seen")
    image: str | None = Field(examples=["busybox"])
    vcpus: int | None = Field(examples=[1])
    memory_mib: int | None = Field(description="MiB", examples=[128])
    disk_mib: int | None = Field(description="MiB; 0: no limit", examples=[0])
    addresses: list[str] = Field(examples=[["10.86.0.12"]])
    snapshots: list[SnapshotOut] = Field(description="oldest first")
    mac: str | None = Field(examples=["02:00:0a:56:00:0c"])
    owner: str = Field(examples=["admin"])
    restart: Restart | None
    drift: Drift | None
    lease: LeaseOut | None = Field(description="null: for ever")
    privileged: bool = Field(examples=[False])
    description: str = Field(examples=["the shop's front end"])
    generation: int = Field(description="counts changes of what is wanted", examples=[3])
    observed_generation: int = Field(description="the highest generation its node has finished work on", examples=[3])
    job: int = Field(description="the job that made this generation", examples=[12])
    since: datetime | None = Field(description="when the observed state began")


class UseOut(Schema):
    """What a VE has used since it was started (processor time, bytes moved) and uses now (memory, processes)."""

    at: datetime = Field(description="when it was measured, by the node's clock")
    cpu_seconds: float = Field(examples=[12.5])
    cpu_percent: float | None = Field(description="of one processor, since the last measurement; null: not known", examples=[3.1])
    memory_bytes: int
    memory_peak_bytes: int
    disk_read_bytes: int
    disk_written_bytes: int
    received_bytes: int
    sent_bytes: int
    processes: int


class UsageOut(Schema):
    """A VE and what it uses."""

    id: str
    name: str = Field(examples=["web-1"])
    project: str = Field(examples=["main"])
    kind: Kind
    node: str | None
    owner: str
    vcpus: int
    memory_mib: int = Field(description="what it may use")
    usage: UseOut | None = Field(description="null: it does not run, its node is not up, or its kind is not metered")


class VEPage(Page):
    """A page of VEs, by project and name."""

    items: list[VEOut]


class SnapshotPage(Page):
    """A VE's snapshots, oldest first; always all of them."""

    items: list[SnapshotOut]


class UsagePage(Page):
    """A page of VEs and what they use, by project and name."""

    items: list[UsageOut]


class LeaseIn(Schema):
    """How long a VE may live: `for` or `until`; an hour before the end it is told, at the end the VE is stopped."""

    for_: float | None = Field(None, alias="for", description="seconds from now (of a create: from its `not_before`)")
    until: datetime | None = Field(None, description="ISO 8601; without an offset: UTC")
    action: LeaseAction = Field(LeaseAction.STOP, description="`delete`: it is deleted when the grace is over too")
    grace: int = Field(3600, description="seconds from the end until it is deleted, or stopped by force")


class SnapshotIn(Schema):
    """A new snapshot."""

    name: str = Field(description=f"{NAME}; unique in its VE", examples=["before-upgrade"])
    job: TermsIn | None = None
