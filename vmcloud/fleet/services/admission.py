"""What a job waits for before it may begin, read from the tables; decided by :mod:`vmcloud.domain.admission`."""

from __future__ import annotations

from collections.abc import Iterable

from vmcloud.domain.admission import Applicant, Link, Verdict, admit
from vmcloud.domain.terms import Depend, Hold
from vmcloud.domain.vocabulary import JobState, Outcome
from vmcloud.fleet.models import UNBEGUN, Job, JobLink


def verdicts(jobs: Iterable[Job], now: float) -> dict[int, Verdict]:
    """By number, whether each of these jobs may begin. Three reads, however many they are."""
    jobs = list(jobs)
    links = _links([job.pk for job in jobs])
    return {
        job.pk: admit(
            Applicant(
                holds=frozenset(map(Hold, job.holds)),
                not_before=job.not_before,
                links=tuple(links.get(job.pk, ())),
                awaits=job.awaits,
            ),
            now,
        )
        for job in jobs
    }


def _links(jobs: list[int]) -> dict[int, list[Link]]:
    rows: list[tuple[int, str, int, bool]] = []
    for start in range(0, len(jobs), 500):
        some = JobLink.objects.filter(job__in=jobs[start : start + 500]).order_by("id")
        rows += some.values_list("job", "type", "other", "counted")
    others = known({other for _, _, other, _ in rows})
    found: dict[int, list[Link]] = {}
    for job, type, other, counted in rows:
        began, outcome = others.get(other, (False, None))
        link = Link(Depend(type), other, began=began, outcome=outcome, counted=counted, known=other in others)
        found.setdefault(job, []).append(link)
    return found


def known(numbers: Iterable[int]) -> dict[int, tuple[bool, Outcome | None]]:
    """Of the jobs with these numbers, as far as there are any: whether each began, and how it ended (None: it has not)."""
    wanted = sorted(numbers)
    found: dict[int, tuple[bool, Outcome | None]] = {}
    for start in range(0, len(wanted), 500):
        rows = Job.objects.filter(pk__in=wanted[start : start + 500]).exclude(state=JobState.CLAIMING)
        for number, state, outcome, started in rows.values_list("pk", "state", "outcome", "started_at"):
            ended = Outcome(outcome) if state == JobState.COMPLETE and outcome else None
            found[number] = started is not None and state not in UNBEGUN, ended
    return found
