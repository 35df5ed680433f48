"""Queued jobs become steps: in lane order, placed, written down as wanted, then sent.

Order of writes for one job: (1) what a failure must go back to, in SQL; (2) placement and desired state, each one
compare-and-swap in the directory, recognised when done before; (3) the step's row, in SQL, together with those of other jobs that
begin in the same moment; (4) the message. A crash after any of them is taken up by doing the whole again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from django.db.models import Case, Q, QuerySet, When

from vmcloud.directory.errors import Exists, Gone, Stale
from vmcloud.directory.errors import Unavailable as DirectoryUnavailable
from vmcloud.domain.errors import Unavailable, VmcloudError
from vmcloud.domain.messages import Snapshot
from vmcloud.domain.placement import place
from vmcloud.domain.queueing import Filling, Queue, keeps_waiting
from vmcloud.domain.records import ImageRecord, VERecord
from vmcloud.domain.terms import PRIORITY
from vmcloud.domain.vocabulary import SESSIONS, JobState, Kind, NodeState, Outcome, Verb
from vmcloud.faults import point
from vmcloud.fleet.models import HOLDING, OPEN_JOBS, UNBEGUN, VE, Image, Job, Liveness, Step, StepState
from vmcloud.fleet.services import queries, queues
from vmcloud.fleet.services.sessions import SECONDS_MAX

from . import admit, arrays, foreign, mend, orders, wanted
from .context import Context

log = logging.getLogger("server.schedule")

GROUP, GROUP_SECONDS = 25, 0.05
"""Jobs that are written down and sent together at most, and how long the first of them waits for the others."""
DROPPED_TOGETHER = 1000
"""Cancelled jobs that are ended in one transaction."""
PER_CYCLE = 200
"""Queued jobs looked at in one cycle."""
TIMEOUTS = {Verb.FETCH: 3600.0, Verb.CREATE: 600.0, Verb.SNAPSHOT: 1800.0, Verb.REVERT: 1800.0, Verb.DELETE_SNAPSHOT: 600.0}
TIMEOUT = 120.0
"""Seconds a step may run on its node, by verb and otherwise; a graceful stop's grace is added."""
GOES_BACK = (Verb.STOP, Verb.SUSPEND, Verb.RESIZE, Verb.DELETE)
"""Verbs after whose failure (a delete: after whose cancel before it began) what was wanted before is wanted again."""


@dataclass
class Wait(Exception):
    """A job can not begin now; why, in words."""

    reason: str


@dataclass(frozen=True)
class Plan:
    """A step to be made."""

    verb: Verb
    lane: str
    args: dict[str, Any] = field(default_factory=dict)
    timeout: float = TIMEOUT


@dataclass(frozen=True)
class Start:
    """A job whose steps are to be written and sent. ``version``: of the VE's entry as it is now."""

    job: Job
    node: str
    generation: int
    plans: Sequence[Plan]
    version: str = ""


def lane_of(job: Job) -> str:
    """The resource for which jobs queue up behind each other; a session waits for none and none waits for it."""
    if job.verb in SESSIONS:
        return f"session:{job.pk}"
    if job.ve is not None:
        return f"ve:{job.ve}"
    if job.verb == Verb.RECONCILE:
        return "reconcile"
    return f"node:{job.node}" if job.node else f"image:{job.args.get('image')}"


