"""Orphans: guests seen where they do not belong, and the form by which one becomes a VE. For administrators; nobody owns them."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path, reverse

from vmcloud.domain.vocabulary import Observed, Status
from vmcloud.fleet.models import Stray
from vmcloud.fleet.services import queries, views
from vmcloud.fleet.templatetags.cloud import mib, status

from . import base
from .forms import AdoptForm


@admin.register(Stray)
class StrayAdmin(base.CloudAdmin):
    """Orphans."""

    one, many = "orphan", "orphans"
    list_display = ("seen_as", "what", "on", "kind", "seen", "size")
    list_filter = ("node", "kind", "state")
    search_fields = ("native", "node")
    search_help_text = "Name, node"
    ordering = ("key",)
    watch = "kinds=stray"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Stray]:
        return queries.strays() if base.actor(request).is_admin else Stray.objects.none()

    def get_urls(self) -> list[URLPattern]:
        return [path("<path:key>/adopt/", self.admin_site.admin_view(self.adopt), name="fleet_stray_adopt"), *super().get_urls()]

    def empty_words(self, request: HttpRequest, filtered: bool) -> tuple[Any, ...]:
        if filtered:
            return super().empty_words(request, filtered)
        words = "Every guest that the nodes see is recorded where it runs. A guest made by hand on a node would show here."
        return ("No orphans", words, None)

    def prepare(self, request: HttpRequest, rows: list[Stray]) -> None:
        for row, shown in zip(rows, views.strays_json(rows), strict=True):
            row.shown = shown

    @admin.display(description="Seen as", ordering="native")
    def seen_as(self, row: Stray) -> str:
        """Its name on the node."""
        return base.link("stray", row.key, row.native)

    @admin.display(description="What it is")
    def what(self, row: Stray) -> str:
        """Nobody's, or a copy of a recorded VE, and why that is said."""
        return base.reasoned(row.shown)

    @admin.display(description="Node", ordering="node")
    def on(self, row: Stray) -> str:
        """Where."""
        return base.link("node", row.node)

    @admin.display(description="State", ordering="state")
    def seen(self, row: Stray) -> str:
        """What the node saw."""
        return status(row.state)

    @admin.display(description="Size", ordering="memory_mib")
    def size(self, row: Stray) -> str:
        """Virtual CPUs and memory that it has."""
        return f"{row.vcpus or '?'} × {mib(row.memory_mib) if row.memory_mib else 'no limit'}"

    def show(self, request: HttpRequest, row: Stray) -> HttpResponse:
        (shown,) = views.strays_json([row])
        still = row.state in (Observed.STOPPED, Observed.CRASHED)
        context = {
            "title": row.native,
            "object": row,
            "stray": shown,
            "adopt": reverse("admin:fleet_stray_adopt", args=[base.quote(row.key)]) if shown["status"] == Status.ORPHAN else "",
            "still": still,
            "watch": f"kinds=stray,job&key={row.node}",
        }
        return self.page(request, "fleet/stray.html", context)

    def adopt(self, request: HttpRequest, key: str) -> HttpResponse:
        """The form by which it becomes a VE."""
        row = self.found(request, key)
        back = base.page_of("stray", row.key)
        stays = "Its disk stays as it is; if the job fails, it is an orphan as before."
        about: dict[str, Any] = {
            "title": f"Adopt {row.native}",
            "intro": f"{row.native} on {row.node} becomes a VE. {stays}",
            "submit": "Adopt",
            "trail": [self.trail(), (row.native, back)],
        }
        return self.job_form(request, AdoptForm(row, request.POST or None), back=back, **about)
