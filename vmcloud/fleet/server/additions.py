"""Entries that somebody added to the directory by hand: a wish for a new VE, taken up as a create, or explained in the entry.

Nothing of an addition is undone: what is refused stays as it was written, with the reason, for its writer to correct or remove.
"""

from __future__ import annotations

import logging
from typing import Any

from vmcloud.directory.codec import ATTRIBUTE
from vmcloud.directory.store import Found
from vmcloud.domain.errors import Conflict, Forbidden, Invalid, VmcloudError
from vmcloud.domain.foreign import Wish, Writer
from vmcloud.domain.names import check_ve_name
from vmcloud.domain.records import VERecord
from vmcloud.domain.spec import Spec
from vmcloud.domain.vocabulary import Desired, EventType, Verb
from vmcloud.faults import point
from vmcloud.fleet.models import Accepted, Stray
from vmcloud.fleet.services import events, queues, submit

from . import wanted, writers
from .context import Context

log = logging.getLogger("server.foreign")


def judge(context: Context, found: Found, row: Accepted | None) -> bool:
    """Judge one added entry. False: the access log does not show yet who added it. Raises Stale."""
    logged = context.directory.writers(found, set(ATTRIBUTE.values()), 0.0)
    if logged is None and not context.impatient(found.ve, writers.LOG_PATIENCE):
        return False
    writer = writers.writer_of(context, list(logged.values())[-1]) if logged else writers.NOBODY
    if row is not None:
        with context.leader.transaction():
            wanted.forget(row)
            row.delete()
    try:
        record = _checked(context, found, writer)
        sizes = {"vcpus": record.spec.vcpus, "memory_mib": record.spec.memory_mib}
        queue = queues.choose(writers.actor(writer), "", **sizes)
    except VmcloudError as error:
        _refuse(context, found, writers.refusal_of(writer, error))
        return True
    _take(context, record, writer, queue)
    return True


def _checked(context: Context, found: Found, writer: Writer) -> VERecord:
    if found.record is None:
        raise Invalid(found.reason, todo="Correct the entry, or remove it.")
    record = found.record
    if not writer.administrator:
        raise Forbidden("only an administrator may add a VE to the directory", todo="Use `vmcloud ve create`.")
    check_ve_name(record.name)
    spec = Spec.parse(record.spec.to_json())
    if record.desired not in (Desired.RUNNING, Desired.STOPPED):
        raise Invalid(f"a VE cannot be created {record.desired}", where="desired", todo="Choose running or stopped.")
    guest = Stray.objects.filter(ve=record.ve).first()
    if guest is not None or context.directory.tombstone(record.ve) is not None:
        why = f"guest {guest.native} on node {guest.node} has it" if guest else "it was a VE's that was deleted"
        todo = "Remove the entry" + ("; `vmcloud ve adopt` records the guest." if guest else ", or give it a UUID of its own.")
        raise Conflict("this UUID is taken", where="vmcUUID", why=why, todo=todo)
    submit.check_new(writers.actor(writer), spec)
    return record


def _take(context: Context, record: VERecord, writer: Writer, queue: str) -> None:
    """In the steps of :mod:`.foreign`, for an entry that had none of ours."""
    wish = Wish(record.desired, record.spec, record.owner or writer.name)
    args = {"power": record.desired.value, "spec": record.spec.to_json()}
    with context.leader.transaction():
        about = {"project": record.project, "name": record.name, "wish": wish.to_json(), "at": context.clock()}
        row = Accepted.objects.create(ve=record.ve, **about)
        job = writers.claim(context, record, writer, Verb.CREATE, args=args, queue=queue, generation=1)
        told = [(EventType.FOREIGN.value, f"{writer.name} added it to the directory", job.pk)]
        wanted.announce(context, row, record, job.pk, wish, jobs=[job.pk], told=told)
    point("server.foreign.announced")
    stored = context.directory.change_ve(record, job=job.pk, owner=wish.owner, refusal="")
    point("server.foreign.written")
    with context.leader.transaction():
        wanted.conclude(context, row, stored.generation, wish)
    point("server.foreign.concluded")


def _refuse(context: Context, found: Found, refusal: str) -> None:
    if found.refusal == refusal:
        return
    context.directory.refuse(found, refusal)
    record = found.record
    log.warning("%s: not taken up: %s", found.dn, refusal)
    about: dict[str, Any] = {"ve": found.ve}
    if record is not None:
        about |= {"ve_name": record.name, "project": record.project, "owner": record.owner}
    with context.leader.transaction():
        events.note(EventType.REFUSED, f"the added entry is not taken up: {refusal}", at=context.clock(), **about)
