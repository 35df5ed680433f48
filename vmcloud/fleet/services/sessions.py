"""Sessions: data connections between people and guests (console, exec, logs). Each is a job, so that it is known who was where.

A session's job is sent to the VE's node like any other; the node then opens a websocket to the web part with the ticket that the
order carried, and the person opens the other one. :mod:`vmcloud.api.sessions` joins the two.
"""

from __future__ import annotations

from dataclasses import dataclass

from vmcloud.domain import verbs
from vmcloud.domain.errors import Conflict, NotFound, Problem
from vmcloud.domain.vocabulary import JobState, Outcome
from vmcloud.fleet.models import Job

from . import audit, jobs
from .accounts import SERVER, Actor
from .audit import Door


@dataclass(frozen=True)
class Progress:
    """Where a session's job is: ``reason`` in words why nothing happens yet; ``over``: it will not begin any more, and why.
    ``version``: the job's."""

    reason: str = ""
    over: Problem | None = None
    version: int = 0


def progress(number: int) -> Progress:
    """Of one session's job."""
    job = Job.objects.filter(pk=number).first()
    if job is None:
        return Progress(over=Problem("not-found", f"there is no job {number}"))
    if job.state not in (JobState.EXITING, JobState.COMPLETE):
        return Progress(reason=job.reason, version=job.version)
    if job.error:
        return Progress(over=Problem.from_json(job.error))
    ended = "was cancelled" if job.outcome == Outcome.CANCELLED else "is over"
    return Progress(over=Problem("over", f"session {number} {ended}"))


def demand(actor: Actor, number: int) -> Job:
    """The open session with this job's number, if the actor may use it: it is theirs, or they are an administrator."""
    job = Job.objects.filter(pk=number, verb__in=verbs.sessions()).first()
    if job is None or not actor.may(job.owner):
        if job is not None:
            audit.denied(Door.RIGHTS, f"session {number}", f"it is {job.owner}'s", who=actor.username)
        raise NotFound(f"there is no session {number}", where="session", todo="Ask for one: POST /api/v1/ves/<name>/console.")
    if job.state in (JobState.EXITING, JobState.COMPLETE):
        over = progress(number).over
        raise Conflict(f"session {number} is over", where="session", why=over.what if over else "", code="over")
    return job


def abandon(number: int) -> None:
    """Have the node end a session whose person has left, if it has not done so by itself."""
    if Job.objects.filter(pk=number, verb__in=verbs.sessions()).exclude(state__in=(JobState.EXITING, JobState.COMPLETE)).exists():
        jobs.cancel(SERVER, number)
