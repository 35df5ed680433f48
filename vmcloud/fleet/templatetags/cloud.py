"""Template tags of the admin pages: statuses, times, sizes, bars, form fields."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from django import template
from django.forms import BoundField
from django.template import Context
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from vmcloud.domain.vocabulary import JobState
from vmcloud.fleet.models import Job, Step, StepState
from vmcloud.fleet.services import views

register = template.Library()

TONES = {
    "good": ("running", "up", "ok", "done", "delivered", "on"),
    "bad": ("error", "failed", "lost", "crashed", "duplicate", "wrong-node", "down", "orphan", "refused", "timed-out", "failing"),
    "busy": ("pending", "starting", "stopping", "deleting", "queued", "exiting", "claiming", "sent", "accepted", "migrating"),
    "held": ("unknown", "held", "waiting", "cordoned", "maintenance", "cancelled", "suspended"),
}
"""What a word's colour says; a word that is nowhere here is plain."""

_TONE_OF = {word: tone for tone, words in TONES.items() for word in words}


@register.simple_tag
def status(word: str | None, tone: str = "") -> SafeString | str:
    """A status word with its colour. The word says all; the colour only helps to find it."""
    if not word:
        return ""
    return format_html('<span class="vmc-status vmc-{}">{}</span>', tone or _TONE_OF.get(word, "plain"), word)


@register.filter
def tag(word: str) -> SafeString:
    """A word that sorts, without a colour: the type of an event."""
    return format_html('<span class="vmc-tag">{}</span>', word)


@register.filter
def coded(text: str) -> SafeString:
    """A sentence in which what stands between backticks is to be typed."""
    parts = enumerate(text.split("`"))
    return format_html_join("", "{}", ((format_html("<code>{}</code>", part) if place % 2 else part,) for place, part in parts))


def _scaled(amount: float, units: tuple[str, ...]) -> str:
    """In the largest unit of which there is one at least, with three digits that count."""
    place = 0
    while amount >= 1024 and place < len(units) - 1:
        amount, place = amount / 1024, place + 1
    return f"{amount:.0f} {units[place]}" if amount >= 100 else f"{amount:.3g} {units[place]}"


@register.filter
def mib(amount: float | None) -> str:
    """Memory or disk in MiB, for people: 512 MiB, 1.5 GiB."""
    return "" if amount is None else _scaled(amount, ("MiB", "GiB", "TiB", "PiB"))


@register.filter
def size(amount: int | None) -> str:
    """Bytes, for people."""
    return "" if amount is None else _scaled(amount, ("B", "KiB", "MiB", "GiB", "TiB", "PiB"))


def seconds(moment: float | str | None) -> float | None:
    """A time from SQL (seconds) or from what the API shows (ISO 8601), as seconds."""
    if not moment:
        return None
    return datetime.fromisoformat(moment).timestamp() if isinstance(moment, str) else float(moment)


def ago(passed: float) -> str:
    """How long ago, in words. The script of the pages says the same (``static/fleet/live.js``)."""
    if passed < 5:
        return "now"
    for limit, unit, name in ((90, 1, "s"), (5400, 60, "min"), (129600, 3600, "h")):
        if passed < limit:
            return f"{round(passed / unit)} {name} ago"
    return f"{round(passed / 86400)} days ago"


@register.filter
def when(moment: float | str | None) -> SafeString | str:
    """A time: how long ago, with the exact time on hover."""
    at = seconds(moment)
    return "" if at is None else _time(at, ago(time.time() - at))


@register.filter
def clock(moment: float | str | None) -> SafeString | str:
    """A time of day to the millisecond, with the date on hover: for steps, whose order matters."""
    at = seconds(moment)
    return "" if at is None else _time(at, _exact(at)[11:23], format_html(' class="{}"', "vmc-exact"))


def _time(at: float, shown: str, attributes: str = "") -> SafeString:
    date = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return format_html('<time{} datetime="{}" title="{}">{}</time>', attributes, _exact(at), date, shown)


