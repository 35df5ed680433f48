"""Lanes: jobs that need the same resource have it one after the other, those that share it together.

Each open job has a row for each of its lanes (:class:`~vmcloud.fleet.models.JobLane`), and begins when it is the first in all of
them. A queued job that is not is marked ``behind``, and the scheduler does not look at it again until one of its lanes has moved
on (:func:`move_on`): however many wait, a turn looks at those that may begin.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from django.db import connection

from vmcloud.domain import verbs
from vmcloud.domain.verbs.base import Lane
from vmcloud.domain.vocabulary import JobState
from vmcloud.fleet import gather
from vmcloud.fleet.models import Job, JobLane

_BEFORE = """
SELECT mine.job_id, mine.lane, COALESCE(
  (SELECT other.job_id FROM fleet_joblane other WHERE other.lane = mine.lane AND other.shared = {false}
     AND (other.turn, other.rank, other.job_id) < (mine.turn, mine.rank, mine.job_id)
   ORDER BY other.turn DESC, other.rank DESC, other.job_id DESC LIMIT 1),
  CASE WHEN mine.shared = {false} THEN
    (SELECT other.job_id FROM fleet_joblane other WHERE other.lane = mine.lane AND other.shared = {true}
       AND (other.turn, other.rank, other.job_id) < (mine.turn, mine.rank, mine.job_id)
     ORDER BY other.turn DESC, other.rank DESC, other.job_id DESC LIMIT 1)
  END)
FROM fleet_joblane mine WHERE mine.job_id IN ({jobs})
"""
"""Of each lane of some jobs: one that comes first there, the nearest of those that have it for themselves."""

_FIRST_ALONE = """
UPDATE fleet_job SET behind = {false} WHERE behind = {true} AND state = 'Q' AND id IN (
  SELECT (SELECT other.job_id FROM fleet_joblane other
          WHERE other.lane = mine.lane AND other.shared = {false} AND other.turn = 1
          ORDER BY other.rank, other.job_id LIMIT 1)
  FROM fleet_joblane mine WHERE mine.job_id IN ({jobs}))
"""
_SHARING = """
UPDATE fleet_job SET behind = {false} WHERE behind = {true} AND state = 'Q' AND id IN (
  SELECT other.job_id FROM fleet_joblane other WHERE other.shared = {true} AND other.turn = 1 AND other.lane IN (
    SELECT mine.lane FROM fleet_joblane mine WHERE mine.job_id IN ({jobs}) AND mine.shared = {false}))
"""


def of(job: Job) -> tuple[Lane, ...]:
    """The lanes of a job; an array has none, its parts have their own."""
    if job.size or job.verb not in verbs.registry():
        return ()
    return verbs.of(job.verb).lanes(job.pk, job.ve, job.node, job.args)


def enter(jobs: Iterable[Job]) -> None:
    """Write the places of new jobs, inside the transaction that makes them."""
    with gather.gathering():
        for job in (each for each in jobs if each.state != JobState.COMPLETE):
            for lane in of(job):
                gather.add(JobLane(job=job, lane=lane.name, shared=lane.shared, turn=job.turn, rank=job.rank))


def before(jobs: Collection[int]) -> dict[int, tuple[int, str]]:
    """Of those of these jobs that are not the first in all of their lanes: one that comes first, and the lane."""
    if not jobs:
        return {}
    found: dict[int, tuple[int, str]] = {}
    with connection.cursor() as cursor:
        cursor.execute(_worded(_BEFORE, jobs), list(jobs))
        for job, lane, other in cursor.fetchall():
            if other is not None:
                found.setdefault(job, (other, lane))
    return found


def move_on(left: Collection[int]) -> None:
    """These jobs have left their lanes, or their places there: whoever may be the first now is looked at; inside a transaction.
    To be called while the rows of their places are still there."""
    if not left:
        return
    gather.flush()
    with connection.cursor() as cursor:
        for statement in (_FIRST_ALONE, _SHARING):
            cursor.execute(_worded(statement, left), list(left))


def leave(jobs: Collection[int]) -> None:
    """These jobs are complete; inside a transaction."""
    if jobs:
        move_on(jobs)
        JobLane.objects.filter(job__in=list(jobs)).delete()


def _worded(statement: str, jobs: Collection[int]) -> str:
    """The statement for so many jobs, with this database's words for true and false."""
    true, false = ("TRUE", "FALSE") if connection.vendor == "postgresql" else ("1", "0")
    return statement.format(jobs=", ".join(["%s"] * len(jobs)), true=true, false=false)
