"""Queues."""

from __future__ import annotations

from ninja import Field, Schema

from .common import NAME


class _Limits(Schema):
    """A queue's limits; 0 is no limit."""

    enabled: bool = Field(True, description="takes jobs")
    started: bool = Field(True, description="its jobs may begin")
    priority: int = 0
    max_running: int = 0
    max_user_running: int = 0
    max_queued: int = 0
    max_user_queued: int = 0
    min_vcpus: int = 0
    max_vcpus: int = 0
    min_memory_mib: int = 0
    max_memory_mib: int = 0
    default_lease: int = Field(0, description="seconds; for creates that say nothing of a lease")
    max_lease: int = Field(0, description="seconds; of creates and renewals")
    users: list[str] = Field([], description="who may submit; none: everybody")
    routes: list[str] = Field([], description="hands its jobs to the first of these that takes them")
    labels: list[str] = Field([], description="what the nodes of its creates must have")


class QueueIn(_Limits):
    """A queue's limits; `name` only for a new one."""

    name: str = ""


class QueueOut(_Limits):
    """A named line of jobs with limits; 0 is no limit."""

    name: str = Field(description=NAME, examples=["batch"])
    queued: int = Field(description="jobs that have not begun; an array counts as its parts")
    running: int


class QueuePage(Schema):
    """All queues; always one page."""

    items: list[QueueOut]
    next: None = None
