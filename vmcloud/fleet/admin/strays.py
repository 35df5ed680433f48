"""Orphans: guests seen where they do not belong. Administrators see them; nobody owns them."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

from vmcloud.fleet.models import VE, Stray
from vmcloud.fleet.services import queries
from vmcloud.fleet.templatetags.cloud import status

from . import base


@admin.register(Stray)
class StrayAdmin(base.CloudAdmin):
    """Orphans."""

    one, many = "orphan", "orphans"
    list_display = ("native", "on", "kind", "seen", "belongs")
    list_filter = ("node", "kind", "state")
    search_fields = ("native", "node")
    search_help_text = "Name, node"
    ordering = ("key",)
    watch = "kinds=stray"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Stray]:
        return queries.strays() if base.actor(request).is_admin else Stray.objects.none()

    def empty_words(self, request: HttpRequest, filtered: bool) -> tuple[Any, ...]:
        if filtered:
            return super().empty_words(request, filtered)
        return (
            "No orphans",
            "Every guest that the nodes see is recorded where it runs. A guest made by hand on a node would show here.",
            None,
        )

    def prepare(self, request: HttpRequest, rows: list[Stray]) -> None:
        names = dict(VE.objects.filter(pk__in=[row.ve for row in rows if row.ve]).values_list("pk", "name"))
        for row in rows:
            row.belongs_to = names.get(row.ve, "")

    @admin.display(description="Seen as", ordering="native")
    def native(self, row: Stray) -> str:
        """Its name on the node."""
        return row.native

    @admin.display(description="Node", ordering="node")
    def on(self, row: Stray) -> str:
        """Where."""
        return base.link("node", row.node)

    @admin.display(description="State", ordering="state")
    def seen(self, row: Stray) -> str:
        """What the node saw."""
        return status(row.state)

    @admin.display(description="What it is")
    def belongs(self, row: Stray) -> str:
        """A copy of a recorded VE, or nobody's."""
        if row.belongs_to:
            return base.link("ve", row.ve, f"{row.belongs_to}, which belongs elsewhere")
        return "of a VE that is recorded no more" if row.ve else "made by hand on the node"

    def show(self, request: HttpRequest, row: Stray) -> HttpResponse:
        return HttpResponseRedirect(self.trail()[1])
