"""What the leader's functions share: ports, clock, lease, and what is known to be out of reach."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Concatenate, ParamSpec, TypeVar
from uuid import UUID

from vmcloud.config import Config
from vmcloud.directory.store import Directory
from vmcloud.dispatch.routes import monitor_list
from vmcloud.dispatch.send import OrderSender
from vmcloud.domain.vocabulary import JobState, Outcome
from vmcloud.fleet import gather
from vmcloud.fleet.models import Job, JobEvent, Step

from . import memory
from .entries import Entries
from .leader import Leader
from .projection import Projection

BROKER_PAUSE = 1.0
"""Seconds until a broker that did not answer is tried again."""


P = ParamSpec("P")
R = TypeVar("R")
Subject = TypeVar("Subject")

CULPRIT = "vmcloud_at_hand"


def at_hand(function: Callable[Concatenate[Context, Subject, P], R]) -> Callable[Concatenate[Context, Subject, P], R]:
    """A function that works on its second argument (:meth:`Context.at_hand`)."""

    def run(context: Context, subject: Subject, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with context.at_hand(subject):
            return function(context, subject, *args, **kwargs)

    functools.update_wrapper(run, function)
    return run


def culprit(error: BaseException) -> object:
    """What was at hand when an error came; None where nobody said."""
    return error.__dict__.get(CULPRIT)


@dataclass(eq=False)
class Context(memory.Kept):
    """One leading server's hands and eyes, for as long as it leads.

    What is kept here of what was committed is undone where a transaction is not (:mod:`.memory`). Times of the steady clock
    (:func:`time.monotonic`) are called so; all others are seconds since the epoch, by ``clock``.
    """

    config: Config
    """The cloud's settings."""
    directory: Directory
    """The directory, with the server's rights."""
    orders: OrderSender
    """What signs and sends messages to nodes."""
    leader: Leader
    """The claim to lead: every transaction of a turn is one of :meth:`.leader.Leader.transaction`."""
    projection: Projection
    """The read model, and whether the directory's watch is up with the directory."""
    clock: Callable[[], float] = time.time
    """The time of day, as it is written down."""
    broker_down: str = ""
    """Why the broker did not answer last; empty while it does."""
    broker_again_at: float = 0.0
    """When it may be tried again after that, by the steady clock."""
    again: bool = False
    """Something was done that may allow more: the next turn begins at once."""
    broken: set[str] = field(default_factory=set)
    """What was told of parts of a turn that broke off over nothing that could be set aside (:mod:`.quarantine`)."""

    changed: memory.Set[UUID] = field(default_factory=memory.Set)
    """VEs that reconcile is to look at in this turn, without waiting for its look at all."""
    entries: Entries = field(default_factory=Entries)
    """What the watch told last of the entries that changed last."""
    foreign: memory.Set[UUID] = field(default_factory=memory.Set)
    """VEs whose entry says what nobody has accepted: the rules leave them alone."""
    suspects: memory.Dict[UUID, float] = field(default_factory=memory.Dict)
    """Entries that are to be judged, each with the time since when, by the steady clock."""
    vanished: memory.Dict[UUID, tuple[str, float]] = field(default_factory=memory.Dict)
    """VEs whose entry is gone and of which that was not told yet: the node they were on, and since when, by the steady clock."""

    reserved: dict[UUID, tuple[str, int]] = field(default_factory=dict)
    """Placements (node, MiB) that were written to the directory and that the read model does not show yet. No transaction is
    about them, so none undoes them."""
    cursor: tuple[int, int, float, int] | None = None
    """The last queued job that the scheduler looked at, by its turn; None: it begins at the front."""
    part_cursors: dict[int, tuple[int, float, int]] = field(default_factory=dict)
    """Of each array with a slot limit, the last part that was looked at, where the parts behind it are to have their turn."""
    touched: memory.Set[int] = field(default_factory=memory.Set)
    """Jobs that began or ended since it was last looked which jobs wait for them."""
    reviewed_at: float = 0.0
    """When all jobs that wait for others were last looked at."""
    freed_at: float = 0.0
    """When all jobs that are behind others in their lanes were last looked at."""
    stale: memory.List[Step] = field(default_factory=memory.List)
    """Steps that were given up, whose nodes are to be told to stop them."""
    to_cancel: memory.List[Step] = field(default_factory=memory.List)
    """Steps whose nodes are to be told to stop them and to undo them."""
    heard: memory.Dict[str, float] = field(default_factory=memory.Dict)
    """When it was last written down of each node that it was heard."""

    @contextmanager
    def at_hand(self, subject: object) -> Iterator[None]:
        """A block that works on one job, step or VE's row: what is set aside if an error that nobody expects comes out of it
        (:mod:`.quarantine`). Where such blocks stand in each other, the innermost counts."""
        try:
            yield
        except Exception as error:
            if culprit(error) is None:
                error.__dict__[CULPRIT] = subject
            raise

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
