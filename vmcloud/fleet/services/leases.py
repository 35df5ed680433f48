"""Leases: what a request says of how long a VE may live, what its queue grants, and calling off what its end has led to."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from vmcloud.domain import lease
from vmcloud.domain.reconcile import Rule
from vmcloud.domain.spec import Spec
from vmcloud.domain.vocabulary import JobState, LeaseAction
from vmcloud.fleet.models import Job, JobEvent

from . import queues
from .accounts import Actor
from .moments import moment

ORIGIN = f"reconcile:{Rule.R13}"
"""That of the jobs which the end of a lease leads to."""


def seconds_of(fields: Mapping[str, Any], now: float) -> float | None:
    """How long a VE is to live that is given these fields; None where they do not say."""
    return lease.length(fields["lease_end"], now) if "lease_end" in fields else None


def granted(spec: Spec, fields: Mapping[str, Any], queue: str, begins: float) -> Spec:
    """A new VE's spec with the lease that was asked for, or else with that of its queue."""
    wanted = dict(fields)
    if "lease_end" not in wanted and (seconds := queues.get(queue).lease):
        wanted["lease_end"] = float(round(begins + seconds))
    return spec.altered(wanted) if wanted else spec


def call_off(ve: UUID, actor: Actor) -> None:
    """The lease was renewed: what its end has led to, and is not over yet, is cancelled; inside the caller's transaction."""
    now = time.time()
    for job in Job.objects.filter(ve=ve, origin=ORIGIN, cancel_requested_at=None).exclude(state=JobState.COMPLETE):
        job.change(cancel_requested_at=now)
        JobEvent.objects.create(job=job, at=now, text=f"called off: {actor.username} renewed the lease")


def renews(fields: Mapping[str, Any], now: float) -> bool:
    """Whether these fields give a VE more time."""
    return "lease_end" in fields and lease.length(fields["lease_end"], now) > 0


def lease_json(spec: Mapping[str, Any]) -> dict[str, Any] | None:
    """A VE's lease as people and programs are shown it."""
    if not (end := spec.get("lease_end")):
        return None
    known = lease.Lease(end, LeaseAction(spec["lease_action"]), spec["lease_grace"])
    return {"end": moment(end), "action": known.action.value, "grace": known.grace, "over": known.over(time.time())}
