"""Webhooks: who is told of what happens, how that goes, and the form for a new one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse

from vmcloud.domain.errors import VmcloudError
from vmcloud.domain.happenings import TYPES
from vmcloud.fleet.services import webhooks
from vmcloud.fleet.templatetags.cloud import when
from vmcloud.fleet.webhook_models import Webhook

from . import base

DELIVERIES_SHOWN = 50


class WebhookForm(forms.Form):
    """A new webhook. The services check it; their words are shown beside the field they are about."""

    url = forms.CharField(max_length=1000, label="URL", help_text="http or https. Who receives there checks our signature.")
    types = forms.CharField(
        required=False, help_text=f"Separated by blanks; empty: everything. Known: {', '.join(TYPES)}; all of one: job.*"
    )
    project = forms.CharField(max_length=63, required=False, help_text="Only what is of this project; empty: of all.")
    description = forms.CharField(max_length=200, required=False)

    def ask(self, request: HttpRequest) -> Webhook | None:
        """Make it; None with the refusal on its field."""
        data = {**self.cleaned_data, "types": self.cleaned_data["types"].replace(",", " ").split()}
        try:
            return webhooks.create(base.actor(request), data)
        except VmcloudError as error:
            place = error.problem.where if error.problem.where in self.fields else None
            self.add_error(place, ValidationError(error.problem.sentence()))
            return None


@admin.register(Webhook)
class WebhookAdmin(base.CloudAdmin):
    """Webhooks."""

    one, many = "webhook", "webhooks"
    list_display = ("address", "state", "told_of", "waits", "last", "owned")
    list_filter = ("enabled", "owner")
    search_fields = ("url", "description")
    search_help_text = "URL, description"
    ordering = ("id",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Webhook]:
        return webhooks.of(base.actor(request))

    def get_urls(self) -> list[URLPattern]:
        def own(address: str, view: Callable[..., HttpResponse], name: str) -> URLPattern:
            return path(address, self.admin_site.admin_view(functools.update_wrapper(view, self.act)), name=name)

        verbs = ("test", "enable", "disable", "delete")
        pages = [own(f"<path:key>/{verb}/", functools.partial(self.act, verb=verb), f"fleet_webhook_{verb}") for verb in verbs]
        return [path("new/", self.admin_site.admin_view(self.new), name="fleet_webhook_new"), *pages, *super().get_urls()]

    def list_context(self, request: HttpRequest, listing: base.Listing) -> dict[str, Any]:
        return {"create": ("Add a webhook", reverse("admin:fleet_webhook_new"))}

    def empty_words(self, request: HttpRequest, filtered: bool) -> tuple[Any, ...]:
        if filtered:
            return super().empty_words(request, filtered)
        words = "A program elsewhere can be told by signed requests when jobs end, or nodes go and come."
        return ("No webhooks yet", words, ("Add a webhook", reverse("admin:fleet_webhook_new")))

    def prepare(self, request: HttpRequest, rows: list[Webhook]) -> None:
        for row, shown in zip(rows, webhooks.webhooks_json(rows), strict=True):
            row.shown = shown

    @admin.display(description="URL", ordering="url")
    def address(self, row: Webhook) -> str:
        """Where it sends."""
        return base.link("webhook", row.pk, row.url)

    @admin.display(description="State")
    def state(self, row: Webhook) -> str:
        """Whether it sends, and why not."""
        return base.reasoned({"status": _word(row.shown), "reason": _why(row.shown)})

    @admin.display(description="Told of")
    def told_of(self, row: Webhook) -> str:
        """Which types."""
        return ", ".join(row.types) or "everything"

    @admin.display(description="Waiting")
    def waits(self, row: Webhook) -> str:
        """Messages still to be sent."""
        return str(row.shown["waiting"])

    @admin.display(description="Last sent", ordering="last_at")
    def last(self, row: Webhook) -> str:
        """When."""
        return when(row.last_at)

    @admin.display(description="Owner", ordering="owner")
    def owned(self, row: Webhook) -> str:
        """Whose."""
        return row.owner

    def show(self, request: HttpRequest, row: Webhook) -> HttpResponse:
        (shown,) = webhooks.webhooks_json([row])
        context = {
            "title": f"Webhook {row.pk}",
            "object": row,
            "hook": shown,
            "word": _word(shown),
            "why": _why(shown),
            "sent": webhooks.deliveries_json(row.deliveries.order_by("-id")[:DELIVERIES_SHOWN]),
        }
        return self.page(request, "fleet/webhook.html", context)

    def new(self, request: HttpRequest) -> HttpResponse:
        """The form for a new one. Its secret is told on the page after it, once."""
        form = WebhookForm(request.POST or None)
        if request.method == "POST" and form.is_valid() and (made := form.ask(request)):
            messages.success(request, f"Made. Its secret, shown only now: {made.secret}")
            return HttpResponseRedirect(base.page_of("webhook", made.pk))
        return self.page(request, "fleet/webhook_new.html", {"title": "Add a webhook", "form": form, "back": self.trail()[1]})

    def act(self, request: HttpRequest, key: str, verb: str) -> HttpResponse:
        """Try one out, switch it on or off, or remove it; nothing by a mere look, and a removal is confirmed."""
        row, who, here = self.found(request, key), base.actor(request), base.page_of("webhook", key)
        if verb == "delete" and "confirmed" not in request.POST:
            more = {"title": f"Remove webhook {row.pk}?", "warning": f"{row.url} is told of nothing more.", "back": here}
            return self.page(request, "fleet/confirm.html", {"verb": "Remove", "danger": True, **more})
        if request.method != "POST":
            return HttpResponse(status=405)
        try:
            if verb == "test":
                webhooks.test(who, row.pk)
                messages.success(request, "A message is on its way; look again in a moment.")
            elif verb == "delete":
                webhooks.remove(who, row.pk)
                return HttpResponseRedirect(self.trail()[1])
            else:
                webhooks.alter(who, row.pk, {"enabled": verb == "enable"})
        except VmcloudError as error:
            base.refused(request, error)
        return HttpResponseRedirect(here)


def _word(shown: dict[str, Any]) -> str:
    return ("failing" if shown["failures"] else "on") if shown["enabled"] else "off"


def _why(shown: dict[str, Any]) -> str:
    if shown["failures"]:
        return f"{shown['failures']} attempts failed, the last with {shown['last_code'] or 'no answer'}"
    return shown["reason"] or ("" if shown["enabled"] else "switched off")
