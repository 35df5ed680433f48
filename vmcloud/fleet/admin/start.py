"""The start page: what the cloud is doing now, and what needs a person."""

from __future__ import annotations

import time
from typing import Any

from django.urls import reverse
from django.utils.http import urlencode

from vmcloud.domain.vocabulary import NodeState, Status
from vmcloud.fleet.models import VE
from vmcloud.fleet.services import audit, events, queries, views
from vmcloud.fleet.services.accounts import Actor

from . import base
from .nodes import usable_mib

TROUBLE = (Status.ERROR, Status.CRASHED, Status.LOST, Status.DUPLICATE, Status.WRONG_NODE)
SHOWN = 8


def context(actor: Actor) -> dict[str, Any]:
    """All that the page shows, as this actor may see it."""
    ves = queries.ves(actor)
    statuses = views.statuses(ves)
    counts: dict[Status, int] = {}
    for shown in statuses.values():
        counts[shown.status] = counts.get(shown.status, 0) + 1
    nodes = _nodes(actor)
    return {
        "title": "Now",
        "watch": "kinds=ve,node,job,stray,event",
        "total": len(statuses),
        "counts": [
            {"word": each.value, "count": counts[each], "address": _ves(status=each.value)} for each in Status if each in counts
        ],
        "nodes": nodes,
        "nodes_up": sum(node["shown"]["state"] == NodeState.UP for node in nodes),
        "trouble": _trouble(actor, statuses, nodes),
        "jobs": list(queries.jobs(actor, {"active": "1"})[:SHOWN]),
        "jobs_open": queries.jobs(actor, {"active": "1"}).count(),
        "events": list(events.of(actor)[:SHOWN]),
        "ended": list(queries.jobs(actor, {"state": "C"})[:SHOWN]),
    }


def _ves(**query: str) -> str:
    return f"{reverse('admin:fleet_ve_changelist')}?{urlencode(query)}"


def _nodes(actor: Actor) -> list[dict[str, Any]]:
    rows = list(queries.nodes(actor))
    vcpus: dict[str, int] = {}
    for node, number in VE.objects.exclude(node="").values_list("node", "vcpus"):
        vcpus[node] = vcpus.get(node, 0) + number
    return [
        {"row": row, "shown": shown, "usable": usable_mib(row), "vcpus": vcpus.get(row.name, 0)}
        for row, shown in zip(rows, views.nodes_json(rows), strict=True)
    ]


def _trouble(actor: Actor, statuses: dict[Any, Any], nodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What needs a person, worst first: each with a word, what it is about, why, and where to go."""
    found = []
    for node in nodes:
        if node["shown"]["state"] != NodeState.UP:
            address = reverse("admin:fleet_node_change", args=[node["row"].name])
            found.append(
                {
                    "word": node["shown"]["state"],
                    "what": f"node {node['row'].name}",
                    "why": node["shown"]["reason"],
                    "address": address,
                }
            )
    ill = {ve: shown for ve, shown in statuses.items() if shown.status in TROUBLE}
    refused = queries.ves(actor).exclude(refusal="")
    for row in queries.ves(actor).filter(pk__in=list(ill)[:SHOWN]):
        shown = ill[row.pk]
        address = reverse("admin:fleet_ve_change", args=[row.pk])
        found.append({"word": shown.status.value, "what": row.name, "why": shown.reason, "address": address})
    if len(ill) > SHOWN:
        found.append({"word": "", "what": f"and {len(ill) - SHOWN} more VEs", "why": "", "address": _ves()})
    for row in refused[:SHOWN]:
        found.append(
            {"word": "refused", "what": row.name, "why": row.refusal, "address": reverse("admin:fleet_ve_change", args=[row.pk])}
        )
    if actor.is_admin:
        if words := audit.burst(time.time()):
            found.append({"word": "refused", "what": "a burst", "why": words, "address": reverse("admin:fleet_audit_changelist")})
        for stray in queries.strays()[:SHOWN]:
            address = base.page_of("stray", stray.key)
            found.append(
                {"word": "orphan", "what": stray.native, "why": f"seen {stray.state} on {stray.node}", "address": address}
            )
    return found
