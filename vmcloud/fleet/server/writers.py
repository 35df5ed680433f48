"""Who has written to the directory, and the jobs that are made of what they wrote."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

from vmcloud.directory.store import Found
from vmcloud.domain.errors import VmcloudError
from vmcloud.domain.foreign import Writer
from vmcloud.domain.records import VERecord
from vmcloud.domain.vocabulary import JobState, Outcome, Verb
from vmcloud.fleet.models import Job
from vmcloud.fleet.services import audit
from vmcloud.fleet.services.accounts import Actor
from vmcloud.fleet.services.audit import Door

from .context import Context

ORIGIN = "ldap"
LOG_PATIENCE = 3.0
"""Seconds that the access log may need to come to a change before its writer counts as unknown."""
CLOCKS = 300.0
"""Seconds that the directory's clock may differ from ours."""
LOOKS = (0.002, 0.004, 0.008, 0.016)
"""Seconds between looks at an access log that is a moment behind; after these it is looked at again in the next cycle."""
NOBODY = Writer("")


def written_by(context: Context, found: Found, names: Collection[str], since: float) -> dict[str, str] | None:
    """Who last wrote each of these attributes, oldest write first (:meth:`.Directory.writers`). None: the log does not tell yet;
    after :data:`LOG_PATIENCE` it is nobody known."""
    logged = context.directory.writers(found, names, since)
    for pause in LOOKS:
        if logged is not None:
            return logged
        time.sleep(pause)
        logged = context.directory.writers(found, names, since)
    return {} if logged is None and context.impatient(found.ve, LOG_PATIENCE) else logged


def newest(context: Context, logged: dict[str, str]) -> Writer:
    """Who wrote last of all."""
    return writer_of(context, list(logged.values())[-1]) if logged else NOBODY


def writer_of(context: Context, dn: str) -> Writer:
    """Somebody who writes to the directory, as one of ours."""
    if dn.lower() in (context.directory.tree.service(part).lower() for part in ("server", "web", "monitor")):
        return NOBODY
    who = context.directory.who(dn)
    return Writer(who.name[:150], "administrators" in who.groups, "operators" in who.groups, who.person)


def refusal_of(writer: Writer, error: VmcloudError) -> str:
    """For ``vmcRefusal``: who was refused what, and why."""
    return f"{writer.name or 'somebody'}: {error.problem.sentence().rstrip('.')}."[:900]


def actor(writer: Writer) -> Actor:
    """The writer as one who asks."""
    return Actor(writer.name, is_admin=writer.administrator)


def refused(context: Context, record: VERecord, writer: Writer, verb: Verb, error: VmcloudError, **fields: Any) -> Job:
    """A job that says what was asked for and why it is not done; inside a transaction."""
    audit.denied(Door.LDAP, f"{verb} {record.name}", error.problem.what, who=writer.name, source="directory")
    ended = {"outcome": Outcome.FAILED.value, "result": {"undone": True, "never_ran": True}}
    return claim(context, record, writer, verb, error=error.problem.to_json(), **ended, **fields)


def claim(context: Context, record: VERecord, writer: Writer, verb: Verb, **fields: Any) -> Job:
    """A job that begins, or is over if it has an outcome, once the directory names it; inside a transaction."""
    about = {"project": record.project, "ve": record.ve, "ve_name": record.name, "kind": record.spec.kind.value}
    now = context.clock()
    about |= {"node": record.node, "owner": writer.name or "unknown", "origin": ORIGIN, "created_at": now, "rank": now}
    job = Job.objects.create(verb=verb.value, state=JobState.CLAIMING, **about, **fields)
    context.note(job, f"asked for in the directory by {writer.name or 'somebody unknown'}")
    return job
