"""Leases: what a request says of how long a VE may live, what its queue grants, and calling off what its end has led to."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

from vmcloud.domain import lease
from vmcloud.domain.errors import Conflict, Invalid
from vmcloud.domain.reconcile import Rule
from vmcloud.domain.spec import LEASE, Spec
from vmcloud.domain.vocabulary import JobState, LeaseAction
from vmcloud.fleet.models import Job, JobEvent

from . import queues
from .accounts import Actor
from .moments import moment

ORIGIN = f"reconcile:{Rule.R13}"
"""That of the jobs which the end of a lease leads to."""


def taken_out(data: Mapping[str, Any], now: float, begins: float | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """A request without its member ``lease``, and what that says as fields of a spec (empty: nothing). Raises for those fields
    themselves: their times are the server's."""
    asked = dict(data)
    for name in LEASE:
        if name in asked:
            todo = 'Send {"lease": {"for": 28800}}, or {"lease": null} for none.'
            raise Invalid(f"no field is called {name!r}", where=name, todo=todo)
    return asked, lease.fields(asked.pop("lease"), now, begins) if "lease" in asked else {}


def seconds_of(fields: Mapping[str, Any], now: float) -> float | None:
    """How long a VE is to live that is given these fields; None where they do not say."""
    return lease.length(fields["lease_end"], now) if "lease_end" in fields else None


def granted(spec: Spec, fields: Mapping[str, Any], queue: str, begins: float) -> Spec:
    """A new VE's spec with the lease that was asked for, or else with that of its queue."""
    wanted = dict(fields)
    if "lease_end" not in wanted and (seconds := queues.get(queue).lease):
        wanted["lease_end"] = float(round(begins + seconds))
    return spec.altered(wanted) if wanted else spec


def demand_alive(name: str, spec: Mapping[str, Any]) -> None:
    """Raise :class:`Conflict` for a VE whose lease is over."""
    known = Spec.parse(spec).lease
    if known.over(time.time()):
        todo = f"Renew it: `vmcloud ve lease {name} +8h`."
        raise Conflict(f"the lease of VE {name!r} is over", where="lease", why=known.words(time.time()), todo=todo, code="lease")


def call_off(ve: UUID, actor: Actor) -> None:
    """The lease was renewed: what its end has led to, and is not over yet, is cancelled; inside the caller's transaction."""
    now = time.time()
    for job in Job.objects.filter(ve=ve, origin=ORIGIN, cancel_requested_at=None).exclude(state=JobState.COMPLETE):
        job.change(cancel_requested_at=now)
        JobEvent.objects.create(job=job, at=now, text=f"called off: {actor.username} renewed the lease")


def renews(fields: Mapping[str, Any], now: float) -> bool:
    """Whether these fields give a VE more time."""
    return "lease_end" in fields and lease.length(fields["lease_end"], now) > 0


def checked(row_spec: Mapping[str, Any], fields: Mapping[str, Any], now: float) -> None:
    """Raise where these fields can not be given to a VE that has this spec."""
    spec = Spec.parse(row_spec)
    after = replace(spec, **{name: fields[name] for name in LEASE if name in fields})
    if "lease_end" in fields:
        lease.to_come(after.lease_end, now)
    if not after.lease_end and set(fields) & set(LEASE) and "lease_end" not in fields:
        raise Invalid("it has no lease", where="lease", todo="Say how long it may live too.")


def lease_json(spec: Mapping[str, Any]) -> dict[str, Any] | None:
    """A VE's lease as people and programs are shown it."""
    if not (end := spec.get("lease_end")):
        return None
    known = lease.Lease(end, LeaseAction(spec["lease_action"]), spec["lease_grace"])
    return {"end": moment(end), "action": known.action.value, "grace": known.grace, "over": known.over(time.time())}
