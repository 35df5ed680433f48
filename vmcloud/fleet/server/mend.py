"""Reconcile, carried out: one snapshot of the read model becomes views, the pure plan becomes jobs and words."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any
from uuid import UUID

from vmcloud.directory.errors import Gone, Stale
from vmcloud.domain import reconcile
from vmcloud.domain.errors import VmcloudError
from vmcloud.domain.reconcile import DeleteStray, NodeView, Plan, RunVerb, StrayView, VEView, Want
from vmcloud.domain.spec import Spec
from vmcloud.domain.vocabulary import SESSIONS, Desired, Drift, JobState, Observed, Outcome, Restart, Verb
from vmcloud.fleet.models import VE, Budget, Job, Liveness, Misses, Node, Stray, Tombstone
from vmcloud.fleet.services import queries
from vmcloud.fleet.services.accounts import SERVER

from . import wanted
from .context import Context

log = logging.getLogger("server.reconcile")


LEAVE_POWER = (Verb.ALTER, Verb.RESIZE, Verb.SNAPSHOT, Verb.DELETE_SNAPSHOT)
"""Verbs that change something of a VE and never whether it runs."""
RECOVERED = 600.0
"""Seconds of peace after which earlier tries to mend a VE do not count any more."""


def plan(now: float, *, fix: bool = False, only: Collection[UUID] | None = None) -> Plan:
    """What reconcile would do now, about all or about ``only`` these VEs."""
    strays = _strays() if only is None else ()
    return reconcile.compute(_ves(only), strays, _nodes(now), now=now, fix=fix)


def run(context: Context, *, only: Collection[UUID] | None = None) -> None:
    """Carry out the plan. Nothing while the picture is not whole: watch behind, or broker away."""
    if not context.projection.synced or context.broker_down:
        return
    for action in plan(context.clock(), only=only):
        match action:
            case RunVerb(ve=ve) | Want(ve=ve) if ve in context.foreign:
                pass  # what its entry says nobody has accepted yet
            case RunVerb():
                _run_verb(context, action)
            case Want():
                _want(context, action)
            case DeleteStray():
                _delete_stray(context, action)
            case reconcile.Report():
                pass  # shown by each VE's status; nothing is done about it


def _run_verb(context: Context, action: RunVerb) -> None:
    row = VE.objects.get(pk=action.ve)
    args: dict[str, Any] = {}
    if action.verb is Verb.STOP:
        args = {"force": False, "grace": 10.0}
    if action.verb is Verb.RESIZE:
        args = {"size": {"vcpus": row.vcpus, "memory_mib": row.memory_mib}}
    with context.leader.transaction():
        if _busy(action.ve):
            return  # somebody's job came meanwhile: decide again after it
        _spend(context, action.ve, action.rule)
        about = {"project": row.project, "ve": row.uuid, "ve_name": row.name, "kind": row.kind, "node": row.node}
        job = _job(context, action.rule, action.verb, action.reason, args=args, **about)
    log.info("%s: job %d, %s %s: %s", action.rule, job.pk, action.verb, row.name, action.reason)
    context.again = True


def _job(context: Context, rule: str, verb: Verb, why: str, **fields: Any) -> Job:
    """A job of the rules' own, inside a transaction."""
    now = context.clock()
    job = Job.objects.create(
        owner=SERVER.username, verb=verb.value, origin=f"reconcile:{rule}", created_at=now, rank=now, **fields
    )
    context.note(job, f"by rule {rule}: {why}")
    job.tell()
    return job


def _busy(ve: UUID) -> bool:
    return queries.changing().filter(ve=ve).exists()


def _spend(context: Context, ve: UUID, rule: str) -> None:
    budget, _ = Budget.objects.get_or_create(ve=ve, defaults={"rule": rule})
    if budget.rule != rule or context.clock() > budget.next_at + RECOVERED:
        budget.rule, budget.tries = rule, 0
    budget.tries += 1
    budget.next_at = context.clock() + reconcile.backoff(budget.tries)
    budget.save()


def _want(context: Context, action: Want) -> None:
    """Write what the guest's own act meant, covered by a closed job of its own."""
    record = context.directory.ve(action.ve)
    if record is None or (record.desired is not Desired.RUNNING and record.desired is not Desired.SUSPENDED):
        return
    now = context.clock()
    with context.leader.transaction():
        about = {"project": record.project, "ve": record.ve, "ve_name": record.name, "kind": record.spec.kind.value}
        ended = {"state": JobState.COMPLETE, "outcome": Outcome.OK.value, "started_at": now, "ended_at": now}
        job = _job(context, action.rule, Verb.STOP, action.reason, node=record.node, reason=action.reason, **about, **ended)
    try:
        wanted.write(context, record, job, lambda wish: replace(wish, desired=action.desired))
    except (Stale, Gone):
        log.info("%s: %s changed meanwhile; decided again in the next cycle", action.rule, record.name)


