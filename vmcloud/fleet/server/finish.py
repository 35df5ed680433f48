"""The end of a job: what the directory must say about it, and then seeing it there.

A job in E is settled (the table "when desired is written" of the design) and then waits until the watch shows what its result
named. So a person who waited for a job and then looks never sees the state before it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from vmcloud.directory.errors import Stale
from vmcloud.directory.errors import Unavailable as DirectoryUnavailable
from vmcloud.domain import reconcile
from vmcloud.domain.clocks import elapsed
from vmcloud.domain.errors import POISON, NotFound, Problem, VmcloudError
from vmcloud.domain.foreign import Wish, undone
from vmcloud.domain.records import Tombstone, VERecord
from vmcloud.domain.spec import Spec
from vmcloud.domain.vocabulary import SESSIONS, Desired, Ending, EventType, JobState, Outcome, Verb
from vmcloud.faults import point
from vmcloud.fleet import gather
from vmcloud.fleet.models import UNBEGUN, VE, Budget, Image, Job, Misses, Node, Stray
from vmcloud.fleet.services import events, watermark

from . import arrays, foreign, lanes, orders, wanted
from .context import Context, at_hand

log = logging.getLogger("server.finish")

SETTLING = 0.5
"""Seconds of one cycle for what the directory has to be told; a cancelled array may have thousands of names to free."""
TOGETHER = 100
"""Jobs that are closed in one transaction at most."""


@dataclass(frozen=True)
class Picture:
    """What the read model shows: up to which of the directory's versions, and the rows of the VEs that it is about."""

    version: str
    ves: Mapping[UUID, VE]


def picture_of(jobs: Iterable[Job]) -> Picture:
    """What it shows of these jobs' VEs now."""
    return Picture(watermark.version(), VE.objects.in_bulk([job.ve for job in jobs if job.ve is not None]))


def run(context: Context) -> None:
    """Settle and complete what can be."""
    shown: list[tuple[Job, str]] = []
    ending = list(Job.objects.filter(state=JobState.EXITING).order_by("id"))
    if not ending:
        return
    picture, deadline = picture_of(ending), time.monotonic() + SETTLING
    for job in ending:
        try:
            if not job.settled and _has_to_be_settled(job):
                if time.monotonic() > deadline:
                    context.again = True
                    continue
                _settle(context, job)
                point("server.finish.settled")
        except DirectoryUnavailable as error:
            context.projection.down = error.problem.sentence()
            context.tell(job, "the directory does not answer; the job ends when it is back")
            return
        except Stale:
            context.again = True
            continue
        except (VmcloudError, ValueError, KeyError, TypeError) as error:
            # One job that can not be settled must not hold up all others: it stays in E and says why.
            log.exception("job %d can not be settled", job.pk)
            context.tell(job, f"could not be recorded: {error}")
            if job.ending == Ending.FORCE:
                shown.append((job, f"ended by force; it could not be recorded: {error}"))
            continue
        if (note := _shown(context, job, picture)) is not None:
            shown.append((job, note))
            if len(shown) == TOGETHER:
                _complete(context, shown)
                shown = []
    _complete(context, shown)


def _has_to_be_settled(job: Job) -> bool:
    """Whether the directory may have to be told how it ended: of a verb that did what was wanted already it has not."""
    if job.outcome == Outcome.OK:
        return job.verb in (Verb.ADOPT, Verb.DELETE)
    return job.verb in (Verb.CREATE, Verb.ADOPT) or "desired" in job.before or not _never_began(job)


@at_hand
def _settle(context: Context, job: Job) -> None:
    """Tell the directory how it ended. Every write is recognised when done before."""
    over = False
    if job.ve is not None:
        record = foreign.readable(context, job.ve)
        deleted = job.verb == Verb.DELETE and job.outcome == Outcome.OK
        over = deleted or (job.verb in (Verb.CREATE, Verb.ADOPT) and _removed(job))
        if record is not None:
            _settle_ve(context, job, record)
        elif deleted:
            _bury(context, job.ve, job.ve_name, job.project)
    with context.leader.transaction():
        if over and job.ve is not None:
            wanted.gone(job.ve)
        job.change(settled=True)


def _settle_ve(context: Context, job: Job, record: VERecord) -> None:
    ok, undone = job.outcome == Outcome.OK, bool((job.result or {}).get("undone"))
    match Verb(job.verb):
        case Verb.DELETE if ok:
            _remove(context, job, record)
        case Verb.CREATE if not ok and (undone or not record.node):
            _remove(context, job, record)
        case Verb.ADOPT if ok:
            spec = Spec.parse(job.result["spec"]) if job.result and job.result.get("spec") else record.spec
            if spec != record.spec:
                _write(context, job, record, lambda wish: replace(wish, spec=spec))
        case Verb.ADOPT if undone or not record.node:
            # No tombstone: what still bears this UUID anywhere would be deleted for it.
            context.directory.remove_ve(record)
        case Verb.CREATE if not ok and record.desired is not Desired.ABSENT:
            _write(context, job, record, lambda wish: replace(wish, desired=Desired.ABSENT))
        case Verb.DELETE if not _never_began(job):
            pass  # part of it may be gone: it stays wanted absent, and reconcile tries again
        case (Verb.STOP | Verb.SUSPEND | Verb.RESIZE | Verb.DELETE) as verb if not ok and "desired" in job.before:
            _go_back(context, job, verb, record)


