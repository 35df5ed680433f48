"""Events: what happened and no job tells."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

from vmcloud.domain.vocabulary import EventType
from vmcloud.fleet.models import Event
from vmcloud.fleet.services import events, queries
from vmcloud.fleet.templatetags.cloud import tag, when

from . import base


class TypeFilter(admin.SimpleListFilter):
    """By type."""

    title = "type"
    parameter_name = "type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Every type."""
        return [(each.value, each.value) for each in EventType]

    def queryset(self, request: HttpRequest, found: QuerySet[Event]) -> QuerySet[Event]:
        """Those."""
        return found.filter(type=self.value()) if self.value() else found


@admin.register(Event)
class EventAdmin(base.CloudAdmin):
    """Events."""

    one, many = "event", "events"
    list_display = ("moment", "type", "about", "node", "said", "job")
    list_filter = (TypeFilter, "node")
    search_fields = ("ve_name", "node", "text")
    search_help_text = "VE, node, words"
    ordering = ("-id",)
    watch = "kinds=event"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Event]:
        return events.of(base.actor(request))

    def empty_words(self, request: HttpRequest, filtered: bool) -> tuple[Any, ...]:
        if filtered:
            return super().empty_words(request, filtered)
        return (
            "No events yet",
            "What happens without being asked for shows here: a guest that ends by itself, a node that comes or goes.",
            None,
        )

    def prepare(self, request: HttpRequest, rows: list[Event]) -> None:
        found = queries.ves(base.actor(request)).filter(pk__in=[row.ve for row in rows if row.ve])
        there = set(found.values_list("pk", flat=True))
        for row in rows:
            row.there = row.ve in there

    @admin.display(description="When", ordering="id")
    def moment(self, row: Event) -> str:
        """When it happened."""
        return when(row.at)

    @admin.display(description="Type", ordering="type")
    def type(self, row: Event) -> str:
        """What it is about."""
        return tag(row.type)

    @admin.display(description="VE", ordering="ve_name")
    def about(self, row: Event) -> str:
        """Which VE."""
        return base.link("ve", row.ve, row.ve_name) if row.there else row.ve_name

    @admin.display(description="Node", ordering="node")
    def node(self, row: Event) -> str:
        """Which node."""
        return base.link("node", row.node) if row.node else ""

    @admin.display(description="What happened")
    def said(self, row: Event) -> str:
        """In words."""
        return row.text

    @admin.display(description="Job")
    def job(self, row: Event) -> str:
        """The job it led to."""
        return base.link("job", row.job) if row.job else ""

    def show(self, request: HttpRequest, row: Event) -> HttpResponse:
        return HttpResponseRedirect(base.page_of("ve", row.ve) if row.ve else self.trail()[1])
