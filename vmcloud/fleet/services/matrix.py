"""The capability matrix as people are shown it: what each kind of VE can do, within which limits, and how many nodes offer it."""

from __future__ import annotations

import time
from typing import Any

from vmcloud.domain import verbs
from vmcloud.domain.kinds import KINDS, KindInfo, parse_kind
from vmcloud.domain.vocabulary import Kind, NodeState, Power
from vmcloud.fleet.models import Node

from . import queries


def kinds_json() -> list[dict[str, Any]]:
    """Every kind, those with a driver first."""
    states = queries.node_states(time.time())
    offers: dict[str, list[str]] = {}
    for name, kinds in Node.objects.order_by("name").values_list("name", "kinds"):
        for kind in kinds:
            offers.setdefault(kind, []).append(name)
    return [
        _kind_json(info, offers.get(info.kind, []), states) for info in sorted(KINDS.values(), key=lambda info: not info.driver)
    ]


def kind_json(name: object) -> dict[str, Any]:
    """One kind. Raises :class:`~vmcloud.domain.errors.Invalid` for a word that is none."""
    kind = parse_kind(name)
    return next(each for each in kinds_json() if each["kind"] == kind)


def _kind_json(info: KindInfo, nodes: list[str], states: dict[str, NodeState]) -> dict[str, Any]:
    return {
        "kind": info.kind.value,
        "title": info.title,
        "driver": info.driver,
        "nodes": len(nodes),
        "nodes_up": sum(states.get(name) is NodeState.UP for name in nodes),
        "limits": {
            name: {"lowest": low, "highest": high}
            for name, (low, high) in (("vcpus", info.vcpus), ("memory_mib", info.memory_mib), ("disk_mib", info.disk_mib))
        },
        "verbs": sorted(verbs.able(info.kind)),
        "powers": [
            {"power": power.value, "support": found.support.value, "why": found.why, "source": found.source}
            for power in Power
            for found in (info.capability(power),)
        ],
    }


def table() -> tuple[list[str], list[tuple[str, list[tuple[str, str]]]]]:
    """In short, for the create form: the kinds that have a driver, and for each power its support by each of them, and why."""
    shown = [each for each in kinds_json() if each["driver"]]
    rows = []
    for place, power in enumerate(Power):
        rows.append((power.value, [(each["powers"][place]["support"], each["powers"][place]["why"]) for each in shown]))
    return [f"{each['kind']} ({each['nodes']})" for each in shown], rows


def usable() -> list[Kind]:
    """Kinds that can be created."""
    return [info.kind for info in KINDS.values() if info.driver]
