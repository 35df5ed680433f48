"""Simulated nodes: each answers orders as a worker does, and the test decides when, in which order and how often.

What an order leads to is decided by the worker's own pure functions (:mod:`workers.accept`), and what a sighting changes by the
monitor's own publisher; only the guests, and the time between two events, are the model's. Nothing happens by itself: a step
begins, reports and ends when the test says so. Each node keeps its journal over the whole test, as the real one does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from vmcloud.domain.errors import Problem
from vmcloud.domain.messages import (
    Accepted,
    CancelOrder,
    Digest,
    Mark,
    Message,
    NodeFacts,
    Progress,
    Refused,
    RelistOrder,
    Result,
    Seen,
    Sighting,
    SignalOrder,
    Snapshot,
    StepOrder,
)
from vmcloud.domain.vocabulary import SESSIONS, Desired, Kind, Observed, Outcome
from workers.accept import NOTHING_SHOWN, Going, NeverRun, Refuse, Replay, Stop, Take, decide_cancel, decide_step
from workers.journal import Presence, State, StepRow, VERow

Key = tuple[int, int]
"""The number of a job and that of its step."""
POWER = {
    "start": Observed.RUNNING,
    "restart": Observed.RUNNING,
    "resume": Observed.RUNNING,
    "stop": Observed.STOPPED,
    "suspend": Observed.SUSPENDED,
}
"""The state of a guest after a step of this verb has ended well."""
IMAGE = "0" * 64
"""The SHA-256 sum of the one image that there is."""


@dataclass(frozen=True)
class Begun:
    """One time that a node began to carry out an attempt of a step."""

    job: int
    step: int
    attempt: int
    node: str
    verb: str
    lane: str


@dataclass(frozen=True)
class Guest:
    """A guest on a node."""

    native: str
    kind: Kind
    state: Observed
    vcpus: int
    memory_mib: int
    snapshots: tuple[Snapshot, ...] = ()


@dataclass
class SimulatedNode:
    """One node with its worker. ``tell_server`` and ``tell_monitor`` put a message on its two lists."""

    name: str
    clock: Callable[[], float]
    tell_server: Callable[[Message], None]
    tell_monitor: Callable[[Sighting], None]
    kinds: tuple[Kind, ...] = (Kind.LXC, Kind.SIMULATED)
    images: set[str] = field(default_factory=set)
    steps: dict[Key, StepRow] = field(default_factory=dict)
    """The journal: every step that the node was told of."""
    ves: dict[UUID, VERow] = field(default_factory=dict)
    guests: dict[UUID, Guest] = field(default_factory=dict)
    begun: list[Begun] = field(default_factory=list)
    """Every execution that began, in order."""
    ended: set[tuple[int, int, int]] = field(default_factory=set)
    """(job, step, attempt) of every attempt that came to an end here, or was refused."""
    epoch: int = 1
    sequence: int = 0

    @property
    def facts(self) -> NodeFacts:
        """What the node can do and has."""
        return NodeFacts(self.kinds, cpus=8, memory_mib=1024, disk_mib=10240, version="0.1.0")

    def mark(self) -> Mark:
        """The next point in the node's voice."""
        self.sequence += 1
        return Mark(self.epoch, self.sequence)

    # ------------------------------------------------------------------------------------------------------------- orders

    def take(self, order: StepOrder | CancelOrder | RelistOrder | SignalOrder) -> None:
        """Accept one order, as the worker does."""
        match order:
            case StepOrder():
                self._take_step(order)
            case CancelOrder():
                self._take_cancel(order)
            case RelistOrder():
                self.relist()
            case SignalOrder():
                pass  # the step's process dies and begins again: nobody sees a difference

    def _take_step(self, order: StepOrder) -> None:
        key = order.job, order.step
        row = self.steps.get(key)
        match decide_step(order, row, self.ves.get(order.ve) if order.ve else None):
            case Take():
                self.steps[key] = StepRow(len(self.steps) + 1, order.job, order.step, order.attempt, State.ACCEPTED, order)
                if order.ve is not None and order.verb not in SESSIONS:
                    self._expect(order, order.ve)
                self._accept(order, running=False)
            case Going(running, adopt):
                assert row is not None
                if adopt:
                    self.steps[key] = replace(row, attempt=order.attempt, order=order)
                self._accept(order, running=running)
            case Replay(result):
                self.tell_server(result)
                self.relist()
            case Refuse(code, words):
                self._refuse(order, code, words)

    def _expect(self, order: StepOrder, ve: UUID) -> None:
        known = self.ves.get(ve) or VERow(ve, order.native, order.kind.value if order.kind else "")
        presence = Presence.PRESENT if order.verb == "create" else known.presence
        self.ves[ve] = replace(known, generation_high=max(known.generation_high, order.generation), presence=presence)

    def _take_cancel(self, order: CancelOrder) -> None:
        key = order.job, order.step
        row = self.steps.get(key)
        match decide_cancel(order, row):
            case NeverRun():
                result = self._result(order, Outcome.CANCELLED, NOTHING_SHOWN, undone=True)
                known = row or StepRow(len(self.steps) + 1, order.job, order.step, order.attempt, State.DONE, None)
                self._finish(replace(known, attempt=order.attempt), result)
            case Stop():
                assert row is not None
                self.steps[key] = replace(row, cancel=True, attempt=max(row.attempt, order.attempt))
            case Replay(result):
                self.tell_server(result)
                self.relist()
            case Refuse(code, words):
                self._refuse(order, code, words)

    def _accept(self, order: StepOrder, *, running: bool) -> None:
        self.tell_server(Accepted(self.name, order.job, order.step, order.attempt, self.clock(), running))

    def _refuse(self, order: StepOrder | CancelOrder, code: str, words: str) -> None:
        self.ended.add((order.job, order.step, order.attempt))
        self.tell_server(Refused(self.name, order.job, order.step, order.attempt, self.clock(), code, words))

    # --------------------------------------------------------------------------------------------------------------- work

    def waiting(self) -> list[StepRow]:
        """Steps that may begin: accepted, and the first in their lanes."""
        busy = {row.order.lane for row in self.running() if row.order}
        found: list[StepRow] = []
        for row in sorted(self.steps.values(), key=lambda each: each.sequence):
            if row.state is State.ACCEPTED and row.order is not None and row.order.lane not in busy:
                busy.add(row.order.lane)
                found.append(row)
        return found

    def running(self) -> list[StepRow]:
        """Steps that are being carried out."""
        return [row for row in self.steps.values() if row.state is State.RUNNING]

    def begin(self, row: StepRow) -> None:
        """Begin to carry out an accepted step."""
        assert row.order is not None
        self.steps[row.job, row.step] = replace(row, state=State.RUNNING)
        self.begun.append(Begun(row.job, row.step, row.attempt, self.name, row.order.verb, row.order.lane))

    def progress(self, row: StepRow, percent: int) -> None:
        """Say how far a running step is."""
        self.tell_server(Progress(self.name, row.job, row.step, row.attempt, self.clock(), "working", percent))

    def end(self, row: StepRow, *, fails: bool = False, retryable: bool = False, code: str = "broken") -> None:
        """A running step ends: well, failed, or (where it was cancelled) stopped and undone."""
        order = row.order
        assert order is not None
        error = None
        outcome = Outcome.CANCELLED if row.cancel else Outcome.FAILED if fails else Outcome.OK
        guest = self.guests.get(order.ve) if order.ve else None
        if outcome is Outcome.OK and guest is None and order.ve is not None and order.verb not in ("create", "delete"):
            outcome, code = Outcome.FAILED, "no-such-guest"
        if outcome is Outcome.FAILED:
            error = Problem(code, "it did not work")
        if outcome is Outcome.OK:
            self._carry_out(order)
        elif order.ve is not None and order.verb == "create":
            self.ves[order.ve] = replace(self.ves[order.ve], presence=Presence.ABSENT)
        if order.ve is not None and (known := self.ves.get(order.ve)) is not None:
            self.ves[order.ve] = replace(known, generation_done=max(known.generation_done, order.generation))
        mark = self.mark()
        seen = self._seen(order.ve) if order.ve is not None and order.ve in self.guests else None
        undone = outcome is not Outcome.OK and order.verb in ("create", "fetch")
        result = self._result(
            row, outcome, mark, seen=seen, error=error, retryable=retryable and error is not None, undone=undone
        )
        if order.ve is not None:
            gone = (order.ve,) if seen is None else ()
            self.tell_monitor(Sighting(self.name, mark, self.clock(), False, (seen,) if seen else (), gone))
        self._finish(row, result)

    def _result(self, about: Any, outcome: Outcome, mark: Mark, **said: Any) -> Result:
        return Result(self.name, about.job, about.step, about.attempt, self.clock(), outcome, mark, **said)

    def _finish(self, row: StepRow, result: Result) -> None:
        self.steps[row.job, row.step] = replace(row, state=State.DONE, cancel=False, result=result)
        self.ended.add((row.job, row.step, row.attempt))
        self.tell_server(result)

    def _carry_out(self, order: StepOrder) -> None:
        if order.verb == "fetch":
            self.images.add(str(order.args["sha256"]))
        if order.ve is None or order.kind is None or order.verb in SESSIONS:
            return
        known = self.guests.get(order.ve)
        if order.verb == "create":
            power = Observed.RUNNING if order.args["power"] == Desired.RUNNING else Observed.STOPPED
            spec = order.args["spec"]
            self.guests[order.ve] = Guest(order.native, order.kind, power, int(spec["vcpus"]), int(spec["memory_mib"]))
        elif order.verb == "delete":
            self.guests.pop(order.ve, None)
            self.ves[order.ve] = replace(self.ves[order.ve], presence=Presence.DELETED)
        elif known is not None and order.verb == "resize":
            spec = order.args["spec"]
            self.guests[order.ve] = replace(known, vcpus=int(spec["vcpus"]), memory_mib=int(spec["memory_mib"]))
        elif known is not None and order.verb == "snapshot":
            taken = Snapshot.from_json(order.args["snapshot"])
            self.guests[order.ve] = replace(known, snapshots=tuple(sorted({*known.snapshots, taken})))
        elif known is not None:
            self.guests[order.ve] = replace(known, state=POWER.get(order.verb, known.state))

    # ------------------------------------------------------------------------------------------------------ what is seen

    def _seen(self, ve: UUID) -> Seen:
        guest, known = self.guests[ve], self.ves.get(ve)
        return Seen(
            native=guest.native,
            kind=guest.kind,
            state=guest.state,
            ve=ve,
            generation=known.generation_done if known else 0,
            vcpus=guest.vcpus,
            memory_mib=guest.memory_mib,
            snapshots=guest.snapshots,
        )

    def relist(self) -> None:
        """Say everything now: the digest to the server, the full list to the monitor."""
        mark, now = self.mark(), self.clock()
        seen = tuple(self._seen(ve) for ve in self.guests)
        self.tell_monitor(Sighting(self.name, mark, now, True, seen, (), self.facts))
        expected = {ve for ve, row in self.ves.items() if row.presence is Presence.PRESENT}
        busy = {row.order.ve for row in self.steps.values() if row.order and row.state is not State.DONE}
        working = tuple((row.job, row.step, row.attempt) for row in self.steps.values() if row.state is not State.DONE)
        missing = tuple(sorted(expected - set(self.guests) - busy, key=str))
        self.tell_server(Digest(self.name, mark, now, len(seen), self.facts, missing, tuple(sorted(self.images)), working))

    def work_all(self) -> bool:
        """Begin and end, well, everything that can; whether there was anything."""
        some = False
        for row in self.running():
            self.end(row)
            some = True
        while found := self.waiting():
            for row in found:
                self.begin(row)
                self.end(self.steps[row.job, row.step])
                some = True
        return some


@dataclass
class Lists:
    """The broker's lists: what is on its way to each node, and from each node to the server and to the monitor."""

    orders: dict[str, deque[Any]] = field(default_factory=dict)
    reports: dict[str, deque[dict[str, Any]]] = field(default_factory=dict)
    sightings: dict[str, deque[Sighting]] = field(default_factory=dict)

    def add(self, node: str) -> None:
        """Make the lists of one node."""
        self.orders[node], self.reports[node], self.sightings[node] = deque(), deque(), deque()

    def all_reports(self) -> Iterator[tuple[str, deque[dict[str, Any]]]]:
        """The nodes of which something waits for the server."""
        return ((node, waiting) for node, waiting in self.reports.items() if waiting)
