"""Schemas of the audit."""

from __future__ import annotations

from datetime import datetime

from ninja import Schema
from pydantic import Field

from vmcloud.fleet.services.audit import Door

from .common import Page


class AuditOut(Schema):
    """Something that was refused, or a login."""

    id: int
    at: datetime | None = Field(description="when it was first")
    last: datetime | None = Field(description="when it was last")
    door: Door
    who: str | None = Field(examples=["bob"])
    source: str | None = Field(examples=["192.0.2.7"])
    what: str = Field(examples=["POST /api/v1/queues"])
    why: str = Field(examples=["only an administrator may change queues"])
    allowed: bool
    count: int = Field(description="how often within a minute")


class AuditPage(Page):
    """A page of them, newest first."""

    items: list[AuditOut]


class RecentOut(Schema):
    """Refusals of the last minutes."""

    seconds: float
    refusals: dict[str, int] = Field(description="by door", examples=[{"login": 12}])
    burst: str = Field(description="in words where they are many, else empty")
