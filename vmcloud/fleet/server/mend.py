"""Reconcile, carried out: the pure plan over one snapshot of the read model becomes jobs and words."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import replace
from typing import Any
from uuid import UUID

from vmcloud.directory.errors import Gone, Stale
from vmcloud.domain.errors import Unavailable
from vmcloud.domain.reconcile import Action, DeleteStray, Plan, Report, RunVerb, Want, backoff
from vmcloud.domain.vocabulary import Desired, JobState, Outcome, Verb
from vmcloud.fleet.models import VE, Budget, Job, Stray, Tombstone
from vmcloud.fleet.services import lanes, queries, reconcile
from vmcloud.fleet.services.accounts import SERVER

from . import findings, wanted
from .context import Context, at_hand

log = logging.getLogger("server.reconcile")

RECOVERED = 600.0
"""Seconds of peace after which earlier tries to mend a VE do not count any more."""


def run(context: Context, *, only: Collection[UUID] | None = None) -> None:
    """Carry out the plan. Nothing while the picture is not whole: watch behind, or broker away."""
    if not context.projection.synced or context.broker_down:
        return
    if only is not None and not (only := reconcile.worth_a_look(only)):
        return
    plan, leases = reconcile.picture(context.clock(), only=only)
    actions = _own(context, plan)
    findings.keep(context, [*leases, *(action for action in actions if isinstance(action, Report))], only)
    for action in actions:
        if (made := _do(context, action)) is not None:
            log.info("%s: job %d, %s %s: %s", action.rule, made.pk, made.verb, made.ve_name, action.reason)


def fix(context: Context, job: Job) -> list[int]:
    """Carry out the plan as somebody asked for it, now and with ``fix``; the numbers of the jobs that it made. Done again after a
    crash it makes none for what has one by then."""
    if not context.projection.synced or context.broker_down:
        raise Unavailable("not all is known just now: the directory's watch is behind, or the broker does not answer")
    nodes = dict(VE.objects.values_list("uuid", "node"))
    actions = reconcile.of_part(_own(context, reconcile.plan(context.clock(), fix=True)), job.args, nodes)
    made = []
    for action in actions:
        if isinstance(action, Want) and (covered := _do(context, action, job)) is not None:
            made.append(covered.pk)
    with context.leader.transaction():
        for action in actions:
            if not isinstance(action, Want) and (begun := _do(context, action, job)) is not None:
                made.append(begun.pk)
    return sorted(made)


def _own(context: Context, plan: Plan) -> list[Action]:
    """Without what is about VEs whose entry says what nobody has accepted yet."""
    return [action for action in plan if isinstance(action, DeleteStray) or action.ve not in context.foreign]


@at_hand
def _do(context: Context, action: Action, by: Job | None = None) -> Job | None:
    """Carry out one action; its job. ``by``: the job with which somebody asked for it. Inside a transaction, but for a Want."""
    match action:
        case RunVerb():
            return _run_verb(context, action, by)
        case Want():
            return _want(context, action, by)
        case DeleteStray():
            return _delete_stray(context, action, by)
    return None


def _run_verb(context: Context, action: RunVerb, by: Job | None) -> Job | None:
    row = VE.objects.get(pk=action.ve)
    args: dict[str, Any] = {}
    if action.verb is Verb.STOP:
        args = {"force": action.force, "grace": action.grace}
    if action.verb is Verb.RESIZE:
        args = {"size": {"vcpus": row.vcpus, "memory_mib": row.memory_mib}}
    with context.leader.transaction():
        if _busy(action.ve):
            return None  # somebody's job came meanwhile: decide again after it
        _spend(context, action.ve, action.rule, by)
        about = {"project": row.project, "ve": row.uuid, "ve_name": row.name, "kind": row.kind, "node": row.node}
        job = _job(context, action, action.verb, by, args=args, reason=action.reason, **about)
    context.again = True
    return job


def _job(context: Context, action: Action, verb: Verb, by: Job | None, **fields: Any) -> Job:
    """A job of the rules' own, inside a transaction; it belongs to who asked for it."""
    now = context.clock()
    fields |= {"owner": by.owner if by else SERVER.username, "origin": f"reconcile:{action.rule}", "rank": now}
    job = Job.objects.create(verb=verb.value, created_at=now, **fields)
    context.note(job, f"by rule {action.rule}: {action.reason}" + (f"; asked for by job {by.pk}" if by else ""))
    lanes.enter([job])
    job.tell()
    return job


def _busy(ve: UUID) -> bool:
    return queries.changing().filter(ve=ve).exists()


def _spend(context: Context, ve: UUID, rule: str, by: Job | None) -> None:
    """One try less; what somebody asks for begins the count anew."""
    if by is not None:
        Budget.objects.filter(ve=ve).delete()
        return
    budget, _ = Budget.objects.get_or_create(ve=ve, defaults={"rule": rule})
    if budget.rule != rule or context.clock() > budget.next_at + RECOVERED:
        budget.rule, budget.tries = rule, 0
    budget.tries += 1
    budget.next_at = context.clock() + backoff(budget.tries)
    budget.save()


def _want(context: Context, action: Want, by: Job | None) -> Job | None:
    """Write what the guest's own act meant, covered by a closed job of its own."""
    record = context.directory.ve(action.ve)
    if record is None or (record.desired is not Desired.RUNNING and record.desired is not Desired.SUSPENDED):
        return None
    now = context.clock()
    with context.leader.transaction():
        about = {"project": record.project, "ve": record.ve, "ve_name": record.name, "kind": record.spec.kind.value}
        ended = {"state": JobState.COMPLETE, "outcome": Outcome.OK.value, "started_at": now, "ended_at": now}
        job = _job(context, action, Verb.STOP, by, node=record.node, reason=action.reason, **about, **ended)
    try:
        wanted.write(context, record, job, lambda wish: replace(wish, desired=action.desired))
    except (Stale, Gone):
        log.info("%s: %s changed meanwhile; decided again in the next cycle", action.rule, record.name)
    return job


def _delete_stray(context: Context, action: DeleteStray, by: Job | None) -> Job | None:
    tombstone = Tombstone.objects.filter(pk=action.ve).first()
    stray = Stray.objects.filter(node=action.node, native=action.native).first()
    if tombstone is None or stray is None:
        return None
    with context.leader.transaction():
        if _busy(action.ve):
            return None
        _spend(context, action.ve, action.rule, by)
        about = {"project": tombstone.project, "ve": action.ve, "ve_name": tombstone.name, "kind": stray.kind}
        job = _job(context, action, Verb.DELETE, by, node=action.node, args={"stray": action.native}, **about)
    context.again = True
    return job
