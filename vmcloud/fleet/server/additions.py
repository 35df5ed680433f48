"""Entries that somebody added to the directory by hand: a wish for a new VE, taken up as a create, or explained in the entry.

Nothing of an addition is undone: what is refused stays as it was written, with the reason, for its writer to correct or remove.
"""

from __future__ import annotations

import logging
from typing import Any

from vmcloud.directory.codec import ATTRIBUTE
from vmcloud.directory.store import Found
from vmcloud.domain import lease
from vmcloud.domain.errors import Conflict, Forbidden, Invalid, VmcloudError
from vmcloud.domain.foreign import Writer
from vmcloud.domain.names import check_ve_name, native_name
from vmcloud.domain.records import VERecord
from vmcloud.domain.spec import Spec
from vmcloud.domain.vocabulary import Desired, EventType, Outcome, Verb
from vmcloud.domain.wish import Wish
from vmcloud.faults import point
from vmcloud.fleet.models import Accepted, Stray
from vmcloud.fleet.services import audit, events, leases, queues, submit
from vmcloud.fleet.services.audit import Door

from . import wanted, writers
from .context import Context

log = logging.getLogger("server.foreign")


def judge(context: Context, found: Found, row: Accepted | None) -> bool:
    """Judge one added entry. False: the access log does not show yet who added it. Raises Stale."""
    logged = writers.written_by(context, found, set(ATTRIBUTE.values()), 0.0)
    if logged is None:
        return False
    writer = writers.newest(context, logged)
    if row is not None:
        with context.leader.transaction():
            wanted.forget(row)
            row.delete()
    try:
        record = _checked(context, found, writer)
        if (guest := Stray.objects.filter(ve=found.ve).first()) is not None:
            _take_back(context, found, record, guest, writer)
            return True
        spec, now = record.spec, context.clock()
        lease.to_come(spec.lease_end, now)
        sizes = {"vcpus": spec.vcpus, "memory_mib": spec.memory_mib}
        asked = lease.length(spec.lease_end, now) if spec.lease_end else None
        queue = queues.choose(writers.actor(writer), "", **sizes, lease=asked)
        spec = spec if spec.lease_end else leases.granted(spec, {}, queue, now)
    except VmcloudError as error:
        _refuse(context, found, writers.refusal_of(writer, error))
        return True
    _take(context, record, spec, writer, queue)
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
    if context.directory.tombstone(record.ve) is not None:
        todo = "Give it a UUID of its own: `cat /proc/sys/kernel/random/uuid` makes one."
        raise Conflict("this UUID is taken", where="vmcUUID", why="it was a VE's that was deleted", todo=todo)
    guests = Stray.objects.filter(ve=record.ve)
    if others := [guest for guest in guests if guest.native != native_name(record.name, record.ve) or len(guests) > 1]:
        why = "; ".join(f"guest {guest.native} on node {guest.node} bears it" for guest in others)
        todo = "Add the entry under the name that the guest was made with, or give it a UUID of its own."
        raise Conflict("this UUID is taken", where="vmcUUID", why=why, todo=todo)
    if guests:
        return record
    submit.check_new(writers.actor(writer), spec)
    return record


def _take(context: Context, record: VERecord, spec: Spec, writer: Writer, queue: str) -> None:
    """In the steps of :mod:`.foreign`, for an entry that had none of ours. ``spec``: with the lease that its queue grants."""
    wish = Wish(record.desired, spec, record.owner or writer.name)
    args = {"power": record.desired.value, "spec": spec.to_json()}
    with context.leader.transaction():
        about = {"project": record.project, "name": record.name, "wish": wish.to_json(), "at": context.clock()}
        row = Accepted.objects.create(ve=record.ve, **about)
        job = writers.claim(context, record, writer, Verb.CREATE, args=args, queue=queue, generation=1)
        told = [(EventType.FOREIGN.value, f"{writer.name} added it to the directory", job.pk)]
        wanted.announce(context, row, record, job.pk, wish, jobs=[job.pk], told=told)
    point("server.foreign.announced")
    stored = context.directory.change_ve(record, job=job.pk, spec=wish.spec, owner=wish.owner, refusal="")
    point("server.foreign.written")
    with context.leader.transaction():
        wanted.conclude(context, row, stored.generation, wish)
    point("server.foreign.concluded")


def _take_back(context: Context, found: Found, record: VERecord, guest: Stray, writer: Writer) -> None:
    """The guest that the entry is about is there, its record was lost: it is the same VE again, where it is and as it is wanted
    now, of a generation that its node has not seen."""
    wish = Wish(record.desired, record.spec, record.owner or writer.name)
    seen = [each.seen.generation for each in context.directory.strays(guest.node) if each.seen.ve == record.ve]
    generation = max([0, *seen]) + 1
    with context.leader.transaction():
        about = {"project": record.project, "name": record.name, "wish": wish.to_json(), "at": context.clock()}
        row = Accepted.objects.create(ve=record.ve, generation=generation - 1, **about)
        orphan = {"orphan": guest.native, "target": guest.key}
        job = writers.claim(context, record, writer, Verb.ADOPT, args=orphan, outcome=Outcome.OK.value)
        text = f"{writer.name} recorded it again; it was {guest.native} on node {guest.node}"
        row.writing = {"generation": generation, "job": job.pk, "wish": wish.to_json(), "jobs": [job.pk]}
        row.writing["events"] = [(EventType.ADOPTED.value, text, job.pk)]
        row.save()
    placed = {"job": job.pk, "generation": generation, "node": guest.node}
    stored = context.directory.restore_ve(found, wish.desired, wish.spec, wish.owner, **placed)
    with context.leader.transaction():
        wanted.conclude(context, row, stored.generation, wish)


def _refuse(context: Context, found: Found, refusal: str) -> None:
    if found.refusal == refusal:
        return
    context.directory.refuse(found, refusal)
    record = found.record
    log.warning("%s: not taken up: %s", found.dn, refusal)
    audit.denied(Door.LDAP, f"add {found.dn}", refusal, source="directory")
    about: dict[str, Any] = {"ve": found.ve}
    if record is not None:
        about |= {"ve_name": record.name, "project": record.project, "owner": record.owner}
    with context.leader.transaction():
        events.note(EventType.REFUSED, f"the added entry is not taken up: {refusal}", at=context.clock(), **about)
