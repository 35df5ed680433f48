"""What nodes claim to have, and what of it counts (:mod:`vmcloud.domain.capacity`): kept, told, confirmed.

This machine's own node is always believed: its worker is root beside the server, and a machine alone needs no extra step.
"""

from __future__ import annotations

import time

from django.db.models import Count

from vmcloud.domain import capacity
from vmcloud.domain.capacity import STRAYS_MAX, Capacity
from vmcloud.domain.errors import NotFound
from vmcloud.domain.hints import Hint
from vmcloud.domain.reconcile import Report, Rule
from vmcloud.domain.vocabulary import EventType
from vmcloud.fleet import ports
from vmcloud.fleet.audit_models import ConfirmedCapacity
from vmcloud.fleet.models import Node, Stray

from . import events
from .accounts import Actor

Confirmed = dict[str, Capacity]


def confirmed() -> Confirmed:
    """What counts of each node that is not believed anyway, by name."""
    node = ports.cloud().node
    own = () if node.simulate else node.names
    return {row.node: _capacity(row) for row in ConfirmedCapacity.objects.exclude(node__in=own)}


def believed(row: Node, known: Confirmed) -> Capacity:
    """What placement may count on."""
    return capacity.believed(_capacity(row), known.get(row.name))


def keep(now: float) -> None:
    """Write down what nodes have that were not heard before, and forget nodes that are no more; inside a transaction."""
    rows = {row.name: row for row in Node.objects.filter(cpus__gt=0)}
    known = set(ConfirmedCapacity.objects.values_list("node", flat=True))
    ConfirmedCapacity.objects.bulk_create([_row(row, "", now) for name, row in rows.items() if name not in known])
    if gone := known - set(Node.objects.values_list("name", flat=True)):
        ConfirmedCapacity.objects.filter(node__in=gone).delete()


def unknown() -> bool:
    """Whether :func:`keep` has anything to do."""
    kept = ConfirmedCapacity.objects.values("node")
    new = Node.objects.filter(cpus__gt=0).exclude(name__in=kept)
    return new.exists() or ConfirmedCapacity.objects.exclude(node__in=Node.objects.values("name")).exists()


def doubts() -> list[Report]:
    """What is not believed of which node (R14)."""
    known = confirmed()
    told: list[Report] = []
    for row in Node.objects.filter(name__in=known).order_by("name") if known else ():
        if words := capacity.doubt(_capacity(row), known[row.name]):
            told.append(Report(Rule.R14, row.name, None, "capacity", words))
    crowded = Stray.objects.order_by().values_list("node").annotate(count=Count("key")).filter(count__gte=STRAYS_MAX)
    for name, count in crowded:
        words = f"{count} guests of it belong nowhere, and more are not shown"
        told.append(Report(Rule.R14, name, None, "guests", words))
    return told


def confirm(actor: Actor, name: str) -> Node:
    """Believe what a node claims now."""
    actor.demand_admin("confirm what a node has")
    row, now = Node.objects.filter(name=name).first(), time.time()
    if row is None:
        raise NotFound(f"no node is called {name!r}", where="node", todo=Hint("{} shows all.", "node.list"))
    ConfirmedCapacity.objects.filter(node=name).delete()
    if row.cpus:
        _row(row, actor.username, now).save(force_insert=True)
    text = f"{actor.username} confirmed what node {name} has: {row.cpus} CPUs, {row.memory_mib} MiB, {', '.join(row.kinds)}"
    events.note(EventType.RULE, text, at=now, node=name)
    return row


def _row(row: Node, by: str, now: float) -> ConfirmedCapacity:
    numbers = {"cpus": row.cpus, "memory_mib": row.memory_mib, "disk_mib": row.disk_mib}
    return ConfirmedCapacity(node=row.name, kinds=row.kinds, by=by, at=now, **numbers)


def _capacity(row: Node | ConfirmedCapacity) -> Capacity:
    return Capacity(row.cpus, row.memory_mib, row.disk_mib, frozenset(row.kinds))
