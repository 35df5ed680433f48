"""Jobs: the queue and the history, and a page each with its steps."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html

from vmcloud.domain import verbs
from vmcloud.domain.arrays import parts_sentence
from vmcloud.domain.errors import Problem, VmcloudError
from vmcloud.domain.terms import Hold
from vmcloud.domain.vocabulary import Ending, JobState, Outcome
from vmcloud.fleet.models import UNBEGUN, Job, JobLink
from vmcloud.fleet.services import accounts, arrays, jobs, queries, submit, views, waiting, why
from vmcloud.fleet.templatetags.cloud import job_status, lasted, when

from . import base
from .job_forms import AlterJobForm, MoveForm, OfJob, OrderForm


class OpenFilter(admin.SimpleListFilter):
    """By the state's word."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """The states there are jobs in, and all that are open."""
        return [("open", "open"), *((state.value, word) for state, word in views.STATE_WORDS.items() if state in SHOWN)]

    def queryset(self, request: HttpRequest, found: QuerySet[Job]) -> QuerySet[Job]:
        """Those."""
        if self.value() == "open":
            return found.exclude(state=JobState.COMPLETE)
        return found.filter(state=self.value()) if self.value() else found


CHANGES = {"hold": "Hold", "release": "Release", "run": "Begin now", "rerun": "Begin anew", "retry": "Ask again"}
"""What is done about a job by a button alone, and the words on it."""
FORMS: dict[str, tuple[str, str, type[OfJob]]] = {
    "alter": ("Alter", "Its terms, until it begins. Only an administrator may raise a priority or a walltime.", AlterJobForm),
    "move": ("Move", "Into another queue.", MoveForm),
    "order": ("Order", "It changes places with another job.", OrderForm),
}
"""What needs more than a button: its words, what to know, its form."""
ENDS = {
    "cancel": ("Cancel", "What has not begun never runs. What has begun is stopped and undone."),
    "force": (
        "End by force",
        "It ends now, whatever its node still does; nothing is undone. It says what may be left where; reconcile takes that on.",
    ),
    "kill": (
        "Kill the step's process",
        "What carries out its step is killed, such as a call that hangs; the step begins again, three times at most.",
    ),
}
"""What is asked about first: its words, and what to know."""
HELD_BY = {Hold.USER: "", Hold.OPERATOR: " (operator's hold)", Hold.SYSTEM: " (system's hold)"}
LINKED = 50
"""Other jobs that are shown on a job's page, each way."""
ASKED = {"vcpus": "Virtual CPUs", "memory_mib": "Memory (MiB)", "disk_mib": "Disk (MiB)", "restart": "Restart policy"}
"""Arguments under the names that the forms give them."""
SHOWN = (
    *(JobState.QUEUED, JobState.HELD, JobState.WAITING, JobState.RUNNING),
    *(JobState.BEGUN, JobState.EXITING, JobState.COMPLETE),
)


class ArrayFilter(admin.SimpleListFilter):
    """An array is one row; its parts are shown where one array is asked for, and where something is looked for."""

    title = "array"
    parameter_name = "array"
    hidden = True

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """The one that is chosen by its page."""
        return [(request.GET.get("array", ""), "of one array")]

    def queryset(self, request: HttpRequest, found: QuerySet[Job]) -> QuerySet[Job]:
        """Those."""
        if self.value():
            return found.filter(array=self.value()) if str(self.value()).isdecimal() else found.none()
        looked_for = any(name == "q" or name.startswith("node") for name in request.GET)
        return found if looked_for else found.filter(array=None)


