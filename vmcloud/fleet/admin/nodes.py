"""Nodes: the list, and a page each with its capacity and what is placed there."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet, Sum
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern
from django.utils.html import format_html

from vmcloud.domain.placement import MEMORY_RESERVE_MIB
from vmcloud.fleet.models import VE, Node
from vmcloud.fleet.services import events, matrix, queries, views
from vmcloud.fleet.templatetags.cloud import bar, mib, status, when

from . import base, verbs

VES_SHOWN = 100
HEARD_EVERY = 15
"""Seconds between two looks at when a node was heard: it sends its list that often."""


@admin.register(Node)
class NodeAdmin(verbs.WithVerbs):
    """Nodes."""

    kind = "node"
    one, many = "node", "nodes"
    list_display = ("name", "state", "memory", "cpus", "ves", "kinds", "address", "software", "heard")
    search_fields = ("name", "address", "description")
    search_help_text = "Name, address"
    ordering = ("name",)
    actions = verbs.actions("node")
    watch = "kinds=node,ve"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Node]:
        return queries.nodes(base.actor(request))

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        return super().get_actions(request) if base.actor(request).is_admin else {}

    def get_urls(self) -> list[URLPattern]:
        return [*self.verb_urls(), *super().get_urls()]

    def prepare(self, request: HttpRequest, rows: list[Node]) -> None:
        for row, shown in zip(rows, views.nodes_json(rows), strict=True):
            row.shown = shown

    def empty_words(self, request: HttpRequest, filtered: bool) -> tuple[Any, ...]:
        if filtered:
            return super().empty_words(request, filtered)
        return (
            "No nodes yet",
            "A node shows itself when its worker has started: see vmcloud status on the cloud's machine.",
            None,
        )

    @admin.display(description="Name", ordering="name")
    def name(self, row: Node) -> str:
        """Its name."""
        return base.link("node", row.name)

    @admin.display(description="State")
    def state(self, row: Node) -> str:
        """Up, down or unknown, what is switched, and why."""
        return format_html('{}{}{} <span class="vmc-why">{}</span>', *marks(row.shown), row.shown["reason"])

    @admin.display(description="Memory placed")
    def memory(self, row: Node) -> str:
        """A bar, and the numbers."""
        placed, whole = row.shown["memory_placed_mib"], usable_mib(row)
        words = f"{mib(placed)} of {mib(whole)}"
        return format_html('<span class="vmc-gauge">{}<span>{}</span></span>', bar(placed, whole, f"{words} placed"), words)

    @admin.display(description="CPUs", ordering="cpus")
    def cpus(self, row: Node) -> str:
        """How many."""
        return str(row.cpus)

    @admin.display(description="VEs")
    def ves(self, row: Node) -> str:
        """How many are placed there."""
        return str(row.shown["ves"])

    @admin.display(description="Kinds")
    def kinds(self, row: Node) -> str:
        """What it runs."""
        return ", ".join(row.kinds)

    @admin.display(description="Heard")
    def heard(self, row: Node) -> str:
        """When it last spoke."""
        return when(row.shown["heard"])

    def show(self, request: HttpRequest, row: Node) -> HttpResponse:
        who = base.actor(request)
        shown = views.node_json(row)
        placed = queries.ves(who, filters={"node": row.name})
        ves = list(placed[:VES_SHOWN])
        context = {
            "title": row.name,
            "object": row,
            "row": row,
            "node": shown,
            "marks": marks(shown),
            "kinds": [each for each in matrix.kinds_json() if each["kind"] in row.kinds],
            "usable": usable_mib(row),
            "reserve": 0 if row.simulated else MEMORY_RESERVE_MIB,
            "vcpus": VE.objects.filter(node=row.name).aggregate(all=Sum("vcpus"))["all"] or 0,
            "ves": views.ves_json(ves),
            "ves_more": max(0, placed.count() - VES_SHOWN),
            "strays": list(queries.strays().filter(node=row.name)) if who.is_admin else [],
            "jobs": list(queries.jobs(who, {"node": row.name, "active": "1"})[:20]),
            "events": list(events.of(who, {"node": row.name})[:20]),
            "buttons": self.buttons(request, row, (each.name for each in verbs.paged("node") if not each.idle(row.cordoned))),
            "every": HEARD_EVERY,
            "watch": f"kinds=node,ve,job,stray,event&key={row.name}",
        }
        return self.page(request, "fleet/node.html", context)


def marks(shown: dict[str, Any]) -> tuple[str, str, str]:
    """A node's state and switches as words in their colours."""
    return (
        status(shown["state"]),
        status("cordoned") if shown["cordoned"] else "",
        status("maintenance") if shown["maintenance"] else "",
    )


def usable_mib(row: Node) -> int:
    """Memory that VEs may have together there."""
    return row.memory_mib if row.simulated else max(0, row.memory_mib - MEMORY_RESERVE_MIB)
