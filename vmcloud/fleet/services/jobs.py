"""Jobs: looking, waiting, cancelling."""

from __future__ import annotations

import time

from vmcloud.domain.errors import Forbidden, NotFound
from vmcloud.domain.vocabulary import JobState
from vmcloud.fleet import ports
from vmcloud.fleet.models import VE, Job, JobEvent

from .accounts import SERVER, Actor

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


def cancel(actor: Actor, job_id: int) -> Job:
    """Ask for the end of a job: certain never to run if it has not begun, else stopped and undone. Asking twice is one asking."""
    job = own(actor, job_id)
    if job.state == JobState.COMPLETE or job.cancel_requested_at is not None:
        return job
    job.change(cancel_requested_at=time.time())
    JobEvent.objects.create(job=job, at=time.time(), text=f"cancel asked for by {actor.username}")
    ports.sender().wake("jobs")
    return job
