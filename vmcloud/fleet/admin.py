"""Django's admin: a door to the services like every other. Nothing here writes a row; forms and actions become jobs."""

from __future__ import annotations

import secrets
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.html import format_html

from vmcloud.domain.errors import VmcloudError
from vmcloud.domain.vocabulary import Desired, Restart, Verb

from .models import VE, Image, Job, JobEvent, Node, Step, Stray
from .services import accounts, jobs, matrix, queries, snapshots, submit, views

admin.site.site_header = admin.site.site_title = "vmcloud"
admin.site.index_title = "This cloud"

PILL = {
    "running": "#1a7f37",
    "up": "#1a7f37",
    "ok": "#1a7f37",
    "error": "#b42318",
    "failed": "#b42318",
    "lost": "#b42318",
    "crashed": "#b42318",
    "duplicate": "#b42318",
    "down": "#b42318",
    "pending": "#8a5a00",
    "starting": "#8a5a00",
    "stopping": "#8a5a00",
    "deleting": "#8a5a00",
    "unknown": "#8a5a00",
}


def pill(word: str, why: str = "") -> str:
    """A status word in its colour, with its reason beside it."""
    colour = PILL.get(word, "#57606a")
    return format_html('<strong style="color:{}" title="{}">{}</strong> <small>{}</small>', colour, why, word, why)


class ReadOnlyAdmin(admin.ModelAdmin):
    """Shows rows and changes none."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_active and request.user.is_staff)


class CreateForm(forms.Form):
    """A new VE. The service checks everything; its words are shown beside the field that they are about."""

    name = forms.CharField(max_length=50, help_text="A DNS label, such as web-1; unique in its project.")
    project = forms.CharField(max_length=63, initial="main")
    kind = forms.ChoiceField(choices=[(kind.value, kind.value) for kind in matrix.usable()])
    image = forms.ChoiceField()
    vcpus = forms.IntegerField(initial=1, min_value=1)
    memory_mib = forms.IntegerField(initial=128, min_value=1, label="Memory (MiB)")
    power = forms.ChoiceField(choices=[(each.value, each.value) for each in (Desired.RUNNING, Desired.STOPPED)])
    restart = forms.ChoiceField(choices=[(each.value, each.value) for each in Restart], initial=Restart.ON_FAILURE.value)
    node = forms.ChoiceField(required=False, help_text="Empty: the scheduler chooses.")
    description = forms.CharField(required=False, widget=forms.Textarea(attrs={"rows": 3}))
    key = forms.CharField(widget=forms.HiddenInput)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["image"].choices = [(row.name, row.name) for row in Image.objects.order_by("name")]
        nodes = [(row.name, row.name) for row in Node.objects.order_by("name")]
        self.fields["node"].choices = [("", "any"), *nodes]

    def ask(self, actor: accounts.Actor) -> Job | None:
        """Submit; None with the refusal on its field."""
        data = {name: value for name, value in self.cleaned_data.items() if name != "key"}
        try:
            return submit.create_ve(actor, data, origin="admin", key=self.cleaned_data["key"])
        except VmcloudError as error:
            where = error.problem.where if error.problem.where in self.fields else None
            self.add_error(where, ValidationError(error.problem.sentence()))
            return None


def _actor(request: HttpRequest) -> accounts.Actor:
    return accounts.actor_of(request.user)  # type: ignore[arg-type]


def _asked(request: HttpRequest, job: Job) -> None:
    link = reverse("admin:fleet_job_change", args=[job.pk])
    messages.success(request, format_html('Job <a href="{}">{}</a>: {} {}', link, job.pk, job.verb, job.ve_name or job.node))


def _verb_action(verb: Verb) -> Any:
    @admin.action(description=f"{verb.value.capitalize()} the chosen VEs")
    def action(model_admin: VEAdmin, request: HttpRequest, chosen: QuerySet[VE]) -> HttpResponse | None:
        if verb in (Verb.STOP, Verb.RESTART, Verb.DELETE) and "confirmed" not in request.POST:
            context = {
                **admin.site.each_context(request),
                "title": f"{verb.value.capitalize()} {chosen.count()} VEs?",
                "verb": verb.value,
                "rows": chosen,
                "action": f"{verb.value}_action",
            }
            return render(request, "fleet/confirm.html", context)
        for row in chosen:
            try:
                _asked(request, submit.act(_actor(request), str(row.uuid), verb, project=row.project, origin="admin"))
            except VmcloudError as error:
                messages.error(request, f"{row.name}: {error.problem.sentence()}")
        return None

    action.__name__ = f"{verb.value}_action"
    return action


VERBS = (Verb.START, Verb.STOP, Verb.RESTART, Verb.SUSPEND, Verb.RESUME, Verb.DELETE)


@admin.register(VE)
class VEAdmin(ReadOnlyAdmin):
    """VEs: the list, one page each, and every verb as an action."""

    list_display = ("name", "project", "kind", "status", "node", "address", "vcpus", "memory_mib", "owner")
    list_filter = ("project", "kind", "node", "desired", "observed_state")
    search_fields = ("name", "uuid", "owner")
    ordering = ("project", "name")
    actions = tuple(_verb_action(verb) for verb in VERBS)

    def get_queryset(self, request: HttpRequest) -> QuerySet[VE]:
        return queries.ves(_actor(request))

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    @admin.display(description="Status")
    def status(self, row: VE) -> str:
        """The derived status and why."""
        shown = views.ve_json(row)
        return pill(shown["status"], shown["reason"])

    @admin.display(description="Address")
    def address(self, row: VE) -> str:
        """Its addresses."""
        return ", ".join(row.addresses)

    @admin.display(description="Snapshots")
    def kept(self, row: VE) -> str:
        """Their names, and when they were taken."""
        return ", ".join(f"{each['name']} ({each['at']})" for each in snapshots.shown(row)) or "none"

    @admin.display(description="Jobs")
    def history(self, row: VE) -> str:
        """Its last jobs."""
        rows = Job.objects.filter(ve=row.uuid).order_by("-id")[:10]
        lines = [
            format_html(
                '<a href="{}">{}</a> {} {} {}<br>',
                reverse("admin:fleet_job_change", args=[job.pk]),
                job.pk,
                job.verb,
                job.state,
                job.outcome or job.reason,
            )
            for job in rows
        ]
        return format_html("{}" * len(lines), *lines) if lines else "none"

    def get_fields(self, request: HttpRequest, obj: VE | None = None) -> Any:
        first = [
            "name",
            "project",
            "owner",
            "kind",
            "status",
            "desired",
            "node",
            "address",
            "mac",
            "kept",
            "image",
            "vcpus",
            "memory_mib",
        ]
        return [*first, "history", "uuid", "generation", "observed_generation", "error", "refusal"]

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        """The create form."""
        if not self.has_add_permission(request):
            return HttpResponse(status=403)
        form = CreateForm(request.POST or None, initial={"key": f"admin-{secrets.token_hex(16)}"})
        if request.method == "POST" and form.is_valid() and (job := form.ask(_actor(request))):
            _asked(request, job)
            return HttpResponseRedirect(reverse("admin:fleet_ve_changelist"))
        context = {**admin.site.each_context(request), "title": "Create a VE", "form": form, "opts": self.model._meta}
        context["kinds"], context["powers"] = matrix.table()
        return render(request, "fleet/create.html", context)


class StepInline(admin.TabularInline):
    """A job's steps."""

    model = Step
    fields = readonly_fields = ("number", "verb", "node", "state", "phase", "percent", "outcome", "sent_count")
    can_delete, extra, max_num = False, 0, 0