class OutcomeFilter(OpenFilter):
    """By outcome."""

    title = "outcome"
    parameter_name = "outcome"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Every outcome."""
        return [(each.value, each.value) for each in Outcome]

    def queryset(self, request: HttpRequest, found: QuerySet[Job]) -> QuerySet[Job]:
        """Those."""
        return found.filter(outcome=self.value()) if self.value() else found


class VerbFilter(OutcomeFilter):
    """By verb."""

    title = "verb"
    parameter_name = "verb"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Every verb."""
        return [(each, each) for each in verbs.registry()]

    def queryset(self, request: HttpRequest, found: QuerySet[Job]) -> QuerySet[Job]:
        """Those."""
        return found.filter(verb=self.value()) if self.value() else found


@admin.action(description="Cancel")
def cancel_action(page: JobAdmin, request: HttpRequest, chosen: QuerySet[Job]) -> HttpResponse:
    """Ask for the end of jobs."""
    for job in chosen:
        page.end(request, job)
    return HttpResponseRedirect(request.get_full_path())


@admin.register(Job)
class JobAdmin(base.CloudAdmin):
    """Jobs."""

    one, many = "job", "jobs"
    list_display = ("number", "state", "verb", "of", "node", "why", "owner", "origin", "created", "took")
    list_filter = (ArrayFilter, OpenFilter, OutcomeFilter, VerbFilter, "queue", "node", "owner")
    search_fields = ("ve_name", "owner", "id", "reason")
    search_help_text = "Number, VE, owner, reason"
    ordering = ("-id",)
    actions = (cancel_action,)
    watch = "kinds=job"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Job]:
        return queries.jobs(base.actor(request), {"expand": "true"})

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Job | None:
        """One job; what is archived has its page still."""
        try:
            return super().get_object(request, object_id, from_field) or jobs.get(base.actor(request), object_id)
        except VmcloudError:
            return None

    def get_urls(self) -> list[URLPattern]:
        own = []
        for words, view in ((CHANGES, self.change), (FORMS, self.ask), (ENDS, self.confirm)):
            for word in words:
                one = functools.update_wrapper(functools.partial(view, word=word), view)
                own.append(path(f"<path:key>/{word}/", self.admin_site.admin_view(one), name=f"fleet_job_{word}"))
        return [*own, *super().get_urls()]

    def empty_words(self, request: HttpRequest, filtered: bool) -> tuple[Any, ...]:
        if filtered:
            return super().empty_words(request, filtered)
        return (
            "No jobs yet",
            "Whatever is asked of the cloud is a job: create a VE, and see it here.",
            ("Create a VE", reverse("admin:fleet_ve_add")),
        )

    @admin.display(description="Job", ordering="id")
    def number(self, job: Job) -> str:
        """Its number."""
        return base.link("job", job.pk, job.ref)

    @admin.display(description="State", ordering="state")
    def state(self, job: Job) -> str:
        """Outcome or state."""
        return job_status(job)

    @admin.display(description="Of", ordering="ve_name")
    def of(self, job: Job) -> str:
        """What it is about."""
        if job.ve:
            return base.link("ve", job.ve, job.ve_name) if job.there else job.ve_name
        return job.args.get("image", "") or job.node

    @admin.display(description="Reason")
    def why(self, job: Job) -> str:
        """Why it has not ended, or how it did; of an array how its parts are."""
        words = "; ".join(filter(None, (job.parts_words, job.reason)))
        return format_html('<span class="vmc-why" title="{}">{}</span>', words, words)

    @admin.display(description="Asked", ordering="created_at")
    def created(self, job: Job) -> str:
        """When it was asked for."""
        return when(job.created_at)

    @admin.display(description="Took")
    def took(self, job: Job) -> str:
        """From being asked for to its end."""
        return lasted(job.ended_at - job.created_at) if job.ended_at else ""

    def prepare(self, request: HttpRequest, rows: list[Job]) -> None:
        there = set(
            queries.ves(base.actor(request)).filter(pk__in=[job.ve for job in rows if job.ve]).values_list("pk", flat=True)
        )
        summaries = arrays.summaries(job for job in rows if job.size)
        for job in rows:
            job.there = job.ve in there
            job.parts_words = _parts_words(job, summaries[job.pk]) if job.size and job.state != JobState.COMPLETE else ""

    def show(self, request: HttpRequest, job: Job) -> HttpResponse:
        who = base.actor(request)
        now = time.time()
        steps = list(job.steps.all())
        for step in steps:
            step.took = (step.ended_at or now) - step.sent_at if step.sent_at else None
        row = queries.ves(who).filter(pk=job.ve).first() if job.ve else None
        context = {
            "title": f"Job {job.ref}: {job.verb} {job.ve_name or job.args.get('image', '') or job.node}",
            "object": job,
            "job": job,
            "ve": row,
            "steps": steps,
            "problem": Problem.from_json(job.error) if job.error else None,
            "events": list(job.events.all()),
            "took": (job.ended_at or now) - job.created_at,
            "arguments": _arguments(job),
            "terms": (shown := views.job_json(job, full=True)),
            "parts_words": parts_sentence(shown["array"]) if job.size else "",
            "parts_address": f"{self.trail()[1]}?array={job.pk}",
            "above": queries.jobs(who).filter(pk=job.array).first() if job.array is not None else None,
            "changes": [(words, _address(word, job), held_by) for word, words, held_by in _fitting(job, who)],
            "forms": [(FORMS[word][0], _address(word, job)) for word in FORMS if _may_be_changed(job, who)],
            "ends": [(ENDS[word][0], _address(word, job)) for word in _ends(job, who)],
            "why": why.explain(who, job.pk),
            "waiting": _linked(who, JobLink.objects.filter(other=job.pk).values_list("job", "type")),
            "waits_for": _linked(who, JobLink.objects.filter(job=job.pk).values_list("other", "type")),
            "key": base.new_key(),
            "watch": f"kinds=job&key={job.pk}",
        }
        return self.page(request, "fleet/job.html", context)

    def end(self, request: HttpRequest, job: Job, word: str = "cancel") -> None:
        """Cancel one job, or what :data:`ENDS` has besides, and say so."""
        try:
            was, who = job.state, base.actor(request)
            if word == "kill":
                jobs.signal(who, job.pk, "KILL")
            else:
                jobs.cancel(who, job.pk, force=word == "force")
            words = "it was complete before" if was == JobState.COMPLETE else f"{ENDS[word][0].lower()} asked for"
            messages.success(request, f"Job {job.ref}: {words}.")
        except VmcloudError as error:
            base.refused(request, error, f"Job {job.ref}")

    def change(self, request: HttpRequest, key: str, word: str) -> HttpResponse:
        """Hold, release, let begin now, or ask for again; nothing by a mere look."""
        job, who = self.found(request, key), base.actor(request)
        if request.method != "POST":
            return HttpResponse(status=405)
        try:
            if word == "retry":
                job = submit.retry(who, job.pk, origin="admin", key=request.POST.get("key", "")[:200])
                base.asked(request, job)
            elif word in ("hold", "release"):
                (waiting.hold if word == "hold" else waiting.release)(who, job.pk, waiting.parse_hold(request.POST.get("who")))
            else:
                {"run": waiting.run_now, "rerun": jobs.rerun}[word](who, job.pk)
        except VmcloudError as error:
            base.refused(request, error, f"Job {job.ref}")
        return HttpResponseRedirect(base.page_of("job", job.pk))

    def ask(self, request: HttpRequest, key: str, word: str) -> HttpResponse:
        """The form of what needs more than a button."""
        job, (words, intro, form) = self.found(request, key), FORMS[word]
        back = base.page_of("job", job.pk)
        filled = form(job, request.POST or None)
        if self.asked(request, filled) is not None:
            messages.success(request, f"Job {job.ref}: done ({words.lower()}).")
            return HttpResponseRedirect(back)
        about: dict[str, Any] = {"title": f"{words} job {job.ref}", "intro": intro, "submit": words, "trail": self._trail(job)}
        return self.form_page(request, filled, back=back, **about)

    def confirm(self, request: HttpRequest, key: str, word: str) -> HttpResponse:
        """Ask for the end of one job, or of its step's process; nothing by a mere look."""
        job, (words, warning) = self.found(request, key), ENDS[word]
        back = base.page_of("job", job.pk)
        if request.method == "POST":
            self.end(request, job, word)
            return HttpResponseRedirect(back)
        context = {
            "title": f"{words}: job {job.ref}?",
            "verb": words,
            "warning": warning,
            "danger": True,
            "back": back,
            "back_words": "No, let it go on",
            "trail": self._trail(job),
        }
        return self.page(request, "fleet/confirm.html", context)

    def _trail(self, job: Job) -> list[tuple[str, str]]:
        return [self.trail(), (f"Job {job.ref}", base.page_of("job", job.pk))]


