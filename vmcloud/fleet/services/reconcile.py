"""Reconcile as data: what is known becomes views, the pure plan becomes what people are shown, and a wish to mend a job."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable
from typing import Any
from uuid import UUID

from vmcloud.domain import reconcile, verbs
from vmcloud.domain.errors import Invalid, VmcloudError
from vmcloud.domain.reconcile import Action, DeleteStray, NodeView, Plan, Report, Rule, RunVerb, StrayView, VEView, Want
from vmcloud.domain.spec import DEFAULT_PROJECT, Spec
from vmcloud.domain.vocabulary import Desired, Drift, JobState, Kind, Observed, Outcome, Restart, Verb
from vmcloud.fleet.models import VE, Accepted, Budget, Finding, Job, Liveness, Misses, Node, Stray, Tombstone

from . import archive, capacity, queries, submit
from .accounts import Actor

log = logging.getLogger("server.reconcile")

LOOKED_BACK = 20
"""Of a VE's last jobs, how many are asked whether they had to do with its power."""


def plan(now: float, *, fix: bool = False, only: Collection[UUID] | None = None) -> Plan:
    """What reconcile would do now, about all or about ``only`` these VEs."""
    return picture(now, fix=fix, only=only)[0]


def picture(now: float, *, fix: bool = False, only: Collection[UUID] | None = None) -> tuple[Plan, tuple[Report, ...]]:
    """The plan, and what is to be told beside it: of leases, of claims by other nodes, of nodes that claim too much."""
    ves, strays = list(_ves(only)), _strays() if only is None else ()
    nodes = _nodes(now) if only is None else _nodes(now, {ve.node for ve in ves})
    made = reconcile.compute(ves, strays, nodes, now=now, fix=fix)
    doubted = capacity.doubts() if only is None else ()
    return made, (*reconcile.leases(ves, now=now), *reconcile.claims(ves, made), *doubted)


def worth_a_look(ves: Collection[UUID]) -> set[UUID]:
    """Those of these VEs of which a rule may have something to say at once: they are not as they are wanted while no job changes
    them, or something was said of them before. Of the others nothing is to be expected before the next look at all."""
    told, missed, strays = (model.objects.filter(ve__in=ves).values_list("ve") for model in (Finding, Misses, Stray))
    found = {ve for (ve,) in told.union(missed, strays)}
    shape = ("observed_state", "desired", "observed_memory_mib", "memory_mib", "observed_vcpus", "vcpus", "spec")
    for ve, seen, desired, *sizes, spec in VE.objects.filter(pk__in=ves).values_list("pk", *shape):
        if seen != desired or _differs(*sizes[:2]) or _differs(*sizes[2:]) or spec.get("lease_end"):
            found.add(ve)
    return found - set(queries.changing().filter(ve__in=found).values_list("ve", flat=True)) if found else found


def unaccepted() -> set[UUID]:
    """VEs whose entry says what nobody has accepted: for readers beside the leader, which knows."""
    known = {row.ve: row for row in Accepted.objects.all()}
    found = set()
    for row in VE.objects.only("uuid", "generation", "desired", "spec", "owner"):
        accepted = known.get(row.uuid)
        if not row.generation or (accepted and row.generation == accepted.generation and not _says(row, accepted.wish)):
            found.add(row.uuid)
    return found


def _says(row: VE, wish: dict[str, Any]) -> bool:
    """Whether an entry says what was accepted; that may lack a field, which a later release of vmcloud has added."""
    known = {name: value for name, value in row.spec.items() if name in wish["spec"]}
    added = {name: value for name, value in row.spec.items() if name not in known}
    fresh = Spec(kind=Kind(row.spec["kind"]), image=row.spec["image"]).to_json()
    if (row.desired, row.owner, known) != (wish["desired"], wish["owner"], wish["spec"]):
        return False
    return all(fresh.get(name) == value for name, value in added.items())


def about(action: Action) -> tuple[str, str]:
    """What an action is about: a VE's UUID, or a node and the name of a guest on it."""
    if isinstance(action, DeleteStray) or (isinstance(action, Report) and action.native):
        return action.node, action.native
    return str(action.ve), ""


def narrowed(actor: Actor, asked: dict[str, Any]) -> dict[str, str]:
    """Which part of the plan somebody asks for: members ``ve`` (a name or UUID), ``project``, ``node``; as a UUID and a node."""
    actor.demand_admin("see or mend what reconcile finds")
    for name, value in asked.items():
        if name not in ("ve", "project", "node"):
            raise Invalid(f"no field is called {name!r}", where=name, todo="Known fields: ve, project, node.")
        if not isinstance(value, str):
            raise Invalid("text is needed", where=name)
    part = {}
    if ref := asked.get("ve"):
        part["ve"] = str(queries.ve(actor, ref, asked.get("project") or DEFAULT_PROJECT).uuid)
    if node := asked.get("node"):
        part["node"] = queries.node(actor, node).name
    return part


def of_part(actions: Iterable[Action], part: dict[str, str], nodes: dict[UUID, str]) -> list[Action]:
    """The actions about one VE, or on one node; ``nodes``: where each VE is placed."""
    found = []
    for action in actions:
        node = action.node if isinstance(action, DeleteStray | Report) else nodes.get(action.ve, "")
        if part.get("ve", str(action.ve)) == str(action.ve) and part.get("node", node) == node:
            found.append(action)
    return found