class EventInline(admin.TabularInline):
    """A job's history."""

    model = JobEvent
    fields = readonly_fields = ("text",)
    can_delete, extra, max_num = False, 0, 0


@admin.action(description="Cancel the chosen jobs")
def cancel(model_admin: JobAdmin, request: HttpRequest, chosen: QuerySet[Job]) -> None:
    """Ask for the end of jobs."""
    for job in chosen:
        try:
            jobs.cancel(_actor(request), job.pk)
            messages.success(request, f"Job {job.pk}: cancel asked for")
        except VmcloudError as error:
            messages.error(request, f"Job {job.pk}: {error.problem.sentence()}")


@admin.register(Job)
class JobAdmin(ReadOnlyAdmin):
    """Jobs: the queue and the history."""

    list_display = ("id", "verb", "ve_name", "node", "state", "end", "owner", "origin")
    list_filter = ("state", "outcome", "verb", "node")
    search_fields = ("ve_name", "owner", "id")
    ordering = ("-id",)
    inlines = (StepInline, EventInline)
    actions = (cancel,)
    fields = ("verb", "ve_name", "project", "owner", "origin", "node", "state", "end", "generation", "args")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Job]:
        return queries.jobs(_actor(request))

    @admin.display(description="Outcome or reason")
    def end(self, job: Job) -> str:
        """How it ended, or why it has not."""
        return pill(job.outcome, job.reason) if job.outcome else job.reason


def _switch(verb: Verb) -> Any:
    @admin.action(description=f"{verb.value.capitalize()} the chosen nodes")
    def action(model_admin: NodeAdmin, request: HttpRequest, chosen: QuerySet[Node]) -> None:
        for row in chosen:
            try:
                _asked(request, submit.node_action(_actor(request), row.name, verb, origin="admin"))
            except VmcloudError as error:
                messages.error(request, f"{row.name}: {error.problem.sentence()}")

    action.__name__ = f"{verb.value}_action"
    return action


@admin.register(Node)
class NodeAdmin(ReadOnlyAdmin):
    """Nodes."""

    list_display = ("name", "state", "cordoned", "maintenance", "cpus", "memory_mib", "simulated", "address", "software")
    actions = (_switch(Verb.CORDON), _switch(Verb.UNCORDON))

    @admin.display(description="State")
    def state(self, row: Node) -> str:
        """Up, down or unknown."""
        shown = views.node_json(row)
        return pill(shown["state"], shown["reason"])


@admin.register(Image)
class ImageAdmin(ReadOnlyAdmin):
    """Images."""

    list_display = ("name", "kind", "size", "sha256", "description")


@admin.register(Stray)
class StrayAdmin(ReadOnlyAdmin):
    """Guests that do not belong where they were seen."""

    list_display = ("native", "node", "kind", "state", "ve")
