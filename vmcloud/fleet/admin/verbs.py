"""Verbs on pages: actions of lists, buttons and forms of an object's page, all from the registry. What takes something away is
confirmed first; what has more to be said is a form."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse

from vmcloud.domain import verbs
from vmcloud.domain.errors import VmcloudError
from vmcloud.domain.verbs import Verb
from vmcloud.domain.verbs.base import Right
from vmcloud.domain.verbs.request import Sort
from vmcloud.fleet.models import Job
from vmcloud.fleet.services import accounts, offers, submit

from . import base
from .forms import VerbForm

SHOWN = 10
"""How many jobs are told one by one."""


def paged(kind: str) -> list[Verb]:
    """The verbs of a kind of object that have a page of their own."""
    return [each for each in verbs.about(kind) if not each.own_way and not each.page and "pages" not in each.not_offered]


def at_once(verb: Verb) -> bool:
    """Whether a button is enough: nothing more can be said of it, or need be."""
    return verb.plain or not verb.fields


def words(verb: Verb) -> str:
    """The verb on a button."""
    return verb.words.button or verb.called.replace("-", " ").capitalize()


def flags(verb: Verb) -> list[tuple[str, str]]:
    """What may be ticked where a verb is confirmed: names and words."""
    return [(name, about.words.rstrip(".")) for name, (_, about) in verb.fields.items() if about.sort is Sort.FLAG]


def submit_one(who: accounts.Actor, row: Any, verb: Verb, args: dict[str, Any], key: str) -> Job:
    """Ask for a verb on the object that a row is."""
    about = {"origin": "admin", "key": f"{key[:200]}:{row.pk}" if key else ""}
    match verb.object:
        case "node":
            return submit.node_action(who, row.name, verb.name, args, **about)
        case "image":
            return submit.image_action(who, row.name, verb.name, args, **about)
    return submit.act(who, str(row.uuid), verb.name, args, project=row.project, **about)


def ask(request: HttpRequest, rows: Iterable[Any], verb: Verb, args: dict[str, Any] | None = None) -> list[Job]:
    """Submit the verb for each; tell the person what came of it."""
    made, who = [], base.actor(request)
    for row in rows:
        try:
            made.append(submit_one(who, row, verb, args or {}, request.POST.get("key", "")))
        except VmcloudError as error:
            base.refused(request, error, row.name)
    for job in made[:SHOWN]:
        base.asked(request, job)
    if len(made) > SHOWN:
        messages.success(request, f"… and {len(made) - SHOWN} more jobs.")
    return made


def misfit(row: Any, verb: Verb) -> str:
    """Why a verb that a page offers for a row does not fit it; empty if it does."""
    if verb.object == "ve":
        return offers.misfit(row, verb.name) if at_once(verb) else ""
    return ""


def confirmation(
    page: base.CloudAdmin, request: HttpRequest, verb: Verb, rows: list[Any], back: str, **more: Any
) -> HttpResponse:
    """The question before it is done. Rows that the verb does not fit are shown, with why, and left alone."""
    judged = [(row, misfit(row, verb)) for row in rows]
    fit = [row for row, why in judged if not why]
    what = rows[0].name if len(rows) == 1 else f"{len(fit)} {page.many}"
    context = {
        "title": more.pop("title", f"{words(verb)} {what}?"),
        "verb": words(verb),
        "warning": verb.words.confirm,
        "danger": verb.words.danger,
        "flags": flags(verb) if at_once(verb) else [],
        "judged": judged,
        "fit": fit,
        "key": base.new_key(),
        "back": back,
        **more,
    }
    return page.page(request, "fleet/confirm.html", context)


def arguments(request: HttpRequest, verb: Verb) -> dict[str, Any]:
    """What the confirmation's form says beside the verb."""
    return {name: True for name, _ in flags(verb) if request.POST.get(name)} if at_once(verb) else {}


