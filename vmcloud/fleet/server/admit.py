"""Jobs that have not begun are held, wait, are ready, or never can be: looked at again when that may have changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from django.db.models import Q, QuerySet

from vmcloud.domain.admission import Admission, Verdict
from vmcloud.domain.vocabulary import JobState, Outcome
from vmcloud.fleet import gather
from vmcloud.fleet.models import UNBEGUN, Job, JobLink
from vmcloud.fleet.services import admission, lanes

from .context import Context, at_hand

AT_ONCE = 500
"""Jobs looked at in one transaction."""
ALL = 5.0
"""Seconds between two looks at every job that waits for others: whatever was missed is found then."""


def run(context: Context) -> None:
    """Give the state that it has now to each job that somebody changed, whose time has come, or whose dependencies changed."""
    now = context.clock()
    unbegun = Job.objects.filter(state__in=(*UNBEGUN, JobState.BEGUN), cancel_requested_at=None)
    due = set(unbegun.filter(to_review=True).values_list("pk", flat=True))
    due |= set(unbegun.filter(state=JobState.WAITING, not_before__lte=now).values_list("pk", flat=True))
    if touched := set(context.touched):
        due |= set(JobLink.objects.filter(other__in=touched).values_list("job", flat=True))
    if all_of_them := now - context.reviewed_at >= ALL:
        waiting = unbegun.filter(state=JobState.HELD, holds="")
        # A part waits for its array, unless it has links of its own.
        due |= set(waiting.filter(Q(array=None) | Q(links__isnull=False)).values_list("pk", flat=True))
    due |= _parts_of(unbegun, due)
    numbers = sorted(due)
    for start in range(0, len(numbers), AT_ONCE):
        _decide(context, unbegun.filter(pk__in=numbers[start : start + AT_ONCE]).order_by("id"), now)
    context.touched -= touched
    context.reviewed_at = now if all_of_them else context.reviewed_at


def _parts_of(unbegun: QuerySet[Job], due: set[int]) -> set[int]:
    """The parts that have not begun of arrays which are looked at: what these wait for, they do."""
    if not due:
        return set()
    arrays = due.intersection(unbegun.filter(size__gt=0).values_list("pk", flat=True))
    return set(unbegun.filter(array__in=arrays).values_list("pk", flat=True)) if arrays else set()


def _decide(context: Context, unbegun: QuerySet[Job], now: float) -> None:
    with context.leader.transaction():
        rows = list(unbegun)
        verdicts = admission.verdicts(rows, now)
        doomed = {job.pk: job for job in rows if verdicts[job.pk].admission is Admission.NEVER and not job.size}
        with gather.gathering():
            left = [job.pk for job in rows if job.pk not in doomed and _admit(context, job, verdicts[job.pk])]
        lanes.move_on(left)
        drop(context, doomed.values(), {pk: {"code": "dependency", "what": verdicts[pk].reason} for pk in doomed})


@at_hand
def _admit(context: Context, job: Job, verdict: Verdict) -> bool:
    """Give a job the state of its verdict; whether it has left its lane."""
    reason, state = verdict.reason, str(verdict.state)
    if verdict.admission is Admission.READY:
        # One that was ready before keeps the reason for which it waits in the queue.
        reason = job.reason if job.state == JobState.QUEUED else ""
        context.again = True
    if job.size and job.started_at is not None and verdict.admission in (Admission.READY, Admission.WAITING):
        state = JobState.BEGUN
    if not job.to_review and (job.state, job.reason) == (state, reason[:1000]):
        return False
    leaves = state == JobState.HELD or (job.state == JobState.QUEUED and state != JobState.QUEUED)
    job.change(state=state, reason=reason[:1000], to_review=False, behind=False)
    return leaves


def drop(context: Context, rows: Iterable[Job], errors: Mapping[int, dict[str, str]] | None = None) -> None:
    """End jobs that have not begun, inside a transaction. ``errors``: why, by number."""
    with gather.gathering():
        for job in rows:
            context.exit(job, Outcome.CANCELLED, error=(errors or {}).get(job.pk), result=never_ran(job))


def never_ran(job: Job) -> dict[str, object]:
    """The result of a job that ends before it begins; one that was tried before may have left something."""
    return {"undone": bool(job.before.get("undone", True)), "never_ran": not job.before.get("replans")}