def _parts_words(job: Job, summary: dict[str, dict[str, int]]) -> str:
    return parts_sentence({**summary, "slots": job.slots})


def _address(word: str, job: Job) -> str:
    return reverse(f"admin:fleet_job_{word}", args=[job.pk])


def _may_be_changed(job: Job, who: accounts.Actor) -> bool:
    """Whether its terms may still be changed by them."""
    return job.state in (*UNBEGUN, JobState.BEGUN) and who.may(job.owner)


def _fitting(job: Job, who: accounts.Actor) -> list[tuple[str, str, str]]:
    """Which of :data:`CHANGES` fit a job as it is: the change, the words on its button, and whose hold it is about."""
    if _may_be_changed(job, who):
        may = [each for each in Hold if each is Hold.USER or who.is_admin]
        found = [("release", f"{CHANGES['release']}{HELD_BY[each]}", each.value) for each in may if each in job.holds]
        if Hold.USER not in job.holds:
            found.append(("hold", CHANGES["hold"], Hold.USER.value))
        return [*found, *([("run", CHANGES["run"], "")] if who.is_admin and not job.holds else [])]
    if (
        job.state == JobState.RUNNING
        and job.cancel_requested_at is None
        and job.verb not in verbs.sessions()
        and who.may(job.owner)
    ):
        return [("rerun", CHANGES["rerun"], "")]
    return [("retry", CHANGES["retry"], "")] if job.state == JobState.COMPLETE and job.outcome != Outcome.OK else []