def run(context: Context) -> None:
    """Begin every queued job that can begin; the others are told why not. Each cycle takes a batch and the next goes on there."""
    _drop_cancelled(context)
    lines = Lines()
    slots = arrays.Slots()
    batch = _batch(context, lines, slots)
    first = _first_of_lanes(batch)
    starts, told = Starts(context, lines), dict[Job, str]()
    for job in batch:
        lane = lane_of(job)
        if first[lane] != job.pk:
            told[job] = f"after job {first[lane]}, which is under way on the same {lane.partition(':')[0]}"
            continue
        if why := lines.keep_waiting(job):
            told[job] = why
            continue
        if slots.keeps_waiting(job):
            continue
        try:
            begin(context, job, starts)
            lines.note_begun(job)
            slots.note_begun(job)
        except Wait as wait:
            told[job] = wait.reason
        except DirectoryUnavailable as error:
            context.projection.down = error.problem.sentence()
            told[job] = "the directory does not answer; the job begins when it is back"
            break
        except Stale:
            context.again = True  # somebody else wrote: decide again on what they wrote
        except VmcloudError as error:
            _refuse(context, job, error.problem.to_json())
        except (ValueError, TypeError, KeyError) as error:
            log.exception("job %d can not be begun", job.pk)
            _refuse(context, job, {"code": "internal", "what": f"the server could not begin it: {error}"})
    starts.commit()
    slots.remember(context)
    context.tell_all(told)


