"""What happened since somebody was last told, from the feed of changes.

The feed says that a job or an event is new or changed; what happened is read off the rows themselves, so that nothing is lost
when many changes are seen as one. A happening's id is made of what it is about and when it was: the same one read twice is the
same one. Whoever was told up to a moment may be told again of what happened shortly before it, never of what is older.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from vmcloud.domain.happenings import Happening
from vmcloud.domain.vocabulary import EventType
from vmcloud.fleet.models import Event, Job, Watermark
from vmcloud.fleet.services import events, feed, views
from vmcloud.fleet.services.events import HEARD_AGAIN

log = logging.getLogger("herald")

SLACK = 120.0
"""Seconds by which a change may be written down later, or by another machine's clock earlier, than it happened."""
TOLD_MAX = 10_000
"""Happenings that are remembered as told: the feed is read with some of its past."""
TOLD_OF_A_JOB = (
    *("id", "ref", "part_of", "index", "array", "verb", "ve", "ve_name", "project", "kind", "node", "owner", "queue", "origin"),
    *("state", "state_name", "reason", "outcome", "error", "created", "started", "ended"),
)


class Line:
    """One reader of the feed, with its place in it kept in SQL."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._begun: bool | None = None
        self._since = 0.0
        self._told: OrderedDict[str, None] = OrderedDict()

    def begin(self, now: float) -> None:
        """Where it has no place yet: here."""
        if not self._begun:
            place = {"version": str(feed.cursor()), "synced_at": now}
            _, fresh = Watermark.objects.get_or_create(name=self.name, defaults=place)
            log.info("%s are told of what happens %s", self.name, "from now on" if fresh else "since they were told last")
            self._begun, self._since = True, now if fresh else 0.0

    def leave(self) -> None:
        """Give its place up."""
        if self._begun is not False:
            Watermark.objects.filter(name=self.name).delete()
            self._begun = False

    def news(self) -> tuple[list[Happening], tuple[int, float] | None]:
        """What happened after its place, oldest first, and the place after that; None where nothing did."""
        place = Watermark.objects.filter(name=self.name).first()
        if place is None:
            return [], None
        number = int(place.version or 0)
        rows = feed.since(number)
        if not rows or rows[-1].number <= number:
            return [], None
        jobs, told = ({int(row.key) for row in rows if row.kind == kind} for kind in ("job", "event"))
        found = [*_of_jobs(jobs), *_of_events(told)]
        since = max(self._since, place.synced_at - SLACK)
        new = (each for each in found if each.at >= since and each.id not in self._told)
        return sorted(new, key=lambda each: each.at), (rows[-1].number, rows[-1].at)

    def move(self, place: tuple[int, float], told: Iterable[Happening]) -> None:
        """It has been told all up to there; ``told``: the last of it."""
        for each in told:
            self._told[each.id] = None
        while len(self._told) > TOLD_MAX:
            self._told.popitem(last=False)
        number, at = place
        Watermark.objects.filter(name=self.name).update(version=str(number), synced_at=at)


def _of_jobs(numbers: Iterable[int]) -> Iterable[Happening]:
    rows = list(Job.objects.filter(pk__in=list(numbers)))
    for row, shown in zip(rows, views.jobs_json(rows), strict=True):
        data: dict[str, Any] = {name: shown[name] for name in TOLD_OF_A_JOB}
        moments = (("queued", row.created_at), ("begun", row.started_at), ("ended", row.ended_at))
        for word, at in moments:
            if at is not None:
                yield Happening(f"job-{row.pk}-{word}-{int(at * 1000)}", f"job.{word}", at, row.project, row.owner, data)


def _of_events(numbers: Iterable[int]) -> Iterable[Happening]:
    rows = list(Event.objects.filter(pk__in=list(numbers)))
    for row, data in zip(rows, events.events_json(rows), strict=True):
        kind = f"ve.{row.type}"
        if row.type == EventType.NODE:
            kind = "node.up" if row.text.endswith(HEARD_AGAIN) else "node.down"
        yield Happening(f"event-{row.pk}-{int(row.at * 1000)}", kind, row.at, row.project, row.owner, data)
