"""What people and programs are shown: rows as plain JSON values under the API's field names."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from django.db.models import Count, QuerySet, Sum

from vmcloud.domain.reconcile import BUDGET, Rule
from vmcloud.domain.status import Shown, Situation, derive
from vmcloud.domain.terms import depend_text
from vmcloud.domain.vocabulary import Desired, JobState, NodeState, Observed, Status
from vmcloud.fleet.models import UNBEGUN, VE, Budget, Finding, Image, Job, Liveness, Misses, Node, Stray, Tombstone

from . import arrays, leases, queries, snapshots, waiting
from .moments import moment

FEW = 1000
"""Of more VEs than this, facts are read for all there are: that is one pass, and a query has only so many parameters."""

STATE_WORDS = {
    JobState.CLAIMING: "claiming",
    JobState.QUEUED: "queued",
    JobState.HELD: "held",
    JobState.WAITING: "waiting",
    JobState.RUNNING: "running",
    JobState.EXITING: "exiting",
    JobState.MIGRATING: "migrating",
    JobState.SUSPENDED: "suspended",
    JobState.BEGUN: "begun",
    JobState.COMPLETE: "complete",
}


STATUS_COLUMNS = ("uuid", "desired", "observed_state", "node", "error")
"""What a VE's status depends on, of its own row."""


def statuses(found: QuerySet[VE]) -> dict[UUID, Shown]:
    """Status and reason of all VEs of a query, for counts: five columns are read, no rows made."""
    return _statuses(list(found.order_by().values_list(*STATUS_COLUMNS)))


def _statuses(rows: Sequence[tuple[UUID, str, str, str, str]]) -> dict[UUID, Shown]:
    """By UUID; ``rows``: :data:`STATUS_COLUMNS`. The facts besides are read once for all."""
    ids = [row[0] for row in rows]
    few: dict[str, Any] = {"ve__in": ids} if len(ids) <= FEW else {}
    states = queries.node_states(time.time())
    verbs = queries.open_verbs(ids if few else None)
    misses = dict(Misses.objects.filter(count__gt=0, **few).values_list("ve", "count"))
    spent = set(Budget.objects.filter(tries__gte=BUDGET, **few).values_list("ve", flat=True))
    strays = queries.elsewhere(ids if few else None)
    found: dict[UUID, Shown] = {}
    alike: dict[tuple[Any, ...], Shown] = {}
    for ve, desired, observed, node, error in rows:
        elsewhere = tuple(sorted(each for each in strays[ve] if each != node)) if ve in strays else ()
        # Most of many VEs are in the same few situations.
        facts = (desired, observed, node, verbs.get(ve), misses.get(ve, 0), elsewhere, error, ve in spent)
        if (shown := alike.get(facts)) is None:
            shown = alike[facts] = derive(
                Situation(
                    desired=Desired(desired),
                    observed=Observed(observed) if observed else None,
                    node=node,
                    node_state=states.get(node, NodeState.UNKNOWN),
                    verb=verbs.get(ve, ""),
                    misses=misses.get(ve, 0),
                    elsewhere=elsewhere,
                    error=error,
                    gave_up=ve in spent,
                )
            )
        found[ve] = shown
    return found


def ves_json(rows: Iterable[VE]) -> list[dict[str, Any]]:
    """Many VEs; the facts that their statuses need are read once for all."""
    rows = list(rows)
    shown = _statuses([(row.uuid, row.desired, row.observed_state, row.node, row.error) for row in rows])
    found = dict(Finding.objects.filter(ve__in=list(shown)).order_by("-rule").values_list("ve", "reason")) if rows else {}
    return [_ve_json(row, shown[row.uuid], found.get(row.uuid, "")) for row in rows]


def ve_json(row: VE) -> dict[str, Any]:
    """One VE."""
    return ves_json([row])[0]


