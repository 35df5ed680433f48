"""Events: what happened and no job tells. Written by the leading server; read by people, beside jobs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet

from vmcloud.domain.errors import Invalid
from vmcloud.domain.vocabulary import EventType
from vmcloud.fleet.models import VE, Event

from . import feed
from .accounts import Actor
from .moments import moment

HEARD_AGAIN = "is heard again"
"""How the text of an event ends that tells of a node's return; all others of the type NODE tell that it is gone."""
FILTERS = ("ve", "node", "type", "project")


def note(
    type: EventType,
    text: str,
    *,
    at: float,
    row: VE | None = None,
    project: str = "",
    owner: str = "",
    ve: UUID | None = None,
    ve_name: str = "",
    node: str = "",
    job: int | None = None,
) -> Event:
    """Write one down, inside the caller's transaction. ``row``: the VE that it is about, instead of its single facts. ``at``:
    when it happened, seconds since the epoch."""
    if row is not None:
        project, owner, ve, ve_name, node = row.project, row.owner, row.uuid, row.name, node or row.node
    about: dict[str, Any] = {"project": project, "owner": owner, "ve": ve, "node": node}
    event = Event.objects.create(at=at, type=type.value, ve_name=ve_name, job=job, text=text[:1000], **about)
    feed.changed("event", str(event.pk), **about)
    return event


def of(actor: Actor, filters: Mapping[str, str] | None = None) -> QuerySet[Event]:
    """Events that the actor may see, newest first: their own VEs' and, of nodes, everybody. Filters: :data:`FILTERS`; ``ve`` is a
    name or a UUID."""
    found = Event.objects.order_by("-id")
    if not actor.is_admin:
        found = found.filter(Q(owner=actor.username) | Q(type=EventType.NODE))
    for name, value in (filters or {}).items():
        if name not in FILTERS:
            raise Invalid(f"no filter is called {name!r}", where=name, todo=f"Known filters: {', '.join(FILTERS)}.")
        found = found.filter(_of_ve(value) if name == "ve" else Q(**{name: value}))
    return found


def _of_ve(ref: str) -> Q:
    try:
        return Q(ve=UUID(ref))
    except ValueError:
        return Q(ve_name=ref)


def events_json(rows: Iterable[Event]) -> list[dict[str, Any]]:
    """Events as people and programs are shown them."""
    return [
        {
            "id": row.pk,
            "at": moment(row.at),
            "type": row.type,
            "text": row.text,
            "project": row.project or None,
            "ve": str(row.ve) if row.ve else None,
            "ve_name": row.ve_name or None,
            "node": row.node or None,
            "job": row.job,
        }
        for row in rows
    ]


def prune(before: float) -> None:
    """Forget what is old."""
    Event.objects.filter(at__lt=before).delete()
