"""Jobs that have not begun are held, wait, are ready, or never can be: looked at again when that may have changed."""

from __future__ import annotations

from vmcloud.domain.admission import Admission
from vmcloud.domain.vocabulary import JobState, Outcome
from vmcloud.fleet.models import UNBEGUN, Job, JobLink
from vmcloud.fleet.services import admission

from .context import Context

AT_ONCE = 500
"""Jobs looked at in one transaction."""
ALL = 5.0
"""Seconds between two looks at every job that waits for others: whatever was missed is found then."""


def run(context: Context) -> None:
    """Give the state that it has now to each job that somebody changed, whose time has come, or whose dependencies changed."""
    now = context.clock()
    unbegun = Job.objects.filter(state__in=UNBEGUN, cancel_requested_at=None)
    due = set(unbegun.filter(to_review=True).values_list("pk", flat=True))
    due |= set(unbegun.filter(state=JobState.WAITING, not_before__lte=now).values_list("pk", flat=True))
    if context.touched:
        touched, context.touched = context.touched, set()
        due |= set(JobLink.objects.filter(other__in=touched).values_list("job", flat=True))
    if now - context.reviewed_at >= ALL:
        context.reviewed_at = now
        due |= set(unbegun.filter(state=JobState.HELD, holds="").values_list("pk", flat=True))
    numbers = sorted(due)
    for start in range(0, len(numbers), AT_ONCE):
        _decide(context, list(unbegun.filter(pk__in=numbers[start : start + AT_ONCE]).order_by("id")), now)


def _decide(context: Context, rows: list[Job], now: float) -> None:
    verdicts = admission.verdicts(rows, now)
    with context.leader.transaction():
        for job in rows:
            verdict = verdicts[job.pk]
            if verdict.admission is Admission.NEVER:
                error = {"code": "dependency", "what": verdict.reason}
                context.exit(job, Outcome.CANCELLED, error=error, result=never_ran(job))
                continue
            reason = verdict.reason
            if verdict.admission is Admission.READY:
                # One that was ready before keeps the reason for which it waits in the queue.
                reason = job.reason if job.state == JobState.QUEUED else ""
                context.again = True
            job.change(state=verdict.state, reason=reason[:1000], to_review=False)


def never_ran(job: Job) -> dict[str, object]:
    """The result of a job that ends before it begins; one that was tried before may have left something."""
    return {"undone": bool(job.before.get("undone", True)), "never_ran": not job.tries}
