"""What VEs use: the newest measurement of each node, as its digest brought it, kept in one column beside the node's liveness.

``{"at": seconds, "ves": {uuid: {...}}, "before": {"at": seconds, "cpu": {uuid: seconds}}}``; times are the node's own.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from vmcloud.domain.messages import Digest
from vmcloud.domain.vocabulary import NodeState
from vmcloud.fleet.models import VE, Liveness

from . import queries
from .moments import moment

SHORTEST = 0.5
"""Seconds between two measurements below which no share of a processor is told: it would be noise."""


def newest(kept: dict[str, Any], digest: Digest) -> dict[str, Any]:
    """What to keep after ``digest``. Only VEs that are placed on the speaker; what it says of others' is not its business.

    Those that are kept were its own; :func:`of` asks each VE's own node only, so one that has moved away is not asked for again.
    """
    if not digest.usage:
        return {}
    own = set(kept["ves"]) if kept else set()
    if others := [each.ve for each in digest.usage if str(each.ve) not in own]:
        own |= set(map(str, VE.objects.filter(node=digest.node, pk__in=others).values_list("uuid", flat=True)))
    said = {str(each.ve): each.to_json() for each in digest.usage if str(each.ve) in own}
    for each in said.values():
        del each["ve"]
    before = {}
    if kept and kept["at"] + SHORTEST <= digest.at:
        before = {"at": kept["at"], "cpu": {ve: each["cpu_seconds"] for ve, each in kept["ves"].items() if ve in said}}
    elif kept and kept["at"] <= digest.at:
        before = kept["before"]
    return {"at": digest.at, "ves": said, "before": before}


def of(rows: Iterable[VE]) -> dict[str, dict[str, Any]]:
    """By UUID, what these VEs use, as far as it is known and their nodes are up."""
    rows = list(rows)
    states = queries.node_states(time.time(), {row.node for row in rows if row.node})
    up = [node for node, state in states.items() if state is NodeState.UP]
    found = dict(Liveness.objects.filter(node__in=up).values_list("node", "usage"))
    used: dict[str, dict[str, Any]] = {}
    for row in rows:
        kept, ve = found.get(row.node), str(row.uuid)
        if kept and ve in kept["ves"]:
            used[ve] = {"at": moment(kept["at"]), "cpu_percent": _percent(kept, ve), **kept["ves"][ve]}
    return used


def _percent(kept: dict[str, Any], ve: str) -> float | None:
    """Of one processor, since the measurement before; None where there was none, or the VE was started anew since."""
    before = kept["before"]
    if not before or ve not in before["cpu"]:
        return None
    spent = kept["ves"][ve]["cpu_seconds"] - before["cpu"][ve]
    return round(100 * spent / (kept["at"] - before["at"]), 1) if spent >= 0 else None


def usage_json(rows: Iterable[VE]) -> list[dict[str, Any]]:
    """VEs, each with what it uses."""
    rows = list(rows)
    used = of(rows)
    return [
        {
            "id": str(row.uuid),
            "name": row.name,
            "project": row.project,
            "kind": row.kind,
            "node": row.node or None,
            "owner": row.owner,
            "vcpus": row.vcpus,
            "memory_mib": row.memory_mib,
            "usage": used.get(str(row.uuid)),
        }
        for row in rows
    ]
