"""The feed: small rows that say what is not as it was, for pages that follow without reload. Pruned after minutes.

A reader has a :class:`Place` and asks :func:`read` for what has been committed since. SQLite has one writer at a time, so numbers
are in the order of commits. PostgreSQL gives numbers before commits, in any order: there a place is what a snapshot of the
database showed, and news is what the next snapshot shows beside it (decisions, 0023).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import BooleanField, ExpressionWrapper, Q
from django.db.models.expressions import RawSQL

from vmcloud.fleet import gather
from vmcloud.fleet.models import Change

from .accounts import Actor

KEPT = 600.0
"""Seconds that a row stays. Who was away longer is told to look at everything again."""
KEPT_UNTOLD = 86400.0
"""Seconds that rows stay which webhooks have not been told of."""
PRUNED = 5000
"""Rows that one call forgets at most: it looks at no more."""
READ = 1000
"""Rows that one call reads at most."""
_COLUMNS = "id, at, kind, key, project, owner, ve, node"


@dataclass(frozen=True)
class Place:
    """Up to where somebody has read. As text it can be kept, and handed out to be resumed at.

    On PostgreSQL all rows have been read whose transactions ``seen`` (a ``pg_snapshot``) shows as over; and where ``upto`` is
    given, of those that this later snapshot shows the ones up to row ``row`` of transaction ``xact``. Without ``seen`` it is all
    rows up to ``number``, as on SQLite."""

    number: int
    """The highest number read."""
    seen: str = ""
    upto: str = ""
    xact: int = 0
    row: int = 0

    @classmethod
    def parse(cls, text: str) -> Place:
        """The inverse of ``str``. ValueError for what is no place."""
        number, _, horizon = text.partition("-")
        if not all(part.isascii() and part.isdigit() and len(part) < 19 for part in text.split("-", 1)):
            raise ValueError(f"{text[:40]!r} is no place")
        return cls(int(number), f"{int(horizon)}:{int(horizon)}:" if int(horizon or 0) else "")

    @property
    def horizon(self) -> int:
        """All that transactions below this one have written has been read; 0: only ``number`` says what has."""
        if self.upto:
            return min(self.xact, _edges(self.upto)[0])
        return _edges(self.seen)[0] if self.seen else 0

    def __str__(self) -> str:
        return f"{self.number}-{self.horizon}" if self.horizon else str(self.number)


@dataclass(frozen=True)
class News:
    """One change. ``number`` is its row's; ``at``: seconds since the epoch; ``ve`` (UUID) and ``node`` are what it has to do
    with. ``place``: who resumes there misses nothing that comes after it, and may be told again what is of the same moment."""

    number: int
    at: float
    kind: str
    key: str
    project: str
    owner: str
    ve: str
    node: str
    place: str = ""

    def to_json(self) -> dict[str, str]:
        """What a page is told."""
        return {"kind": self.kind, "key": self.key, "project": self.project, "ve": self.ve, "node": self.node}

    def visible_to(self, actor: Actor) -> bool:
        """What belongs to nobody (nodes, images) everybody may know; strays are for administrators."""
        return actor.is_admin or (not self.owner and self.kind != "stray") or actor.may(self.owner)

    def about(self, kinds: frozenset[str], keys: frozenset[str]) -> bool:
        """Whether somebody who asked for these kinds and keys (empty: all) wants it. With a key, all that has to do with that
        object counts; with its kind before it (``node:n1``) only the object itself."""
        known = {self.key, self.ve, self.node, f"{self.kind}:{self.key}"} - {""}
        return (not kinds or self.kind in kinds) and (not keys or not keys.isdisjoint(known))


def changed(kind: str, key: str, *, project: str = "", owner: str = "", ve: UUID | None = None, node: str = "") -> None:
    """Say that something is new, gone, or not as it was; inside the transaction that makes it so."""
    gather.add(Change(at=time.time(), kind=kind, key=key[:200], project=project, owner=owner, ve=ve, node=node))


def cursor() -> Place:
    """Where the feed is: what is committed from now on is news to who looks now."""
    if connection.vendor != "postgresql":
        return Place(_rows("SELECT coalesce(max(id), 0) FROM fleet_change")[0][0])
    return Place(*_rows("SELECT coalesce(max(id), 0), pg_current_snapshot()::text FROM fleet_change")[0])


def read(place: Place, limit: int = READ) -> tuple[list[News], Place]:
    """What has been committed since ``place``, ``limit`` rows at most, each once; and the place after that. Outside of a
    transaction: one that shows nothing new to its statements would be told nothing."""
    if connection.vendor == "postgresql":
        return _by_commit(place, limit)
    rows = _rows(f"SELECT {_COLUMNS} FROM fleet_change WHERE id > %s ORDER BY id LIMIT %s", place.number, limit)
    return [_news(row, str(row[0])) for row in rows], Place(rows[-1][0]) if rows else place


def _by_commit(place: Place, limit: int) -> tuple[list[News], Place]:
    """On PostgreSQL: in numbered steps, (1) what is over by now, unless a read of more rows than one call reads goes on; (2) rows
    of transactions that are over by then and were not before, oldest first, of which a row of this very transaction (a
    test's) is told by its number; (3) the place after them."""
    upto, mine = place.upto, None
    if not upto:
        upto, mine = _rows("SELECT pg_current_snapshot()::text, pg_current_xact_id_if_assigned()::text")[0]
        if upto == place.seen and mine is None:
            return [], place
    if place.seen and _edges(place.seen)[0] > _edges(upto)[1]:
        place = Place(place.number)  # of a database that this one is a copy of, with transactions numbered anew
    new = "id > %s"
    about: list[Any] = [place.number]
    if place.seen:
        new = "xact >= %s::xid8 AND NOT pg_visible_in_snapshot(xact, %s::pg_snapshot)"
        new += " AND (id > %s OR xact::text IS DISTINCT FROM %s)"
        about = [str(_edges(place.seen)[0]), place.seen, place.number, mine]
    rows = _rows(
        f"SELECT {_COLUMNS}, xact::text::bigint FROM fleet_change WHERE {new}"
        " AND (pg_visible_in_snapshot(xact, %s::pg_snapshot) OR xact::text = %s) AND (xact, id) > (%s::xid8, %s)"
        " ORDER BY xact, id LIMIT %s",
        *(*about, upto, mine, str(place.xact), place.row, limit),
    )
    if len(rows) == limit:
        last = replace(place, upto=upto, xact=rows[-1][8], row=rows[-1][0])
    else:
        last = Place(max([place.number, *(row[0] for row in rows)]), upto)
    found = [_news(row, str(replace(place, upto=upto, xact=row[8], row=row[0]))) for row in rows[:-1]]
    return [*found, *(_news(row, str(last)) for row in rows[-1:])], last


def _edges(snapshot: str) -> tuple[int, int]:
    """Of a ``pg_snapshot``: the lowest transaction that was not over, and the first that had not begun."""
    low, high, _ = snapshot.split(":")
    return int(low), int(high)


def _news(row: Sequence[Any], place: str) -> News:
    number, at, kind, key, project, owner, ve, node = row[:8]
    known = str(ve if isinstance(ve, UUID) else UUID(ve)) if ve else ""
    return News(number, at, kind, key, project, owner, known, node, place)


def _rows(statement: str, *values: Any) -> list[Sequence[Any]]:
    """Written out, since making a statement takes Django longer than answering it takes the database."""
    with connection.cursor() as found:
        found.execute(statement, values or None)
        rows: list[Sequence[Any]] = found.fetchall()
        return rows


def reaches_back(place: Place) -> bool:
    """Whether nothing after ``place`` has been pruned."""
    first = _rows("SELECT min(id) FROM fleet_change")[0][0]
    return first is None or place.number >= first - 1


def prune(now: float, *, untold: Place | None = None) -> None:
    """Forget what is old, the oldest first and so many at most; the newest row stays, for its number, and for :data:`KEPT_UNTOLD`
    what comes after the place ``untold``, which somebody is still to be told of."""
    told: Any = Q(id__lte=untold.number) if untold is not None else ~Q(id=None)
    if untold is not None and untold.horizon and connection.vendor == "postgresql":
        mine = "xact::text IS NOT DISTINCT FROM pg_current_xact_id_if_assigned()::text"  # of a test's own transaction
        told = RawSQL(f"xact < %s::xid8 OR ({mine} AND id <= %s)", [str(untold.horizon), untold.number])
    oldest = Change.objects.filter(id__lt=cursor().number).annotate(told=ExpressionWrapper(told, output_field=BooleanField()))
    rows = oldest.order_by("id").values_list("id", "at", "told")[:PRUNED]
    if old := list(takewhile(lambda row: row[1] < now - (KEPT if row[2] else KEPT_UNTOLD), rows)):
        Change.objects.filter(id__lte=old[-1][0]).delete()