class Starts:
    """Jobs whose directory write is done, a moment's worth: their steps' rows are written in one transaction, then sent."""

    def __init__(self, context: Context, lines: Lines) -> None:
        self.lines = lines
        self._context = context
        self._waiting: list[Start] = []
        self._since = 0.0

    def add(self, start: Start) -> None:
        """One more; those that wait are committed when there are enough, or when the first has waited long enough."""
        self._since = self._since if self._waiting else time.monotonic()
        self._waiting.append(start)
        if len(self._waiting) >= GROUP or time.monotonic() - self._since > GROUP_SECONDS or start.plans[0].verb is Verb.FETCH:
            self.commit()  # a fetch: whoever needs the same image must see that it is on its way

    def commit(self) -> None:
        """Write and send all that wait."""
        starts, self._waiting = self._waiting, []
        if not starts:
            return
        with self._context.leader.transaction():
            steps = [_commit(self._context, start) for start in starts]
            arrays.note(self._context, [start.job for start in starts])
        point("server.dispatch.committed")
        for step in steps:
            orders.send(self._context, step)


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
    a slot limit no more than may begin."""
    first = [When(queue=name, then=queue.priority) for name, queue in lines.queues.items() if queue.priority]
    rows = Job.objects.filter(state=JobState.QUEUED, size=0).order_by("-priority", "rank", "id")
    rows = rows.annotate(line=Case(*first, default=0)).order_by("-line", "-priority", "rank", "id") if first else rows
    parts, rows = slots.next_parts(context, rows), slots.without_limited(rows)
    if context.cursor is not None:
        line, priority, rank, number = context.cursor
        later = Q(rank__gt=rank) | Q(rank=rank, id__gt=number)
        later = Q(priority__lt=priority) | Q(later, priority=priority)
        rows = rows.filter(Q(line__lt=line) | Q(later, line=line) if first else later)
    batch = list(rows[:PER_CYCLE])
    last = batch[-1] if len(batch) == PER_CYCLE else None
    context.cursor = (getattr(last, "line", 0), last.priority, last.rank, last.pk) if last else None
    context.again = context.again or last is not None
    return sorted([*batch, *parts], key=_turn) if parts else batch


def _turn(job: Job) -> tuple[int, int, float, int]:
    return -getattr(job, "line", 0), -job.priority, job.rank, job.pk


def _refuse(context: Context, job: Job, problem: dict[str, str]) -> None:
    with context.leader.transaction():
        context.exit(job, Outcome.FAILED, error=problem, result={"undone": True, "never_ran": True})


def _drop_cancelled(context: Context) -> None:
    """What is cancelled while it is queued never runs, whatever it waits for; of what runs, its node is told at once."""
    asked = Job.objects.filter(size=0).exclude(cancel_requested_at=None)
    for job in asked.filter(state=JobState.RUNNING):
        if (step := orders.first_of(job)) is not None and step.cancel_sent_at is None:
            orders.cancel(context, step)
    if cancelled := list(asked.filter(state__in=UNBEGUN)[:DROPPED_TOGETHER]):
        with context.leader.transaction():
            admit.drop(context, cancelled)


def _first_of_lanes(batch: Sequence[Job]) -> dict[str, int]:
    """The job whose turn it is in each lane of the batch: one under way, else the first by rank."""
    under_way = Job.objects.filter(state__in=(JobState.QUEUED, JobState.RUNNING, JobState.EXITING), size=0)
    alone = [job for job in batch if job.verb in SESSIONS]
    ves = [job.ve for job in batch if job.ve is not None and job.verb not in SESSIONS]
    first = {lane_of(job): job.pk for job in alone}

    def in_turn(jobs: QuerySet[Job]) -> QuerySet[Job]:
        begun = Case(When(state=JobState.QUEUED, then=1), default=0)
        return jobs.annotate(begun=begun).order_by("begun", "rank", "id")

    for ve, pk in in_turn(under_way.filter(ve__in=ves).exclude(verb__in=SESSIONS)).values_list("ve", "pk"):
        first.setdefault(f"ve:{ve}", pk)
    if len(ves) + len(alone) < len(batch):
        for job in in_turn(under_way.filter(ve=None)):
            first.setdefault(lane_of(job), job.pk)
    return first


def begin(context: Context, job: Job, starts: Starts) -> None:
    """Begin one job."""
    verb = Verb(job.verb)
    if verb in (Verb.CORDON, Verb.UNCORDON):
        _switch_node(context, job, verb)
    elif verb is Verb.IMPORT:
        _record_image(context, job)
    elif verb is Verb.RECONCILE:
        try:
            mend.fix(context, job)
        except Unavailable as error:
            raise Wait(error.problem.what) from None
    else:
        _begin_on_ve(context, job, verb, starts)


def _begin_on_ve(context: Context, job: Job, verb: Verb, starts: Starts) -> None:
    assert job.ve is not None
    try:
        record = foreign.fresh(context, job.ve)
    except Stale as error:
        raise Wait(error.problem.what) from None
    if record is None:
        if verb is Verb.DELETE and ("stray" in job.args or (job.node and context.directory.tombstone(job.ve) is None)):
            # The entry may be gone by somebody's hand; what was asked for is the end of the guest.
            starts.add(Start(job, job.node, 0, [Plan(verb, lane_of(job))]))
            return
        if verb is Verb.DELETE:
            with context.leader.transaction():
                context.exit(job, Outcome.OK, result={"undone": True})
            return
        raise Gone(f"VE {job.ve_name!r} is recorded no more", where="ve", todo="It was deleted before this job began.")
    if verb is Verb.ALTER:
        _alter(context, job, record)
        return
    if verb is Verb.ADOPT and not record.node:
        record = context.directory.change_ve(record, node=job.node)  # where it is
    if verb is Verb.CREATE:
        record = _placed(context, record, starts.lines.queues.get(job.queue))
    else:
        record = _on_living_node(context, record)
    plans = _plans(context, job, verb, record)
    record = _wanted(context, job, verb, record)
    point("server.dispatch.desired")
    starts.add(Start(job, record.node, record.generation, plans, record.version))


def _alter(context: Context, job: Job, record: VERecord) -> None:
    """Write what only the record shows; no node has to know."""
    record = _wanted(context, job, Verb.ALTER, record)
    point("server.dispatch.desired")
    with context.leader.transaction():
        job.change(started_at=context.clock(), generation=record.generation, directory_version=record.version)
        context.exit(job, Outcome.OK)


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


def _on_living_node(context: Context, record: VERecord) -> VERecord:
    state = queries.node_states(context.clock()).get(record.node)
    if not record.node:
        raise Wait("the VE is not placed on a node yet")
    if state is None:
        raise Wait(f"node {record.node} is not recorded")
    if state is not NodeState.UP:
        raise Wait(f"node {record.node} is {state}; the job waits for it")
    return record


def _wanted(context: Context, job: Job, verb: Verb, record: VERecord) -> VERecord:
    """Write what is wanted now, with generation + 1 and the job; nothing where this job has done so already."""
    if verb in (Verb.CREATE, Verb.ADOPT) or verb in SESSIONS or record.job == job.pk:
        return record
    now = wanted.wish_of(record)
    # A change from outside is there before its job is, and brings along what was there before it.
    if verb in GOES_BACK and ("desired" not in job.before or wanted.asked_by(job, now) != now):
        with context.leader.transaction():
            job.change(before={**job.before, "desired": now.desired.value, "spec": now.spec.to_json()})
    return wanted.begin(context, record, job)


def _plans(context: Context, job: Job, verb: Verb, record: VERecord) -> Sequence[Plan]:
    """The steps of a job, in order."""
    lane = lane_of(job)
    if verb in SESSIONS:
        return [Plan(verb, lane, job.args, SECONDS_MAX)]
    if verb is Verb.CREATE:
        return _create_plans(record, lane)
    if verb is Verb.RESIZE:
        wanted = record.spec if record.job == job.pk else record.spec.resized(job.args["size"])
        return [Plan(verb, lane, {"spec": wanted.to_json()})]
    if verb is Verb.SNAPSHOT:
        taken = Snapshot(job.args["snapshot"]["name"], job.pk, round(context.clock(), 3))
        return [Plan(verb, lane, {"snapshot": taken.to_json()}, TIMEOUTS[verb])]
    args = {**job.args, "spec": record.spec.to_json()}
    return [Plan(verb, lane, args, TIMEOUTS.get(verb, TIMEOUT) + float(job.args.get("grace", 0.0)))]


def _create_plans(record: VERecord, lane: str) -> Sequence[Plan]:
    spec = record.spec
    args: dict[str, Any] = {"spec": spec.to_json(), "power": record.desired.value, "image_sha256": ""}
    plans = []
    if spec.kind is not Kind.SIMULATED:
        image = Image.objects.filter(name=spec.image).first()
        if image is None:
            raise Gone(f"image {spec.image!r} is recorded no more", where="image")
        args["image_sha256"] = image.sha256
        live = Liveness.objects.filter(node=record.node).first()
        if live is None or image.sha256 not in live.images:
            plans.append(_fetch(image, record.node))
    plans.append(Plan(Verb.CREATE, lane, args, TIMEOUTS[Verb.CREATE]))
    return plans


def _fetch(image: Image, node: str) -> Plan:
    lane = f"image:{image.sha256}@{node}"
    other = Step.objects.filter(lane=lane, state__in=HOLDING).first()
    if other is not None:
        raise Wait(f"waits for job {other.job_id}, which fetches image {image.name} to {node}")
    return Plan(Verb.FETCH, lane, {"image": image.name, "sha256": image.sha256, "size": image.size}, TIMEOUTS[Verb.FETCH])


def _commit(context: Context, start: Start) -> Step:
    """The steps' rows, inside a transaction; the first holds its lane from now on."""
    now, job = context.clock(), start.job
    steps = [
        Step(
            job=job,
            number=number,
            verb=plan.verb.value,
            attempt=1 + int(job.before.get("replans", 0)),
            node=start.node,
            lane=plan.lane,
            args=plan.args,
            timeout=plan.timeout,
            state=StepState.SENT if number == 1 else StepState.PLANNED,
            sent_at=now if number == 1 else None,
            sent_count=1 if number == 1 else 0,
        )
        for number, plan in enumerate(start.plans, 1)
    ]
    Step.objects.bulk_create(steps)
    about = {"node": start.node, "generation": start.generation, "directory_version": start.version or job.directory_version}
    job.change(state=JobState.RUNNING, started_at=job.started_at or now, reason="", **about)
    context.touched.add(job.pk)
    context.note(job, f"sent to node {start.node}: {', then '.join(plan.verb for plan in start.plans)}")
    return steps[0]


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
