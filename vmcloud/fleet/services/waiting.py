"""What is said of when a job may run: at its submission, and changed until it begins. The leader draws the consequences."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from django.db import transaction
from django.db.models import F

from vmcloud.domain.admission import Admission, Verdict, cycle
from vmcloud.domain.arrays import JobRef, parse_slots
from vmcloud.domain.errors import Conflict, Forbidden, Invalid
from vmcloud.domain.hints import Hint
from vmcloud.domain.terms import Depend, Dependency, Hold, Terms
from vmcloud.domain.vocabulary import JobState
from vmcloud.fleet import database, ports
from vmcloud.fleet.models import MANY, UNBEGUN, Job, JobEvent, JobLink

from . import admission, arrays, jobs
from .accounts import Actor
from .jobs import Ref

PRIORITY_MOST = 1024
"""Above all that can be asked for."""
DECIDE_SECONDS = 1.0
"""How long the answer to a change waits for the leader to draw its consequences."""
DECIDE_TOGETHER = threading.BoundedSemaphore(8)
"""How many do, in one process: each holds a thread and looks all the time. Others are answered before the leader has looked."""
KEEP = object()
"""Of a slot limit: nothing was said of it."""
_ONLY = "{} is for jobs that have not begun"


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
            if each.count > other.size > 0:
                raise Conflict(f"job {other.ref} has {other.size} parts", where="job.depend", why=f"{each} needs {each.count}")
            about = {"job": job, "type": each.type.value, "other": other.pk}
            JobLink.objects.update_or_create(**about, defaults={"count": each.count})
            continue
        if other.state not in UNBEGUN:
            raise Conflict(f"job {other.ref} has begun", where="job.depend", why=f"{each.type} says that it is to wait")
        JobLink.objects.get_or_create(job=other, type=each.type.turned.value, other=job.pk, defaults={"counted": True})
        Job.objects.filter(pk=other.pk).update(to_review=True, version=F("version") + 1)
    if way := cycle(job.pk, _waits_for(job)):
        refs = {row.pk: row.ref for row in Job.objects.filter(pk__in=map(abs, way))}
        words = " → ".join(word for word, _ in groupby(refs[abs(number)] for number in way))
        raise Conflict("these dependencies go round in a circle", where="job.depend", why=words, code="cycle")


def _waits_for(job: Job) -> dict[int, set[int]]:
    """On what each job waits, as far as it can be reached from ``job``. A job that waits for an array waits for its end, which is
    the array's number with a minus; that waits for its parts, and these for what the array (the plain number) waits for."""
    found: dict[int, set[int]] = {}
    todo = {job.pk}
    while todo:
        waiting = JobLink.objects.filter(job__state__in=(JobState.CLAIMING, *UNBEGUN, JobState.BEGUN))
        rows = list(waiting.filter(job__in=todo).values_list("job", "other"))
        ends = [-number for number in todo if number < 0]
        arrays = set(Job.objects.filter(pk__in={other for _, other in rows}, size__gt=0).values_list("pk", flat=True))
        ways = {(number, -other if other in arrays else other) for number, other in rows}
        ways |= {(-array, array) for array in ends}
        ways |= set(Job.objects.filter(pk__in=todo).exclude(array=None).values_list("pk", "array"))
        ways |= {(-array, part) for part, array in waiting.filter(job__array__in=ends).values_list("job", "job__array")}
        found |= {number: set() for number in todo}
        for number, other in ways:
            found[number].add(other)
        todo = {other for _, other in ways} - set(found)
    return found


def verdict(job: Job) -> Verdict:
    """Whether a job may begin; :class:`Conflict` if it never can."""
    found = admission.verdicts([job], time.time())[job.pk]
    if found.admission is Admission.NEVER:
        raise Conflict("this job could never begin", where="job.depend", why=found.reason, code="dependency")
    return found


def depends_of(numbers: Iterable[int]) -> dict[int, list[Dependency]]:
    """What each of these jobs waits for."""
    rows = list(JobLink.objects.filter(job__in=list(numbers)).order_by("id").values_list("job", "type", "other", "count"))
    refs = {number: ref for number, (ref, _, _) in admission.known({other for _, _, other, _ in rows}).items()}
    found: dict[int, list[Dependency]] = {}
    for job, type, other, count in rows:
        ref = JobRef.parse(refs.get(other, str(other)))
        found.setdefault(job, []).append(Dependency(Depend(type), ref, count))
    return found


# ---------------------------------------------------------------------------------------------------------- until it begins