def _delete_stray(context: Context, action: DeleteStray) -> None:
    tombstone = Tombstone.objects.filter(pk=action.ve).first()
    stray = Stray.objects.filter(node=action.node, native=action.native).first()
    if tombstone is None or stray is None:
        return
    with context.leader.transaction():
        if _busy(action.ve):
            return
        _spend(context, action.ve, action.rule)
        about = {"project": tombstone.project, "ve": action.ve, "ve_name": tombstone.name, "kind": stray.kind}
        _job(context, action.rule, Verb.DELETE, action.reason, node=action.node, args={"stray": action.native}, **about)
    context.again = True


def _nodes(now: float) -> Iterable[NodeView]:
    states = queries.node_states(now)
    live = {row.node: row for row in Liveness.objects.all()}
    for row in Node.objects.all():
        heard = live.get(row.name)
        gone = heard.previous_count - heard.count if heard else 0
        vanished = (
            heard is not None
            and gone >= reconcile.VANISHED_GUESTS
            and gone > reconcile.VANISHED_SHARE * heard.previous_count
            and not Job.objects.filter(node=row.name, verb=Verb.DELETE, ended_at__gt=now - 60).exists()
        )
        yield NodeView(row.name, states[row.name], maintenance=row.maintenance, vanished=vanished)


def _ves(only: Collection[UUID] | None = None) -> Iterable[VEView]:
    about = {} if only is None else {"ve__in": only}
    open_ves = set(queries.changing().filter(**about).exclude(ve=None).values_list("ve", flat=True))
    misses = dict(Misses.objects.filter(**about).values_list("ve", "count"))
    budgets = {row.ve: row for row in Budget.objects.filter(**about)}
    elsewhere: dict[UUID, list[str]] = {}
    for ve, node in Stray.objects.filter(**about).exclude(ve=None).values_list("ve", "node"):
        elsewhere.setdefault(ve, []).append(node)
    for row in VE.objects.filter(**({} if only is None else {"pk__in": only})).exclude(node=""):
        try:
            spec = Spec.parse(row.spec)
        except VmcloudError as error:
            log.warning("VE %s has a spec that can not be (%s); it is left alone", row.name, error)
            continue
        budget = budgets.get(row.uuid)
        yield VEView(
            ve=row.uuid,
            name=row.name,
            node=row.node,
            desired=Desired(row.desired),
            observed=Observed(row.observed_state) if row.observed_state else None,
            restart=Restart(spec.restart),
            drift=Drift(spec.drift),
            under_way=row.uuid in open_ves,
            misses=misses.get(row.uuid, 0),
            elsewhere=tuple(sorted(node for node in elsewhere.get(row.uuid, ()) if node != row.node)),
            shape_differs=bool(row.observed_memory_mib) and row.observed_memory_mib != row.memory_mib,
            tries=budget.tries if budget else 0,
            next_try=budget.next_at if budget else 0.0,
            ran=_ran(row),
        )


def _ran(row: VE) -> bool:
    """Whether the VE came to its present state after the job that last had to do with its power had ended, and left it running.
    True where no such job is known, and where nobody asks: for what is not seen stopped though wanted running."""
    if row.observed_state != Observed.STOPPED or row.desired != Desired.RUNNING:
        return True
    last = Job.objects.filter(pk=row.job).first()
    if last is not None and last.verb in LEAVE_POWER:
        about = Job.objects.filter(ve=row.uuid, state=JobState.COMPLETE).exclude(verb__in=[*LEAVE_POWER, *SESSIONS])
        last = about.order_by("-id").first()
    if last is None:
        return True
    ran = last.outcome == Outcome.OK or ((last.result or {}).get("seen") or {}).get("state") == Observed.RUNNING
    return ran and last.ended_at is not None and row.since > last.ended_at


def _strays() -> Iterable[StrayView]:
    buried = set(Tombstone.objects.values_list("ve", flat=True))
    recorded = set(VE.objects.values_list("uuid", flat=True))
    open_ves = set(queries.changing().exclude(ve=None).values_list("ve", flat=True))
    budgets = {row.ve: row for row in Budget.objects.all()}
    for row in Stray.objects.all():
        budget = budgets.get(row.ve) if row.ve else None
        yield StrayView(
            node=row.node,
            native=row.native,
            ve=row.ve,
            buried=row.ve in buried,
            recorded=row.ve in recorded,
            under_way=row.ve in open_ves,
            tries=budget.tries if budget else 0,
            next_try=budget.next_at if budget else 0.0,
        )