def _ve_json(row: VE, shown: Shown, found: str) -> dict[str, Any]:
    spec = row.spec
    return {
        "id": str(row.uuid),
        "name": row.name,
        "project": row.project,
        "kind": row.kind,
        "node": row.node or None,
        "status": shown.status.value,
        "reason": shown.reason or found or (f"refused: {row.refusal}" if row.refusal else ""),
        "refusal": row.refusal,
        "desired": row.desired,
        "observed": row.observed_state or None,
        "image": spec.get("image"),
        "vcpus": spec.get("vcpus"),
        "memory_mib": spec.get("memory_mib"),
        "disk_mib": spec.get("disk_mib"),
        "addresses": row.addresses,
        "snapshots": snapshots.shown(row),
        "mac": row.mac or None,
        "owner": row.owner,
        "restart": spec.get("restart"),
        "drift": spec.get("drift"),
        "lease": leases.lease_json(spec),
        "privileged": spec.get("privileged", False),
        "description": spec.get("description", ""),
        "generation": row.generation,
        "observed_generation": row.observed_generation,
        "job": row.job,
        "since": moment(row.since),
    }


def strays_json(rows: Iterable[Stray]) -> list[dict[str, Any]]:
    """Guests that do not belong where they were seen."""
    rows = list(rows)
    bearing = [row.ve for row in rows if row.ve]
    recorded = {row.uuid: row for row in VE.objects.filter(pk__in=bearing)}
    beside = queries.elsewhere(bearing)
    buried = set(Tombstone.objects.filter(pk__in=bearing).values_list("pk", flat=True))
    found = []
    for row in rows:
        status, reason = Status.ORPHAN, "recorded nowhere; adopt it or leave it"
        if row.ve in buried:
            status, reason = Status.DELETING, "its VE was deleted"
        elif (ve := recorded.get(row.ve)) is not None:
            status = Status.DUPLICATE if ve.observed_state else Status.WRONG_NODE
            reason = f"VE {ve.name} is placed on {ve.node or 'no node'}"
            if row.node not in beside.get(ve.uuid, ()):
                status, reason = Status.MIGRATING, f"{reason}; it is being migrated"
        elif row.ve:
            reason = f"it bears the UUID {row.ve}, of which there is no record"
        found.append(
            {
                "name": row.key,
                "node": row.node,
                "native": row.native,
                "kind": row.kind,
                "status": status.value,
                "reason": reason,
                "observed": row.state,
                "ve": str(row.ve) if row.ve else None,
                "vcpus": row.vcpus or None,
                "memory_mib": row.memory_mib or None,
                "addresses": row.addresses,
                "mac": row.mac or None,
                "since": moment(row.since),
            }
        )
    return found


def jobs_json(rows: Iterable[Job]) -> list[dict[str, Any]]:
    """Many jobs, without their steps; what they wait for is read once for all."""
    rows = list(rows)
    depends = waiting.depends_of(job.pk for job in rows if job.state in (*UNBEGUN, JobState.BEGUN))
    summaries = arrays.summaries(job for job in rows if job.size)
    slots = arrays.slots_of({job.array for job in rows if job.array and job.state == JobState.QUEUED and not job.reason})
    return [
        {
            **_job_json(job, depend_text(depends.get(job.pk, ()), job.awaits)),
            "array": _array_json(job, summaries[job.pk]) if job.size else None,
            **({"reason": slots[job.array]} if job.array in slots and job.state == JobState.QUEUED and not job.reason else {}),
        }
        for job in rows
    ]


def _array_json(job: Job, summary: dict[str, dict[str, int]]) -> dict[str, Any]:
    return {"indices": job.indices, "size": job.size, "slots": job.slots or None, **summary}


def job_json(job: Job, full: bool = False) -> dict[str, Any]:
    """One job; ``full`` adds its steps, and the parts of an array that did not end well."""
    shown = jobs_json([job])[0]
    if not full:
        return shown
    failed = [
        {
            "ref": part.ref,
            "id": part.pk,
            "index": part.index,
            "ve_name": part.ve_name,
            "outcome": part.outcome,
            "reason": part.reason,
        }
        for part in (arrays.not_ok(job) if job.size else ())
    ]
    return {**shown, "steps": _steps_json(job), "failed_parts": failed}


