"""What is said of when a job may run: at its submission, and changed until it begins. The leader draws the consequences."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django.db import transaction

from vmcloud.domain.admission import Admission, Verdict, cycle
from vmcloud.domain.errors import Conflict, Forbidden, Invalid, NotFound
from vmcloud.domain.terms import Depend, Dependency, Hold, Terms
from vmcloud.domain.vocabulary import JobState
from vmcloud.fleet import database, ports
from vmcloud.fleet.models import UNBEGUN, Job, JobEvent, JobLink

from . import admission, jobs
from .accounts import Actor

PRIORITY_MOST = 1024
"""Above all that can be asked for."""
DECIDE_SECONDS = 1.0
"""How long the answer to a change waits for the leader to draw its consequences."""


def fields(terms: Terms, now: float) -> dict[str, Any]:
    """The columns of a new job that has these terms."""
    return {
        "priority": terms.priority,
        "rank": now,
        "not_before": terms.not_before,
        "holds": Hold.USER.value if terms.hold else "",
        "awaits": terms.awaits,
        "walltime": terms.walltime,
        "retries": terms.retries,
    }


def link(actor: Actor, job: Job, depends: Iterable[Dependency]) -> None:
    """Write a job's dependencies, inside the caller's transaction. Raises where they can not be met, or go round in a circle."""
    for each in depends:
        other = jobs.get(actor, each.job)
        if not each.type.is_before:
            JobLink.objects.get_or_create(job=job, type=each.type.value, other=other.pk)
            continue
        if other.state not in UNBEGUN:
            raise Conflict(f"job {other.pk} has begun", where="job.depend", why=f"{each.type} says that it is to wait")
        JobLink.objects.get_or_create(job=other, type=each.type.turned.value, other=job.pk, defaults={"counted": True})
        Job.objects.filter(pk=other.pk).update(to_review=True)
    if way := cycle(job.pk, _waits_for(job.pk)):
        words = " → ".join(map(str, way))
        raise Conflict("these dependencies go round in a circle", where="job.depend", why=words, code="cycle")


def _waits_for(start: int) -> dict[int, set[int]]:
    """On which jobs each job waits, as far as it can be reached from ``start``."""
    found: dict[int, set[int]] = {}
    todo = {start}
    while todo:
        rows = JobLink.objects.filter(job__in=todo, job__state__in=(JobState.CLAIMING, *UNBEGUN)).values_list("job", "other")
        found |= {job: set() for job in todo}
        for job, other in rows:
            found[job].add(other)
        todo = {other for _, other in rows} - set(found)
    return found


def verdict(job: Job) -> Verdict:
    """Whether a job may begin; :class:`Conflict` if it never can."""
    found = admission.verdicts([job], time.time())[job.pk]
    if found.admission is Admission.NEVER:
        raise Conflict("this job could never begin", where="job.depend", why=found.reason, code="dependency")
    return found


def depends_of(numbers: Iterable[int]) -> dict[int, list[Dependency]]:
    """What each of these jobs waits for."""
    found: dict[int, list[Dependency]] = {}
    rows = JobLink.objects.filter(job__in=list(numbers)).order_by("id").values_list("job", "type", "other")
    for job, type, other in rows:
        found.setdefault(job, []).append(Dependency(Depend(type), other))
    return found


# ---------------------------------------------------------------------------------------------------------- until it begins


def hold(actor: Actor, number: int, who: Hold = Hold.USER) -> Job:
    """Keep a job that has not begun from beginning. Holding it twice is holding it once."""
    return change(actor, number, "hold", lambda job: _with_holds(actor, job, {*job.holds, who}, who))


def release(actor: Actor, number: int, who: Hold = Hold.USER) -> Job:
    """Take back a hold of that sort."""
    return change(actor, number, "release", lambda job: _with_holds(actor, job, set(job.holds) - {who}, who))


def _with_holds(actor: Actor, job: Job, wanted: set[str], who: Hold) -> dict[str, Any]:
    if who is not Hold.USER:
        actor.demand_admin(f"set or release {'an operator' if who is Hold.OPERATOR else 'a system'}'s hold")
    return {"holds": "".join(each for each in Hold if each in wanted)}


def alter(actor: Actor, number: int, data: Mapping[str, Any]) -> Job:
    """Change the terms of a job that has not begun. Only an administrator may raise a priority or a walltime."""

    def changes(job: Job) -> dict[str, Any]:
        depends = tuple(depends_of([job.pk]).get(job.pk, ()))
        before = Terms(job.queue, job.priority, job.not_before, False, depends, job.awaits, job.walltime, job.retries)
        after = before.altered(data, time.time())
        if not actor.is_admin and after.priority > before.priority:
            raise Forbidden("only an administrator may raise a priority", where="job.priority")
        if not actor.is_admin and before.walltime is not None and (after.walltime is None or after.walltime > before.walltime):
            raise Forbidden("only an administrator may give a job more time", where="job.walltime")
        if "depend" in data:
            JobLink.objects.filter(job=job, counted=False).delete()
            link(actor, job, after.depends)
            verdict(job)
        found = fields(after, job.rank)
        del found["holds"]
        return found

    return change(actor, number, "alter", changes)


def run_now(actor: Actor, number: int) -> Job:
    """Let a job begin before all others, whatever it waits for: by an administrator, not if it is held, never out of its lane."""
    actor.demand_admin("let a job run out of turn")

    def changes(job: Job) -> dict[str, Any]:
        if job.holds:
            raise Conflict(f"job {job.pk} is held", where="job", todo=f"Release it: `vmcloud job release {job.pk}`.")
        JobLink.objects.filter(job=job).delete()
        return {"priority": PRIORITY_MOST, "not_before": None, "awaits": 0}

    return change(actor, number, "run now", changes)


@database.again
def exchange(actor: Actor, first: int, second: int) -> tuple[Job, Job]:
    """Let two jobs that have not begun change places (Torque's qorder)."""
    if first == second:
        raise Invalid("two different jobs are needed", where="job")
    with transaction.atomic():
        rows = {job.pk: job for job in Job.objects.select_for_update().filter(pk__in=(first, second)).order_by("pk")}
        pair = [_unbegun(actor, rows.get(number), number, "order") for number in (first, second)]
        places = [(job.priority, job.rank) for job in reversed(pair)]
        for job, (priority, rank) in zip(pair, places, strict=True):
            job.change(priority=priority, rank=rank)
            JobEvent.objects.create(job=job, at=time.time(), text=f"exchanged places ({first}, {second}): {actor.username}")
    ports.sender().wake("jobs")
    return pair[0], pair[1]


@database.again
def change(actor: Actor, number: int, word: str, changes: Callable[[Job], dict[str, Any]]) -> Job:
    """Change a job that has not begun, and give the leader a moment to draw the consequences."""
    with transaction.atomic():
        row = Job.objects.select_for_update().filter(pk=number).first()
        job = _unbegun(actor, row, number, word)
        found = changes(job)
        if any(getattr(job, name) != value for name, value in found.items()) or word in ("alter", "run now"):
            job.change(**found, to_review=True)
            JobEvent.objects.create(job=job, at=time.time(), text=f"{word}: {actor.username}")
    ports.sender().wake("jobs")
    deadline = time.monotonic() + DECIDE_SECONDS
    while time.monotonic() < deadline:
        job.refresh_from_db()
        if not job.to_review or job.state not in UNBEGUN:
            break
        time.sleep(jobs.LOOK_EVERY)
    return job


def _unbegun(actor: Actor, row: Job | None, number: int, word: str) -> Job:
    if row is None or not actor.may(row.owner) or row.state == JobState.CLAIMING:
        raise NotFound(f"no job has the number {number}", where="job", todo="`vmcloud job list` shows all.")
    if row.state not in UNBEGUN:
        what = "is complete" if row.state == JobState.COMPLETE else "has begun"
        raise Conflict(f"job {number} {what}", where="job", why=f"{word} is for jobs that have not begun", code="begun")
    return row


def parse_hold(value: object) -> Hold:
    """A sort of hold from untrusted JSON; none given: the user's."""
    try:
        return Hold(str(value)) if value is not None else Hold.USER
    except ValueError:
        todo = "Choose u (user), o (operator) or s (system)."
        raise Invalid(f"{str(value)[:40]!r} is no sort of hold", where="who", todo=todo) from None
