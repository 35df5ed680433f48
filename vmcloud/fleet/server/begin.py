"""Jobs that begin: what is wanted is written to the directory, then their steps are written down and sent.

Order of writes for one job: (1) what a failure must go back to, in SQL; (2) placement and desired state, each one
compare-and-swap in the directory, recognised when done before; (3) the rows of its steps, in SQL; (4) the messages. Jobs that
begin in the same moment take each of these steps together. A crash after any of them is taken up by doing the whole again.

Who holds, alters or cancels a job before (3) is committed was in time: what was written for it is taken back, and it is looked at
again. (Only where the server is killed just then does the directory go on wanting what the job asks for.)
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from vmcloud.domain import verbs
from vmcloud.domain.names import native_name
from vmcloud.domain.records import VERecord
from vmcloud.domain.steps import StepPlan
from vmcloud.domain.verbs.base import Scene, Verb
from vmcloud.domain.vocabulary import JobState, NodeState, Outcome
from vmcloud.domain.wish import Wish, differences
from vmcloud.faults import point
from vmcloud.fleet import gather
from vmcloud.fleet.models import Accepted, Image, Job, Liveness, Step, StepState
from vmcloud.fleet.services import queries, world

from . import arrays, orders, progress, wanted
from .context import Context, at_hand

log = logging.getLogger("server.begin")

GROUP, GROUP_SECONDS = 25, 0.05
"""Jobs that are written down and sent together at most, and how long the first of them waits for the others."""
CLASHES = 5
"""How often the rows of jobs that begin are read again because somebody else changed them."""


@dataclass(frozen=True)
class Ready:
    """A job that can begin."""

    job: Job
    verb: Verb
    node: str
    plans: Sequence[StepPlan]
    """Its steps."""
    args: Mapping[str, Any] = field(default_factory=dict)
    """Arguments that were decided just now, such as the node that a VE moves to."""
    record: VERecord | None = None
    """Its VE's entry as it is before; None where nothing is to be wanted of it."""


class Beginnings:
    """Those that wait to begin together. ``tried`` carries an action out for a job, and tells the job why where that fails."""

    def __init__(self, context: Context, tried: Callable[[Job, Callable[[], object]], bool]) -> None:
        self._context, self._tried = context, tried
        self._accepted: dict[object, Accepted] = {}
        self._ready: list[Ready] = []
        self._since = 0.0

    def know(self, accepted: dict[object, Accepted]) -> None:
        """What was accepted of the VEs of these jobs, by UUID."""
        self._accepted = accepted

    def add(self, ready: Ready) -> None:
        """One more; those that wait are committed when there are enough, or when the first has waited long enough."""
        self._since = self._since if self._ready else time.monotonic()
        self._ready.append(ready)
        if len(self._ready) >= GROUP or time.monotonic() - self._since > GROUP_SECONDS:
            self.commit()

    def commit(self) -> None:
        """Write and send all that wait."""
        context = self._context
        group, self._ready = self._ready, []
        self._remember(group)
        begun: list[tuple[Ready, VERecord | None]] = []
        for ready in group:
            self._tried(ready.job, lambda each=ready: begun.append(self._write(each)))
        if not begun:
            return
        for left in reversed(range(CLASHES)):
            try:
                steps = self._write_down(begun)
                break
            except gather.Clash:
                if not left:
                    raise
                begun = self._still(begun)
        point("server.dispatch.committed")
        orders.send(context, [step for step in steps if step.node and step.state == StepState.SENT])

    def _still(self, begun: Sequence[tuple[Ready, VERecord | None]]) -> list[tuple[Ready, VERecord | None]]:
        """Those that are to begin all the same, as they are now; of the others what was written is taken back."""
        fresh = Job.objects.in_bulk([ready.job.pk for ready, _ in begun])
        still: list[tuple[Ready, VERecord | None]] = []
        for ready, record in begun:
            job = fresh.get(ready.job.pk)
            if job is None:
                continue
            if is_free(job):
                still.append((replace(ready, job=job), record))
            elif record is not None and ready.record is not None and record.generation != ready.record.generation:
                self._tried(job, partial(_take_back, self._context, job, ready.record, record))
            self._context.again = True
        return still

    def _remember(self, group: Sequence[Ready]) -> None:
        """Write down what a failure must go back to."""
        news = {}
        for ready in group:
            job, record = ready.job, ready.record
            if record is None or is_wanted(ready.verb, job, record) or not ready.verb.goes_back:
                continue
            # A change from outside is there before its job is, and brings along what was there before it.
            now = wanted.wish_of(record)
            if "desired" not in job.before or wanted.asked_by(job, now) != now:
                news[job] = {**job.before, "desired": now.desired.value, "spec": now.spec.to_json()}
        if news:
            with self._context.leader.transaction(), gather.gathering():
                for job, before in news.items():
                    job.change(before=before)

    def _write(self, ready: Ready) -> tuple[Ready, VERecord | None]:
        """Write what is wanted now, with generation + 1 and the job; nothing where this job has done so already."""
        context, record = self._context, ready.record
        if record is not None and not is_wanted(ready.verb, ready.job, record):
            record = wanted.begin(context, record, ready.job, self._accepted.get(record.ve))
            context.entries.learn(record)
        if record is not None:
            point("server.dispatch.desired")
        return ready, record

    def _write_down(self, begun: Sequence[tuple[Ready, VERecord | None]]) -> list[Step]:
        """The rows of jobs that begin, in one transaction; their first steps hold their lanes from now on."""
        context, to_send = self._context, list[Step]()
        with context.leader.transaction(), gather.gathering():
            made: list[tuple[Job, list[Step]]] = []
            for ready, record in begun:
                steps = _rows(ready.job, ready.plans)
                made.append((ready.job, steps))
                _begun(context, ready, record)
            Step.objects.bulk_create([step for _, steps in made for step in steps])
            gather.flush()
            for job, steps in made:
                if steps:
                    to_send += progress.go_on(context, job, steps)
                else:
                    context.exit(job, Outcome.OK)  # to want it was all
            gather.flush()
            arrays.note(context, [ready.job for ready, _ in begun])
        return to_send