def hold(actor: Actor, ref: Ref, who: Hold = Hold.USER) -> Job:
    """Keep a job that has not begun from beginning. Holding it twice is holding it once."""
    _demand(actor, who)
    return change(actor, ref, "hold", lambda job: {"holds": _letters({*job.holds, who})})


def release(actor: Actor, ref: Ref, who: Hold = Hold.USER) -> Job:
    """Take back a hold of that sort."""
    _demand(actor, who)
    return change(actor, ref, "release", lambda job: {"holds": _letters(set(job.holds) - {who})})


def _demand(actor: Actor, who: Hold) -> None:
    if who is not Hold.USER:
        actor.demand_admin(f"set or release {'an operator' if who is Hold.OPERATOR else 'a system'}'s hold")


def _letters(holds: Iterable[str]) -> str:
    wanted = set(holds)
    return "".join(each for each in Hold if each in wanted)


def alter(actor: Actor, ref: Ref, data: Mapping[str, Any]) -> Job:
    """Change the terms of a job that has not begun. Only an administrator may raise a priority or a walltime. ``slots`` of an
    array: how many of its parts may run at once, None for any number."""
    said = dict(data)
    slots = said.pop("slots", KEEP)
    if said.get("depend") is not None and (several := jobs.meant(actor, ref)).ref.parts and several.job.size:
        todo = f"Give it of the array, {several.job.ref}, or of one part."
        raise Invalid("what several parts wait for is not altered at once", where="job.depend", todo=todo)

    def changes(job: Job) -> dict[str, Any]:
        if not said and slots is not KEEP:
            return {}
        before = Terms(job.queue, job.priority, job.not_before, False, (), job.awaits, job.walltime, job.retries)
        after = before.altered(said, time.time())
        if not actor.is_admin and after.priority > before.priority:
            raise Forbidden("only an administrator may raise a priority", where="job.priority")
        if not actor.is_admin and before.walltime is not None and (after.walltime is None or after.walltime > before.walltime):
            raise Forbidden("only an administrator may give a job more time", where="job.walltime")
        if "depend" in said:
            JobLink.objects.filter(job=job, counted=False).delete()
            link(actor, job, after.depends)
            verdict(job)
        found = {"awaits": after.awaits} if "depend" in said else {}
        return found | {name: getattr(after, name) for name in said if name != "depend"}

    def with_slots(job: Job) -> dict[str, Any]:
        if slots is KEEP:
            return changes(job)
        if not job.size:
            raise Invalid(f"job {job.ref} is no array", where="job.slots", why="a slot limit is of an array as a whole")
        return {**changes(job), "slots": arrays.allowed_slots(0 if slots is None else parse_slots(slots, "job.slots"))}

    return change(actor, ref, "alter", with_slots)


def run_now(actor: Actor, ref: Ref) -> Job:
    """Let a job begin before all others, whatever it waits for: by an administrator, not if it is held, never out of its lane.
    The parts of an array are kept by its slot limit all the same."""
    actor.demand_admin("let a job run out of turn")

    def changes(job: Job) -> dict[str, Any]:
        if job.holds:
            raise Conflict(f"job {job.ref} is held", where="job", todo=Hint("Release it: {}.", "job.release", {"job": job.ref}))
        if job.array is not None and JobLink.objects.filter(job=job.array).exists():
            todo = Hint("Let the whole array run: {}.", "job.run", {"job": f"{job.array}[]"})
            raise Conflict(f"array {job.array}[] waits for other jobs", where="job", todo=todo)
        JobLink.objects.filter(job=job).delete()
        return {"priority": PRIORITY_MOST, "not_before": None, "awaits": 0}

    return change(actor, ref, "run now", changes)


@database.again
def exchange(actor: Actor, first: Ref, second: Ref) -> tuple[Job, Job]:
    """Let two jobs that have not begun change places (Torque's qorder)."""
    with transaction.atomic():
        found = [jobs.own(actor, ref) for ref in (first, second)]
        if found[0].pk == found[1].pk:
            raise Invalid("two different jobs are needed", where="job")
        if several := next((job for job in found if job.size), None):
            todo = Hint("Give it another priority: {}.", "job.alter", {"priority": True})
            raise Invalid(f"job {several.ref} is an array", where="job", why="it has as many places as parts", todo=todo)
        rows = {job.pk: job for job in Job.objects.select_for_update().filter(pk__in=[job.pk for job in found]).order_by("pk")}
        pair = [_unbegun(rows.get(job.pk, job), "order") for job in found]
        places = [(job.priority, job.rank) for job in reversed(pair)]
        words = ", ".join(job.ref for job in pair)
        for job, (priority, rank) in zip(pair, places, strict=True):
            job.change(priority=priority, rank=rank, behind=False)
            JobEvent.objects.create(job=job, at=time.time(), text=f"exchanged places ({words}): {actor.username}")
    ports.sender().wake("jobs")
    return pair[0], pair[1]


