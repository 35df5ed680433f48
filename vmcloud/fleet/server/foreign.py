"""Changes from outside: an entry that says something which no job of ours wrote. Taken up as jobs, or undone and explained.

The watch only raises suspicion; what is judged is the entry as it is when it is judged, against what was accepted last
(:mod:`.wanted`). Each attribute that differs is its last writer's, by the access log; what one writer wants is taken up whole or
not at all. In numbered steps: (1) one transaction writes the jobs, *claiming*, and announces what the entry will say; (2) one
modify gives the entry a generation and the last of the jobs, and undoes what was refused; (3) the jobs are queued, what was
refused is closed, both are told. After a crash between 1 and 2 all is judged anew; between 2 and 3, the entry shows what is left
to do.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from vmcloud.directory.codec import ATTRIBUTE
from vmcloud.directory.errors import Stale
from vmcloud.directory.errors import Unavailable as DirectoryUnavailable
from vmcloud.directory.store import Found
from vmcloud.domain import foreign, lease, verbs
from vmcloud.domain.errors import Invalid, VmcloudError
from vmcloud.domain.foreign import Demand, Writer
from vmcloud.domain.records import VERecord
from vmcloud.domain.vocabulary import EventType, Outcome, Verb
from vmcloud.domain.wish import Wish, differences
from vmcloud.faults import point
from vmcloud.fleet.models import VE, Accepted, Job
from vmcloud.fleet.services import leases, submit
from vmcloud.fleet.services.world import World

from . import additions, wanted, writers
from .context import Context
from .projection import row_of

log = logging.getLogger("server.foreign")

BACKUP = Writer("backup")


@dataclass
class Verdict:
    """What becomes of the changes of one entry: what it will say, the jobs that carry it out, and what was refused."""

    wish: Wish
    jobs: list[Job] = field(default_factory=list)
    told: list[tuple[EventType, str, Job]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


def run(context: Context) -> None:
    """Judge every entry under suspicion. What can not be judged yet stays."""
    for ve in list(context.suspects):
        try:
            if judge(context, ve):
                context.suspects.pop(ve, None)
        except DirectoryUnavailable as error:
            context.projection.down = error.problem.sentence()
            return
        except Stale:
            context.again = True  # somebody wrote again: judge what is there now
        except (VmcloudError, ValueError, TypeError, KeyError):
            # One entry that can not be judged must not hold up all others. The rules leave it alone; its next change is tried.
            log.exception("the change of VE %s can not be judged", ve)
            context.suspects.pop(ve, None)


def fresh(context: Context, ve: UUID, row: Accepted | None) -> VERecord | None:
    """The entry as the watch told it last, or else as it is now, for who is about to write it under a guard; None if there is
    none. ``row``: what was accepted of it. Raises Stale where it says what nobody has accepted: that is judged first."""
    record = context.entries.get(ve)
    if record is None:
        found = context.directory.find_ve(ve)
        if found is None:
            return None
        record = found.record
    if record is not None:
        if row is None and record.generation:
            return record
        begun = row is not None and row.writing and row.writing["jobs"] and record.generation == row.generation
        if row is not None and not begun and wanted.expected(row, record) in (None, wanted.wish_of(record)):
            return record
    context.suspect(ve)
    raise Stale("somebody else's change of it is looked at first", where=str(ve))


def readable(context: Context, ve: UUID) -> VERecord | None:
    """The entry as it is now, whoever wrote it; None if there is none. Raises Stale where it can not be read."""
    found = context.directory.find_ve(ve)
    if found is not None and found.record is None:
        note(context, ve)
        raise Stale(found.reason, where=found.dn)
    return found.record if found else None


def note(context: Context, ve: UUID) -> None:
    """The watch shows an entry that can not be read."""
    context.foreign.add(ve)
    context.suspect(ve)


def judge(context: Context, ve: UUID) -> bool:
    """Judge one entry. False: not yet, the access log does not show who it was. Raises Stale."""
    found = context.directory.find_ve(ve)
    if found is None:
        return True
    row = Accepted.objects.filter(pk=ve).first()
    if not found.generation and (row is None or not row.generation):
        return additions.judge(context, found, row)
    if row is None:
        return True  # the watch has not told it yet
    if found.dn.lower() != context.directory.tree.ve(row.project, row.name).lower():
        log.warning("%s was moved by somebody; it goes back to where it was", found.dn)
        context.directory.move_back(found, row.project, row.name)
        raise Stale("it was moved", where=found.dn)
    if found.record is None:
        return _unreadable(context, found, row)
    record = found.record
    accepted = wanted.expected(row, record)
    if accepted is None and record.generation < row.generation:
        _left_behind(context, found, row)
    if accepted is None:
        return True
    if record.generation > row.generation or row.writing:
        with context.leader.transaction():
            if record.generation > row.generation:
                wanted.conclude(context, row, record.generation, accepted)
            else:
                wanted.forget(row)
                row.save()
    if wanted.wish_of(record) == accepted:
        return True  # it was changed back: level-triggered
    changes = _writers(context, found, row, differences(accepted, wanted.wish_of(record)))
    if changes is None:
        return False
    _decide(context, record, row, accepted, changes)
    return True


def _writers(context: Context, found: Found, row: Accepted, names: Iterable[str]) -> list[tuple[Writer, set[str]]] | None:
    """Who changed which of these fields, in the order of their last writes. None: the log does not tell yet."""
    fields = {ATTRIBUTE[name]: name for name in names}
    logged = writers.written_by(context, found, set(fields), row.at - writers.CLOCKS)
    if logged is None:
        return None
    groups: dict[str, set[str]] = {}
    for attribute, dn in logged.items():
        groups.setdefault(dn, set()).add(fields.pop(attribute))
    made = [(writers.writer_of(context, dn), names) for dn, names in groups.items()]
    return [*made, (writers.NOBODY, set(fields.values()))] if fields else made


def _decide(context: Context, record: VERecord, row: Accepted, accepted: Wish, changes: list[tuple[Writer, set[str]]]) -> None:
    found = wanted.wish_of(record)
    with context.leader.transaction():
        verdict = Verdict(accepted)
        for writer, names in changes:
            _take(context, verdict, record, writer, verdict.wish.taking(found, names))
        jobs = [job.pk for job in verdict.jobs]
        covering = max(job.pk for job in verdict.jobs if not job.error or len(verdict.refused) == len(jobs))
        told = [(type.value, text, job.pk) for type, text, job in verdict.told]
        wanted.announce(context, row, record, covering, verdict.wish, jobs=jobs, told=told)
    point("server.foreign.announced")
    wish, refusal = verdict.wish, " ".join(verdict.refused)
    stored = context.directory.change_ve(
        record, job=covering, desired=wish.desired, spec=wish.spec, owner=wish.owner, refusal=refusal
    )
    point("server.foreign.written")
    with context.leader.transaction():
        wanted.conclude(context, row, stored.generation, wish)
    point("server.foreign.concluded")
    for _, text, _ in verdict.told:
        log.info("%s: %s", record.name, text)


def _take(context: Context, verdict: Verdict, record: VERecord, writer: Writer, wish: Wish) -> None:
    """Take up what one writer wants, whole, or note why not."""
    try:
        wanted_now = foreign.demands(verdict.wish, wish)
        foreign.permit(writer, verdict.wish.owner, wanted_now)
        steps = list(_steps(record, writer, verdict.wish, wish, wanted_now))
    except VmcloudError as error:
        asked = ", ".join(sorted(differences(verdict.wish, wish)))
        verb = foreign.verb_of(verdict.wish, wish)
        job = writers.refused(context, record, writer, verb, error, args={"asked": asked})
        verdict.jobs.append(job)
        refusal = writers.refusal_of(writer, error)
        verdict.refused.append(refusal)
        verdict.told.append((EventType.REFUSED, f"change of {asked} in the directory undone: {refusal}", job))
        return
    for demand, more, before, after in steps:
        job = writers.claim(context, record, writer, demand.verb, before=before.to_json(), **more)
        verdict.jobs.append(job)
        verdict.told.append((EventType.FOREIGN, f"{writer.name} asked in the directory to {_phrase(demand)}", job))
        verdict.wish = after


def _steps(
    record: VERecord, writer: Writer, wish: Wish, found: Wish, wanted_now: Iterable[Demand]
) -> Iterable[tuple[Demand, dict[str, Any], Wish, Wish]]:
    """Each demand with the fields of its job, and what is wanted before and after it."""
    for demand in wanted_now:
        if demand.verb is Verb.ALTER:
            _check_lease(record, writer, wish, demand)
            more: dict[str, Any] = {"args": demand.args, "outcome": Outcome.OK.value}
        else:
            row = row_of(replace(record, spec=wish.spec, desired=wish.desired))
            assert isinstance(row, VE)
            args = submit.checked(row, verbs.of(demand.verb), demand.args, World(), writers.actor(writer))
            more = {"args": args, "queue": submit.queue_for(writers.actor(writer), args)}
        after = demand.after(wish, found)
        yield demand, more, wish, after
        wish = after


def _check_lease(record: VERecord, writer: Writer, wish: Wish, demand: Demand) -> None:
    """Refuse a lease that can not be, or that no queue would give; what the old one led to is called off by a later end."""
    now = time.time()
    lease.check_change(wish.spec.lease, demand.args, now)
    if "lease_end" in demand.args:
        submit.queue_for(writers.actor(writer), demand.args)
    if leases.renews(demand.args, now):
        leases.call_off(record.ve, writers.actor(writer))


def _phrase(demand: Demand) -> str:
    if demand.verb is Verb.RESIZE or demand.verb is Verb.ALTER:
        return f"{demand.verb} it: " + ", ".join(f"{name} {value!r}" for name, value in demand.args.items())
    return f"{demand.verb} it"


def _unreadable(context: Context, found: Found, row: Accepted) -> bool:
    """An entry of ours with a value that can not be: back to what was accepted, all of it."""
    wish = wanted.expected(row, found)
    if wish is None:
        return True  # written by us after this was read
    logged = writers.written_by(context, found, set(ATTRIBUTE.values()), row.at - writers.CLOCKS)
    if logged is None:
        return False
    writer = writers.newest(context, logged)
    error = Invalid(found.reason, todo="Write a value that can be.")
    node = VE.objects.filter(pk=found.ve).values_list("node", flat=True).first() or ""
    record = VERecord(found.ve, row.name, row.project, wish.owner, wish.spec, wish.desired, found.generation, found.job, node)
    with context.leader.transaction():
        refusal = writers.refusal_of(writer, error)
        job = writers.refused(context, record, writer, Verb.ALTER, error)
        told = [(EventType.REFUSED.value, f"change in the directory undone: {refusal}", job.pk)]
        wanted.announce(context, row, found, job.pk, wish, jobs=[job.pk], told=told)
    point("server.foreign.announced")
    stored = context.directory.restore_ve(
        found, wish.desired, wish.spec, wish.owner, job=job.pk, generation=found.generation + 1, refusal=refusal
    )
    point("server.foreign.written")
    with context.leader.transaction():
        wanted.conclude(context, row, stored.generation, wish)
    point("server.foreign.concluded")
    return True


def _left_behind(context: Context, found: Found, row: Accepted) -> None:
    """An entry of a generation that has passed, out of a backup: what it says counts again, under a generation that nodes do not
    take for an old one."""
    record = found.record
    assert record is not None
    wish, generation = wanted.wish_of(record), row.generation + 1
    with context.leader.transaction():
        wanted.forget(row)
        ended = {"outcome": Outcome.OK.value, "reason": f"generation {found.generation} came back"}
        job = writers.claim(context, record, BACKUP, Verb.ALTER, **ended)
        text = f"its entry is of generation {found.generation} again, after {row.generation}: what it says counts"
        about = {"generation": generation, "job": job.pk, "wish": wish.to_json()}
        row.writing = {**about, "jobs": [job.pk], "events": [(EventType.FOREIGN.value, text, job.pk)]}
        row.save()
    stored = context.directory.restore_ve(found, wish.desired, wish.spec, wish.owner, job=job.pk, generation=generation)
    with context.leader.transaction():
        wanted.conclude(context, row, stored.generation, wish)
