"""Claiming names: a create's row, the directory's entry, and the queue.

A create, in numbered steps: (1) check everything that can be checked; (2) one transaction writes the job as *claiming*; (3) the
directory's add, which carries the job's id, claims the name: taken means the row goes again and the answer is 409; (4) the job is
queued and the server woken. A crash between 2 and 4 is swept up by the leading server (``fleet/server/sweep_claims.py``). An
array goes the same way as a whole: all of its parts are made, or none.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from django.db import transaction
from django.db.models import Q

from vmcloud.directory.errors import Exists, Gone
from vmcloud.domain.errors import Conflict, NotFound, Unavailable
from vmcloud.domain.hints import Hint
from vmcloud.domain.records import VERecord
from vmcloud.domain.terms import Terms
from vmcloud.domain.vocabulary import JobState
from vmcloud.faults import point
from vmcloud.fleet import database, ports
from vmcloud.fleet.models import VE, Job

from . import admission, arrays, jobs, lanes, submission
from .accounts import Actor

CLAIMED_TOGETHER = 100
"""Names of an array that the directory is asked for at once; after each time it is said that the request still lives."""


def claim_one(
    actor: Actor, verb: str, record: VERecord, asked: dict[str, Any], terms: Terms, *, node: str = "", **request: Any
) -> Job:
    """Steps 2 to 4 of the module's docstring. ``request``: queue, origin, key, fingerprint."""
    if VE.objects.filter(project=record.project, name=record.name).exists():
        raise _taken(record)
    job = submission.insert(
        actor,
        verb,
        terms,
        project=record.project,
        ve=record.ve,
        ve_name=record.name,
        kind=record.spec.kind.value,
        node=node,
        args=asked,
        state=JobState.CLAIMING,
        generation=1,
        **request,
    )
    if job.state != JobState.CLAIMING:
        return job
    point("web.submit.claiming")
    try:
        version = ports.directory().claim(replace(record, job=job.pk)).version
    except Exists:
        Job.objects.filter(pk=job.pk, state=JobState.CLAIMING).delete()
        raise _taken(record) from None
    except Gone:
        Job.objects.filter(pk=job.pk, state=JobState.CLAIMING).delete()
        raise NotFound(f"no project is called {record.project!r}", where="project") from None
    return _queue_made(job, version)


def claim_many(actor: Actor, record: VERecord, wanted: Sequence[str], asked: dict[str, Any], terms: Terms, **request: Any) -> Job:
    """The same for an array of creates. ``record``: of all of them, with the pattern as its name."""
    arrays.check_free(wanted, record.project)
    array, parts = _insert_many(actor, record, wanted, asked, terms, **request)
    if array.state != JobState.CLAIMING:
        return array
    point("web.submit.claiming")
    return _queue_made(array, _claim_names(array, parts, record))


@database.again
def _insert_many(
    actor: Actor, record: VERecord, wanted: Sequence[str], asked: dict[str, Any], terms: Terms, **request: Any
) -> tuple[Job, list[Job]]:
    """Step 2, of an array and its parts."""
    own: dict[str, Any] = {"kind": record.spec.kind.value, "args": asked}
    about: dict[str, Any] = {"project": record.project, "ve_name": record.name, "state": JobState.CLAIMING, "generation": 1}
    with transaction.atomic():
        array = submission.insert(actor, "create", terms, **own, **about, **request)
        if array.state != JobState.CLAIMING:
            return array, []
        return array, arrays.write_parts(array, [{**own, "ve": uuid.uuid4(), "ve_name": name} for name in wanted])


def _claim_names(array: Job, parts: Sequence[Job], record: VERecord) -> str:
    """Claim the names of all parts; the version of the last entry."""
    version = ""
    for start in range(0, len(parts), CLAIMED_TOGETHER):
        some = [replace(record, ve=part.ve, name=part.ve_name, job=part.pk) for part in parts[start : start + CLAIMED_TOGETHER]]
        try:
            claimed = ports.directory().claim_all(some)
        except Gone:
            arrays.forget(array)
            raise NotFound(f"no project is called {record.project!r}", where="project") from None
        if taken := [each.name for each, entry in zip(some, claimed, strict=True) if entry is None]:
            arrays.forget(array)
            raise arrays.taken(taken, len(parts), record.project)
        version = max([version, *(entry.version for entry in claimed if entry is not None)])
        arrays.still_claiming(array)
    return version


def _queue_made(job: Job, version: str) -> Job:
    """Step 4. The leader may have been first: then the job is queued, or gone."""
    point("web.submit.claimed")
    if not queue_claimed(job, version):
        queued = Job.objects.filter(pk=job.pk).exclude(state=JobState.CLAIMING).first()
        if queued is None:
            raise Unavailable("the request took so long that it was given up", todo="Ask again: nothing was made.")
        return queued
    submission.wake()
    return job


def queue_claimed(job: Job, version: str) -> bool:
    """The names are claimed, with entries up to this version: queue the job, or the array with its parts. False if somebody else
    was first (the leader's sweep, or a cancel)."""
    with transaction.atomic():
        found = admission.verdicts([job], time.time())[job.pk]
        changes: dict[str, Any] = {"state": found.state, "reason": found.reason, "to_review": found.state == JobState.HELD}
        changes |= {"version": 2, "directory_version": version}
        claimed = Job.objects.filter(Q(pk=job.pk) | Q(array=job.pk), state=JobState.CLAIMING)
        if claimed.update(**changes) != 1 + job.size:
            transaction.set_rollback(True)
            return False
        for name, value in changes.items():
            setattr(job, name, value)
        queued = [job, *(jobs.parts_of(job) if job.size else [])]
        lanes.enter(queued)
        arrays.note_submitted(queued)
    return True


def _taken(record: VERecord) -> Conflict:
    return Conflict(
        f"the name {record.name!r} is taken in project {record.project!r}",
        where="name",
        todo=Hint("Choose another, or look at it: {}.", "ve.show", {"ve": record.name}),
        code="name-taken",
    )
