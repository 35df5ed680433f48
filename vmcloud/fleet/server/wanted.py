"""What is wanted of each VE, as it was last accepted: kept in SQL, announced there before it is written to the directory.

Each desired write of ours is announced in SQL before the directory is written: what a job asks for as it begins is in the job's
own row (:func:`asked_by`); what is undone, or follows from a rule or a foreign change, in the row of what was accepted. So of any
entry it can be said which of its attributes are ours and which somebody else has changed, also where both came before anybody
looked, and after a crash between the two.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from vmcloud.directory.store import Found
from vmcloud.domain import verbs
from vmcloud.domain.errors import VmcloudError
from vmcloud.domain.records import VERecord
from vmcloud.domain.spec import Spec
from vmcloud.domain.vocabulary import Desired, Drift, EventType, JobState, Kind, LeaseAction, Restart, Verb
from vmcloud.domain.wish import Wish
from vmcloud.fleet import gather
from vmcloud.fleet.models import VE, Accepted, Job
from vmcloud.fleet.services import events, lanes

from .context import Context

log = logging.getLogger("server.wanted")


def wish_of(record: VERecord) -> Wish:
    """What an entry says is wanted."""
    return Wish(record.desired, record.spec, record.owner)


def decode(data: dict[str, Any]) -> Wish:
    """Inverse of :meth:`Wish.to_json`. What was accepted is not checked again."""
    spec = dict(data["spec"])
    for name, vocabulary in (("kind", Kind), ("restart", Restart), ("drift", Drift), ("lease_action", LeaseAction)):
        if name in spec:  # what was accepted by an earlier release may lack one
            spec[name] = vocabulary(spec[name])
    return Wish(Desired(data["desired"]), Spec(**spec), data["owner"])


def expected(row: Accepted, entry: VERecord | Found, jobs: Mapping[int, Job] | None = None) -> Wish | None:
    """What the entry should say at its generation; None where it has passed by, or is one that nobody announced. ``jobs``: those
    that are read already."""
    if entry.generation == row.generation:
        return decode(row.wish)
    if row.writing and (entry.generation, entry.job) == (row.writing["generation"], row.writing["job"]):
        return decode(row.writing["wish"])
    if entry.generation == row.generation + 1:
        job = Job.objects.filter(pk=entry.job).first() if jobs is None else jobs.get(entry.job)
        if job is not None and job.ve == row.ve:
            with contextlib.suppress(VmcloudError, LookupError, TypeError, ValueError):
                return asked_by(job, decode(row.wish))
    return None


def asked_by(job: Job, wish: Wish) -> Wish:
    """What is wanted once a job has begun, of a VE of which ``wish`` was wanted before."""
    return verbs.of(job.verb).wants(wish, job.args)


def learn(context: Context, records: Iterable[VERecord]) -> None:
    """Compare what the watch has shown with what was accepted; inside a transaction. What differs is somebody else's change."""
    shown = {record.ve: record for record in records}
    rows = Accepted.objects.in_bulk(list(shown))
    later = [each.job for each in shown.values() if (row := rows.get(each.ve)) and each.generation > row.generation]
    jobs = Job.objects.in_bulk(later) if later else {}
    with gather.gathering():
        for ve, record in shown.items():
            _learn(context, record, rows.get(ve), jobs)


def _learn(context: Context, record: VERecord, row: Accepted | None, jobs: Mapping[int, Job]) -> None:
    row = row or _first(record)
    if row is None:
        context.foreign.add(record.ve)
        context.suspect(record.ve)
        return
    if record.generation > row.generation:
        _reach(context, row, record, jobs)
    if record.generation < row.generation:
        context.suspect(record.ve)  # said before our last write; or a directory that was restored from a backup
        return
    if wish_of(record) != decode(row.wish):
        context.foreign.add(record.ve)
        context.suspect(record.ve)
        return
    context.foreign.discard(record.ve)
    if row.writing and row.writing["jobs"]:
        context.suspect(record.ve)


def accepted(record: VERecord) -> Accepted | None:
    """The row of an entry, made where there is none yet; inside a transaction. None: nobody of ours has made this entry."""
    return Accepted.objects.filter(pk=record.ve).first() or _first(record)


