"""Kinds and what they can do."""

from __future__ import annotations

from ninja import Field, Schema

from vmcloud.domain.kinds import Support
from vmcloud.domain.vocabulary import Kind, Power


class PowerOut(Schema):
    """Whether a kind can do something. `node`: where a trial on the node has passed; `later`: not in this release."""

    power: Power
    support: Support
    why: str = Field(description="in words, for all but yes")
    source: str = Field(description="for a no: where its upstream says so")


class RangeOut(Schema):
    """The least and the most that may be asked for."""

    lowest: int
    highest: int


class LimitsOut(Schema):
    """Limits of a kind, whatever its nodes have."""

    vcpus: RangeOut
    memory_mib: RangeOut
    disk_mib: RangeOut


class KindOut(Schema):
    """A sort of VE and what it can do."""

    kind: Kind
    title: str
    driver: bool = Field(description="whether this release can make VEs of it")
    nodes: int = Field(description="how many offer it")
    nodes_up: int
    limits: LimitsOut
    verbs: list[str] = Field(description="what can be asked of a VE of this kind")
    powers: list[PowerOut]


class KindPage(Schema):
    """All kinds; always one page."""

    items: list[KindOut]
    next: None = None
