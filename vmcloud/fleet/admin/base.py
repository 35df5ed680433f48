"""What the lists and pages have in common: who asks, reading only, tables, links."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import quote, unquote
from django.contrib.admin.views.main import PAGE_VAR, ChangeList
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from vmcloud.domain import verbs
from vmcloud.domain.errors import Problem, VmcloudError
from vmcloud.domain.hints import Hint
from vmcloud.fleet.models import Job
from vmcloud.fleet.services import accounts
from vmcloud.fleet.templatetags.cloud import status

LISTS = {"ve": "VEs", "node": "nodes", "image": "images", "job": "jobs", "queue": "queues", "webhook": "webhooks"}
"""Lists that pages have, as they call them."""


def actor(request: HttpRequest) -> accounts.Actor:
    """Who asks."""
    return accounts.actor_of(request.user)  # type: ignore[arg-type]


def reasoned(shown: dict[str, Any]) -> SafeString:
    """A status word with its reason beside it."""
    return format_html('{} <span class="vmc-why" title="{}">{}</span>', status(shown["status"]), shown["reason"], shown["reason"])


def new_key() -> str:
    """An Idempotency-Key for a form: sent twice, it makes one job."""
    return f"admin-{secrets.token_hex(16)}"


def page_of(kind: str, key: Any) -> str:
    """The address of a thing's page."""
    return reverse(f"admin:fleet_{kind}_change", args=[quote(key)])


def link_to(address: str, text: Any) -> SafeString:
    """A link."""
    return format_html('<a href="{}">{}</a>', address, text)


def link(kind: str, key: Any, text: Any = "") -> SafeString:
    """A link to a thing's page."""
    return link_to(page_of(kind, key), text or key)


def asked(request: HttpRequest, job: Job) -> None:
    """Tell that a job was made."""
    messages.success(
        request, format_html("Asked for: {}", link("job", job.pk, f"job {job.ref}, {job.verb} {job.ve_name or job.node}"))
    )


def refused(request: HttpRequest, error: VmcloudError, what: str = "") -> None:
    """Tell why nothing was done."""
    text = sentence(error.problem)
    messages.error(request, f"{what}: {text}" if what else text)


def sentence(problem: Problem) -> str:
    """A refusal in the words of pages: what to do next is a button or a list here, where it is one."""
    return problem.sentence(_here(problem.hint) if problem.hint is not None else None)


def _here(hint: Hint) -> str:
    kind, _, done = hint.action.partition(".")
    if done == "list" and kind in LISTS:
        said = hint.said(f"the list of {'strays' if hint.args.get('orphans') else LISTS[kind]}")
        return said[:1].upper() + said[1:]
    known = {each.called: each for each in verbs.about(kind)} if kind in LISTS else {}
    if done in known and "pages" not in known[done].not_offered and kind in hint.args:
        words = known[done].words.button or done.replace("-", " ").capitalize()
        return hint.said(f"“{words}” on the page of {hint.args[kind]}")
    return hint.command()


class Listing(ChangeList):
    """A list whose rows are read once and then told all that the columns need."""

    def get_results(self, request: HttpRequest) -> None:
        """One page of rows, prepared."""
        super().get_results(request)
        self.result_list = list(self.result_list)
        self.model_admin.prepare(request, self.result_list)


