"""Lanes: jobs on the same VE run one after the other, in the order of their ranks.

A queued job that is not the first of its lane is marked ``behind``, and the scheduler does not look at it again until its lane
has moved on (:func:`free`): however many wait, a turn looks at those that may begin.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from uuid import UUID

from django.db.models import Case, Q, QuerySet, When

from vmcloud.domain.clocks import elapsed
from vmcloud.domain.vocabulary import SESSIONS, JobState, Verb
from vmcloud.fleet.models import Job

from .context import Context

LOOK_ANEW = 30.0
"""Seconds between two looks at all that are behind others: whatever was missed is found then."""


def lane_of(job: Job) -> str:
    """The resource for which jobs queue up behind each other; a session waits for none and none waits for it."""
    if job.verb in SESSIONS:
        return f"session:{job.pk}"
    if job.ve is not None:
        return f"ve:{job.ve}"
    if job.verb == Verb.RECONCILE:
        return "reconcile"
    return f"node:{job.node}" if job.node else f"image:{job.args.get('image')}"


def before_each(batch: Sequence[Job]) -> dict[int, int]:
    """The job directly before each one of the batch that is not the first of its lane: of those under way (also between two
    tries), or queued earlier."""
    holding = Q(state__in=(JobState.QUEUED, JobState.RUNNING, JobState.EXITING)) | Q(state=JobState.WAITING, tries__gt=0)
    under_way = Job.objects.filter(holding, size=0).exclude(verb__in=SESSIONS)
    waiting = [job for job in batch if job.verb not in SESSIONS]
    ves = {job.ve for job in waiting if job.ve is not None}
    last, before = dict[str, int](), dict[int, int]()

    def queue_up(lane: str, number: int) -> None:
        if lane in last:
            before[number] = last[lane]
        last[lane] = number

    for ve, number in _in_turn(under_way.filter(ve__in=ves)).values_list("ve", "pk"):
        queue_up(f"ve:{ve}", number)
    if any(job.ve is None for job in waiting):
        for job in _in_turn(under_way.filter(ve=None)):
            queue_up(lane_of(job), job.pk)
    return before


def later(priority: int, rank: float, number: int) -> Q:
    """Jobs whose turn comes after that of one with this priority, rank and number."""
    behind = Q(rank__gt=rank) | Q(rank=rank, id__gt=number)
    return Q(priority__lt=priority) | Q(behind, priority=priority)


def _in_turn(jobs: QuerySet[Job]) -> QuerySet[Job]:
    begun = Case(When(state=JobState.QUEUED, then=1), default=0)
    return jobs.annotate(begun=begun).order_by("begun", "rank", "id")


def free(ves: Collection[UUID | None]) -> None:
    """Jobs on these VEs (None: those on none) have left their lanes: the next ones are looked at; inside a transaction."""
    behind = Job.objects.filter(state=JobState.QUEUED, behind=True)
    if named := [ve for ve in ves if ve is not None]:
        first: dict[UUID, int] = {}
        for ve, number in behind.filter(ve__in=named).order_by("rank", "id").values_list("ve", "pk"):
            first.setdefault(ve, number)
        if first:
            Job.objects.filter(pk__in=first.values()).update(behind=False)
    if len(named) < len(ves):
        behind.filter(ve=None).update(behind=False)


def free_all(context: Context) -> None:
    """Look at everything again, now and then, and when a server begins to lead."""
    behind = Job.objects.filter(state=JobState.QUEUED, behind=True)
    if elapsed(context.freed_at, context.clock()) >= LOOK_ANEW:
        context.freed_at = context.clock()
        if behind.exists():
            with context.leader.transaction():
                behind.update(behind=False)