def plan_json(part: dict[str, str]) -> list[dict[str, Any]]:
    """The plan as people and programs are shown it: what the leader does or reports, and what would be done if somebody asked."""
    now = time.time()
    rows = {row.uuid: row for row in VE.objects.only("uuid", "name", "project", "node")}
    nodes = {uuid: row.node for uuid, row in rows.items()}
    held = unaccepted()
    mended = {about(action): action for action in plan(now, fix=True)}
    own = {about(action): action for action in plan(now)}
    shown = []
    # What waits between two tries is in the second plan only.
    for key in sorted({**mended, **own}, key=lambda key: _order(own.get(key) or mended[key], rows)):
        action, fix = own.get(key), mended.get(key)
        first = action or fix
        assert first is not None
        if not of_part([first], part, nodes) or (first.ve in held and not key[1]):
            continue
        row = rows.get(first.ve) if first.ve and not key[1] else None
        shown.append(
            {
                "rule": first.rule.value,
                "name": row.name if row else f"{key[0]}/{key[1]}",
                "project": row.project if row else None,
                "ve": str(first.ve) if first.ve else None,
                "node": (row.node if row else key[0]) or None,
                "action": word(action) if action else "wait",
                "reason": first.reason if action else f"{first.reason}; it was tried a moment ago",
                "fix": word(fix) if fix and not isinstance(fix, Report) else None,
            }
        )
    return shown


def _order(action: Action, rows: dict[UUID, VE]) -> tuple[int, str, str]:
    row = rows.get(action.ve) if action.ve else None
    return int(action.rule.value[1:]), row.name if row else "", "/".join(about(action))


def word(action: Action) -> str:
    """An action in a word."""
    match action:
        case RunVerb(verb=verb):
            return verb.value
        case Want(desired=desired):
            return f"want-{desired}"
        case DeleteStray():
            return Verb.DELETE.value
    return "report"


def ask(actor: Actor, asked: dict[str, Any], *, origin: str, key: str) -> Job:
    """Ask the leader to mend now what can be mended: a job that makes jobs."""
    part = narrowed(actor, asked)
    return submit.queue_reconcile(actor, part, origin=origin, key=key)


# -------------------------------------------------------------------------------------------------------------------- views


def _nodes(now: float, names: Collection[str] | None = None) -> Iterable[NodeView]:
    """All nodes, or those of these names."""
    rows, live = Node.objects.all(), Liveness.objects.all()
    if names is not None:
        rows, live = rows.filter(name__in=names), live.filter(node__in=names)
    states = queries.node_states(now, names)
    heard = {name: counts for name, *counts in live.values_list("node", "previous_count", "count")}
    for name, maintenance in rows.values_list("name", "maintenance"):
        before, count = heard.get(name, (0, 0))
        gone = before - count
        vanished = (
            gone >= reconcile.VANISHED_GUESTS
            and gone > reconcile.VANISHED_SHARE * before
            and not Job.objects.filter(node=name, verb=Verb.DELETE, ended_at__gt=now - 60).exists()
        )
        yield NodeView(name, states[name], maintenance=maintenance, vanished=vanished)


def _ves(only: Collection[UUID] | None = None) -> Iterable[VEView]:
    about = {} if only is None else {"ve__in": only}
    open_ves = set(queries.changing().filter(**about).exclude(ve=None).values_list("ve", flat=True))
    misses = dict(Misses.objects.filter(**about).values_list("ve", "count"))
    budgets = {row.ve: row for row in Budget.objects.filter(**about)}
    told = dict(Finding.objects.filter(rule=Rule.R13, **about).values_list("ve", "since"))
    elsewhere = queries.elsewhere(only)
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
            shape_differs=_differs(row.observed_memory_mib, row.memory_mib) or _differs(row.observed_vcpus, row.vcpus),
            tries=budget.tries if budget else 0,
            next_try=budget.next_at if budget else 0.0,
            ran=row.uuid in open_ves or ran(row),
            lease=spec.lease,
            lease_told=told.get(row.uuid, 0.0),
        )


def ran(row: VE) -> bool:
    """Whether the VE came to its present state after the job that last had to do with its power had ended, and left it running.
    True where no such job is known, and where nobody asks: for what is not seen stopped though wanted running."""
    if row.observed_state != Observed.STOPPED or row.desired != Desired.RUNNING:
        return True
    last = Job.objects.filter(pk=row.job).first()
    if last is not None and (last.verb in verbs.leaving_power() or _never_ran(last)):
        about = Job.objects.filter(ve=row.uuid, state=JobState.COMPLETE).exclude(
            verb__in=verbs.leaving_power() | verbs.sessions()
        )
        recent = [job for job in about.order_by("-id")[:LOOKED_BACK] if not _never_ran(job)]
        last = next(iter(recent), None) or _last_archived(row)
    if last is None:
        return True
    left = last.outcome == Outcome.OK or ((last.result or {}).get("seen") or {}).get("state") == Observed.RUNNING
    return left and last.ended_at is not None and row.since > last.ended_at


def _last_archived(row: VE) -> Job | None:
    """The last of a VE's archived jobs that had to do with its power."""
    jobs = archive.of_ve(row.uuid, LOOKED_BACK)
    return next((job for job in jobs if job.verb not in verbs.leaving_power() | verbs.sessions() and not _never_ran(job)), None)


def _never_ran(job: Job) -> bool:
    return bool((job.result or {}).get("never_ran"))


def _differs(seen: int, wanted: int) -> bool:
    """Whether a size is known to be another than the one wanted."""
    return bool(seen) and seen != wanted


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
