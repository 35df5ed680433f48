"""Arrays in the tables: their parts written in one go, the VEs that they are about, and how their parts are counted."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from django.db.models import Case, Count, When

from vmcloud.domain.admission import Tally
from vmcloud.domain.arrays import ArrayRequest, Indices, check_pattern, named
from vmcloud.domain.errors import Conflict, Invalid, NotFound
from vmcloud.domain.hints import Hint
from vmcloud.domain.vocabulary import JobState, Outcome
from vmcloud.fleet import gather, ports
from vmcloud.fleet.models import MANY, UNBEGUN, VE, Job

from . import archive, audit, jobs, lanes
from .accounts import Actor
from .audit import Door

FAILED_SHOWN = 100
"""Parts that did not end well which an array's page names."""
COPIED = ("holds", "not_before", "priority", "queue", "rank", "retries", "walltime")
"""What is said of an array and holds for each of its parts by itself. What it waits for, all of them wait for together."""


def names(request: ArrayRequest, pattern: object, *, where: str) -> list[str]:
    """The VEs that an array is about. Refused before any list is made: more parts than this cloud allows."""
    most = ports.cloud().max_array_size
    if (size := len(request.indices)) > most:
        todo = "Ask for several arrays, or have max_array_size in config.toml raised."
        raise Invalid(f"an array of {size} parts", where="job.array", why=f"{most} are allowed", todo=todo, code="array-size")
    known = check_pattern(pattern, request.indices, where=where)
    return [named(known, index) for index in request.indices]


def allowed_slots(asked: int) -> int:
    """The slot limit for an array that asks for this one (0: none); a cloud may have one that no array is above (Torque's
    ``max_slot_limit``)."""
    most = ports.cloud().max_slot_limit
    if most and asked > most:
        raise Invalid(f"a slot limit of {asked} is too large", where="job.array", why=f"{most} is the limit of this cloud")
    return asked or most


def ves(actor: Actor, wanted: Sequence[str], project: str) -> list[VE]:
    """The VEs with these names, in their order; :class:`NotFound` names those that there are not."""
    found: dict[str, VE] = {}
    for start in range(0, len(wanted), MANY):
        rows = VE.objects.filter(project=project, name__in=wanted[start : start + MANY])
        found |= {row.name: row for row in rows if actor.may(row.owner)}
        if others := sum(not actor.may(row.owner) for row in rows):
            audit.denied(Door.RIGHTS, f"{others} VEs of a batch", "they are others'", who=actor.username)
    if missing := [name for name in wanted if name not in found]:
        todo = Hint("Nothing was asked for. {} shows all.", "ve.list")
        raise NotFound(f"{_some(missing)} of {len(wanted)} VEs: there is none in project {project!r}", where="ve", todo=todo)
    return [found[name] for name in wanted]


def check_free(wanted: Sequence[str], project: str) -> None:
    """Refuse names that are taken."""
    found: list[str] = []
    for start in range(0, len(wanted), MANY):
        rows = VE.objects.filter(project=project, name__in=wanted[start : start + MANY])
        found += rows.order_by("name").values_list("name", flat=True)
    if found:
        raise taken(found, len(wanted), project)


def taken(found: Sequence[str], of: int, project: str) -> Conflict:
    """The refusal of an array of creates whose names are not all free."""
    todo = "Nothing was made. Choose another name or other indices."
    what = f"{_some(found)} of {of} names: taken in project {project!r}"
    return Conflict(what, where="name", todo=todo, code="name-taken")


def _some(found: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in found[:5])
    return shown + (f" and {len(found) - 5} more" if len(found) > 5 else "")


def write_parts(array: Job, each: Sequence[Mapping[str, Any]]) -> list[Job]:
    """The rows of an array's parts, inside the caller's transaction. ``each``: by index, what is its own."""
    about = ("project", "owner", "verb", "origin", "state", "reason", "to_review", "created_at", "generation", *COPIED)
    shared = {name: getattr(array, name) for name in about}
    rows = zip(Indices.parse(array.indices, "array"), each, strict=True)
    made = Job.objects.bulk_create(
        [Job(array=array.pk, index=index, **{**shared, **own}) for index, own in rows], batch_size=MANY
    )
    if array.state != JobState.CLAIMING:
        lanes.enter(made)
        note_submitted(made)
    return made


def note_submitted(made: Sequence[Job]) -> None:
    """Say so in their histories, and on the feed."""
    jobs.note_all(made, f"submitted by {made[0].owner} through {made[0].origin}")
    Job.tell_all(made)


# ---------------------------------------------------------------------------------------------------------------- counting


