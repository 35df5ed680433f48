"""Webhooks: look, make, alter, remove, try out; and what was sent."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from django.db import transaction
from django.db.models import Count, Q, QuerySet

from vmcloud.domain import webhooks as rules
from vmcloud.domain.errors import Conflict, Invalid, NotFound
from vmcloud.domain.happenings import TEST, Happening
from vmcloud.domain.hints import Hint
from vmcloud.domain.webhooks import Subscription
from vmcloud.fleet import ports
from vmcloud.fleet.models import Watermark
from vmcloud.fleet.webhook_models import Delivery, DeliveryState, Webhook

from . import audit, feed
from .accounts import Actor
from .audit import Door
from .moments import moment

EACH_MAX = 20
"""Webhooks of one user who is no administrator."""
LINE = "webhooks"
"""The cursor of those who gather what webhooks are to be told."""
HINT = Hint("{} shows yours.", "webhook.list")


def of(actor: Actor) -> QuerySet[Webhook]:
    """Webhooks that the actor may see: their own, or all."""
    found = Webhook.objects.order_by("id")
    return found if actor.is_admin else found.filter(owner=actor.username)


def get(actor: Actor, number: int) -> Webhook:
    """One webhook; :class:`NotFound` if there is none that the actor may see."""
    found = of(actor).filter(pk=number).first()
    if found is None:
        raise NotFound(f"there is no webhook {number}", where="webhook", todo=HINT)
    return found


def create(actor: Actor, data: object) -> Webhook:
    """A new one; it is told of what happens from now on."""
    said = _object(data)
    secret = rules.check_secret(said.pop("secret")) if "secret" in said else rules.secret_of(os.urandom(32))
    wanted = Subscription.parse(said)
    _check_address(actor, wanted.url)
    if not actor.is_admin and Webhook.objects.filter(owner=actor.username).count() >= EACH_MAX:
        raise Conflict(f"you have {EACH_MAX} webhooks", where="webhook", todo=Hint("Remove one first: {}.", "webhook.delete"))
    now = time.time()
    with transaction.atomic():
        _begin_line(now)
        return Webhook.objects.create(owner=actor.username, secret=secret, created_at=now, **_columns(wanted))


def alter(actor: Actor, number: int, data: object) -> Webhook:
    """What is given is changed. Enabled anew, it begins with a clean slate: what failed before is not sent again."""
    row, said = get(actor, number), _object(data)
    if not said:
        raise Invalid("nothing to alter was given", where="body")
    if "secret" in said:
        row.secret = rules.check_secret(said.pop("secret"))
    wanted = _subscription(row).altered(said)
    if wanted.url != row.url:
        _check_address(actor, wanted.url)
    with transaction.atomic():
        if wanted.enabled and not row.enabled:
            _begin_line(time.time())
            row.failures, row.failing_since, row.next_at, row.reason = 0, None, 0.0, ""
        for name, value in _columns(wanted).items():
            setattr(row, name, value)
        row.save()
    return row


def remove(actor: Actor, number: int) -> None:
    """Remove it, and what waits for it."""
    get(actor, number).delete()


def test(actor: Actor, number: int) -> Delivery:
    """Have a message sent that tells of nothing but itself."""
    row = get(actor, number)
    if not row.enabled:
        todo = Hint("Enable it: {}.", "webhook.set", {"webhook": str(number), "enabled": True})
        raise Conflict(f"webhook {number} is disabled", where="webhook", why=row.reason, todo=todo)
    now = time.time()
    happening = Happening(f"test-{os.urandom(8).hex()}", TEST, now, "", "", {"webhook": number, "asked_by": actor.username})
    return Delivery.objects.create(webhook=row, event=happening.id, type=TEST, at=now, body=payload(happening))


def delivery(actor: Actor, number: int, key: int) -> Delivery:
    """One message of a webhook."""
    found = get(actor, number).deliveries.filter(pk=key).first()
    if found is None:
        todo = Hint("{} shows those that are kept.", "webhook.deliveries", {"webhook": str(number)})
        raise NotFound(f"webhook {number} has no message {key}", where="delivery", todo=todo)
    return found


def payload(happening: Happening) -> str:
    """The body of a message."""
    told = {"id": happening.id, "type": happening.type, "timestamp": moment(happening.at), "data": happening.data}
    return json.dumps(told, separators=(",", ":"), ensure_ascii=False)


def _object(data: object) -> dict[str, Any]:
    if not isinstance(data, Mapping):
        raise Invalid("a JSON object is needed", todo='Send {"url": "https://example.org/hook"}.')
    return dict(data)


def _check_address(actor: Actor, url: str) -> None:
    """Refuse at once what could never be sent to. What a name stands for is looked at each time when something is sent."""
    try:
        why = rules.why_not(rules.check_url(url).hostname or "", admin=actor.is_admin, networks=ports.cloud().webhooks.networks)
    except ValueError:
        return
    if why:
        audit.denied(Door.WEBHOOK, f"webhook to {url}", why, who=actor.username)
        raise Invalid("nothing may be sent there", where="url", why=why)


def _subscription(row: Webhook) -> Subscription:
    return Subscription(row.url, tuple(row.types), row.project, row.description, row.enabled)


def _columns(wanted: Subscription) -> dict[str, Any]:
    return {**asdict(wanted), "types": list(wanted.types)}


def _begin_line(now: float) -> None:
    """Where nobody was told of anything so far, telling begins now."""
    if not Webhook.objects.filter(enabled=True).exists():
        Watermark.objects.update_or_create(name=LINE, defaults={"version": str(feed.cursor()), "synced_at": now})


def told() -> feed.Place | None:
    """Up to where in the feed webhooks have been told; None where there are none to tell."""
    version = Watermark.objects.filter(name=LINE).values_list("version", flat=True).first()
    return feed.Place.parse(version) if version and Webhook.objects.filter(enabled=True).exists() else None


def webhooks_json(rows: Iterable[Webhook]) -> list[dict[str, Any]]:
    """Webhooks as people and programs are shown them; never their secrets."""
    rows = list(rows)
    counts = Delivery.objects.filter(webhook__in=rows).values_list("webhook").order_by()
    counted = counts.annotate(
        waiting=Count("id", filter=Q(state=DeliveryState.WAITING)), failed=Count("id", filter=Q(state=DeliveryState.FAILED))
    )
    full = {number: (waiting, failed) for number, waiting, failed in counted}
    return [_webhook_json(row, *full.get(row.pk, (0, 0))) for row in rows]


def _webhook_json(row: Webhook, waiting: int, failed: int) -> dict[str, Any]:
    return {
        "id": row.pk,
        "url": row.url,
        "types": row.types,
        "project": row.project or None,
        "description": row.description,
        "owner": row.owner,
        "enabled": row.enabled,
        "reason": row.reason,
        "waiting": waiting,
        "failed": failed,
        "failures": row.failures,
        "failing_since": moment(row.failing_since),
        "next_try": moment(row.next_at) if row.failures else None,
        "last": moment(row.last_at),
        "last_code": row.last_code,
        "created": moment(row.created_at),
    }


def deliveries_json(rows: Iterable[Delivery]) -> list[dict[str, Any]]:
    """What was or is to be sent."""
    return [
        {
            "id": row.pk,
            "event": row.event,
            "type": row.type,
            "at": moment(row.at),
            "state": row.state,
            "attempts": row.attempts,
            "next_try": moment(row.next_at) if row.state == DeliveryState.WAITING else None,
            "code": row.code,
            "error": row.error,
            "ended": moment(row.ended_at),
        }
        for row in rows
    ]
