"""Which queued jobs begin now: in lane order, within the limits of their queues and arrays, where there is room. The others are
told why not. :mod:`.begin` writes down and sends those that do."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

from django.db.models import Case, Exists, OuterRef, Q, When

from vmcloud.directory.errors import Gone, Stale
from vmcloud.directory.errors import Unavailable as DirectoryUnavailable
from vmcloud.domain.clocks import elapsed
from vmcloud.domain.errors import VmcloudError
from vmcloud.domain.placement import place, short_of
from vmcloud.domain.queueing import Filling, Queue, keeps_waiting
from vmcloud.domain.records import VERecord
from vmcloud.domain.terms import PRIORITY
from vmcloud.domain.verbs.base import Verb
from vmcloud.domain.vocabulary import JobState, NodeState, Outcome
from vmcloud.faults import point
from vmcloud.fleet import gather
from vmcloud.fleet.models import HOLDING, OPEN_JOBS, UNBEGUN, VE, Accepted, Job, Step
from vmcloud.fleet.services import lanes, queries, queues

from . import admit, arrays, foreign, glance, orders, progress, wanted
from .begin import Beginnings, Ready, plan, verb_of
from .context import Context

log = logging.getLogger("server.schedule")

STOPPED_TOGETHER = 1000
"""Jobs whose end was asked for that are ended, or whose steps are cancelled, in one transaction."""
PER_TURN = 200
"""Queued jobs looked at in one turn."""
NOTHING: Mapping[str, Any] = {}
LOOK_ANEW = 30.0
"""Seconds between two looks at all that are behind others: whatever was missed is found then."""


class Wait(Exception):
    """A job can not begin now; why, in words."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def run(context: Context) -> None:
    """Begin every queued job that can begin; the others are told why not. Each turn takes a batch and the next goes on there."""
    _look_anew(context)
    seen = glance.look(context.clock())
    if seen.cancelled:
        _stop_cancelled(context)
    if not seen.first:
        context.cursor = None
        context.part_cursors.clear()
        return
    lines, slots = Lines(), arrays.Slots()
    if batch := _batch(context, lines, slots):
        Turn(context, lines, slots, batch).run()
    slots.remember(context)


def _look_anew(context: Context) -> None:
    """Look at everything again, now and then, and when a server begins to lead."""
    if elapsed(context.freed_at, context.clock()) < LOOK_ANEW:
        return
    context.freed_at = context.clock()
    behind = Job.objects.filter(state=JobState.QUEUED, behind=True)
    if behind.exists():
        with context.leader.transaction():
            behind.update(behind=False)


