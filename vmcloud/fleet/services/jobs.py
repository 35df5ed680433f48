"""Jobs: looking, waiting, cancelling."""

from __future__ import annotations

import time

from vmcloud.domain.errors import NotFound
from vmcloud.domain.vocabulary import JobState
from vmcloud.fleet import ports
from vmcloud.fleet.models import Job, JobEvent

from .accounts import Actor

LOOK_EVERY = 0.01
"""Seconds between looks of :func:`wait_change`: one indexed read of one row."""


def get(actor: Actor, job_id: int) -> Job:
    """One job; :class:`NotFound` if there is none the actor may see."""
    job = Job.objects.filter(pk=job_id).exclude(state=JobState.CLAIMING).first()
    if job is None or not actor.may(job.owner):
        raise NotFound(f"no job has the number {job_id}", where="job", todo="`vmcloud job list` shows all.")
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
    job = get(actor, job_id)
    if job.state == JobState.COMPLETE or job.cancel_requested_at is not None:
        return job
    job.change(cancel_requested_at=time.time())
    JobEvent.objects.create(job=job, at=time.time(), text=f"cancel asked for by {actor.username}")
    ports.sender().wake("jobs")
    return job
