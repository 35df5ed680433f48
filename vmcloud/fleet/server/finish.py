"""The end of a job: what the directory must say about it, and then seeing it there.

A job in E is settled (the table "when desired is written" of the design) and then waits until the watch shows what its result
named. So a person who waited for a job and then looks never sees the state before it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from uuid import UUID

from vmcloud.directory.errors import Stale
from vmcloud.directory.errors import Unavailable as DirectoryUnavailable
from vmcloud.domain import reconcile, verbs
from vmcloud.domain.clocks import elapsed
from vmcloud.domain.errors import POISON, NotFound, Problem, VmcloudError
from vmcloud.domain.records import Tombstone, VERecord
from vmcloud.domain.spec import Spec
from vmcloud.domain.verbs.base import Ended, Settlement, Verb
from vmcloud.domain.vocabulary import Desired, Ending, EventType, JobState, Outcome
from vmcloud.domain.wish import Wish
from vmcloud.faults import point
from vmcloud.fleet import gather
from vmcloud.fleet.models import UNBEGUN, VE, Budget, Image, Job, Misses, Node, Stray
from vmcloud.fleet.services import events, lanes, watermark

from . import arrays, foreign, orders, wanted
from .context import Context, at_hand

log = logging.getLogger("server.finish")

ADOPT, DELETE = "adopt", "delete"
"""Verbs after which more than their VE's record is told, or forgotten."""
SETTLING = 0.5
"""Seconds of one cycle for what the directory has to be told; a cancelled array may have thousands of names to free."""
TOGETHER = 100
"""Jobs that are closed in one transaction at most."""


class Picture:
    """What the read model shows when jobs are about to be complete (:class:`vmcloud.domain.verbs.base.Picture`): the directory up
    to ``version``, and the rows of the VEs that these jobs are about."""

    def __init__(self, jobs: Iterable[Job]) -> None:
        self.version = watermark.version()
        self._ves = VE.objects.in_bulk([job.ve for job in jobs if job.ve is not None])

    def ve(self, ve: UUID) -> VE | None:
        """The VE's row."""
        return self._ves[ve] if ve in self._ves else VE.objects.filter(pk=ve).first()

    def image(self, name: str) -> bool:
        """Whether there is an image with this name."""
        return Image.objects.filter(name=name).exists()

    def cordoned(self, node: str) -> bool | None:
        """Whether a node takes no new VEs; None if there is no such node."""
        return Node.objects.filter(name=node).values_list("cordoned", flat=True).first()

    def stray(self, key: str) -> bool:
        """Whether a guest is shown as one that does not belong where it is."""
        return Stray.objects.filter(pk=key).exists()


def run(context: Context) -> None:
    """Settle and complete what can be."""
    shown: list[tuple[Job, str]] = []
    ending = list(Job.objects.filter(state=JobState.EXITING).order_by("id"))
    if not ending:
        return
    picture, deadline = Picture(ending), time.monotonic() + SETTLING
    for job in ending:
        try:
            verb, end = verbs.of(job.verb), ended(job)
            if not job.settled and verb.to_settle(end):
                if time.monotonic() > deadline:
                    context.again = True
                    continue
                _settle(context, job, verb, end)
                point("server.finish.settled")
        except DirectoryUnavailable as error:
            context.projection.down = error.problem.sentence()
            context.tell(job, "the directory does not answer; the job ends when it is back")
            return
        except Stale:
            context.again = True
            continue
        except (VmcloudError, ValueError, LookupError, TypeError) as error:
            # One job that can not be settled must not hold up all others: it stays in E and says why.
            log.exception("job %d can not be settled", job.pk)
            context.tell(job, f"could not be recorded: {error}")
            if job.ending == Ending.FORCE:
                shown.append((job, f"ended by force; it could not be recorded: {error}"))
            continue
        if (note := _shown(context, job, verb.missing(end, job.ve, picture), picture)) is not None:
            shown.append((job, note))
            if len(shown) == TOGETHER:
                _complete(context, shown)
                shown = []
    _complete(context, shown)


def ended(job: Job) -> Ended:
    """The job as its verb sees it."""
    return Ended(
        outcome=Outcome(job.outcome or Outcome.FAILED),
        args=job.args,
        result=job.result or {},
        before=job.before,
        node=job.node,
        generation=job.generation,
        job=job.pk,
    )


@at_hand
def _settle(context: Context, job: Job, verb: Verb, end: Ended) -> None:
    """Tell the directory how it ended. Every write is recognised when done before."""
    if job.ve is not None:
        record = foreign.readable(context, job.ve)
        if record is not None:
            _settle_ve(context, job, verb, end, record)
        elif verb.settle(end, placed=bool(job.node)) is Settlement.BURY and end.ok:
            _bury(context, job.ve, job.ve_name, job.project)
    with context.leader.transaction():
        if job.ve is not None and verb.gone(end):
            wanted.gone(job.ve)
        job.change(settled=True)