class Turn:
    """One look at a batch: what is read once for all its jobs, and those that begin, written down and sent together."""

    def __init__(self, context: Context, lines: Lines, slots: arrays.Slots, batch: Sequence[Job]) -> None:
        self._context, self._lines, self._slots, self._batch = context, lines, slots, batch
        self._before = lanes.before([job.pk for job in batch])
        first = [job.ve for job in batch if job.pk not in self._before and job.ve is not None]
        self._accepted = Accepted.objects.in_bulk(first) if first else {}
        self._beginnings = Beginnings(context, self._tried)
        self._beginnings.know(dict(self._accepted))
        self._told: dict[Job, str] = {}
        self._down = False

    @cached_property
    def _room(self) -> Room:
        return Room(self._context)

    def run(self) -> None:
        """Begin what can begin, and tell the others."""
        behind: list[Job] = []
        for job in self._batch:
            if job.pk in self._before:
                behind.append(job)
            elif self._down:
                break
            elif why := self._lines.keep_waiting(job):
                self._told[job] = why
            elif not self._slots.keeps_waiting(job) and self._tried(job, partial(self._begin, job)):
                self._lines.note_begun(job)
                self._slots.note_begun(job)
        self._beginnings.commit()
        self._context.tell_all(self._told)
        self._mark(behind)

    def _mark(self, behind: Sequence[Job]) -> None:
        """They are not looked at again until their lane has moved on."""
        if not behind:
            return
        with self._context.leader.transaction(), gather.gathering():
            for job in behind:
                other, lane = self._before[job.pk]
                kind = lane.partition(":")[0]
                job.change(behind=True, reason=f"after job {other}, which comes first on the same {kind}")

    def _tried(self, job: Job, action: Callable[[], object]) -> bool:
        """Whether ``action`` did what it does for the job; else the job is told why, tried again, or over."""
        context = self._context
        if self._down:
            return False
        try:
            with context.at_hand(job):
                action()
        except Wait as wait:
            self._told[job] = wait.reason
        except DirectoryUnavailable as error:
            context.projection.down = error.problem.sentence()
            self._told[job] = "the directory does not answer; the job begins when it is back"
            self._down = True
        except Stale:
            context.entries.forget(job.ve)
            context.again = True  # somebody else wrote: decide again on what they wrote
        except VmcloudError as error:
            if isinstance(error, Gone) and context.entries.forget(job.ve):
                context.again = True  # not where it was when the watch told of it
            else:
                _refuse(context, job, error.problem.to_json())
        except (ValueError, TypeError, LookupError) as error:
            log.exception("job %d can not be begun", job.pk)
            _refuse(context, job, {"code": "internal", "what": f"the server could not begin it: {error}"})
        else:
            return True
        return False

    def _begin(self, job: Job) -> None:
        verb = verb_of(job)
        if job.ve is None:
            self._add(job, verb, job.node, None)
            return
        context = self._context
        try:
            record = foreign.fresh(context, job.ve, self._accepted.get(job.ve))
        except Stale as error:
            raise Wait(error.problem.what) from None
        if record is None:
            self._begin_without_entry(job, verb)
            return
        if verb.claims and not record.node:
            # Where its guest is, or where there is room for one.
            record = context.directory.change_ve(record, node=job.node) if job.node else self._placed(job, record)
        elif not verb.claims and not verb.without_node:
            self._check_node(record)
            after = verb.wants(wanted.wish_of(record), job.args)
            self._room.grow(record, after.spec.memory_mib)
        args = {"node": self._room.other(record, str(job.args.get("node", "")))} if verb.moves else {}
        self._add(job, verb, record.node, record, args)

    def _begin_without_entry(self, job: Job, verb: Verb) -> None:
        context = self._context
        assert job.ve is not None
        buried = not job.node or context.directory.tombstone(job.ve) is not None
        try:
            something = verb.without_entry(job.args, buried)
        except VmcloudError as error:
            todo = error.problem.todo
            raise Gone(f"VE {job.ve_name!r} is recorded no more", where="ve", todo=todo) from None
        if something:
            self._add(job, verb, job.node, None)
            return
        with context.leader.transaction():
            context.exit(job, Outcome.OK, result={"undone": True})

    def _add(self, job: Job, verb: Verb, node: str, record: VERecord | None, chosen: Mapping[str, Any] = NOTHING) -> None:
        """Have it begin, unless one of its first steps needs what another job's step has just now."""
        plans = plan(self._context, job, verb, node, record, chosen)
        shared = [each.lane for each in plans if each.node and each.ve is None]
        holder = Step.objects.filter(lane__in=shared, state__in=HOLDING).first() if shared else None
        if holder is not None:
            what = f"image {holder.args['image']}" if "image" in holder.args else holder.lane
            raise Wait(f"waits for job {holder.job_id}, which has {what} on node {holder.node} in hand")
        self._beginnings.add(Ready(job, verb, node, plans, chosen, record))
        if shared:
            self._beginnings.commit()  # whoever needs the same must see that it is on its way

    def _check_node(self, record: VERecord) -> None:
        state = self._room.state(record.node)
        if not record.node:
            raise Wait("the VE is not placed on a node yet")
        if state is None:
            raise Wait(f"node {record.node} is not recorded")
        if state is not NodeState.UP:
            raise Wait(f"node {record.node} is {state}; the job waits for it")

    def _placed(self, job: Job, record: VERecord) -> VERecord:
        """The record of a new VE with a node."""
        queue = self._lines.queues.get(job.queue)
        node = self._room.place(record, queue)
        record = self._context.directory.change_ve(record, node=node)
        point("server.dispatch.placed")
        return record


class Room:
    """The nodes in one turn, read once: what each has, and what of it was given away; counted on as jobs begin."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._nodes = {each.name: each for each in queries.candidates(context.clock(), _promised(context))}

    def state(self, node: str) -> NodeState | None:
        """Whether a node is up; None if there is no such node."""
        return self._nodes[node].state if node in self._nodes else None

    def place(self, record: VERecord, queue: Queue | None) -> str:
        """The node for a new VE."""
        placement = place(record.spec, self._nodes.values(), queue.labels if queue else ())
        if not placement.node:
            raise Wait(f"no node has room: {placement.why_not()}")
        self._give(record, placement.node, record.spec.memory_mib, record.spec.memory_mib)
        return placement.node

    def other(self, record: VERecord, wanted: str) -> str:
        """The node that a VE moves to: the one that is ``wanted``, or the one with the most room."""
        spec = replace(record.spec, node=wanted)
        placement = place(spec, [each for name, each in self._nodes.items() if name != record.node])
        if not placement.node:
            raise Wait(f"no other node has room: {placement.why_not()}")
        self._give(record, placement.node, spec.memory_mib, spec.memory_mib)
        return placement.node

    def grow(self, record: VERecord, memory_mib: int) -> None:
        """Let a VE have so much memory on its node."""
        more = memory_mib - record.spec.memory_mib
        if more <= 0 or record.node not in self._nodes:
            return
        if why := short_of(more, self._nodes[record.node]):
            raise Wait(f"node {record.node} has no room for it now: {why}")
        self._give(record, record.node, more, memory_mib)

    def _give(self, record: VERecord, name: str, more: int, memory_mib: int) -> None:
        node = self._nodes[name]
        self._nodes[name] = replace(node, used_mib=node.used_mib + more)
        # The read model follows in a moment; until then the next turn must not count on the same room.
        self._context.reserved[record.ve] = (name, memory_mib)


def _promised(context: Context) -> dict[str, int]:
    """Memory (MiB) per node that was given away and that the read model does not show yet."""
    if not context.reserved:
        return {}
    rows = {
        pk: (node, memory)
        for pk, node, memory in VE.objects.filter(pk__in=list(context.reserved)).values_list("pk", "node", "memory_mib")
    }
    open_jobs = set(Job.objects.filter(ve__in=list(context.reserved), state__in=OPEN_JOBS).values_list("ve", flat=True))
    sums: dict[str, int] = {}
    for ve, (node, memory) in list(context.reserved.items()):
        shown = rows[ve][1] if ve in rows and rows[ve][0] == node else 0
        if memory <= shown or ve not in open_jobs:
            del context.reserved[ve]
        else:
            sums[node] = sums.get(node, 0) + memory - shown
    return sums


class Lines:
    """The queues in one cycle: what each lets run, counted on as jobs begin."""

    def __init__(self) -> None:
        self.queues = queues.load()
        limited = [name for name, each in self.queues.items() if each.max_running or each.max_user_running]
        self._fillings = queues.fillings(limited) if limited else {}

    def keep_waiting(self, job: Job) -> str:
        """Why a job's queue does not let it begin; empty if it does. What was told to run now waits for no limit."""
        if not job.queue or job.priority > PRIORITY[1]:
            return ""
        return keeps_waiting(self.queues.get(job.queue), job.owner, self._fillings.get(job.queue, Filling()))

    def note_begun(self, job: Job) -> None:
        """One more of its queue's jobs runs."""
        if (filling := self._fillings.get(job.queue)) is not None:
            of = {**filling.running_of, job.owner: filling.running_of.get(job.owner, 0) + 1}
            self._fillings[job.queue] = replace(filling, running=filling.running + 1, running_of=of)