def _action(verb: Verb) -> Any:
    @admin.action(description=words(verb))
    def action(page: base.CloudAdmin, request: HttpRequest, chosen: QuerySet[Any]) -> HttpResponse | None:
        rows = list(chosen)
        if verb.words.confirm and "confirmed" not in request.POST:
            return confirmation(page, request, verb, rows, request.get_full_path(), action=f"{verb.name}_action")
        for row in rows:
            if why := misfit(row, verb):
                messages.warning(request, f"{row.name}: not asked for, because {why}.")
        ask(request, [row for row in rows if not misfit(row, verb)], verb, arguments(request, verb))
        return HttpResponseRedirect(request.get_full_path())

    action.__name__ = f"{verb.name}_action"
    return action


def actions(kind: str) -> tuple[Any, ...]:
    """Those of a list: verbs of which nothing more has to be said."""
    return tuple(_action(verb) for verb in paged(kind) if at_once(verb))


class WithVerbs(base.CloudAdmin):
    """Pages of objects that have verbs: an address for each, and what an object's page needs to show its buttons."""

    kind: str
    """The kind of object, as the registry has it."""

    def verb_urls(self) -> list[URLPattern]:
        """One address for each verb."""
        found = []
        for verb in paged(self.kind):
            view = functools.update_wrapper(functools.partial(self.verb, verb=verb), self.verb)
            name = f"fleet_{self.kind}_{verb.name}"
            found.append(path(f"<path:key>/{verb.called}/", self.admin_site.admin_view(view), name=name))
        return found

    def buttons(self, request: HttpRequest, row: Any, fitting: Iterable[str]) -> list[dict[str, Any]]:
        """Those of a row's page. One that asks, or is a form, is a link; the others do it."""
        is_admin, fit = base.actor(request).is_admin, set(fitting)
        return [
            {
                "words": words(verb),
                "title": verb.words.summary,
                "address": reverse(f"admin:fleet_{self.kind}_{verb.page or verb.name}", args=[row.pk]),
                "asks": bool(verb.words.confirm) or not at_once(verb),
                "danger": verb.words.danger,
                "primary": verb.words.primary,
            }
            for verb in paged(self.kind)
            if verb.name in fit and (is_admin or verb.right is not Right.ADMINISTRATOR)
        ]

    def verb(self, request: HttpRequest, key: str, verb: Verb, args: dict[str, Any] | None = None) -> HttpResponse:
        """Ask for a verb; first the question whether it is meant, or the form of what more is to be said."""
        row = self.found(request, key)
        back = base.page_of(self.kind, row.pk)
        if not at_once(verb) and args is None:
            return self.verb_form(request, row, verb)
        if request.method == "POST" and ("confirmed" in request.POST or not verb.words.confirm):
            ask(request, [row], verb, {**(args or {}), **arguments(request, verb)})
            return HttpResponseRedirect(back)
        if self.kind != "ve" and not verb.words.confirm:
            return HttpResponse(status=405)
        return confirmation(self, request, verb, [row], back, **self.question(row, verb, args), trail=self.trail_of(row))

    def question(self, row: Any, verb: Verb, args: dict[str, Any] | None) -> dict[str, Any]:
        """What the question has besides what every verb's has."""
        return {}

    def verb_form(self, request: HttpRequest, row: Any, verb: Verb) -> HttpResponse:
        """The form of a verb's request."""
        form = VerbForm(verb, functools.partial(submit_one, row=row, verb=verb), request.POST or None)
        back = base.page_of(self.kind, row.pk)
        about: dict[str, Any] = {"title": f"{words(verb)} {row.name}", "submit": words(verb), "danger": verb.words.danger}
        about["intro"] = verb.words.confirm or verb.words.summary
        return self.job_form(request, form, done=back, back=back, trail=self.trail_of(row), **about)

    def trail_of(self, row: Any) -> list[tuple[str, str]]:
        """The way to a row's page."""
        return [self.trail(), (row.name, base.page_of(self.kind, row.pk))]
