"""What happened since somebody was last told, from the feed of changes.

The feed says that a job or an event is new or changed; what happened is read off the rows themselves, so that nothing is lost
when many changes are seen as one. A happening's id is made of what it is about and when it was: the same one read twice is the
same one. A row of the feed tells what was written down with it, or shortly before: whoever is told anew may be told that again,
never what is older.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

from django.db.models import Min

from vmcloud.domain.happenings import Happening
from vmcloud.domain.vocabulary import EventType
from vmcloud.fleet.models import Event, Job, JobEvent, Watermark
from vmcloud.fleet.services import events, feed, views
from vmcloud.fleet.services.events import HEARD_AGAIN
from vmcloud.fleet.services.feed import News, Place

log = logging.getLogger("herald")

SLACK = 120.0
"""Seconds by which a row of the feed may be later than what it tells, or by another machine's clock earlier."""
TOLD_MAX = 10_000
"""Happenings that are remembered as told: the next row about the same object tells some of them again."""
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
        self._kept, self._place = "", Place(0)
        """The place as SQL keeps it, and the same more exactly, or further where nothing was to be told."""

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

    def news(self) -> tuple[list[Happening], tuple[Place, float] | None]:
        """What happened after its place, oldest first, and the place after that; None where nothing did."""
        text = Watermark.objects.values_list("version", flat=True).filter(name=self.name).first()
        if text is None:
            return [], None
        if text != self._kept:
            self._kept, self._place = text, Place.parse(text or "0")
        rows, place = feed.read(self._place)
        if not rows:
            self._place = place
            return [], None
        found = [*_of_jobs(_first(rows, "job"), self._since), *_of_events(_first(rows, "event"), self._since)]
        return sorted((each for each in found if each.id not in self._told), key=lambda each: each.at), (place, rows[-1].at)

    def move(self, place: tuple[Place, float], told: Iterable[Happening]) -> None:
        """It has been told all up to there; ``told``: the last of it."""
        for each in told:
            self._told[each.id] = None
        while len(self._told) > TOLD_MAX:
            self._told.popitem(last=False)
        number, at = place
        Watermark.objects.filter(name=self.name).update(version=str(number), synced_at=at)
        self._kept, self._place = str(number), number


def _first(rows: Iterable[News], kind: str) -> dict[int, float]:
    """What these rows say of one kind: numbers, each with the time of its first row."""
    found: dict[int, float] = {}
    for row in rows:
        if row.kind == kind:
            found[int(row.key)] = min(row.at, found.get(int(row.key), row.at))
    return found


def _of_jobs(told: Mapping[int, float], since: float) -> Iterable[Happening]:
    rows = list(Job.objects.filter(pk__in=list(told)))
    queued = _queued([row for row in rows if row.created_at < told[row.pk] - SLACK])
    for row, shown in zip(rows, views.jobs_json(rows), strict=True):
        data: dict[str, Any] = {name: shown[name] for name in TOLD_OF_A_JOB}
        moments = (("queued", row.created_at), ("begun", row.started_at), ("ended", row.ended_at))
        for word, at in moments:
            if at is None:
                continue
            written = max(at, queued.get(row.pk, at)) if word == "queued" else at
            if written >= max(since, told[row.pk] - SLACK):
                yield Happening(f"job-{row.pk}-{word}-{int(at * 1000)}", f"job.{word}", at, row.project, row.owner, data)


def _queued(rows: Iterable[Job]) -> dict[int, float]:
    """When these jobs came into their queues, by their histories: one that claims many names is much older."""
    if not (numbers := [row.pk for row in rows]):
        return {}
    return dict(JobEvent.objects.filter(job__in=numbers).order_by().values_list("job").annotate(at=Min("at")))


def _of_events(told: Mapping[int, float], since: float) -> Iterable[Happening]:
    rows = [row for row in Event.objects.filter(pk__in=list(told)) if row.at >= max(since, told[row.pk] - SLACK)]
    for row, data in zip(rows, events.events_json(rows), strict=True):
        kind = f"ve.{row.type}"
        if row.type == EventType.NODE:
            kind = "node.up" if row.text.endswith(HEARD_AGAIN) else "node.down"
        yield Happening(f"event-{row.pk}-{int(row.at * 1000)}", kind, row.at, row.project, row.owner, data)