def _job_json(job: Job, depend: str) -> dict[str, Any]:
    return {
        "id": job.pk,
        "ref": job.ref,
        "part_of": job.array,
        "index": job.index,
        "verb": job.verb,
        "ve": str(job.ve) if job.ve else None,
        "ve_name": job.ve_name or None,
        "project": job.project,
        "kind": job.kind or None,
        "node": job.node or None,
        "owner": job.owner,
        "state": job.state,
        "state_name": STATE_WORDS[JobState(job.state)],
        "reason": job.reason,
        "outcome": job.outcome or None,
        "error": job.error,
        "origin": job.origin,
        "args": job.args,
        "queue": job.queue or None,
        "jobs": (job.result or {}).get("jobs", []),
        "priority": job.priority,
        "not_before": moment(job.not_before),
        "holds": job.holds,
        "depend": depend,
        "walltime": job.walltime,
        "retries": job.retries,
        "tries": job.tries,
        "generation": job.generation,
        "version": job.version,
        "directory_version": job.directory_version or None,
        "cancel_requested": job.cancel_requested_at is not None,
        "ending": job.ending or None,
        "created": moment(job.created_at),
        "started": moment(job.started_at),
        "ended": moment(job.ended_at),
        "archived": job.archived,
    }


def _steps_json(job: Job) -> list[dict[str, Any]]:
    return [
        {
            "number": step.number,
            "verb": step.verb,
            "node": step.node,
            "lane": step.lane,
            "attempt": step.attempt,
            "state": step.state,
            "phase": step.phase,
            "percent": step.percent if step.percent >= 0 else None,
            "outcome": step.outcome or None,
            "sent": moment(step.sent_at),
            "times_sent": step.sent_count,
            "accepted": moment(step.accepted_at),
            "ended": moment(step.ended_at),
        }
        for step in job.steps.all()
    ]


def _node_reason(live: Liveness | None, state: NodeState | None, deaf: str) -> str:
    """What is to be said of a node besides its state: why it refuses, or why nobody knows whether it is silent."""
    if live is None:
        return ""
    return live.refusal or (deaf if state is NodeState.UNKNOWN and live.heard_at else "")


def nodes_json(rows: Iterable[Node]) -> list[dict[str, Any]]:
    """Many nodes."""
    rows = list(rows)
    now = time.time()
    names = [row.name for row in rows]
    states, deaf = queries.node_states(now, names if len(names) <= FEW else None), queries.deafness(now)
    live_rows, placed_rows = Liveness.objects.defer("usage", "images"), VE.objects.exclude(node="")
    if len(names) <= FEW:
        live_rows, placed_rows = live_rows.filter(node__in=names), placed_rows.filter(node__in=names)
    heard = {row.node: row for row in live_rows}
    summed = placed_rows.order_by().values_list("node").annotate(count=Count("uuid"), memory=Sum("memory_mib"))
    used = {node: (count, int(memory or 0)) for node, count, memory in summed}
    doubted = dict(Finding.objects.filter(rule=Rule.R14).values_list("node", "reason"))
    result = []
    for row in rows:
        live = heard.get(row.name)
        ves, memory = used.get(row.name, (0, 0))
        result.append(
            {
                "name": row.name,
                "state": states.get(row.name, NodeState.UNKNOWN).value,
                "cordoned": row.cordoned,
                "maintenance": row.maintenance,
                "kinds": row.kinds,
                "simulated": row.simulated,
                "cpus": row.cpus,
                "memory_mib": row.memory_mib,
                "memory_placed_mib": memory,
                "disk_mib": row.disk_mib,
                "ves": ves,
                "guests_seen": live.count if live else None,
                "labels": row.labels,
                "address": row.address or None,
                "version": row.software,
                "description": row.description,
                "heard": moment(live.heard_at) if live else None,
                "reason": _node_reason(live, states.get(row.name), deaf) or doubted.get(row.name, ""),
            }
        )
    return result


def node_json(row: Node) -> dict[str, Any]:
    """One node."""
    return nodes_json([row])[0]


def image_json(row: Image) -> dict[str, Any]:
    """One image."""
    return {
        "name": row.name,
        "kind": row.kind,
        "sha256": row.sha256,
        "size": row.size,
        "description": row.description,
    }
