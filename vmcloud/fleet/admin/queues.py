"""Queues: the list with counts and limits, a page each with its jobs, the form that makes or alters one. For administrators to
change, for all to see."""

from __future__ import annotations

import functools
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html

from vmcloud.domain.errors import VmcloudError
from vmcloud.domain.lease import duration
from vmcloud.domain.queueing import DEFAULT_QUEUE, Queue
from vmcloud.domain.vocabulary import JobState
from vmcloud.fleet.models import QueueRow
from vmcloud.fleet.services import queries, queues
from vmcloud.fleet.templatetags.cloud import mib, status

from . import base
from .job_forms import QueueForm

JOBS_SHOWN = 100
SWITCHES = {
    "start": ("started", True, "Start", "Its jobs may begin again"),
    "stop": ("started", False, "Stop", "None of its jobs begins any more"),
    "enable": ("enabled", True, "Take jobs", "It takes new jobs again"),
    "disable": ("enabled", False, "Take no more", "It takes no new job"),
}
"""Address → the switch, what it is set to, the words on the button, and what it means."""


@admin.register(QueueRow)
class QueueAdmin(base.CloudAdmin):
    """Queues."""

    one, many = "queue", "queues"
    list_display = ("name", "state", "queued", "running", "priority", "limits", "access", "routes")
    search_fields = ("name",)
    search_help_text = "Name"
    ordering = ("name",)
    watch = "kinds=queue,job"

    def get_queryset(self, request: HttpRequest) -> QuerySet[QueueRow]:
        return QueueRow.objects.order_by("name")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request) and base.actor(request).is_admin

    def get_urls(self) -> list[URLPattern]:
        def one(word: str, view: Any) -> URLPattern:
            return path(f"<path:key>/{word}/", self.admin_site.admin_view(view), name=f"fleet_queuerow_{word}")

        own = [one("set", self.alter), one("remove", self.remove)]
        for word in SWITCHES:
            own.append(one(word, functools.update_wrapper(functools.partial(self.switch, word=word), self.switch)))
        return [*own, *super().get_urls()]

    def prepare(self, request: HttpRequest, rows: list[QueueRow]) -> None:
        shown = {each["name"]: each for each in queues.queues_json()}
        for row in rows:
            row.shown = shown[row.name]
            row.queue = Queue.parse(row.name, row.data)

    def list_context(self, request: HttpRequest, listing: base.Listing) -> dict[str, Any]:
        return {"create": ("Make a queue", reverse("admin:fleet_queuerow_add"))} if self.has_add_permission(request) else {}

    @admin.display(description="Name", ordering="name")
    def name(self, row: QueueRow) -> str:
        """Its name."""
        return base.link("queuerow", row.name)

    @admin.display(description="State")
    def state(self, row: QueueRow) -> str:
        """Whether it takes jobs and lets them begin."""
        return format_html("{} {}", *marks(row.queue))

    @admin.display(description="Queued")
    def queued(self, row: QueueRow) -> str:
        """Jobs that have not begun."""
        return str(row.shown["queued"])

    @admin.display(description="Running")
    def running(self, row: QueueRow) -> str:
        """Jobs that have, of how many that may."""
        most = row.shown["max_running"]
        return f"{row.shown['running']} of {most}" if most else str(row.shown["running"])

    @admin.display(description="Priority")
    def priority(self, row: QueueRow) -> str:
        """Higher ones begin first."""
        return str(row.queue.priority)

    @admin.display(description="Limits")
    def limits(self, row: QueueRow) -> str:
        """All but the number of running jobs."""
        return "; ".join(f"{words} {value}" for words, value in bounds(row.queue)) or "none"

    @admin.display(description="Users")
    def access(self, row: QueueRow) -> str:
        """Who may submit."""
        return ", ".join(row.queue.users) or "everybody"

    @admin.display(description="Routes to")
    def routes(self, row: QueueRow) -> str:
        """Where it hands its jobs."""
        return ", ".join(row.queue.routes)

    def show(self, request: HttpRequest, row: QueueRow) -> HttpResponse:
        queue, who = queues.get(row.name), base.actor(request)
        open_jobs = queries.jobs(who, {"queue": row.name}).exclude(state=JobState.COMPLETE).order_by("-priority", "rank", "id")
        found = list(open_jobs[: JOBS_SHOWN + 1])
        context = {
            "title": row.name,
            "object": row,
            "queue": queues.queue_json(row.name),
            "marks": marks(queue),
            "bounds": bounds(queue),
            "jobs": found[:JOBS_SHOWN],
            "more": len(found) > JOBS_SHOWN,
            "all": f"{reverse('admin:fleet_job_changelist')}?queue={row.name}",
            "switches": _fitting(queue) if who.is_admin else [],
            "may_change": who.is_admin,
            "default": row.name == DEFAULT_QUEUE,
            "watch": "kinds=queue,job",
        }
        return self.page(request, "fleet/queue.html", context)

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        """The form for a new queue."""
        if not self.has_add_permission(request):
            return HttpResponse(status=403)
        return self._form(request, None, "Make a queue", "Make it", reverse("admin:fleet_queuerow_changelist"))

    def alter(self, request: HttpRequest, key: str) -> HttpResponse:
        """The form that alters one."""
        row = self.found(request, key)
        if not base.actor(request).is_admin:
            return HttpResponse(status=403)
        return self._form(request, queues.get(row.name), f"Alter {row.name}", "Alter", base.page_of("queuerow", row.name))

    def _form(self, request: HttpRequest, queue: Queue | None, title: str, words: str, back: str) -> HttpResponse:
        form = QueueForm(queue, request.POST or None)
        if (name := self.asked(request, form)) is not None:
            messages.success(request, f"Queue {name} is {'altered' if queue else 'made'}.")
            return HttpResponseRedirect(base.page_of("queuerow", name))
        intro = "Jobs that are in it stay in it; those that wait are looked at anew." if queue else ""
        return self.form_page(request, form, title=title, submit=words, back=back, intro=intro)

    def switch(self, request: HttpRequest, key: str, word: str) -> HttpResponse:
        """Start, stop, enable or disable it; nothing by a mere look."""
        row, (field, value, _, meaning) = self.found(request, key), SWITCHES[word]
        if request.method != "POST":
            return HttpResponse(status=405)
        try:
            queues.alter(base.actor(request), row.name, {field: value})
            messages.success(request, f"Queue {row.name}: {meaning[:1].lower()}{meaning[1:]}.")
        except VmcloudError as error:
            base.refused(request, error, row.name)
        return HttpResponseRedirect(base.page_of("queuerow", row.name))

    def remove(self, request: HttpRequest, key: str) -> HttpResponse:
        """The question, and then the removal of an empty queue."""
        row = self.found(request, key)
        back = base.page_of("queuerow", row.name)
        if request.method == "POST":
            try:
                queues.remove(base.actor(request), row.name)
                messages.success(
                    request, f"Queue {row.name} {'has its defaults again' if row.name == DEFAULT_QUEUE else 'is removed'}."
                )
                return HttpResponseRedirect(reverse("admin:fleet_queuerow_changelist"))
            except VmcloudError as error:
                base.refused(request, error, row.name)
                return HttpResponseRedirect(back)
        context = {
            "title": f"Remove queue {row.name}?",
            "verb": "Remove it",
            "warning": "Only an empty queue to which none routes is removed. The default one gets its defaults back.",
            "danger": True,
            "back": back,
            "trail": [self.trail(), (row.name, back)],
        }
        return self.page(request, "fleet/confirm.html", context)


