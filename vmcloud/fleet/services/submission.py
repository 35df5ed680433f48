"""The rows of new jobs: written once for one Idempotency-Key, with what they wait for and their first words."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from typing import Any

from django.db import IntegrityError, transaction

from vmcloud.domain.errors import Conflict, Invalid
from vmcloud.domain.terms import Terms
from vmcloud.domain.vocabulary import JobState
from vmcloud.faults import point
from vmcloud.fleet import database, gather, ports
from vmcloud.fleet.models import Job

from . import archive, arrays, lanes, leases, waiting
from .accounts import Actor

ANY_TIME = Terms()


@database.again
def write(actor: Actor, verb: str, terms: Terms, **fields: Any) -> Job:
    """The job's row and its first words; or that of the same request, made before."""
    plain = terms == ANY_TIME and not fields["key"]  # nothing that could be refused after its row is written
    with transaction.atomic(savepoint=not plain), gather.gathering():
        job = insert(actor, verb, terms, **fields)
        if plain or not job.events.exists():
            if terms != ANY_TIME:
                found = waiting.verdict(job)
                job.state, job.reason, job.to_review = found.state, found.reason, found.state == JobState.HELD
                job.save(update_fields=["state", "reason", "to_review"])
            lanes.enter([job])
            arrays.note_submitted([job])
    return job


def wake() -> None:
    """New jobs are written: have the leader look."""
    point("web.submit.queued")
    ports.sender().wake("jobs")


def insert(actor: Actor, verb: str, terms: Terms, *, key: str, fingerprint: str, **fields: Any) -> Job:
    """Write the job's row, and on whom it waits; where a request with the same key was first in the meantime, that one's job."""
    now = time.time()
    about: dict[str, Any] = {
        "owner": actor.username,
        "verb": verb,
        "key": key,
        "fingerprint": fingerprint,
        "created_at": now,
    }
    if terms.array is not None:
        indices = terms.array.indices
        about |= {"size": len(indices), "indices": str(indices), "slots": arrays.allowed_slots(terms.array.slots)}
    try:
        with transaction.atomic(savepoint=bool(key)):
            job = Job.objects.create(**about, **waiting.fields(terms, now), **fields)
            if terms.depends:
                waiting.link(actor, job, terms.depends)
                waiting.verdict(job)
            if job.ve is not None and leases.renews(job.args, now):
                leases.call_off(job.ve, actor)
            return job
    except IntegrityError:
        first = earlier(actor, key, fingerprint)
        if first is None:
            raise
        return first


def fingerprint(verb: str, target: str, args: Mapping[str, Any]) -> str:
    """What tells a request from another one under the same key."""
    asked = json.dumps([verb, target, dict(args)], sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(asked.encode()).hexdigest()


def earlier(actor: Actor, key: str, fingerprint: str) -> Job | None:
    """The job that the same request made before. :class:`Conflict` if its key was used for something else."""
    if not key:
        return None
    if len(key) > 255:
        raise Invalid("an Idempotency-Key has at most 255 characters", where="Idempotency-Key")
    job = Job.objects.filter(owner=actor.username, key=key).first() or archive.under(actor.username, key)
    if job is None:
        return None
    if job.fingerprint != fingerprint:
        raise Conflict(
            "this Idempotency-Key was used for another request",
            where="Idempotency-Key",
            todo="Use a fresh key for each new request.",
            code="key-reused",
        )
    if job.state == JobState.CLAIMING:
        raise Conflict("the same request is being worked on just now", where="Idempotency-Key", todo="Ask again in a moment.")
    return job