def is_free(job: Job) -> bool:
    """Whether nothing keeps a job that was ready from beginning: nobody has held it, asked for its end, or changed what it waits
    for since."""
    return job.state == JobState.QUEUED and not (job.holds or job.to_review or job.cancel_requested_at)


def _take_back(context: Context, job: Job, before: VERecord, written: VERecord) -> None:
    """What was wanted before the job was about to begin is wanted again, unless somebody wants something else by now."""
    asked, wish = wanted.wish_of(written), wanted.wish_of(before)
    names = differences(wish, asked)
    context.entries.learn(wanted.write(context, written, job, lambda now: now.taking(wish, names)))


def is_wanted(verb: Verb, job: Job, record: VERecord) -> bool:
    """Whether the directory says already what the job asks for."""
    if verb.wants_nothing:
        return True
    now = wanted.wish_of(record)
    return record.job == job.pk and wanted.asked_by(job, now) == now


def plan(
    context: Context, job: Job, verb: Verb, node: str, record: VERecord | None, args: Mapping[str, Any]
) -> Sequence[StepPlan]:
    """The steps of a job that is about to begin on what ``record`` says of its VE. ``args``: what was decided just now."""
    wish: Wish | None = None
    if record is not None:
        now = wanted.wish_of(record)
        wish = now if is_wanted(verb, job, record) else wanted.asked_by(job, now)
    native = native_name(record.name if record is not None else job.ve_name, job.ve) if job.ve else ""
    scene = Scene(
        job=job.pk,
        args={**job.args, **args},
        node=node,
        ve=job.ve,
        native=str(job.args.get("stray") or native),  # a stray is what its node called it
        record=record,
        wish=wish,
        now=context.clock(),
        image=world.image,
        stored=_stored,
        holders=_holders,
    )
    return verb.steps(scene)


def _stored(node: str, sha256: str) -> bool:
    images = Liveness.objects.filter(node=node).values_list("images", flat=True).first()
    return sha256 in (images or ())


def _holders(sha256: str) -> Sequence[str]:
    if Image.objects.filter(sha256=sha256).count() > 1:
        return []
    states = queries.node_states(time.time())
    nodes = Liveness.objects.order_by("node").values_list("node", "images")
    return [node for node, images in nodes if sha256 in images and states.get(node) is NodeState.UP]


def _rows(job: Job, plans: Sequence[StepPlan]) -> list[Step]:
    """The steps of a job that begins, none of them begun."""
    numbers = {plan.key: number for number, plan in enumerate(plans, 1)}
    first = 1 + int(job.before.get("replans", 0))
    return [
        Step(
            job=job,
            number=numbers[plan.key],
            key=plan.key,
            verb=str(plan.verb),
            attempt=first,
            first_attempt=first,
            node=plan.node,
            lane=plan.lane,
            args=dict(plan.args),
            after=[numbers[key] for key in plan.after],
            takes={name: [numbers[key], output] for name, (key, _, output) in _given(plan)},
            undo={"verb": plan.undo.verb, "args": dict(plan.undo.args), "timeout": plan.undo.timeout} if plan.undo else None,
            commits=plan.commits,
            gives_up=plan.gives_up,
            retries=plan.retries,
            ve=plan.ve,
            native=plan.native,
            timeout=plan.timeout,
        )
        for plan in plans
    ]


def _given(plan: StepPlan) -> list[tuple[str, tuple[str, str, str]]]:
    return [(name, source.partition(".")) for name, source in plan.takes.items()]


@at_hand
def _begun(context: Context, ready: Ready, record: VERecord | None) -> None:
    job, plans, now = ready.job, ready.plans, context.clock()
    about: dict[str, object] = {"generation": 0}
    if record is not None:
        about = {"generation": record.generation, "directory_version": record.version}
    if ready.node:
        about["node"] = ready.node
    if ready.args:
        about["args"] = {**job.args, **ready.args}
    job.change(state=JobState.RUNNING, started_at=job.started_at or now, reason="", **about)
    context.touched.add(job.pk)
    on_nodes = [plan for plan in plans if plan.node]
    if on_nodes:
        nodes = sorted({plan.node for plan in on_nodes})
        where = f"node {nodes[0]}" if len(nodes) == 1 else f"nodes {', '.join(nodes)}"
        context.note(job, f"sent to {where}: {', then '.join(str(plan.verb) for plan in on_nodes)}")


def verb_of(job: Job) -> Verb:
    """The verb of a job; :class:`KeyError` for one that a later release has written."""
    return verbs.of(job.verb)
