"""What draining a node would do: which VE can go where, which can not and why. Shown before it is asked for, and then done."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from vmcloud.domain import verbs
from vmcloud.domain.errors import VmcloudError
from vmcloud.domain.placement import place
from vmcloud.domain.spec import Spec
from vmcloud.domain.vocabulary import Kind, Observed
from vmcloud.fleet.models import VE, Job

from . import queries
from .accounts import Actor


@dataclass(frozen=True)
class Move:
    """One VE of a node that is drained. ``to``: where it would go now; ``why_not``: why it can not be moved at all."""

    ve: UUID
    name: str
    project: str
    kind: str
    memory_mib: int
    live: bool
    """Whether it runs, so that it is moved live where its kind can."""
    to: str = ""
    why_not: str = ""


def origin(job: Job) -> str:
    """The origin of the migrations that a drain has asked for."""
    return f"drain:{job.pk}"


def moves_of(job: Job) -> Sequence[Job]:
    """The migrations that a drain has asked for."""
    return list(Job.objects.filter(origin=origin(job)).order_by("id"))


def plan(node: str, now: float) -> list[Move]:
    """What would become of each VE on a node, by name; room is counted on as they are moved."""
    nodes = {each.name: each for each in queries.candidates(now) if each.name != node}
    able, moves = {kind: "migrate" in verbs.able(kind) for kind in Kind}, list[Move]()
    for row in VE.objects.filter(node=node).exclude(desired="absent").order_by("name"):
        live = row.observed_state in (Observed.RUNNING, Observed.SUSPENDED)
        move = Move(row.uuid, row.name, row.project, row.kind, row.memory_mib, live)
        if not able[Kind(row.kind)]:
            moves.append(replace(move, why_not=f"a VE of kind {row.kind} cannot migrate"))
            continue
        try:
            spec = replace(Spec.parse(row.spec), node="")
        except VmcloudError as error:
            moves.append(replace(move, why_not=error.problem.what))
            continue
        found = place(spec, nodes.values())
        if found.node:
            chosen = nodes[found.node]
            nodes[found.node] = replace(chosen, used_mib=chosen.used_mib + row.memory_mib)
            moves.append(replace(move, to=found.node))
        else:
            moves.append(move)  # it waits until there is room
    return moves


def plan_json(actor: Actor, node: str) -> list[dict[str, Any]]:
    """The plan as people and programs are shown it."""
    actor.demand_admin("drain a node")
    queries.node(actor, node)
    return [
        {
            "ve": str(each.ve),
            "name": each.name,
            "project": each.project,
            "kind": each.kind,
            "memory_mib": each.memory_mib,
            "live": each.live,
            "to": each.to or None,
            "reason": each.why_not or ("" if each.to else "no other node has room now; it waits"),
        }
        for each in plan(node, time.time())
    ]
