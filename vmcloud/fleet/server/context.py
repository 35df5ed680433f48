"""What the leader's functions share: ports, clock, lease, and what is known to be out of reach."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from uuid import UUID

from vmcloud.config import Config
from vmcloud.directory.store import Directory
from vmcloud.dispatch.routes import monitor_list
from vmcloud.dispatch.send import OrderSender
from vmcloud.domain.vocabulary import JobState, Outcome
from vmcloud.fleet import gather
from vmcloud.fleet.models import Job, JobEvent, Step

from .entries import Entries
from .leader import Leader
from .projection import Projection

BROKER_PAUSE = 1.0
"""Seconds until a broker that did not answer is tried again."""


@dataclass
class Context:
    """One leading server's hands and eyes.

    ``foreign``: VEs whose entry says what nobody has accepted; the rules leave them alone. ``suspects``: entries that are to be
    judged, with the time since when. ``vanished``: VEs whose entry is gone, with the node they were on and when. (Both times are
    of the steady clock: none is kept longer than this process.)
    ``part_cursors``: the last part looked at of each array with a slot limit, where others are to have their turn.
    ``again``: something was done that may allow more; look again at once. ``reserved``: placements (node, MiB) that the read
    model does not show yet. ``cursor``: the last queued job that was looked at, by its turn. ``touched``: jobs that began or
    ended since it was looked who waits for them; ``reviewed_at``: when all that wait for others were looked at. ``changed``: VEs
    that reconcile is to look at without waiting for its turn. ``stale``: steps that were given up, whose nodes are to be told.
    ``heard``: when each node's word was last written down. ``entries``: what the watch last told. ``freed_at``: when all jobs
    that are behind others were last looked at.
    """

    config: Config
    directory: Directory
    orders: OrderSender
    leader: Leader
    projection: Projection
    clock: Callable[[], float] = time.time
    broker_down: str = ""
    broker_again_at: float = 0.0
    reserved: dict[UUID, tuple[str, int]] = field(default_factory=dict)
    cursor: tuple[int, int, float, int] | None = None
    part_cursors: dict[int, tuple[int, float, int]] = field(default_factory=dict)
    touched: set[int] = field(default_factory=set)
    reviewed_at: float = 0.0
    changed: set[UUID] = field(default_factory=set)
    again: bool = field(default=False)
    foreign: set[UUID] = field(default_factory=set)
    suspects: dict[UUID, float] = field(default_factory=dict)
    vanished: dict[UUID, tuple[str, float]] = field(default_factory=dict)
    stale: list[Step] = field(default_factory=list)
    heard: dict[str, float] = field(default_factory=dict)
    entries: Entries = field(default_factory=Entries)
    freed_at: float = 0.0

    def suspect(self, ve: UUID) -> None:
        """Have an entry judged in the next cycle."""
        if ve not in self.suspects:
            self.suspects[ve] = time.monotonic()
            self.again = True

    def impatient(self, ve: UUID, seconds: float) -> bool:
        """Whether it has been under suspicion for so long."""
        return time.monotonic() - self.suspects.get(ve, 0.0) > seconds

    def lose_broker(self, reason: str) -> None:
        """Note that the broker did not answer; it is left alone for a moment."""
        self.broker_down, self.broker_again_at = reason, time.monotonic() + BROKER_PAUSE

    @property
    def broker_rests(self) -> bool:
        """Whether the broker did not answer a moment ago."""
        return bool(self.broker_down) and time.monotonic() < self.broker_again_at

    def tell(self, job: Job, reason: str) -> None:
        """Say why a job waits; writes only where it says something new."""
        self.tell_all({job: reason})

    def tell_all(self, reasons: Mapping[Job, str]) -> None:
        """The same of many jobs, in one transaction."""
        news = {job: reason[:1000] for job, reason in reasons.items() if job.reason != reason[:1000]}
        if news:
            with self.leader.transaction(), gather.gathering():
                for job, reason in news.items():
                    job.change(reason=reason)

    def note(self, job: Job, text: str) -> None:
        """Add a line to the job's history."""
        gather.add(JobEvent(job=job, at=self.clock(), text=text))

    def unread(self, node: str) -> bool:
        """Whether the monitor has not read all that a node said to it."""
        return bool(node) and (self.broker_rests or self.orders.waiting(monitor_list(node)) > 0)

    def exit(self, job: Job, outcome: Outcome, *, error: dict[str, str] | None = None, result: dict | None = None) -> None:
        """The work of a job is over, one way or the other: what is left is to record it and to see it shown."""
        if outcome is Outcome.CANCELLED and _overdue(job):
            outcome = Outcome.TIMED_OUT
            error = error or {"code": "walltime", "what": f"its walltime of {job.walltime:g} s was over"}
        job.change(state=JobState.EXITING, outcome=outcome.value, error=error, result=result, exiting_at=self.clock(), reason="")
        self.again = True


def _overdue(job: Job) -> bool:
    """Whether the end was asked for because its walltime was over."""
    asked, started = job.cancel_requested_at, job.started_at
    return None not in (asked, started, job.walltime) and asked - started >= job.walltime