def _go_back(context: Context, job: Job, verb: Verb, record: VERecord) -> None:
    """What the job had changed is as it was, unless somebody wants something else by now; their job then goes back to that."""
    before = wanted.decode({**job.before, "owner": record.owner})
    later = Job.objects.filter(ve=job.ve, state__in=UNBEGUN).exclude(before={})
    with context.leader.transaction():
        for other in (each for each in later if "desired" in each.before):
            base = wanted.decode({**other.before, "owner": record.owner})
            if (after := undone(verb, job.args, before, base)) != base:
                other.change(before={**other.before, "desired": after.desired.value, "spec": after.spec.to_json()})
    if undone(verb, job.args, before, now := wanted.wish_of(record)) != now:
        _write(context, job, record, lambda wish: undone(verb, job.args, before, wish))


def _write(context: Context, job: Job, record: VERecord, change: Callable[[Wish], Wish]) -> None:
    """What a job's end means for what is wanted. The job is not over until the read model shows it: reconcile looks there."""
    written = wanted.write(context, record, job, change)
    with context.leader.transaction():
        job.change(directory_version=written.version)


def _never_began(job: Job) -> bool:
    """Whether it is certain that no node did anything for the job."""
    result = job.result or {}
    return bool(result.get("never_ran")) or result.get("mark") == [0, 0]


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
def _shown(context: Context, job: Job, picture: Picture) -> str | None:
    """None while the read model does not show what the job led to; else a note, if it was completed without."""
    waited = elapsed(job.exiting_at, context.clock())
    missing = _not_shown(job, picture)
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
    jobs = [job for job, _ in shown if job.ve is not None and job.verb not in SESSIONS]
    deleted = [job.ve for job in jobs if job.verb == Verb.DELETE and job.outcome == Outcome.OK]
    asked_for = [job.ve for job in jobs if job.origin.partition(":")[0] != "reconcile"]
    with context.leader.transaction(), gather.gathering():
        Budget.objects.filter(ve__in=[*deleted, *asked_for]).delete()
        Misses.objects.filter(ve__in=deleted).delete()
        for job, note in shown:
            _close(context, job, note)
        lanes.free({job.ve for job, _ in shown})
        gather.flush()
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
    if job.verb == Verb.ADOPT and job.outcome == Outcome.OK and (row := VE.objects.filter(pk=job.ve).first()) is not None:
        text = f"adopted; it was {job.args['orphan']} on node {job.node}"
        events.note(EventType.ADOPTED, text, at=context.clock(), row=row, job=job.pk)


def _explain(context: Context, job: Job, missing: str, waited: float) -> None:
    """After a moment say what is waited for, and ask the node to speak again in case its word was lost."""
    if waited < context.config.intervals.complete / 4:
        return
    if not job.reason and job.node and job.ve is not None:
        orders.ask_for_list(context, job.node)
    context.tell(job, f"waits until the directory shows it: {missing}")


def _not_shown(job: Job, picture: Picture) -> str:
    """What the read model does not show yet of the job's result; empty if all."""
    verb = Verb(job.verb)
    if verb in SESSIONS or verb is Verb.RECONCILE:
        return ""
    if picture.version < job.directory_version:
        return "what it has written there"
    if verb is Verb.IMPORT:
        shown = job.outcome != Outcome.OK or Image.objects.filter(name=job.args["image"]).exists()
        return "" if shown else "the image's entry"
    if verb is Verb.ALTER:
        behind = job.ve in picture.ves and picture.ves[job.ve].generation < job.generation
        return "the change of its entry" if behind and job.outcome == Outcome.OK else ""
    if verb in (Verb.CORDON, Verb.UNCORDON):
        cordoned = verb is Verb.CORDON
        shown = job.outcome != Outcome.OK or Node.objects.filter(name=job.node, cordoned=cordoned).exists()
        return "" if shown else "the node's entry"
    assert job.ve is not None
    row = picture.ves.get(job.ve)
    if (verb is Verb.DELETE and job.outcome == Outcome.OK) or (verb in (Verb.CREATE, Verb.ADOPT) and _removed(job)):
        return "" if row is None else "the entry's removal"
    if verb is Verb.ADOPT and job.outcome == Outcome.OK and Stray.objects.filter(pk=job.args["target"]).exists():
        return f"that {job.args['orphan']} is no orphan any more"
    return _sighting_not_shown(job, row, job.ve)


def _removed(job: Job) -> bool:
    return job.outcome != Outcome.OK and (bool((job.result or {}).get("undone")) or not job.node)


def _sighting_not_shown(job: Job, row: VE | None, ve: UUID) -> str:
    result = job.result or {}
    if row is None or "mark" not in result or not result.get("seen"):
        return ""
    epoch, sequence = result["mark"]
    if (row.observed_epoch, row.observed_sequence) >= (epoch, sequence):
        return ""
    if snapshot := _snapshot_not_shown(job, row):
        return snapshot
    seen = result["seen"]
    if row.observed_generation >= int(seen.get("generation", 0)) and row.observed_state == seen["state"]:
        return ""
    return f"{seen['state']} as node {job.node} saw it"


def _snapshot_not_shown(job: Job, row: VE) -> str:
    """A list that was under way while the step ended may show its generation, and the snapshots from before it."""
    if job.outcome != Outcome.OK or job.verb not in (Verb.SNAPSHOT, Verb.DELETE_SNAPSHOT):
        return ""
    name = job.args["snapshot"]["name"]
    taken_by = job.pk if job.verb == Verb.SNAPSHOT else job.args["snapshot"]["job"]
    listed = any((each["name"], each["job"]) == (name, taken_by) for each in row.snapshots)
    return "" if listed is (job.verb == Verb.SNAPSHOT) else f"snapshot {name}{' gone' if listed else ''}"
