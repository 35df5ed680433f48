"""Snapshots of a VE: what there is of them, and what there will be.

What counts is the read model and, on top of it, the VE's open jobs in their order: a snapshot that a job before this one takes
can be meant, one that a job before this one deletes can not.
"""

from __future__ import annotations

from typing import Any

from vmcloud.domain.messages import Snapshot
from vmcloud.domain.vocabulary import Outcome, Verb
from vmcloud.fleet.models import OPEN_JOBS, UNBEGUN, VE, Job

from .moments import moment


def shown(row: VE) -> list[dict[str, Any]]:
    """The VE's snapshots as people are shown them, oldest first."""
    kept = sorted(row.snapshots, key=lambda each: (each["at"], each["name"]))
    return [{"name": each["name"], "job": each["job"], "at": moment(each["at"])} for each in kept]


def expected(row: VE) -> dict[str, Snapshot]:
    """By name, what there will be when the VE's open jobs have ended well. One not taken yet is of no time (0)."""
    kept = {each.name: each for each in map(Snapshot.from_json, row.snapshots)}
    for job in _open(row):
        name = job.args["snapshot"]["name"]
        if job.verb == Verb.SNAPSHOT:
            kept.setdefault(name, Snapshot(name, job.pk, 0.0))
        else:
            kept.pop(name, None)
    return kept


def _open(row: VE) -> list[Job]:
    verbs = (Verb.SNAPSHOT.value, Verb.DELETE_SNAPSHOT.value)
    coming = ("", Outcome.OK.value)
    return list(
        Job.objects.filter(ve=row.uuid, verb__in=verbs, state__in=(*OPEN_JOBS, *UNBEGUN), outcome__in=coming).order_by("id")
    )
