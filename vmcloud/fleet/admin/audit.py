"""The audit: what was refused to whom, and who logged in. For administrators."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

from vmcloud.fleet.audit_models import Audit
from vmcloud.fleet.services import audit
from vmcloud.fleet.templatetags.cloud import tag, when

from . import base


class DoorFilter(admin.SimpleListFilter):
    """By door."""

    title = "door"
    parameter_name = "door"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Every door."""
        return [(each.value, each.value) for each in audit.Door]

    def queryset(self, request: HttpRequest, found: QuerySet[Audit]) -> QuerySet[Audit]:
        """Those."""
        return found.filter(door=self.value()) if self.value() else found


@admin.register(Audit)
class AuditAdmin(base.CloudAdmin):
    """Refusals and logins."""

    one, many = "entry of the audit", "audit"
    list_display = ("moment", "often", "door", "who", "source", "what", "said")
    list_filter = (DoorFilter, "allowed")
    search_fields = ("who", "source", "what", "why")
    search_help_text = "who, from where, what, why"
    ordering = ("-id",)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Administrators only."""
        return base.actor(request).is_admin

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Administrators only."""
        return base.actor(request).is_admin

    def get_queryset(self, request: HttpRequest) -> QuerySet[Audit]:
        return audit.of(base.actor(request))

    def empty_words(self, request: HttpRequest, filtered: bool) -> tuple[Any, ...]:
        if filtered:
            return super().empty_words(request, filtered)
        return "Nothing was refused yet", "What is refused to somebody shows here, and who logs in.", None

    @admin.display(description="Last", ordering="last_at")
    def moment(self, row: Audit) -> str:
        """When it was last."""
        return when(row.last_at)

    @admin.display(description="Count", ordering="count")
    def often(self, row: Audit) -> int:
        """How often within a minute."""
        return row.count

    @admin.display(description="Door", ordering="door")
    def door(self, row: Audit) -> str:
        """Through which door."""
        return tag(row.door)

    @admin.display(description="Why refused")
    def said(self, row: Audit) -> str:
        """In words; nothing for a login that went well."""
        return row.why

    def show(self, request: HttpRequest, row: Audit) -> HttpResponse:
        return HttpResponseRedirect(self.trail()[1])
