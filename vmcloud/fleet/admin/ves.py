"""VEs: the list, a page each, the forms that create and resize, and every verb."""

from __future__ import annotations

import re
import time
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join

from vmcloud.domain import verbs as domain_verbs
from vmcloud.domain.kinds import KINDS
from vmcloud.domain.lease import said
from vmcloud.domain.spec import Spec
from vmcloud.domain.status import Shown
from vmcloud.domain.verbs import Verb
from vmcloud.domain.vocabulary import Desired, Kind, Observed, Restart, Status
from vmcloud.fleet.models import VE, Job, JobEvent
from vmcloud.fleet.services import accounts, events, matrix, offers, queries, snapshots, usage, views
from vmcloud.fleet.templatetags.cloud import mib, when

from . import base, verbs
from .forms import ChangeForm, CreateForm, LeaseForm, SnapshotForm, restart_needed

_ID_BEGINS = re.compile(r"[0-9a-f]{8}[0-9a-f-]{0,28}", re.IGNORECASE)


class StatusFilter(admin.SimpleListFilter):
    """By derived status: what is chosen by the tabs above the list."""

    title = "status"
    parameter_name = "status"
    hidden = True

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Every status."""
        return [(each.value, each.value) for each in Status]

    def queryset(self, request: HttpRequest, found: QuerySet[VE]) -> QuerySet[VE]:
        """Those that are shown so now."""
        if not self.value():
            return found
        ids = [ve for ve, shown in _statuses(request).items() if shown.status == self.value()]
        return found.filter(pk__in=ids)


def _statuses(request: HttpRequest) -> dict[UUID, Shown]:
    """Of all VEs that the asker may see, once for each request."""
    if not hasattr(request, "statuses"):
        request.statuses = views.statuses(queries.ves(base.actor(request)))
    return request.statuses


class WantedFilter(admin.SimpleListFilter):
    """By what is wanted."""

    title = "wanted"
    parameter_name = "desired"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Every power."""
        return [(each.value, each.value) for each in Desired]

    def queryset(self, request: HttpRequest, found: QuerySet[VE]) -> QuerySet[VE]:
        """Those."""
        return found.filter(desired=self.value()) if self.value() else found


