"""What a job waits for before it may begin, read from the tables; decided by :mod:`vmcloud.domain.admission`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from vmcloud.domain.admission import READY, Applicant, Link, Verdict, admit, through
from vmcloud.domain.terms import Depend, Hold
from vmcloud.domain.vocabulary import JobState, Outcome
from vmcloud.fleet.models import MANY, UNBEGUN, Job, JobLink

from . import archive, arrays


def verdicts(jobs: Iterable[Job], now: float) -> dict[int, Verdict]:
    """By number, whether each of these jobs may begin. A few reads, however many they are."""
    jobs = list(jobs)
    above = {job.array for job in jobs if job.array is not None}
    links = links_of([*above.union(job.pk for job in jobs)])
    awaits = dict(Job.objects.filter(pk__in=above).values_list("pk", "awaits")) if above else {}
    gates = {number: admit(_waiting(links.get(number, ()), count), now) for number, count in awaits.items()}
    return {job.pk: through(gates.get(job.array or 0, READY), admit(_applicant(job, links.get(job.pk, ())), now)) for job in jobs}


def _applicant(job: Job, links: Iterable[Link]) -> Applicant:
    return replace(_waiting(links, job.awaits), holds=frozenset(map(Hold, job.holds)), not_before=job.not_before)


def _waiting(links: Iterable[Link], awaits: int) -> Applicant:
    return Applicant(links=tuple(links), awaits=awaits)


def links_of(jobs: list[int]) -> dict[int, list[Link]]:
    """What each of these jobs waits for, as it is now, in the order in which it was said."""
    rows: list[tuple[int, str, int, bool, int]] = []
    for start in range(0, len(jobs), MANY):
        some = JobLink.objects.filter(job__in=jobs[start : start + MANY]).order_by("id")
        rows += some.values_list("job", "type", "other", "counted", "count")
    others = known({other for _, _, other, _, _ in rows})
    counted_parts = {other for _, type, other, _, _ in rows if Depend(type).counts_parts and other in others}
    tallies = arrays.tallies(counted_parts)
    found: dict[int, list[Link]] = {}
    for job, type, other, counted, count in rows:
        ref, began, outcome = others.get(other, (str(other), False, None))
        tally = tallies.get(other) if Depend(type).counts_parts else None
        link = Link(Depend(type), ref, began, outcome, counted, known=other in others, tally=tally, count=count)
        found.setdefault(job, []).append(link)
    return found


def known(numbers: Iterable[int]) -> dict[int, tuple[str, bool, Outcome | None]]:
    """Of the jobs with these numbers, as far as there are any: what it is called, whether it began, and how it ended (None: it
    has not)."""
    wanted = sorted(numbers)
    found: dict[int, tuple[str, bool, Outcome | None]] = {}
    for start in range(0, len(wanted), MANY):
        rows = Job.objects.filter(pk__in=wanted[start : start + MANY]).exclude(state=JobState.CLAIMING)
        for job in rows.only("state", "outcome", "started_at", "array", "index", "size"):
            ended = Outcome(job.outcome) if job.state == JobState.COMPLETE and job.outcome else None
            began = job.started_at is not None and (job.size > 0 or job.state not in UNBEGUN)
            found[job.pk] = job.ref, began, ended
    if missing := [number for number in wanted if number not in found]:
        found |= archive.ends(missing)
    return found