def marks(queue: Queue) -> tuple[str, str]:
    """Its two switches as words in their colours."""
    return (
        status("started" if queue.started else "stopped", "good" if queue.started else "held"),
        "" if queue.enabled else status("takes no jobs", "held"),
    )


def bounds(queue: Queue) -> list[tuple[str, str]]:
    """Its limits in words, those that there are."""
    found = [
        ("of one user run", str(queue.max_user_running) if queue.max_user_running else ""),
        ("jobs held", str(queue.max_queued) if queue.max_queued else ""),
        ("of one user held", str(queue.max_user_queued) if queue.max_user_queued else ""),
        ("virtual CPUs", _range(str(queue.min_vcpus or ""), str(queue.max_vcpus or ""))),
        ("memory", _range(mib(queue.min_memory_mib or None), mib(queue.max_memory_mib or None))),
        ("lease at most", duration(queue.max_lease) if queue.max_lease else ""),
        ("lease by default", duration(queue.lease) if queue.lease else ""),
        ("node labels", ", ".join(queue.labels)),
    ]
    return [(words, value) for words, value in found if value]


def _range(low: str, high: str) -> str:
    return f"{low or '0'} to {high}" if high else f"from {low}" if low else ""


def _fitting(queue: Queue) -> list[tuple[str, str, str]]:
    """The switches that are not so yet: words, address, meaning."""
    fit = [(word, switch) for word, switch in SWITCHES.items() if getattr(queue, switch[0]) is not switch[1]]
    return [(words, reverse(f"admin:fleet_queuerow_{word}", args=[queue.name]), meaning) for word, (_, _, words, meaning) in fit]