def _ends(job: Job, who: accounts.Actor) -> list[str]:
    """Which of :data:`ENDS` fit a job as it is."""
    if job.state == JobState.COMPLETE or not who.may(job.owner):
        return []
    found = ["cancel"] if job.cancel_requested_at is None else []
    if who.is_admin and job.state == JobState.RUNNING and job.verb not in verbs.sessions():
        found.append("kill")
    return [
        *found,
        *(["force"] if who.is_admin and job.state in (*jobs.BEGUN, JobState.BEGUN) and job.ending != Ending.FORCE else []),
    ]


def _linked(who: accounts.Actor, links: Iterable[tuple[int, str]]) -> list[tuple[int, str, Job | None]]:
    """Other jobs that this one has to do with: number, how, and the job, where it is there and may be seen."""
    found = list(links[:LINKED]) if isinstance(links, QuerySet) else list(links)
    rows = queries.jobs(who).in_bulk([number for number, _ in found])
    return [(number, type, rows.get(number)) for number, type in found]


def _arguments(job: Job) -> list[tuple[str, Any]]:
    """What was asked for beside the verb, flat and without what says nothing."""
    flat: dict[str, Any] = {}
    for name, value in job.args.items():
        flat |= value if isinstance(value, dict) else {name: value}
    flat.pop("job", None)  # of a snapshot: which job took it
    if flat.get("node") == job.node:
        del flat["node"]
    return [(ASKED.get(name, name), value) for name, value in flat.items() if value not in ("", 0, False, None)]