def _first(record: VERecord) -> Accepted | None:
    """An entry that is new to us. What a create asked for is in its job; of one that was there before there were such rows, or of
    which SQL was lost, what it says is taken as it is: only the parts can write a generation."""
    if not record.generation:
        return None
    made = wish_of(record)
    job = Job.objects.filter(pk=record.job, ve=record.ve, verb=Verb.CREATE).first() if record.generation == 1 else None
    if job is not None and "spec" in job.args:
        made = decode({"desired": job.args["power"], "spec": job.args["spec"], "owner": job.owner})
    about = {"project": record.project, "name": record.name, "generation": record.generation, "wish": made.to_json()}
    return Accepted.objects.create(ve=record.ve, **about)


def _reach(context: Context, row: Accepted, record: VERecord, jobs: Mapping[int, Job]) -> None:
    """The entry has a later generation than the row: the one announced, or one that was written without."""
    now = expected(row, record, jobs)
    if now is None:
        log.warning("VE %s has generation %d, which was not announced; it is taken as it is", record.name, record.generation)
        now = wish_of(record)
    conclude(context, row, record.generation, now)


def conclude(context: Context, row: Accepted, generation: int, wish: Wish) -> None:
    """The directory holds this now: the jobs that waited for it go on; inside a transaction."""
    writing = row.writing or {}
    if writing.get("generation") == generation:
        _release(context, row, writing)
    elif writing.get("jobs"):
        forget(row)
    gather.change(row, generation=generation, wish=wish.to_json(), writing=None, at=context.clock())


def _release(context: Context, row: Accepted, writing: dict[str, Any]) -> None:
    now = context.clock()
    for job in Job.objects.filter(pk__in=writing["jobs"], state=JobState.CLAIMING).order_by("id"):
        ended = {"state": JobState.COMPLETE, "settled": True, "started_at": now, "ended_at": now}
        job.change(**(ended if job.outcome else {"state": JobState.QUEUED}))
        lanes.enter([job])
        context.again = True
    about = VE.objects.filter(pk=row.ve).values_list("node", flat=True).first() or ""
    for type, text, job_id in writing["events"]:
        told = {"project": row.project, "owner": row.wish["owner"], "ve": row.ve, "ve_name": row.name, "node": about}
        events.note(EventType(type), text, at=now, job=job_id, **told)


def forget(row: Accepted) -> None:
    """What was announced was not written: the jobs that waited for it never were; inside a transaction."""
    if row.writing:
        Job.objects.filter(pk__in=row.writing["jobs"], state=JobState.CLAIMING).delete()
        row.writing = None


def announce(
    context: Context,
    row: Accepted,
    entry: VERecord | Found,
    job: int,
    wish: Wish,
    *,
    jobs: Sequence[int] = (),
    told: Sequence[Any] = (),
) -> None:
    """Say what is about to be written over ``entry``; inside a transaction."""
    if (shown := expected(row, entry)) is not None and entry.generation > row.generation:
        conclude(context, row, entry.generation, shown)
    forget(row)
    about = {"generation": entry.generation + 1, "job": job, "wish": wish.to_json()}
    row.writing = {**about, "jobs": list(jobs), "events": [list(each) for each in told]}
    row.save()


def begin(context: Context, record: VERecord, job: Job, row: Accepted | None) -> VERecord:
    """The desired write with which a job begins; its row announces it, so no commit is needed before. ``row``: what was accepted
    of the VE. Raises Stale, Gone: then decide again."""
    if row is None or row.writing or record.generation > row.generation:
        with context.leader.transaction():
            row = accepted(record)
            if row is not None:
                conclude(context, row, record.generation, expected(row, record) or wish_of(record))
    made = asked_by(job, wish_of(record))
    refusal = None if job.origin.startswith("reconcile:") else ""
    return context.directory.change_ve(
        record, job=job.pk, desired=made.desired, spec=made.spec, owner=made.owner, refusal=refusal
    )


def write(
    context: Context,
    record: VERecord,
    job: Job,
    change: Callable[[Wish], Wish],
) -> VERecord:
    """A desired write of ours that no job's row announces: announced, then made. ``change`` is done to what was accepted and to
    what the entry says, so that what somebody else has changed stays theirs. Raises Stale, Gone: then decide again."""
    found = wish_of(record)
    with context.leader.transaction():
        row = accepted(record)
        if row is not None:
            announce(context, row, record, job.pk, change(expected(row, record) or found))
    made = change(found)
    return context.directory.change_ve(record, job=job.pk, desired=made.desired, spec=made.spec, owner=made.owner)


def gone(ve: UUID) -> None:
    """The VE was deleted by a job of ours; inside a transaction."""
    for row in Accepted.objects.filter(pk=ve):
        forget(row)
        row.delete()