@database.again
def change(actor: Actor, ref: Ref, word: str, changes: Callable[[Job], dict[str, Any]]) -> Job:
    """Change a job that has not begun, or those parts of an array that have not, and give the leader a moment to draw the
    consequences. ``changes``: what becomes of one; what becomes of a whole array holds for its parts."""
    with transaction.atomic():
        meant = jobs.meant(actor, ref)
        if meant.parts is None:
            job = meant.job
            changed = [_unbegun(job if job.archived else Job.objects.select_for_update().get(pk=job.pk), word)]
        else:
            changed = [part for part in meant.parts if part.state in UNBEGUN]
            if not changed:
                raise Conflict(f"all parts of job {meant.ref} have begun", where="job", why=_ONLY.format(word), code="begun")
        whole = meant.parts is not None and meant.ref.parts is None
        if whole:
            found = changes(meant.job)
            if word in ("hold", "release"):
                each = {part.pk: changes(part) for part in changed}
            else:
                copied = {name: value for name, value in found.items() if name in arrays.COPIED}
                each = {part.pk: copied for part in changed}
            meant.job.change(**found)
            _review([meant.job], f"{word}: {actor.username}", {})
        else:
            each = {job.pk: changes(job) for job in changed}
        _review_all(changed, each, f"{word}: {actor.username}", always=word in ("alter", "run now"))
        if meant.parts is not None and word in ("hold", "release"):
            _hold_in_common(meant.job)
    ports.sender().wake("jobs")
    _wait_for_leader([meant.job.pk, *(job.pk for job in changed)])
    meant.job.refresh_from_db()
    return meant.job


def _review_all(changed: list[Job], each: Mapping[int, dict[str, Any]], text: str, *, always: bool) -> None:
    """Write what becomes of jobs, those alike together, and have the leader look at them."""
    alike: dict[tuple[tuple[str, Any], ...], list[Job]] = {}
    for job in changed:
        found = each[job.pk]
        if always or any(getattr(job, name) != value for name, value in found.items()):
            alike.setdefault(tuple(sorted(found.items())), []).append(job)
    for found_items, some in alike.items():
        _review(some, text, dict(found_items))


def _review(some: list[Job], text: str, found: dict[str, Any]) -> None:
    Job.change_all(some, **found, to_review=True)
    jobs.note_all(some, text)


def _hold_in_common(array: Job) -> None:
    """An array is held by what holds all of its parts that have not begun."""
    rows = Job.objects.filter(array=array.pk, state__in=UNBEGUN).order_by().values_list("holds", flat=True).distinct()
    held = [set(letters) for letters in rows]
    array.change(holds=_letters(set.intersection(*held)) if held else "", to_review=True)


def _wait_for_leader(numbers: Sequence[int]) -> None:
    """Until it has looked at all of these, or :data:`DECIDE_SECONDS` are over; not at all where too many wait already."""
    if not DECIDE_TOGETHER.acquire(blocking=False):
        return
    try:
        _wait(numbers)
    finally:
        DECIDE_TOGETHER.release()


def _wait(numbers: Sequence[int]) -> None:
    waiting = Job.objects.filter(to_review=True, state__in=(*UNBEGUN, JobState.BEGUN), pk__in=numbers[:MANY])
    deadline = time.monotonic() + DECIDE_SECONDS
    while waiting.exists() and time.monotonic() < deadline:
        time.sleep(jobs.LOOK_EVERY)


def _unbegun(job: Job, word: str) -> Job:
    if job.state not in UNBEGUN:
        what = "is complete" if job.state == JobState.COMPLETE else "has begun"
        raise Conflict(f"job {job.ref} {what}", where="job", why=_ONLY.format(word), code="begun")
    return job


def parse_hold(value: object) -> Hold:
    """A sort of hold from untrusted JSON; none given: the user's."""
    try:
        return Hold(str(value)) if value is not None else Hold.USER
    except ValueError:
        todo = "Choose u (user), o (operator) or s (system)."
        raise Invalid(f"{str(value)[:40]!r} is no sort of hold", where="who", todo=todo) from None