class SeenFilter(WantedFilter):
    """By what was seen."""

    title = "seen"
    parameter_name = "observed"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Every state, and none."""
        return [*((each.value, each.value) for each in Observed), ("never", "never")]

    def queryset(self, request: HttpRequest, found: QuerySet[VE]) -> QuerySet[VE]:
        """Those."""
        if not self.value():
            return found
        return found.filter(observed_state="" if self.value() == "never" else self.value())


@admin.register(VE)
class VEAdmin(verbs.WithVerbs):
    """VEs."""

    kind = "ve"
    one, many = "VE", "VEs"
    list_display = ("name", "status", "node", "reached", "size", "kind", "owner", "since")
    list_filter = (StatusFilter, WantedFilter, SeenFilter, "node", "kind", "project", "owner")
    search_fields = ("name", "owner", "addresses", "image")
    search_help_text = "Name, address, owner, image"
    ordering = ("project", "name")
    actions = verbs.actions("ve")
    watch = "kinds=ve,job,node,stray"

    def get_queryset(self, request: HttpRequest) -> QuerySet[VE]:
        return queries.ves(base.actor(request))

    def get_search_fields(self, request: HttpRequest) -> tuple[str, ...]:
        """Ids too where it looks like the beginning of one; a short word would be found in many of them."""
        by_id = _ID_BEGINS.fullmatch(request.GET.get("q", "").strip())
        return (*self.search_fields, "uuid__istartswith") if by_id else self.search_fields

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def get_urls(self) -> list[URLPattern]:
        def one(view: Any) -> Any:
            return self.admin_site.admin_view(view)

        own = [
            path("<path:key>/lease/", one(self.lease), name="fleet_ve_lease"),
            path("<path:key>/revert/<str:name>/", one(self._of_snapshot("revert")), name="fleet_ve_revert"),
            path(
                "<path:key>/delete-snapshot/<str:name>/",
                one(self._of_snapshot("delete-snapshot")),
                name="fleet_ve_delete-snapshot",
            ),
        ]
        return [*own, *self.verb_urls(), *super().get_urls()]

    # ------------------------------------------------------------------------------------------------------------ the list

    def prepare(self, request: HttpRequest, rows: list[VE]) -> None:
        for row, shown in zip(rows, views.ves_json(rows), strict=True):
            row.shown = shown

    def list_context(self, request: HttpRequest, listing: base.Listing) -> dict[str, Any]:
        counts: dict[str, int] = {}
        for shown in _statuses(request).values():
            counts[shown.status.value] = counts.get(shown.status.value, 0) + 1
        chosen = request.GET.get("status", "")

        def tab(word: str, count: int) -> dict[str, Any]:
            address = listing.get_query_string({"status": word} if word else {}, ["status", "p"])
            return {"word": word, "count": count, "chosen": word == chosen, "address": address}

        tabs = [tab("", sum(counts.values())), *(tab(each.value, counts[each.value]) for each in Status if each.value in counts)]
        return {"tabs": tabs, "create": ("Create a VE", reverse("admin:fleet_ve_add"))}

    def empty_words(self, request: HttpRequest, filtered: bool) -> tuple[Any, ...]:
        if filtered:
            return super().empty_words(request, filtered)
        return (
            "No VEs yet",
            "A VE is a container or virtual machine. The first one takes a minute.",
            ("Create a VE", reverse("admin:fleet_ve_add")),
        )

    @admin.display(description="Name", ordering="name")
    def name(self, row: VE) -> str:
        """Its name, and its project where that is not the usual one."""
        project = "" if row.project == "main" else format_html(' <span class="vmc-dim">{}</span>', row.project)
        return format_html("{}{}", base.link("ve", row.pk, row.name), project)

    @admin.display(description="Status")
    def status(self, row: VE) -> str:
        """The derived status and why."""
        return base.reasoned(row.shown)

    @admin.display(description="Node", ordering="node")
    def node(self, row: VE) -> str:
        """Where it is placed."""
        return base.link("node", row.node) if row.node else ""

    @admin.display(description="Addresses")
    def reached(self, row: VE) -> str:
        """Its addresses."""
        return format_html_join(" ", "<code>{}</code>", ((each,) for each in row.addresses))

    @admin.display(description="Size", ordering="memory_mib")
    def size(self, row: VE) -> str:
        """Virtual CPUs and memory wanted."""
        return f"{row.vcpus} × {mib(row.memory_mib)}"

    @admin.display(description="Since", ordering="since")
    def since(self, row: VE) -> str:
        """When it came to be in the state it is seen in."""
        return when(row.since)

    # ------------------------------------------------------------------------------------------------------------- one VE

    def show(self, request: HttpRequest, row: VE) -> HttpResponse:
        who = base.actor(request)
        shown = views.ve_json(row)
        used = usage.of([row]).get(str(row.uuid))
        jobs = list(queries.jobs(who, {"ve": str(row.uuid)})[:20])
        context = {
            "title": row.name,
            "object": row,
            "ve": shown,
            "row": row,
            "kind": KINDS[Kind(row.kind)].title,
            "buttons": self.buttons(request, row, offers.fitting(row)),
            "snapshots": snapshots.shown(row),
            "can_snapshot": "snapshot" in offers.fitting(row),
            "used": used,
            "cpu_all": 100 * row.vcpus,
            "memory_used_mib": used["memory_bytes"] / (1 << 20) if used else None,
            "jobs": jobs,
            "timeline": timeline(who, row, jobs),
            "restart_words": RESTART_WORDS[Restart(shown["restart"])] if shown["restart"] else "",
            "commands": _commands(row),
            "lease_end": said(row.spec.get("lease_end") or 0.0),
            "every": MEASURED_EVERY,
            "watch": f"kinds=ve,job,node,event,stray&key={row.uuid},node:{row.node}",
        }
        return self.page(request, "fleet/ve.html", context)

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        """The create form."""
        if not self.has_add_permission(request):
            return HttpResponse(status=403)
        given = {name: request.GET[name] for name in ("image", "kind", "node") if name in request.GET}
        form = CreateForm(request.POST or None, initial=given)
        if request.method == "POST" and form.is_valid() and (job := form.ask(base.actor(request))):
            base.asked(request, job)
            return HttpResponseRedirect(base.page_of("job", job.pk))
        kinds, powers = matrix.table()
        context = {"title": "Create a VE", "form": form, "kinds": kinds, "powers": powers, "images": form.fields["image"].choices}
        return self.page(request, "fleet/create.html", context)

    def verb_form(self, request: HttpRequest, row: VE, verb: Verb) -> HttpResponse:
        own = {"alter": self.alter, "snapshot": self.snapshot}.get(verb.name)
        return own(request, row) if own is not None else super().verb_form(request, row, verb)

    def alter(self, request: HttpRequest, row: VE) -> HttpResponse:
        """The form that changes what is wanted, of both kinds."""
        form = ChangeForm(row, request.POST or None)
        if request.method == "POST" and form.is_valid() and (made := form.ask(base.actor(request))):
            for job in made:
                base.asked(request, job)
            return HttpResponseRedirect(base.page_of("ve", row.pk))
        needed, why = restart_needed(row)
        context = {"title": f"Change {row.name}", "form": form, "row": row, "needs_restart": needed, "restart_why": why}
        return self.page(request, "fleet/change.html", {**context, "trail": self.trail_of(row)})

    def snapshot(self, request: HttpRequest, row: VE) -> HttpResponse:
        """The form for a snapshot."""
        about = {
            "title": f"Take a snapshot of {row.name}",
            "intro": f"A snapshot keeps the disk as it is. What {row.name} has in memory is not part of it.",
            "submit": "Take it",
        }
        return self._form(request, row, SnapshotForm(row, request.POST or None), about)

    def lease(self, request: HttpRequest, key: str) -> HttpResponse:
        """The form that says how long it may live."""
        row = self.found(request, key)
        about = {
            "title": f"Lease of {row.name}",
            "intro": Spec.parse(row.spec).lease.words(time.time())
            or "At the end of its lease a VE is stopped; an hour before, it is told.",
            "submit": "Set it",
        }
        return self._form(request, row, LeaseForm(row, request.POST or None), about)

    def _form(self, request: HttpRequest, row: VE, form: Any, about: dict[str, Any]) -> HttpResponse:
        back = base.page_of("ve", row.pk)
        return self.job_form(request, form, done=back, back=back, trail=self.trail_of(row), **about)

    def _of_snapshot(self, verb: str) -> Any:
        def view(request: HttpRequest, key: str, name: str) -> HttpResponse:
            return self.verb(request, key, domain_verbs.of(verb), {"snapshot": name})

        return view

    def question(self, row: VE, verb: Verb, args: dict[str, Any] | None) -> dict[str, Any]:
        if not args:
            return {}
        if not any(each["name"] == args["snapshot"] for each in row.snapshots):
            raise Http404(f"{row.name} has no snapshot {args['snapshot']!r}")
        return {"title": f"{'Take' if verb.name == 'revert' else 'Delete'} {_of(verb, row.name, args['snapshot'])}?"}


def _of(verb: Verb, name: str, snapshot: str) -> str:
    return f"{name} back to {snapshot}" if verb.name == "revert" else f"snapshot {snapshot} of {name}"


def _commands(row: VE) -> list[str]:
    """What to type to get into it."""
    target = row.name if row.project == "main" else f"-p {row.project} {row.name}"
    return [f"vmcloud ve console {target}", f"vmcloud ve exec {target} -- sh", f"vmcloud ve logs {target}"]


MEASURED_EVERY = 15
"""Seconds between two looks at what a VE uses: a node measures no oftener."""
LINES = 60
"""Of what happened, on a VE's page."""
RESTART_WORDS = {
    Restart.ALWAYS: "it is started again whenever it is seen stopped",
    Restart.ON_FAILURE: "it is started again after a crash or a kill; its own shutdown is left",
    Restart.NEVER: "it is left stopped",
}


def timeline(who: accounts.Actor, row: VE, jobs: list[Job]) -> list[dict[str, Any]]:
    """What happened to it, newest first: events, and the lines of these jobs' histories."""
    by_id = {job.pk: job for job in jobs}
    lines = [
        {"at": line.at, "text": line.text, "job": by_id[line.job_id]}
        for line in JobEvent.objects.filter(job__in=list(by_id)).order_by("-at", "-id")[:LINES]
    ]
    happened = events.of(who, {"ve": str(row.uuid)})[:LINES]
    lines += [{"at": each.at, "text": each.text, "type": each.type} for each in happened]
    return sorted(lines, key=lambda line: line["at"], reverse=True)[:LINES]
