"""Queued jobs become steps: in lane order, placed, written down as wanted, then sent.

Order of writes for one job: (1) what a failure must go back to, in SQL; (2) placement and desired state, each one
compare-and-swap in the directory, recognised when done before; (3) the step's row, in SQL; (4) the message. Jobs that begin in
the same moment take each of these steps together. A crash after any of them is taken up by doing the whole again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

from django.db.models import Case, Q, When

from vmcloud.directory.errors import Exists, Gone, Stale
from vmcloud.directory.errors import Unavailable as DirectoryUnavailable
from vmcloud.domain.errors import Unavailable, VmcloudError
from vmcloud.domain.placement import place
from vmcloud.domain.queueing import Filling, Queue, keeps_waiting
from vmcloud.domain.records import ImageRecord, VERecord
from vmcloud.domain.terms import PRIORITY
from vmcloud.domain.vocabulary import SESSIONS, JobState, NodeState, Outcome, Verb
from vmcloud.faults import point
from vmcloud.fleet import gather
from vmcloud.fleet.models import OPEN_JOBS, UNBEGUN, VE, Accepted, Job, Step, StepState
from vmcloud.fleet.services import queries, queues

from . import admit, arrays, foreign, glance, lanes, mend, orders, wanted
from .context import Context, at_hand
from .plans import Plan, Wait, plans_of

log = logging.getLogger("server.schedule")

GROUP, GROUP_SECONDS = 25, 0.05
"""Jobs that are written down and sent together at most, and how long the first of them waits for the others."""
DROPPED_TOGETHER = 1000
"""Cancelled jobs that are ended in one transaction."""
PER_TURN = 200
"""Queued jobs looked at in one turn."""
GOES_BACK = (Verb.STOP, Verb.SUSPEND, Verb.RESIZE, Verb.DELETE)
"""Verbs after whose failure (a delete: after whose cancel before it began) what was wanted before is wanted again."""


@dataclass(frozen=True)
class Ready:
    """A job that can begin, and its steps. ``record``: its VE as it is before; None where nothing is to be wanted of it."""

    job: Job
    node: str
    plans: Sequence[Plan]
    record: VERecord | None = None


def run(context: Context) -> None:
    """Begin every queued job that can begin; the others are told why not. Each turn takes a batch and the next goes on there."""
    lanes.free_all(context)
    seen = glance.look(context.clock())
    if seen.cancelled:
        _drop_cancelled(context)
    if not seen.first:
        context.cursor = None
        context.part_cursors.clear()
        return
    lines, slots = Lines(), arrays.Slots()
    if batch := _batch(context, lines, slots):
        Turn(context, lines, slots, batch).run()
    slots.remember(context)


class Turn:
    """One look at a batch: what is read once for all its jobs, and those that begin, written down and sent together."""

    def __init__(self, context: Context, lines: Lines, slots: arrays.Slots, batch: Sequence[Job]) -> None:
        self._context, self._lines, self._slots, self._batch = context, lines, slots, batch
        self._before = lanes.before_each(batch)
        first = [job.ve for job in batch if job.pk not in self._before and job.ve is not None]
        self._accepted = Accepted.objects.in_bulk(first) if first else {}
        self._ready: list[Ready] = []
        self._since = 0.0
        self._told: dict[Job, str] = {}
        self._down = False

    @cached_property
    def _states(self) -> dict[str, NodeState]:
        return queries.node_states(self._context.clock())

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
        self._commit()
        self._context.tell_all(self._told)
        self._mark(behind)

    def _mark(self, behind: Sequence[Job]) -> None:
        """They are not looked at again until their lane has moved on."""
        if not behind:
            return
        with self._context.leader.transaction(), gather.gathering():
            for job in behind:
                kind = lanes.lane_of(job).partition(":")[0]
                job.change(behind=True, reason=f"after job {self._before[job.pk]}, which comes first on the same {kind}")

    def _tried(self, job: Job, action: Callable[[], object]) -> bool:
        """Whether ``action`` did what it does for the job; else the job is told why, tried again, or over."""
        context = self._context
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
        except (ValueError, TypeError, KeyError) as error:
            log.exception("job %d can not be begun", job.pk)
            _refuse(context, job, {"code": "internal", "what": f"the server could not begin it: {error}"})
        else:
            return True
        return False

    def _begin(self, job: Job) -> None:
        verb = Verb(job.verb)
        if verb in (Verb.CORDON, Verb.UNCORDON):
            _switch_node(self._context, job, verb)
        elif verb is Verb.IMPORT:
            _record_image(self._context, job)
        elif verb is Verb.RECONCILE:
            try:
                mend.fix(self._context, job)
            except Unavailable as error:
                raise Wait(error.problem.what) from None
        else:
            self._begin_on_ve(job, verb)

    def _begin_on_ve(self, job: Job, verb: Verb) -> None:
        context = self._context
        assert job.ve is not None
        try:
            record = foreign.fresh(context, job.ve, self._accepted.get(job.ve))
        except Stale as error:
            raise Wait(error.problem.what) from None
        if record is None:
            self._begin_without_entry(job, verb)
            return
        if verb is Verb.ALTER:
            self._alter(job, record)
            return
        if verb is Verb.ADOPT and not record.node:
            record = context.directory.change_ve(record, node=job.node)  # where it is
        if verb is Verb.CREATE:
            record = _placed(context, record, self._lines.queues.get(job.queue))
        else:
            self._check_node(record)
        self._add(Ready(job, record.node, plans_of(context, job, verb, record), record))

    def _begin_without_entry(self, job: Job, verb: Verb) -> None:
        context = self._context
        if verb is not Verb.DELETE:
            raise Gone(f"VE {job.ve_name!r} is recorded no more", where="ve", todo="It was deleted before this job began.")
        assert job.ve is not None
        if "stray" in job.args or (job.node and context.directory.tombstone(job.ve) is None):
            # The entry may be gone by somebody's hand; what was asked for is the end of the guest.
            self._add(Ready(job, job.node, [Plan(verb, lanes.lane_of(job))]))
            return
        with context.leader.transaction():
            context.exit(job, Outcome.OK, result={"undone": True})

    def _check_node(self, record: VERecord) -> None:
        state = self._states.get(record.node)
        if not record.node:
            raise Wait("the VE is not placed on a node yet")
        if state is None:
            raise Wait(f"node {record.node} is not recorded")
        if state is not NodeState.UP:
            raise Wait(f"node {record.node} is {state}; the job waits for it")

    def _alter(self, job: Job, record: VERecord) -> None:
        """Write what only the record shows; no node has to know."""
        context = self._context
        record = self._want(job, record)
        with context.leader.transaction():
            job.change(started_at=context.clock(), generation=record.generation, directory_version=record.version)
            context.exit(job, Outcome.OK)

    # ------------------------------------------------------------------------------------------ those that begin, together

    def _add(self, ready: Ready) -> None:
        """One more; those that wait are committed when there are enough, or when the first has waited long enough."""
        self._since = self._since if self._ready else time.monotonic()
        self._ready.append(ready)
        if len(self._ready) >= GROUP or time.monotonic() - self._since > GROUP_SECONDS or ready.plans[0].verb is Verb.FETCH:
            self._commit()  # a fetch: whoever needs the same image must see that it is on its way

    def _commit(self) -> None:
        """Write and send all that wait."""
        context = self._context
        group, self._ready = self._ready, []
        self._remember(group)
        begun: list[tuple[Ready, VERecord | None]] = []
        for ready in group:
            if not self._down:
                self._tried(ready.job, partial(self._write, ready, begun))
        if not begun:
            return
        with context.leader.transaction(), gather.gathering():
            steps = [step for ready, record in begun for step in _steps(context, ready, record)]
            Step.objects.bulk_create(steps)
            gather.flush()
            arrays.note(context, [ready.job for ready, _ in begun])
        point("server.dispatch.committed")
        orders.send(context, [step for step in steps if step.state == StepState.SENT])

    def _remember(self, group: Sequence[Ready]) -> None:
        """Write down what a failure must go back to."""
        news = {}
        for ready in group:
            job, record = ready.job, ready.record
            if record is None or _is_wanted(job, record) or job.verb not in GOES_BACK:
                continue
            # A change from outside is there before its job is, and brings along what was there before it.
            now = wanted.wish_of(record)
            if "desired" not in job.before or wanted.asked_by(job, now) != now:
                news[job] = {**job.before, "desired": now.desired.value, "spec": now.spec.to_json()}
        if news:
            with self._context.leader.transaction(), gather.gathering():
                for job, before in news.items():
                    job.change(before=before)

    def _write(self, ready: Ready, begun: list[tuple[Ready, VERecord | None]]) -> None:
        begun.append((ready, self._want(ready.job, ready.record) if ready.record is not None else None))

    def _want(self, job: Job, record: VERecord) -> VERecord:
        """Write what is wanted now, with generation + 1 and the job; nothing where this job has done so already."""
        if not _is_wanted(job, record):
            record = wanted.begin(self._context, record, job, self._accepted.get(record.ve))
            self._context.entries.learn(record)
        point("server.dispatch.desired")
        return record


def _is_wanted(job: Job, record: VERecord) -> bool:
    """Whether the directory says already what the job asks for."""
    return job.verb in (Verb.CREATE, Verb.ADOPT) or job.verb in SESSIONS or record.job == job.pk


@at_hand
def _steps(context: Context, ready: Ready, record: VERecord | None) -> Sequence[Step]:
    """The rows of a job that begins, inside a transaction; the first step holds its lane from now on."""
    now, job = context.clock(), ready.job
    steps = [
        Step(
            job=job,
            number=number,
            verb=plan.verb.value,
            attempt=1 + int(job.before.get("replans", 0)),
            node=ready.node,
            lane=plan.lane,
            args=plan.args,
            timeout=plan.timeout,
            state=StepState.SENT if number == 1 else StepState.PLANNED,
            sent_at=now if number == 1 else None,
            sent_count=1 if number == 1 else 0,
        )
        for number, plan in enumerate(ready.plans, 1)
    ]
    about = {"node": ready.node, "generation": 0}
    if record is not None:
        about = {"node": ready.node, "generation": record.generation, "directory_version": record.version}
    job.change(state=JobState.RUNNING, started_at=job.started_at or now, reason="", **about)
    context.touched.add(job.pk)
    context.note(job, f"sent to node {ready.node}: {', then '.join(plan.verb for plan in ready.plans)}")
    return steps


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
    rows = Job.objects.filter(state=JobState.QUEUED, behind__in=[False], size=0).order_by("-priority", "rank", "id")
    rows = rows.annotate(line=Case(*first, default=0)).order_by("-line", "-priority", "rank", "id") if first else rows
    parts, rows = slots.next_parts(context, rows), slots.without_limited(rows)
    if context.cursor is not None:
        line, priority, rank, number = context.cursor
        later = lanes.later(priority, rank, number)
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


def _drop_cancelled(context: Context) -> None:
    """What is cancelled while it is queued never runs, whatever it waits for; of what runs, its node is told at once."""
    asked = Job.objects.filter(size=0, cancel_requested_at__isnull=False)
    for job in asked.filter(state=JobState.RUNNING):
        if (step := orders.first_of(job)) is not None and step.cancel_sent_at is None:
            orders.cancel(context, step)
    if cancelled := list(asked.filter(state__in=UNBEGUN)[:DROPPED_TOGETHER]):
        with context.leader.transaction():
            admit.drop(context, cancelled)


def _placed(context: Context, record: VERecord, queue: Queue | None) -> VERecord:
    """The record with a node; an earlier placement stands."""
    if record.node:
        return record
    placement = place(record.spec, queries.candidates(context.clock(), _reserved(context)), queue.labels if queue else ())
    if not placement.node:
        raise Wait(f"no node has room: {placement.why_not()}")
    record = context.directory.change_ve(record, node=placement.node)
    point("server.dispatch.placed")
    # The read model follows in a moment; until then the next placement must not count on the same room.
    context.reserved[record.ve] = (record.node, record.spec.memory_mib)
    return record


def _reserved(context: Context) -> dict[str, int]:
    """Memory (MiB) per node that was given away and is not in the read model yet."""
    if not context.reserved:
        return {}
    rows = dict(VE.objects.filter(pk__in=list(context.reserved)).values_list("pk", "node"))
    open_jobs = set(Job.objects.filter(ve__in=list(context.reserved), state__in=OPEN_JOBS).values_list("ve", flat=True))
    sums: dict[str, int] = {}
    for ve, (node, memory) in list(context.reserved.items()):
        if rows.get(ve) or (ve not in rows and ve not in open_jobs):
            del context.reserved[ve]
        else:
            sums[node] = sums.get(node, 0) + memory
    return sums


def _switch_node(context: Context, job: Job, verb: Verb) -> None:
    node = context.directory.node(job.node)
    if node is None:
        raise Gone(f"node {job.node!r} is recorded no more", where="node")
    written = context.directory.change_node(node, cordoned=verb is Verb.CORDON)
    with context.leader.transaction():
        job.change(started_at=context.clock(), directory_version=written.version)
        context.exit(job, Outcome.OK)


def _record_image(context: Context, job: Job) -> None:
    asked = job.args
    record = ImageRecord(
        name=asked["image"],
        kind=asked["kind"],
        sha256=asked["sha256"],
        size=asked["size"],
        description=asked.get("description", ""),
    )
    stored: ImageRecord | None
    try:
        stored = context.directory.add_image(record)
    except Exists:
        stored = context.directory.image(record.name)
        if stored is None or stored.sha256 != record.sha256:
            raise
    with context.leader.transaction():
        job.change(started_at=context.clock(), directory_version=stored.version)
        context.exit(job, Outcome.OK)
