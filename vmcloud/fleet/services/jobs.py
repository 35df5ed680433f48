"""Jobs: looking, waiting, cancelling."""

from __future__ import annotations

import time

from vmcloud.domain import signals
from vmcloud.domain.errors import Conflict, Forbidden, NotFound
from vmcloud.domain.vocabulary import SESSIONS, Ending, JobState, Verb
from vmcloud.fleet import ports
from vmcloud.fleet.models import VE, Job, JobEvent

from .accounts import SERVER, Actor

BEGUN = (JobState.RUNNING, JobState.EXITING)
LOOK_EVERY = 0.01
"""Seconds between looks of :func:`wait_change`: one indexed read of one row."""


def get(actor: Actor, job_id: int) -> Job:
    """One job; :class:`NotFound` if there is none the actor may see."""
    job = Job.objects.filter(pk=job_id).exclude(state=JobState.CLAIMING).first()
    if job is None or not (actor.may(job.owner) or _of_rules(actor, job)):
        raise NotFound(f"no job has the number {job_id}", where="job", todo="`vmcloud job list` shows all.")
    return job


def _of_rules(actor: Actor, job: Job) -> bool:
    """Whether it is what a rule does with a VE of theirs."""
    return job.owner == SERVER.username and VE.objects.filter(pk=job.ve, owner=actor.username).exists()


def own(actor: Actor, job_id: int) -> Job:
    """One job that the actor may change too."""
    job = get(actor, job_id)
    if not actor.may(job.owner):
        todo = "Change what is wanted of the VE instead, or ask an administrator."
        raise Forbidden(f"job {job_id} is the cloud's own", where="job", why="a rule asked for it", todo=todo)
    return job


def wait_change(actor: Actor, job_id: int, version: int, timeout: float) -> Job:
    """The job as soon as its version is above ``version``, or as it is after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    job = get(actor, job_id)
    while job.version <= version and job.state != JobState.COMPLETE and time.monotonic() < deadline:
        time.sleep(LOOK_EVERY)
        now = Job.objects.filter(pk=job_id).values_list("version", flat=True).first()
        if now != job.version:
            job = get(actor, job_id)
    return job


def cancel(actor: Actor, job_id: int, *, force: bool = False) -> Job:
    """Ask for the end of a job: certain never to run if it has not begun, else stopped and undone. Asking twice is one asking.
    ``force``: what has begun ends now, whatever its node still does; what may be left is said. For administrators."""
    if force:
        actor.demand_admin("end a job by force")
    job = own(actor, job_id)
    ending = Ending.FORCE.value if force and job.state in BEGUN else job.ending if job.ending == Ending.FORCE else ""
    if job.state != JobState.COMPLETE and (job.cancel_requested_at is None or ending != job.ending):
        _ask(actor, job, f"{'end by force' if ending else 'cancel'} asked for", ending=ending)
    return job


def rerun(actor: Actor, job_id: int) -> Job:
    """Have a job that runs stopped, undone and put back into its queue (Torque's qrerun): the same job begins anew."""
    job = own(actor, job_id)
    if job.state != JobState.RUNNING or job.verb in SESSIONS:
        ended, what = job.state == JobState.COMPLETE, "is a session"
        if job.state != JobState.RUNNING:
            what = "is complete" if ended else "is ending" if job.state == JobState.EXITING else "has not begun"
        todo = f"Ask for the same in a new job: `vmcloud job retry {job_id}`." if ended else ""
        raise Conflict(f"job {job_id} {what}", where="job", why="an action that runs is put back into its queue", todo=todo)
    if job.cancel_requested_at is not None and job.ending != Ending.RERUN:
        raise Conflict(f"the end of job {job_id} was asked for", where="job", todo="Retry it when it is over.")
    if job.ending != Ending.RERUN:
        _ask(actor, job, "to be put back into its queue, asked for", ending=Ending.RERUN.value)
    return job


def signal(actor: Actor, job_id: int, name: object) -> Job:
    """Send a job a signal (Torque's qsig), as far as that makes sense (:mod:`vmcloud.domain.signals`)."""
    wanted = signals.parse(name)
    job = own(actor, job_id)
    if signals.effect(job.pk, wanted, Verb(job.verb), JobState(job.state)) is signals.Effect.CANCEL:
        return cancel(actor, job_id)
    actor.demand_admin("kill what carries out a step")
    job.change(signal=wanted)
    _tell(job, f"signal {wanted} from {actor.username}")
    return job


def _ask(actor: Actor, job: Job, words: str, **changes: str) -> None:
    job.change(cancel_requested_at=job.cancel_requested_at or time.time(), **changes)
    _tell(job, f"{words} by {actor.username}")


def _tell(job: Job, text: str) -> None:
    JobEvent.objects.create(job=job, at=time.time(), text=text)
    ports.sender().wake("jobs")