def counts(numbers: Iterable[int]) -> dict[int, list[tuple[str, str, bool, int]]]:
    """Of each of these arrays: state, outcome, whether begun, and how many parts are so. One read."""
    wanted = list(numbers)
    found: dict[int, list[tuple[str, str, bool, int]]] = {number: [] for number in wanted}
    for start in range(0, len(wanted), MANY):
        rows = Job.objects.filter(array__in=wanted[start : start + MANY]).order_by()
        rows = rows.annotate(begun=Case(When(started_at=None, then=0), default=1))
        grouped = rows.values_list("array", "state", "outcome", "begun").annotate(count=Count("id"))
        for array, state, outcome, begun, count in grouped:
            found[array].append((state, outcome, bool(begun), count))
    return found


def tallies(numbers: Iterable[int]) -> dict[int, Tally]:
    """How the parts of these arrays are, for what waits for so many of them."""
    wanted = list(numbers)
    archived = archive.counts(wanted)
    return {number: _tally([*found, *archived.get(number, ())]) for number, found in counts(wanted).items()}


def _tally(found: Iterable[tuple[str, str, bool, int]]) -> Tally:
    def total(test: Callable[[str, str, bool], bool]) -> int:
        return sum(count for state, outcome, begun, count in rows if test(state, outcome, begun))

    rows = list(found)
    return Tally(
        size=total(lambda *_: True),
        began=total(lambda _, __, begun: begun),
        ended=total(lambda state, *_: state == JobState.COMPLETE),
        ok=total(lambda state, outcome, _: state == JobState.COMPLETE and outcome == Outcome.OK),
        never_began=total(lambda state, _, begun: state == JobState.COMPLETE and not begun),
    )


def summaries(arrays: Iterable[Job]) -> dict[int, dict[str, dict[str, int]]]:
    """Of each array: ``states`` (PBS's letters; X: ended) and ``outcomes``, each with how many parts. What is over keeps them."""
    asked = list(arrays)
    known = {job.pk: job.result["parts"] for job in asked if job.result and "parts" in job.result}
    for number, rows in counts(job.pk for job in asked if job.pk not in known).items():
        known[number] = summary(rows)
    return known


def summary(rows: Iterable[tuple[str, str, bool, int]]) -> dict[str, dict[str, int]]:
    """The same of one array's counts."""
    states: dict[str, int] = {}
    outcomes: dict[str, int] = {}
    for state, outcome, _, count in rows:
        letter = "X" if state == JobState.COMPLETE else state
        states[letter] = states.get(letter, 0) + count
        if state == JobState.COMPLETE:
            outcomes[outcome] = outcomes.get(outcome, 0) + count
    order = "QHWREX"
    return {
        "states": dict(sorted(states.items(), key=lambda item: order.find(item[0]))),
        "outcomes": dict(sorted(outcomes.items())),
    }


def slots_of(numbers: Collection[int]) -> dict[int, str]:
    """Of these arrays, those with a slot limit: in words, what their parts wait for that nothing else keeps."""
    limited = Job.objects.filter(pk__in=numbers, slots__gt=0) if numbers else ()
    return {job.pk: f"waits for a slot: {job.slots} of {job.ref} may run at once" for job in limited}


def not_ok(array: Job) -> list[Job]:
    """The first parts that ended and not well."""
    ended = Job.objects.filter(array=array.pk, state=JobState.COMPLETE).exclude(outcome=Outcome.OK)
    found = list(ended.order_by("index")[:FAILED_SHOWN])
    over = archive.parts(array.pk, limit=FAILED_SHOWN, but=Outcome.OK) if array.state == JobState.COMPLETE else []
    return sorted([*found, *over], key=lambda part: part.index or 0)[:FAILED_SHOWN] if over else found


def slots_free() -> dict[int, int]:
    """Of each open array with a slot limit: how many more of its parts may begin now."""
    limited = dict(Job.objects.filter(slots__gt=0, size__gt=0).exclude(state=JobState.COMPLETE).values_list("pk", "slots"))
    if not limited:
        return {}
    resting = (*UNBEGUN, JobState.CLAIMING, JobState.COMPLETE)
    under_way = Job.objects.filter(array__in=list(limited)).exclude(state__in=resting).order_by()
    running = dict(under_way.values_list("array").annotate(count=Count("id")))
    return {number: most - running.get(number, 0) for number, most in limited.items()}


def touch(array: Job) -> None:
    """Some of its parts changed: who waits for the array's next version is told."""
    gather.run("UPDATE fleet_job SET version = version + 1 WHERE id = %s", [array.pk])
    array.tell()


def forget(array: Job) -> None:
    """An array that is refused leaves nothing; names that it claimed are freed by the leader."""
    Job.objects.filter(array=array.pk).delete()
    Job.objects.filter(pk=array.pk).delete()


def still_claiming(array: Job) -> None:
    """Say that the request which claims its names still lives."""
    Job.objects.filter(pk=array.pk, state=JobState.CLAIMING).update(created_at=time.time())
