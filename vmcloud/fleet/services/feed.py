"""The feed: small rows that say what is not as it was, for pages that follow without reload. Pruned after minutes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from uuid import UUID

from django.db.models import Q

from vmcloud.fleet import gather
from vmcloud.fleet.models import Change

from .accounts import Actor

KEPT = 600.0
"""Seconds that a row stays. Who was away longer is told to look at everything again."""
KEPT_UNTOLD = 86400.0
"""Seconds that rows stay which webhooks have not been told of."""
PRUNED = 5000
"""Rows that one call forgets at most: it looks at no more."""
SLACK, SLACK_SECONDS = 200, 5.0
"""Rows before a cursor that are read once more while they are new: of two transactions the one with the lower number may commit
later."""


@dataclass(frozen=True)
class News:
    """One change. ``number`` grows; ``at``: seconds since the epoch; ``ve`` (UUID) and ``node`` are what it has to do with."""

    number: int
    at: float
    kind: str
    key: str
    project: str
    owner: str
    ve: str
    node: str

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


def cursor() -> int:
    """The number of the newest row; what comes after it is news to who looks now."""
    return Change.objects.order_by("-id").values_list("id", flat=True).first() or 0


def since(number: int, limit: int = 1000) -> list[News]:
    """Rows after ``number``, oldest first, and some new ones from before it that may have been told already."""
    new = Q(id__gt=number) | Q(at__gt=time.time() - SLACK_SECONDS)
    rows = Change.objects.filter(new, id__gt=number - SLACK).order_by("id")[: limit + SLACK]
    return [News(row.pk, row.at, row.kind, row.key, row.project, row.owner, str(row.ve or ""), row.node) for row in rows]


def reaches_back(number: int) -> bool:
    """Whether nothing after ``number`` has been pruned."""
    first = Change.objects.order_by("id").values_list("id", flat=True).first()
    return number >= cursor() if first is None else number >= first - 1


def prune(now: float, *, untold: int | None = None) -> None:
    """Forget what is old, the oldest first and so many at most; the newest row stays, for its number, and for :data:`KEPT_UNTOLD`
    what comes after row ``untold``, which somebody is still to be told of."""
    oldest = Change.objects.filter(id__lt=cursor()).order_by("id").values_list("id", "at")[:PRUNED]
    told = float("inf") if untold is None else untold
    if old := [number for number, at in oldest if at < now - (KEPT if number <= told else KEPT_UNTOLD)]:
        Change.objects.filter(id__lte=old[-1]).delete()
