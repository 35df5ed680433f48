"""The outbox: what webhooks are to be told, what is due, and how attempts ended. Every function is one short transaction."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F

from vmcloud.config import WebhookSettings
from vmcloud.domain.happenings import NODE_TYPES, Happening, wants
from vmcloud.domain.webhooks import ATTEMPTS, check_url, pause
from vmcloud.fleet.services import audit, webhooks
from vmcloud.fleet.services.accounts import Actor, actor_of
from vmcloud.fleet.services.audit import Door
from vmcloud.fleet.services.feed import Place
from vmcloud.fleet.webhook_models import Delivery, DeliveryState, Webhook

from .gather import Line
from .post import Answer

log = logging.getLogger(__name__)

TOGETHER = 100
"""Messages that are sent to one receiver before it is looked who else waits."""
WAITING_MAX = 10_000
"""Messages that may wait for one webhook; the oldest are given up beyond."""
KEPT, KEPT_EACH = 7 * 86400.0, 1000
"""Seconds that a message which has ended is kept, and how many of one webhook."""


@dataclass(frozen=True)
class Message:
    """One message: its row, what it is about, its body."""

    number: int
    event: str
    body: str


@dataclass(frozen=True)
class Bundle:
    """What is to be sent to one receiver now. ``admin``: whether its owner is an administrator."""

    webhook: int
    url: SplitResult
    secret: str
    admin: bool
    messages: tuple[Message, ...]


def keep(happenings: Sequence[Happening], line: Line, place: tuple[Place, float]) -> None:
    """Write down what each webhook is to be told, and that all is told up to there."""
    rows = list(Webhook.objects.filter(enabled=True))
    owners = _owners(rows)
    made = [
        Delivery(webhook=row, event=each.id, type=each.type, at=each.at, body=webhooks.payload(each))
        for each in happenings
        for row in rows
        if wants(row.types, each.type) and _concerns(row, owners.get(row.owner), each)
    ]
    with transaction.atomic():
        Delivery.objects.bulk_create(made, ignore_conflicts=True, batch_size=500)
        line.move(place, happenings)


def _owners(rows: Iterable[Webhook]) -> dict[str, Actor]:
    users = User.objects.filter(username__in={row.owner for row in rows}, is_active=True)
    return {user.get_username(): actor_of(user) for user in users}


def _concerns(row: Webhook, owner: Actor | None, happening: Happening) -> bool:
    """Whether its owner may know of it, and it is of the webhook's project and time."""
    if owner is None or happening.at < row.created_at or (row.project and row.project != happening.project):
        return False
    return owner.is_admin or happening.owner == owner.username or happening.type in NODE_TYPES


def due(now: float, busy: Iterable[int], limit: int) -> list[Bundle]:
    """What is to be sent now to receivers that are not busy, ``limit`` of them at most. What has failed before comes last: a
    message that a receiver never takes must not hold up the others."""
    rows = Webhook.objects.filter(enabled=True, next_at__lte=now).exclude(pk__in=list(busy)).order_by("next_at", "id")
    found: list[Bundle] = []
    for row in rows:
        waiting = Delivery.objects.filter(webhook=row, state=DeliveryState.WAITING, next_at__lte=now)
        first = list(waiting.order_by("attempts", "id").values_list("id", "event", "body")[:TOGETHER])
        if not first:
            continue
        if (owner := _owners([row]).get(row.owner)) is None:
            _disable(row, "its owner can not log in any more")
            continue
        messages = tuple(Message(*each) for each in first)
        found.append(Bundle(row.pk, check_url(row.url), row.secret, owner.is_admin, messages))
        if len(found) == limit:
            break
    return found


def record(number: int, answers: Sequence[tuple[Message, Answer]], settings: WebhookSettings) -> None:
    """Write down how attempts ended; after the first that failed no other was made."""
    now = time.time()
    with transaction.atomic():
        row = Webhook.objects.filter(pk=number).first()
        if row is None or not answers:
            return
        taken = [message.number for message, answer in answers if answer.ok]
        done = {"state": DeliveryState.DELIVERED, "attempts": F("attempts") + 1, "error": "", "ended_at": now}
        for code in {answer.code for _, answer in answers if answer.ok}:
            numbers = [message.number for message, answer in answers if answer.ok and answer.code == code]
            Delivery.objects.filter(pk__in=numbers).update(**done, code=code)
        if taken:
            row.failures, row.failing_since, row.next_at = 0, None, 0.0
        message, answer = answers[-1]
        row.last_at, row.last_code = now, answer.code
        if answer.refused:
            audit.denied(Door.WEBHOOK, f"webhook to {row.url}", answer.error, who=row.owner)
        if not answer.ok:
            _failed(row, message, answer, now, settings)
        row.save(update_fields=["failures", "failing_since", "next_at", "last_at", "last_code"])


def _failed(row: Webhook, message: Message, answer: Answer, now: float, settings: WebhookSettings) -> None:
    """One attempt failed: this message, and the whole webhook, wait for longer and longer; some day they are given up."""
    attempts = Delivery.objects.values_list("attempts", flat=True).filter(pk=message.number).first() or 0
    rest = {"attempts": attempts + 1, "code": answer.code, "error": answer.error[:500]}
    wait = max(pause(attempts + 1, settings.pause, random.random()), answer.after)
    given_up = {"state": DeliveryState.FAILED, "ended_at": now} if attempts + 1 >= ATTEMPTS else {"next_at": now + wait}
    Delivery.objects.filter(pk=message.number).update(**rest, **given_up)
    row.failures, row.failing_since = row.failures + 1, row.failing_since or now
    row.next_at = now + max(pause(row.failures, settings.pause, random.random()), answer.after)
    if answer.gone:
        _disable(row, "its receiver answered 410: it wants no more of it")
    elif now - row.failing_since > settings.patience:
        _disable(row, f"nothing was delivered for {settings.patience / 3600:g} hours; the last answer was: {answer.error}")


def _disable(row: Webhook, why: str) -> None:
    log.warning("webhook %d (%s) is disabled: %s", row.pk, row.url, why)
    Webhook.objects.filter(pk=row.pk).update(enabled=False, reason=why[:500])
    ended = {"state": DeliveryState.FAILED, "error": "the webhook was disabled", "ended_at": time.time()}
    Delivery.objects.filter(webhook=row, state=DeliveryState.WAITING).update(**ended)


def prune(now: float) -> None:
    """Give up what waits beyond the limit, forget what has ended long ago."""
    over = {"state": DeliveryState.FAILED, "error": f"more than {WAITING_MAX} messages waited", "ended_at": now}
    for number in Webhook.objects.values_list("pk", flat=True):
        rows = Delivery.objects.filter(webhook=number).order_by("-id")
        waiting, ended = rows.filter(state=DeliveryState.WAITING), rows.exclude(state=DeliveryState.WAITING)
        if last := waiting.values_list("id", flat=True)[WAITING_MAX:].first():
            waiting.order_by().filter(id__lte=last).update(**over)
        if last := ended.values_list("id", flat=True)[KEPT_EACH:].first():
            ended.order_by().filter(id__lte=last).delete()
        ended.order_by().filter(ended_at__lt=now - KEPT).delete()
