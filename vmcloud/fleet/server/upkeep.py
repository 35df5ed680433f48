"""What the leader forgets: jobs go to the archive, what is old goes for good. In small pieces, so that nobody waits."""

from __future__ import annotations

import time

from django.contrib.sessions.models import Session
from django.utils import timezone

from vmcloud.directory.errors import Unavailable
from vmcloud.fleet.services import archive, audit, events, feed, tickets, webhooks

from .context import Context

TOGETHER = 50
"""Jobs that are archived in one transaction."""
SECONDS = 0.25
"""How long one turn may go on archiving."""
FORGET = 3600.0
"""Seconds between two looks for what is rarely old enough."""
TICKETS_KEPT = 3600.0
"""Seconds after which a ticket that can not be used any more is forgotten."""


class Upkeep:
    """Once every few seconds; each turn is short."""

    def __init__(self) -> None:
        self._forgot = -FORGET

    def run(self, context: Context) -> None:
        """One turn."""
        now, keep = context.clock(), context.config.keep
        tickets.forget(now - TICKETS_KEPT)
        feed.prune(now, untold=webhooks.told())
        began = time.monotonic()
        while time.monotonic() - began < SECONDS and (numbers := archive.due(now, keep, TOGETHER)):
            with context.leader.transaction():
                archive.take(numbers)
        while time.monotonic() - began < SECONDS and archive.forget(now, keep, TOGETHER):
            pass
        if time.monotonic() - self._forgot > FORGET:
            events.prune(now - keep.events_days * archive.DAY)
            audit.prune(now - keep.events_days * archive.DAY)
            Session.objects.filter(expire_date__lt=timezone.now()).delete()
            try:
                context.directory.forget_tombstones(now - keep.tombstones_days * archive.DAY)
            except Unavailable as error:
                context.projection.down = str(error)
            self._forgot = time.monotonic()
