"""What a node says that it may not say: dropped, and told where an auditor reads it.

Each is a row of the audit, of which one node has only so many a minute. What may mean that somebody else gives orders to nodes,
or that a node makes things up, is an event besides: one for each node in :data:`EVENT_PAUSE` seconds.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from vmcloud.domain.vocabulary import EventType
from vmcloud.fleet.models import ArchivedJob, Job, Step
from vmcloud.fleet.services import audit, events
from vmcloud.fleet.services.audit import Door

from .context import Context

EVENT_PAUSE = 600.0

_told: dict[str, float] = {}
"""When the last event was told of each node, by the steady clock."""


def message(list_name: str, why: str) -> None:
    """A message on a node's list that can not be taken in, or that claims to be another node's."""
    audit.denied(Door.NODE, f"message on {list_name}", why, source=list_name)


def strangers(context: Context, node: str, jobs: Iterable[int]) -> None:
    """A node speaks of steps of these jobs that are not open here: tell of those that were never its own. Inside a transaction.

    A step that ended, a job that begins anew elsewhere, and an archived job are a node's own past; late words on them are usual.
    """
    asked = set(jobs)
    own = set(Step.objects.filter(job__in=asked, node=node).values_list("job", flat=True))
    own |= set(ArchivedJob.objects.filter(pk__in=asked - own).values_list("pk", flat=True))
    found = {job.pk: job for job in Job.objects.filter(pk__in=asked - own).only("pk", "node", "before")}
    own |= {job.pk for job in found.values() if job.node == node or job.before.get("replans")}
    for number in sorted(asked - own):
        why = f"job {number} has no step on this node" if number in found else f"there is no job {number}"
        audit.denied(Door.NODE, "word on a step that it was not given", why, source=node)
        _tell(context, node, why)


def _tell(context: Context, node: str, why: str) -> None:
    now = time.monotonic()
    if now - _told.get(node, -EVENT_PAUSE) < EVENT_PAUSE:
        return
    _told[node] = now
    text = f"node {node} speaks of a step that it was not given: {why}; see the audit"
    events.note(EventType.REFUSED, text, at=context.clock(), node=node)