def _batch(context: Context, lines: Lines, slots: arrays.Slots) -> list[Job]:
    """The next queued jobs in their turn: of queues with a higher priority first, then by their own, then by rank. Of arrays with
    a slot limit no more than may begin.

    ``behind__in``: of ``NOT behind``, which Django writes for ``behind=False``, SQLite's planner makes no use."""
    first = [When(queue=name, then=queue.priority) for name, queue in lines.queues.items() if queue.priority]
    ready = {"state": JobState.QUEUED, "behind__in": [False], "size": 0, "holds": "", "to_review__in": [False]}
    rows = Job.objects.filter(**ready, cancel_requested_at=None).order_by("-priority", "rank", "id")
    rows = rows.annotate(line=Case(*first, default=0)).order_by("-line", "-priority", "rank", "id") if first else rows
    parts, rows = slots.next_parts(context, rows), slots.without_limited(rows)
    if context.cursor is not None:
        line, priority, rank, number = context.cursor
        later = arrays.later(priority, rank, number)
        rows = rows.filter(Q(line__lt=line) | Q(later, line=line) if first else later)
    batch = list(rows[:PER_TURN])
    last = batch[-1] if len(batch) == PER_TURN else None
    context.cursor = (getattr(last, "line", 0), last.priority, last.rank, last.pk) if last else None
    context.again = context.again or last is not None
    return sorted([*batch, *parts], key=_turn) if parts else batch


def _turn(job: Job) -> tuple[int, int, float, int]:
    return -getattr(job, "line", 0), -job.priority, job.rank, job.pk


def _refuse(context: Context, job: Job, problem: dict[str, str]) -> None:
    with context.leader.transaction():
        context.exit(job, Outcome.FAILED, error=problem, result=admit.never_ran(job))


def _stop_cancelled(context: Context) -> None:
    """What is cancelled while it is queued never runs, whatever it waits for; of what runs, its nodes are told at once."""
    asked = Job.objects.filter(size=0, cancel_requested_at__isnull=False)
    told = Step.objects.filter(job=OuterRef("pk"), cancel_sent_at__isnull=False)
    running = asked.filter(~Exists(told), state=JobState.RUNNING)
    if numbers := list(running.values_list("pk", flat=True)[:STOPPED_TOGETHER]):
        go_on(context, numbers)
    with context.leader.transaction():
        if cancelled := list(asked.filter(state__in=UNBEGUN)[:STOPPED_TOGETHER]):
            admit.drop(context, cancelled)


def take_up(context: Context) -> None:
    """Go on with jobs that run while nothing of theirs is under way: a lane was another job's, or a server died in between."""
    under_way = Step.objects.filter(job=OuterRef("pk"), state__in=HOLDING)
    if numbers := list(Job.objects.filter(~Exists(under_way), state=JobState.RUNNING).values_list("pk", flat=True)):
        go_on(context, numbers)


def go_on(context: Context, numbers: Collection[int]) -> None:
    """Do what is due now about these jobs, as far as they run; together."""
    to_send: list[Step] = []
    with context.leader.transaction(), gather.gathering():
        for steps in progress.steps_of(numbers).values():
            if steps[0].job.state == JobState.RUNNING:
                to_send += progress.go_on(context, steps[0].job, steps)
    orders.cancel_due(context)
    orders.send(context, [step for step in to_send if step.node])