class Listed(admin.ModelAdmin):
    """A list in our clothes: tabs, search, filters, a table that is cards on a phone, pages."""

    change_list_template = "fleet/list.html"
    list_per_page = 50
    list_max_show_all = 50
    show_full_result_count = False
    actions_selection_counter = False
    one = many = ""
    """What is listed, for people: "VE", "VEs"."""
    watch = ""
    """What a list's page follows: the query of ``/api/v1/watch``."""

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return Listing

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        found = super().get_actions(request)
        found.pop("delete_selected", None)
        return found

    def prepare(self, request: HttpRequest, rows: list[Any]) -> None:
        """Put on the rows of one page what their columns show, with as many queries for all as for one."""

    def empty_words(self, request: HttpRequest, filtered: bool) -> tuple[Any, ...]:
        """What an empty list says: what, what to do next, and a button for it (words, address) if there is one."""
        if filtered:
            return (f"No {self.many} match", "Search for something else, or show all.", None)
        return (f"No {self.many} yet", "", None)

    def list_context(self, request: HttpRequest, listing: Listing) -> dict[str, Any]:
        """What a list's page shows besides."""
        return {}

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The list."""
        context = {"title": self.trail()[0], "watch": self.watch, "trail": [], **(extra_context or {})}
        response = super().changelist_view(request, context)
        if isinstance(response, TemplateResponse) and response.context_data and "cl" in response.context_data:
            listing = response.context_data["cl"]
            shown = [spec for spec in listing.filter_specs if not getattr(spec, "hidden", False)]
            response.context_data |= {
                "title": context["title"],
                "counted": self.one if listing.result_count == 1 else self.many,
                "filters": [(spec.title, list(spec.choices(listing))) for spec in shown],
                "action_choices": self.get_action_choices(request, default_choices=[]),
                **_pages(listing),
                **self.list_context(request, listing),
            }
        return response

    def response_action(self, request: HttpRequest, queryset: QuerySet, *more: Any) -> HttpResponse | None:
        """An action; what was chosen and can be no key is left out: a forged one is no failure."""
        data = request.POST.copy()
        chosen = data.getlist(ACTION_CHECKBOX_NAME)
        data.setlist(ACTION_CHECKBOX_NAME, [key for key in chosen if self._is_key(key)])
        request.POST = data  # type: ignore[assignment]
        return super().response_action(request, queryset, *more)

    def _is_key(self, text: str) -> bool:
        try:
            self.opts.pk.to_python(text)
        except ValidationError:
            return False
        return True

    def trail(self) -> tuple[str, str]:
        """The link to this list."""
        address = reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist")
        return self.many[:1].upper() + self.many[1:], address


class CloudAdmin(Listed):
    """Shows rows and changes none."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.admin_site.has_permission(request)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.admin_site.has_permission(request)

    def found(self, request: HttpRequest, key: str) -> Any:
        """The row with this key, if the asker may see it; else there is none."""
        row = self.get_object(request, unquote(key))
        if row is None:
            raise Http404(f"no {self.one} {key}")
        return row

    def page(self, request: HttpRequest, template: str, context: dict[str, Any]) -> TemplateResponse:
        """A page of our own within the admin's frame."""
        request.current_app = self.admin_site.name
        base = {**self.admin_site.each_context(request), "opts": self.opts, "trail": [self.trail()]}
        return TemplateResponse(request, template, {**base, **context})

    def asked(self, request: HttpRequest, form: Any) -> Any:
        """What a form has asked for; None where it was not sent, or is to be shown again with what is wrong."""
        if request.method != "POST" or not form.is_valid():
            return None
        return form.ask(actor(request)) or None

    def form_page(self, request: HttpRequest, form: Any, *, title: str, submit: str, back: str, **more: Any) -> HttpResponse:
        """The page of a form; ``back``: the address of the page that it belongs to."""
        context = {"title": title, "form": form, "submit": submit, "back": back, **more}
        return self.page(request, "fleet/form.html", context)

    def job_form(self, request: HttpRequest, form: Any, *, done: str = "", **about: Any) -> HttpResponse:
        """The page of a form that becomes a job, or the way to ``done`` (else to the job) once it has."""
        if (job := self.asked(request, form)) is not None:
            asked(request, job)
            return HttpResponseRedirect(done or page_of("job", job.pk))
        return self.form_page(request, form, **about)

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """One thing's page. There is nothing to save on it: what it offers are addresses of their own."""
        if object_id is None or not self.has_view_permission(request):
            return HttpResponse(status=403)
        if request.method not in ("GET", "HEAD"):
            return HttpResponse(status=405)
        return self.show(request, self.found(request, object_id))

    def show(self, request: HttpRequest, row: Any) -> HttpResponse:
        """The page of one row."""
        raise NotImplementedError


def _pages(listing: Listing) -> dict[str, Any]:
    """Addresses of the pages of a list."""

    def address(number: int) -> str:
        return str(listing.get_query_string({PAGE_VAR: number}))

    here = min(listing.page_num, listing.paginator.num_pages)
    numbers: Iterable[Any] = listing.paginator.get_elided_page_range(here, on_each_side=2, on_ends=1)
    return {
        "pages": [(number, address(number) if isinstance(number, int) else "") for number in numbers],
        "page_before": address(listing.page_num - 1) if listing.page_num > 1 else "",
        "page_after": address(listing.page_num + 1) if listing.page_num < listing.paginator.num_pages else "",
    }