def _settle_ve(context: Context, job: Job, verb: Verb, end: Ended, record: VERecord) -> None:
    match verb.settle(end, placed=bool(record.node)):
        case Settlement.BURY:
            _remove(context, job, record)
        case Settlement.FORGET:
            context.directory.remove_ve(record)
        case Settlement.SHAPE if end.result.get("spec"):
            spec = Spec.parse(end.result["spec"])
            if spec != record.spec:
                _write(context, job, record, lambda wish: wish.with_spec(spec))
        case Settlement.ABSENT if record.desired is not Desired.ABSENT:
            _write(context, job, record, lambda wish: wish.with_power(Desired.ABSENT))
        case Settlement.BACK:
            _go_back(context, job, verb, record)


def _go_back(context: Context, job: Job, verb: Verb, record: VERecord) -> None:
    """What the job had changed is as it was, unless somebody wants something else by now; their job then goes back to that."""
    before = wanted.decode({**job.before, "owner": record.owner})
    later = Job.objects.filter(ve=job.ve, state__in=UNBEGUN).exclude(before={})
    with context.leader.transaction():
        for other in (each for each in later if "desired" in each.before):
            base = wanted.decode({**other.before, "owner": record.owner})
            if (after := verb.back(job.args, before, base)) != base:
                other.change(before={**other.before, "desired": after.desired.value, "spec": after.spec.to_json()})
    if verb.back(job.args, before, now := wanted.wish_of(record)) != now:
        _write(context, job, record, lambda wish: verb.back(job.args, before, wish))


def _write(context: Context, job: Job, record: VERecord, change: Callable[[Wish], Wish]) -> None:
    """What a job's end means for what is wanted. The job is not over until the read model shows it: reconcile looks there."""
    written = wanted.write(context, record, job, change)
    with context.leader.transaction():
        job.change(directory_version=written.version)


def _remove(context: Context, job: Job, record: VERecord) -> None:
    """The guest is gone: a tombstone first, so that late words about it are not taken for an orphan, then the entry."""
    _bury(context, record.ve, record.name, record.project)
    point("server.finish.buried")
    try:
        context.directory.remove_ve(record)
    except NotFound:
        pass
    point("server.finish.removed")


def _bury(context: Context, ve: UUID, name: str, project: str) -> None:
    context.directory.bury(Tombstone(ve=ve, name=name, project=project, at=context.clock()))


@at_hand
def _shown(context: Context, job: Job, missing: str, picture: Picture) -> str | None:
    """None while the read model does not show what the job led to; else a note, if it was completed without."""
    waited = elapsed(job.exiting_at, context.clock())
    if picture.version < job.directory_version:
        missing = "what it has written there"
    if not missing:
        return ""
    if job.ending == Ending.FORCE:
        return f"ended by force without having seen it: {missing}"
    if waited < context.config.intervals.complete or not context.projection.synced:
        _explain(context, job, missing, waited)
        return None
    if context.unread(job.node):
        context.tell(job, f"waits for the monitor to record what node {job.node} saw")
        return None
    return f"completed without having seen it: {missing}"


def _complete(context: Context, shown: Sequence[tuple[Job, str]]) -> None:
    """Close jobs, in one transaction."""
    if not shown:
        return
    jobs = [job for job, _ in shown if job.ve is not None and job.verb not in verbs.sessions()]
    deleted = [job.ve for job in jobs if job.verb == DELETE and job.outcome == Outcome.OK]
    asked_for = [job.ve for job in jobs if job.origin.partition(":")[0] != "reconcile"]
    with context.leader.transaction(), gather.gathering():
        Budget.objects.filter(ve__in=[*deleted, *asked_for]).delete()
        Misses.objects.filter(ve__in=deleted).delete()
        for job, note in shown:
            _close(context, job, note)
        gather.flush()
        lanes.leave([job.pk for job, _ in shown])
        arrays.note(context, [job for job, _ in shown])
    point("server.finish.completed")
    # What happened to them meanwhile was left alone.
    context.changed.update(job.ve for job, _ in shown if job.ve is not None)
    context.again = True


@at_hand
def _close(context: Context, job: Job, note: str) -> None:
    error = Problem.from_json(job.error).sentence() if job.error else ""
    reason = note or (error if job.outcome != Outcome.OK else "")
    job.change(state=JobState.COMPLETE, settled=True, reason=reason[:1000], ended_at=context.clock())
    context.touched.add(job.pk)
    context.note(job, f"complete: {job.outcome}" + (f": {reason}" if reason else ""))
    if job.ve is not None and (job.error or {}).get("code") == POISON:
        spent = {"tries": reconcile.POISONED, "next_at": context.clock()}
        Budget.objects.update_or_create(ve=job.ve, defaults=spent, create_defaults={**spent, "rule": "poison"})
    if job.verb == ADOPT and job.outcome == Outcome.OK and (row := VE.objects.filter(pk=job.ve).first()) is not None:
        text = f"adopted; it was {job.args['orphan']} on node {job.node}"
        events.note(EventType.ADOPTED, text, at=context.clock(), row=row, job=job.pk)


def _explain(context: Context, job: Job, missing: str, waited: float) -> None:
    """After a moment say what is waited for, and ask the node to speak again in case its word was lost."""
    if waited < context.config.intervals.complete / 4:
        return
    if not job.reason and job.node and job.ve is not None:
        orders.ask_for_list(context, job.node)
    context.tell(job, f"waits until the directory shows it: {missing}")
