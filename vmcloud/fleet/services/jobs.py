"""Jobs as people call them: looking, and asking for their end. An array is a job with parts, which are jobs too."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from django.db import transaction

from vmcloud.domain import signals, verbs
from vmcloud.domain.arrays import JOB_MAX, JobRef
from vmcloud.domain.errors import Conflict, Forbidden, Invalid, NotFound
from vmcloud.domain.hints import Hint
from vmcloud.domain.vocabulary import Ending, JobState
from vmcloud.fleet import database, gather, ports
from vmcloud.fleet.models import VE, Job, JobEvent

from . import archive, audit
from .accounts import SERVER, Actor
from .audit import Door

BEGUN = (JobState.RUNNING, JobState.EXITING)
LOOK_EVERY = 0.01
"""Seconds between looks at a row that is about to change: one indexed read."""
Ref = int | str | JobRef
_NUMBER = re.compile(r"-?[0-9]+")


@dataclass(frozen=True)
class Meant:
    """What a person means. ``job``: it, or the array; ``parts``: those of the array that are meant, in order (None: no array)."""

    ref: JobRef
    job: Job
    parts: list[Job] | None = None


def get(actor: Actor, ref: Ref) -> Job:
    """One job, array or part; :class:`NotFound` if there is none the actor may see."""
    said = _said(ref)
    if said.parts is not None and said.index is None:
        todo = f"Ask for one, such as {said.number}[{said.parts.highest}], or list them: GET /jobs?array={said.number}."
        raise Invalid(f"{said} are several jobs", where="job", todo=todo)
    job = archive.find(**{"pk": said.number} if said.parts is None else {"array": said.number, "index": said.index})
    if job is None or not (actor.may(job.owner) or _of_rules(actor, job)):
        if job is not None:
            audit.denied(Door.RIGHTS, f"job {job.ref}", f"it is {job.owner}'s", who=actor.username)
        raise NotFound(f"no job has the number {said}", where="job", todo=Hint("{} shows all.", "job.list"))
    if said.whole and not job.size:
        raise NotFound(f"job {said.number} is no array", where="job", todo=f"Its number is {job.ref}.")
    return job


def _of_rules(actor: Actor, job: Job) -> bool:
    """Whether it is what a rule does with a VE of theirs."""
    return job.owner == SERVER.username and VE.objects.filter(pk=job.ve, owner=actor.username).exists()


def own(actor: Actor, ref: Ref) -> Job:
    """One job that the actor may change too."""
    job = get(actor, ref)
    if not actor.may(job.owner):
        todo = "Change what is wanted of the VE instead, or ask an administrator."
        raise Forbidden(f"job {job.ref} is the cloud's own", where="job", why="a rule asked for it", todo=todo)
    return job


def meant(actor: Actor, ref: Ref) -> Meant:
    """One job that the actor may change, or an array with those of its parts that are meant: all, or some."""
    said = _said(ref)
    if said.parts is None or said.index is not None:
        job = own(actor, said)
        return Meant(said, job, parts_of(job) if job.size else None)
    array = own(actor, JobRef(said.number))
    found = [part for part in parts_of(array) if part.index in said.parts] if array.size else []
    if len(found) < len(said.parts):
        known = {part.index for part in found}
        missing = next(index for index in said.parts if index not in known)
        todo = f"It has {array.indices}." if array.size else "It is no array."
        raise NotFound(f"job {array.ref} has no part {missing}", where="job", todo=todo)
    return Meant(said, array, found)


def _said(ref: Ref) -> JobRef:
    if isinstance(ref, JobRef):
        return ref
    if _NUMBER.fullmatch(text := str(ref)) and not 1 <= int(text[:20]) <= JOB_MAX:
        raise NotFound(f"no job has the number {text[:40]}", where="job", todo=Hint("{} shows all.", "job.list"))
    return JobRef.parse(text)


def parts_of(array: Job) -> list[Job]:
    """All of them, by index."""
    found = list(Job.objects.filter(array=array.pk).exclude(state=JobState.CLAIMING).order_by("index"))
    over = archive.parts(array.pk) if array.state == JobState.COMPLETE else []
    return sorted([*found, *over], key=lambda part: part.index or 0) if over else found


def note_all(jobs: Sequence[Job], text: str) -> None:
    """The same line in the history of many."""
    now = time.time()
    with gather.gathering():
        for job in jobs:
            gather.add(JobEvent(job=job, at=now, text=text))


# ------------------------------------------------------------------------------------------------------------- asking for ends


@database.again
def cancel(actor: Actor, ref: Ref, *, force: bool = False) -> Job:
    """Ask for the end of a job, of an array or of some of its parts: certain never to run if it has not begun, else stopped and
    undone. Asking twice is one asking. ``force``: what has begun ends now, whatever its node still does; what may be left is
    said. For administrators."""
    if force:
        actor.demand_admin("end a job by force")
    with transaction.atomic():
        found = meant(actor, ref)
        asked: dict[str, list[Job]] = {}
        for job in _all_meant(found):
            ending = Ending.FORCE.value if force and job.state in BEGUN else job.ending if job.ending == Ending.FORCE else ""
            if job.state != JobState.COMPLETE and (job.cancel_requested_at is None or ending != job.ending):
                asked.setdefault(ending, []).append(job)
        for ending, some in asked.items():
            _ask(actor, some, f"{'end by force' if ending else 'cancel'} asked for", ending=ending)
    _wake(asked)
    return found.job


@database.again
def rerun(actor: Actor, ref: Ref) -> Job:
    """Have a job that runs, or those parts of an array that do, stopped, undone and put back into its queue (Torque's qrerun):
    the same job begins anew."""
    with transaction.atomic():
        found = meant(actor, ref)
        running = _running(found)
        if found.parts is None:
            _check_rerun(found.job)
        asked = [job for job in running if not job.ending]
        _ask(actor, asked, "to be put back into its queue, asked for", ending=Ending.RERUN.value)
    _wake(asked)
    return found.job


def _check_rerun(job: Job) -> None:
    if job.state != JobState.RUNNING or job.verb in verbs.sessions():
        ended, what = job.state == JobState.COMPLETE, "is a session"
        if job.state != JobState.RUNNING:
            what = "is complete" if ended else "is ending" if job.state == JobState.EXITING else "has not begun"
        todo = Hint("Ask for the same in a new job: {}.", "job.retry", {"job": job.ref}) if ended else ""
        raise Conflict(f"job {job.ref} {what}", where="job", why="an action that runs is put back into its queue", todo=todo)
    if job.cancel_requested_at is not None and job.ending != Ending.RERUN:
        raise Conflict(f"the end of job {job.ref} was asked for", where="job", todo="Retry it when it is over.")


@database.again
def signal(actor: Actor, ref: Ref, name: object) -> Job:
    """Send a job, or those parts of an array that run, a signal (Torque's qsig), as far as that makes sense
    (:mod:`vmcloud.domain.signals`)."""
    wanted = signals.parse(name)
    with transaction.atomic():
        found = meant(actor, ref)
        running = _running(found)
        first = running[0]
        if signals.effect(first.ref, wanted, first.verb, JobState(first.state)) is signals.Effect.CANCEL:
            return cancel(actor, ref)
        actor.demand_admin("kill what carries out a step")
        Job.change_all(running, signal=wanted)
        note_all(running, f"signal {wanted} from {actor.username}")
    _wake(running)
    return found.job


def _all_meant(found: Meant) -> list[Job]:
    """The job; the parts that are meant; the whole array with all of them."""
    return [*([found.job] if found.ref.parts is None or found.parts is None else []), *(found.parts or [])]


def _running(found: Meant) -> list[Job]:
    """The job, whatever its state; of an array those parts that run and whose end was not asked for."""
    if found.parts is None:
        return [found.job]
    running = [part for part in found.parts if part.state == JobState.RUNNING and part.cancel_requested_at is None]
    if not running:
        raise Conflict(f"no part of job {found.ref} runs", where="job", why="this is for parts that run")
    return running


def _ask(actor: Actor, jobs: Sequence[Job], words: str, **changes: str) -> None:
    Job.change_all((job for job in jobs if job.cancel_requested_at is not None), **changes)
    Job.change_all((job for job in jobs if job.cancel_requested_at is None), cancel_requested_at=time.time(), **changes)
    note_all(jobs, f"{words} by {actor.username}")


def _wake(changed: Collection[object]) -> None:
    """Have the leader look, once what was changed is committed."""
    if changed:
        ports.sender().wake("jobs")
