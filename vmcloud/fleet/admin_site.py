"""The admin site: its menu, its start page, its login.

Beside the package :mod:`vmcloud.fleet.admin`, whose modules register with it while they are loaded.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from django.contrib.admin.forms import AdminAuthenticationForm
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from unfold.sites import UnfoldAdminSite

from vmcloud.domain.errors import Unauthenticated, VmcloudError
from vmcloud.fleet.services import accounts, feed, logins


class LoginForm(AdminAuthenticationForm):
    """A password is tried no oftener here than through REST: the same counters."""

    def clean(self) -> dict[str, Any]:
        """Count the try first, so that a guess too many is not even looked at."""
        username = self.cleaned_data.get("username") or ""
        assert self.request is not None
        source = str(self.request.META.get("REMOTE_ADDR", ""))
        try:
            with logins.noted(username, source, "log in to the pages"):
                logins.refuse_reserved(username)
                logins.check_rate(source, username)
                return self._judged()
        except VmcloudError as error:
            raise ValidationError(error.problem.sentence()) from error

    def _judged(self) -> dict[str, Any]:
        """Django's own look at name and password."""
        try:
            return super().clean()
        except ValidationError as error:
            raise Unauthenticated(" ".join(error.messages)) from error


class CloudSite(UnfoldAdminSite):
    """See the module."""

    site_header = site_title = "vmcloud"
    index_title = "This cloud"
    login_form = LoginForm
    enable_nav_sidebar = True

    def has_permission(self, request: HttpRequest) -> bool:
        """Staff, save under the name in which the cloud itself acts."""
        return super().has_permission(request) and request.user.get_username().casefold() != accounts.SERVER.username

    def admin_view(self, view: Callable[..., HttpResponse], cacheable: bool = False) -> Callable[..., HttpResponse]:
        """Notes where the feed was before the page looked: what changes from then on is told to it."""

        def marked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            request.cursor = feed.cursor()
            return view(request, *args, **kwargs)

        return super().admin_view(functools.update_wrapper(marked, view), cacheable)

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        """What every page has. ``live``: a page that follows fetches it; messages are not shown then, but at the next load."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        more = {
            "site_title": self.site_title,
            "site_header": self.site_header,
            "cursor": getattr(request, "cursor", ""),
            "live": "X-Live" in request.headers,
            "now": now,
        }
        return {**super().each_context(request), **more}

    def app_index(self, request: HttpRequest, app_label: str, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The menu says what there is."""
        return HttpResponseRedirect(reverse("admin:index"))

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """What the cloud is doing now."""
        from .admin import start

        context = {**self.each_context(request), **start.context(accounts.actor_of(request.user)), **(extra_context or {})}  # type: ignore[arg-type]
        request.current_app = self.name
        return TemplateResponse(request, "fleet/start.html", context)


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """The menu, as the theme wants it."""

    def item(title: str, icon: str, address: str, permission: bool = True) -> dict[str, Any]:
        here = request.path == address or (address != reverse("admin:index") and request.path.startswith(address))
        return {"title": title, "icon": icon, "link": address, "active": here, "permission": lambda _: permission}

    def pages(model: str) -> str:
        return reverse(f"admin:{model}_changelist")

    user: Any = request.user
    cloud = [
        item("Now", "monitoring", reverse("admin:index")),
        item("VEs", "deployed_code", pages("fleet_ve")),
        item("Jobs", "checklist", pages("fleet_job")),
        item("Queues", "low_priority", pages("fleet_queuerow")),
        item("Nodes", "dns", pages("fleet_node")),
        item("Images", "album", pages("fleet_image")),
        item("Events", "history", pages("fleet_event")),
        item("Orphans", "help", pages("fleet_stray")),
        item("Webhooks", "webhook", pages("fleet_webhook")),
    ]
    more = [
        item("Users", "group", pages("auth_user"), user.has_perm("auth.view_user")),
        item("Audit", "policy", pages("fleet_audit"), bool(user.is_superuser)),
        item("API", "api", "/api/v1/docs"),
    ]
    return [{"title": "Cloud", "items": cloud}, {"title": "More", "items": more}]
