"""Arrays on the server: which parts may begin now, and what their beginning and their end mean for the array.

An array's row changes in the transaction that changes its parts, so it is never behind them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from django.db.models import Q, QuerySet

from vmcloud.domain.vocabulary import JobState, Outcome
from vmcloud.fleet.models import Job
from vmcloud.fleet.services import arrays

from .context import Context

FURTHER = 200
"""Parts looked at in one cycle where the first ones could not begin."""
WORST = (Outcome.FAILED, Outcome.TIMED_OUT, Outcome.CANCELLED, Outcome.OK)
"""The outcome of an array is the first of these that one of its parts has."""


class Slots:
    """The slot limits of open arrays in one cycle: how many more parts each lets begin, counted on as they do."""

    def __init__(self) -> None:
        self._free = arrays.slots_free()
        self._looked_at: dict[int, Job | None] = {}

    def without_limited(self, rows: QuerySet[Job]) -> QuerySet[Job]:
        """These jobs but the parts of arrays with a slot limit."""
        return rows.filter(Q(array=None) | ~Q(array__in=list(self._free))) if self._free else rows

    def next_parts(self, context: Context, rows: QuerySet[Job]) -> list[Job]:
        """Of each array with a slot limit as many of its parts, in order, as may begin; more where some of these could not."""
        found: list[Job] = []
        for array in [array for array, free in self._free.items() if free > 0]:
            last = context.part_cursors.get(array)
            queued, most = rows.filter(array=array), self._free[array]
            if last is not None:
                queued, most = queued.filter(later(*last)), FURTHER
            some = list(queued[:most])
            self._looked_at[array] = some[-1] if len(some) == most else None
            found += some
        return found

    def remember(self, context: Context) -> None:
        """At the cycle's end: where parts could not begin and their slots are free, the next cycle looks at those behind them."""
        for array, last in self._looked_at.items():
            if last is None:
                context.part_cursors.pop(array, None)
            else:
                context.part_cursors[array] = (last.priority, last.rank, last.pk)
        for array in [each for each in context.part_cursors if self._free.get(each, 0) <= 0]:
            del context.part_cursors[array]
        context.again = context.again or bool(context.part_cursors)

    def keeps_waiting(self, job: Job) -> bool:
        """Whether the array of a part lets no more begin."""
        return self._free.get(job.array or 0, 1) <= 0

    def note_begun(self, job: Job) -> None:
        """One more part of its array runs."""
        if job.array in self._free:
            self._free[job.array] -= 1


def later(priority: int, rank: float, number: int) -> Q:
    """Jobs whose turn comes after that of one with this priority, rank and number."""
    behind = Q(rank__gt=rank) | Q(rank=rank, id__gt=number)
    return Q(priority__lt=priority) | Q(behind, priority=priority)


def note(context: Context, jobs: Iterable[Job]) -> None:
    """Of these jobs some may be parts, which began or ended: what that means for their arrays; inside a transaction."""
    parts: dict[int, list[Job]] = {}
    for job in jobs:
        if job.array is not None:
            parts.setdefault(job.array, []).append(job)
    if not parts:
        return
    for array in Job.objects.filter(pk__in=list(parts)).exclude(state=JobState.COMPLETE):
        context.touched.add(array.pk)
        _follow(context, array, parts[array.pk])


def _follow(context: Context, array: Job, parts: Sequence[Job]) -> None:
    begun = [job.started_at for job in parts if job.started_at is not None]
    if array.started_at is None and begun:
        array.change(started_at=min(begun), state=JobState.BEGUN if array.state == JobState.QUEUED else array.state)
    over = all(job.state == JobState.COMPLETE for job in parts)
    if over and not Job.objects.filter(array=array.pk).exclude(state=JobState.COMPLETE).exists():
        _close(context, array)
    else:
        arrays.touch(array)


def _close(context: Context, array: Job) -> None:
    """All parts have ended: so has the array, as their sum."""
    parts = arrays.summary(arrays.counts([array.pk])[array.pk])
    outcome = next((each for each in WORST if parts["outcomes"].get(each)), Outcome.OK)
    reason, error = "", None
    if outcome is not Outcome.OK:
        first = arrays.not_ok(array)[0]
        ends = ", ".join(f"{count} {each}" for each, count in parts["outcomes"].items())
        what = f"{array.size - parts['outcomes'].get(Outcome.OK, 0)} of {array.size} parts did not end well: {ends}"
        todo = f"All: `vmcloud job show '{array.ref}'`; once more: `vmcloud job retry '{array.ref}'`."
        reason = f"{what}; {first.ref} {first.ve_name}: {first.reason or first.outcome}"[:1000]
        error = {"code": "parts", "what": what, "why": f"{first.ref}: {first.reason or first.outcome}", "todo": todo}
    ended = {
        "state": JobState.COMPLETE,
        "settled": True,
        "to_review": False,
        "ended_at": context.clock(),
        "outcome": outcome.value,
    }
    array.change(**ended, reason=reason, error=error, result={"parts": parts})
    context.note(array, f"complete: {outcome}" + (f": {reason}" if reason else ""))