def _exact(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")


@register.filter
def lasted(passed: float | None) -> str:
    """A span of time (seconds), for people."""
    if passed is None:
        return ""
    if passed < 1:
        return f"{passed * 1000:.0f} ms"
    return f"{passed:.1f} s" if passed < 90 else f"{passed / 60:.1f} min" if passed < 5400 else f"{passed / 3600:.1f} h"


@register.simple_tag
def bar(part: float | None, whole: float | None, label: str, tone: str = "") -> SafeString:
    """A bar that shows ``part`` of ``whole``; ``label`` says the same in words. From 90 % on it warns."""
    share = 0.0 if not whole else max(0.0, min(100.0, 100 * (part or 0) / whole))
    tone = tone or ("bad" if share > 97 else "busy" if share > 90 else "good")
    return format_html(
        '<svg class="vmc-bar vmc-{}" role="img" aria-label="{}" width="100%" height="8" preserveAspectRatio="none">'
        '<rect class="vmc-bar-all" width="100%" height="8" rx="4"/>'
        '<rect class="vmc-bar-part" width="{}%" height="8" rx="4"/></svg>',
        tone,
        label,
        f"{share:.1f}",
    )


@register.inclusion_tag("fleet/parts/field.html")
def field(bound: BoundField, note: str = "") -> dict[str, Any]:
    """One field of a form with its label, help, and what is wrong with it, tied together for screen readers."""
    described = [
        f"{bound.auto_id}-{part}" for part, there in (("help", bound.help_text or note), ("wrong", bound.errors)) if there
    ]
    attrs: dict[str, Any] = (
        {"class": "vmc-input", "aria-describedby": " ".join(described)} if described else {"class": "vmc-input"}
    )
    if bound.errors:
        attrs["aria-invalid"] = "true"
    return {"field": bound, "widget": bound.as_widget(attrs={**bound.field.widget.attrs, **attrs}), "note": note}


@register.inclusion_tag("fleet/parts/rows.html", takes_context=True)
def rows(context: Context) -> dict[str, Any]:
    """The table of a list: what the admin's methods say of each row, under the columns' names, as a card each on a phone."""
    from django.contrib.admin.templatetags.admin_list import result_headers

    changelist = context["cl"]
    admin, request = changelist.model_admin, context["request"]
    names = list(changelist.list_display)
    headers = list(result_headers(changelist))
    titles = [str(header["text"]) for header in headers]
    for header, name in zip(headers, names, strict=True):
        header["name"] = name
    body = []
    for row in changelist.result_list:
        cells = [
            {"name": name, "title": title, "value": _cell(admin, name, row), "first": place == 0}
            for place, (name, title) in enumerate((n, t) for n, t in zip(names, titles, strict=True) if n != "action_checkbox")
        ]
        body.append({"pk": row.pk, "label": str(row), "cells": cells})
    return {
        "cl": changelist,
        "headers": [header for header in headers if header["name"] != "action_checkbox"],
        "body": body,
        "choose": "action_checkbox" in names,
        "empty": admin.empty_words(request, bool(changelist.query or changelist.has_active_filters)),
        "filtered": bool(changelist.query or changelist.has_active_filters),
    }


def _cell(admin: Any, name: str, row: Any) -> Any:
    found = getattr(admin, name, None)
    return found(row) if callable(found) else getattr(row, name)


@register.simple_tag
def job_status(job: Job) -> SafeString | str:
    """A job's outcome once it is complete, else its state; a running job is busy, unlike a running VE."""
    word = job.outcome if job.state == JobState.COMPLETE else views.STATE_WORDS[JobState(job.state)]
    return status(word, "busy" if job.state == JobState.RUNNING else "")


@register.simple_tag
def step_status(step: Step) -> SafeString | str:
    """The same of a step."""
    return status(step.outcome if step.state == StepState.DONE else step.state, "busy" if step.state == StepState.RUNNING else "")
