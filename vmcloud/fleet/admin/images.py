"""Images: the list, and a page each with the VEs made of it."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern
from django.utils.html import format_html

from vmcloud.fleet.models import Image
from vmcloud.fleet.services import queries, views
from vmcloud.fleet.templatetags.cloud import size

from . import base, verbs


@admin.register(Image)
class ImageAdmin(verbs.WithVerbs):
    """Images."""

    kind = "image"
    one, many = "image", "images"
    list_display = ("name", "kind", "bytes", "digest", "description")
    list_filter = ("kind",)
    search_fields = ("name", "sha256", "description")
    search_help_text = "Name, SHA-256, description"
    ordering = ("name",)
    actions = verbs.actions("image")
    watch = "kinds=image"

    def get_urls(self) -> list[URLPattern]:
        return [*self.verb_urls(), *super().get_urls()]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Image]:
        return queries.images(base.actor(request))

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        return super().get_actions(request) if base.actor(request).is_admin else {}

    def empty_words(self, request: HttpRequest, filtered: bool) -> tuple[Any, ...]:
        if filtered:
            return super().empty_words(request, filtered)
        return (
            "No images yet",
            "Import one from a shell: vmcloud image import NAME FILE. An image is a root file system as a tar archive.",
            None,
        )

    @admin.display(description="Name", ordering="name")
    def name(self, row: Image) -> str:
        """Its name."""
        return base.link("image", row.name)

    @admin.display(description="Size", ordering="size")
    def bytes(self, row: Image) -> str:
        """Of the archive."""
        return size(row.size)

    @admin.display(description="SHA-256")
    def digest(self, row: Image) -> str:
        """The beginning of it."""
        return format_html('<code title="{}">{}</code>', row.sha256, row.sha256[:12])

    def show(self, request: HttpRequest, row: Image) -> HttpResponse:
        made = queries.ves(base.actor(request)).filter(image=row.name)
        context = {
            "title": row.name,
            "object": row,
            "image": row,
            "buttons": self.buttons(request, row, (each.name for each in verbs.paged("image"))),
            "ves": views.ves_json(made[:100]),
            "ves_more": max(0, made.count() - 100),
            "watch": "kinds=image,ve",
        }
        return self.page(request, "fleet/image.html", context)
