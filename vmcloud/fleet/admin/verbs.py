"""Verbs on VEs: actions of the list and buttons of a VE's page. What takes something away is confirmed first."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

from vmcloud.domain import verbs
from vmcloud.domain.errors import VmcloudError
from vmcloud.domain.vocabulary import Verb
from vmcloud.fleet.models import VE, Job
from vmcloud.fleet.services import offers, submit

from . import base

VERBS = (Verb.START, Verb.STOP, Verb.RESTART, Verb.SUSPEND, Verb.RESUME, Verb.DELETE)
"""Those that need no more than a VE."""

CONFIRMED = {
    Verb.STOP: "Processes are asked to end and are ended after the grace time. Nothing on disk is lost.",
    Verb.RESTART: "It is stopped and started again. Whoever uses it is cut off for that time.",
    Verb.DELETE: "The guest, its disk and its snapshots are removed. This can not be undone.",
    Verb.REVERT: "What was changed since the snapshot is lost. If it runs, it is stopped by force and started again.",
    Verb.DELETE_SNAPSHOT: "The VE stays as it is; it can not be taken back to this snapshot any more.",
}
"""What is asked about before it is done, and what to know then."""


def words(verb: str) -> str:
    """The verb on a button. What alters is the form that has sizes too."""
    return verbs.of(verb).words.button or verb.replace("-", " ").capitalize()


def ask(request: HttpRequest, rows: Iterable[VE], verb: Verb, args: dict[str, Any] | None = None) -> list[Job]:
    """Submit the verb for each; tell the person what came of it."""
    made = []
    key = request.POST.get("key", "")
    for row in rows:
        try:
            who = base.actor(request)
            one = f"{key[:200]}:{row.uuid}" if key else ""
            made.append(submit.act(who, str(row.uuid), verb, args, project=row.project, origin="admin", key=one))
        except VmcloudError as error:
            base.refused(request, error, row.name)
    for job in made[:10]:
        base.asked(request, job)
    if len(made) > 10:
        messages.success(request, f"… and {len(made) - 10} more jobs.")
    return made


def confirmation(page: base.CloudAdmin, request: HttpRequest, verb: Verb, rows: list[VE], back: str, **more: Any) -> HttpResponse:
    """The question before it is done. Rows that the verb does not fit are shown, with why, and left alone."""
    judged = [(row, offers.misfit(row, verb) if verb in VERBS else "") for row in rows]
    fit = [row for row, why in judged if not why]
    what = rows[0].name if len(rows) == 1 else f"{len(fit)} VEs"
    context = {
        "title": more.pop("title", f"{words(verb)} {what}?"),
        "verb": words(verb),
        "warning": CONFIRMED.get(verb, ""),
        "danger": verb in (Verb.DELETE, Verb.REVERT, Verb.DELETE_SNAPSHOT),
        "graceful": verb in (Verb.STOP, Verb.RESTART),
        "judged": judged,
        "fit": fit,
        "key": base.new_key(),
        "back": back,
        **more,
    }
    return page.page(request, "fleet/confirm.html", context)


def arguments(request: HttpRequest, verb: Verb) -> dict[str, Any]:
    """What the confirmation's form says beside the verb."""
    return {"force": True} if verb in (Verb.STOP, Verb.RESTART) and request.POST.get("force") else {}


def _action(verb: Verb) -> Any:
    @admin.action(description=words(verb))
    def action(page: base.CloudAdmin, request: HttpRequest, chosen: QuerySet[VE]) -> HttpResponse | None:
        rows = list(chosen)
        if verb in CONFIRMED and "confirmed" not in request.POST:
            return confirmation(page, request, verb, rows, request.get_full_path(), action=f"{verb.value}_action")
        for row in rows:
            if why := offers.misfit(row, verb):
                messages.warning(request, f"{row.name}: not asked for, because {why}.")
        ask(request, [row for row in rows if not offers.misfit(row, verb)], verb, arguments(request, verb))
        return HttpResponseRedirect(request.get_full_path())

    action.__name__ = f"{verb.value}_action"
    return action


ACTIONS = tuple(_action(verb) for verb in VERBS)
