"""Taking in what has come to the leader: all of a batch in one transaction, and then what it leads to.

Nothing of a batch is lost before it is committed: it stays in the inbox, and what it has changed in memory is undone with the
transaction (:mod:`.memory`). So a batch is simply taken in again after whatever error of the database. Should a commit have been
made and its answer lost, the same is said twice, which every report and every entry bears.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from uuid import UUID

from vmcloud.directory import port
from vmcloud.dispatch.routes import SERVER_LIST, server_list
from vmcloud.domain.records import NodeRecord, Record, VERecord
from vmcloud.fleet import database, gather, ports
from vmcloud.fleet.models import Liveness, Node, Step

from . import foreign, orders, quarantine, removals, replies, wanted
from .context import Context
from .inbox import Broker, Inbox, Item, Report
from .leader import Deposed

log = logging.getLogger("server")

TOGETHER = 200
"""Items of the inbox in one transaction: others write between two of them."""


@dataclass
class Effects:
    """What follows from a batch once it is committed: steps to send, nodes that may be new, and nodes to ask for their lists."""

    to_send: list[Step] = field(default_factory=list)
    nodes: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)


def run(context: Context, inbox: Inbox, items: Sequence[Item]) -> None:
    """Take in the first items of the inbox, and acknowledge them."""
    for start in range(0, len(items), TOGETHER):
        context.leader.begin_stage()
        batch = items[start : start + TOGETHER]
        if only_wakes(batch):
            inbox.acknowledge(len(batch))
        else:
            _together(context, inbox, batch)


def only_news(items: Sequence[Item]) -> bool:
    """Whether all that came is what the directory's watch tells of entries."""
    return bool(items) and all(isinstance(item, port.Changed | port.Removed) for item in items)


def only_wakes(items: Sequence[Item]) -> bool:
    """Whether all that came says "look", and nothing to write down: a commit less (to the disk) on the way of every job."""
    return all(isinstance(item, Report) and item.list_name == SERVER_LIST for item in items)


def _together(context: Context, inbox: Inbox, items: Sequence[Item]) -> None:
    """Take in these in one transaction; where one of them can not be taken in, each in one of its own, without that one."""
    try:
        effects = take(context, items)
    except (Deposed, gather.Clash, *database.AWAY):
        raise
    except Exception as error:
        if len(items) > 1:
            for item in items:
                _together(context, inbox, [item])
            return
        effects = _without(context, items[0], error)
    inbox.acknowledge(len(items))
    _follow(context, inbox, effects)


def _without(context: Context, item: Item, error: Exception) -> Effects:
    """One that can not be taken in is dropped; an entry counts as one that can not be read, so that its row stays as it was last
    understood and the rules leave it alone."""
    log.error("dropped what can not be taken in: %.300s", item, exc_info=error)
    effects = Effects()
    with context.leader.transaction():
        quarantine.set_item_aside(context, item, error)
        if isinstance(item, port.Changed):
            kind, key = port.key_of(item.record)
            ve = UUID(key) if kind == "ve" else None
            _change(context, port.Malformed(f"{kind} {key}", str(error), ve), effects)
    return effects


@database.again
def take(context: Context, items: Sequence[Item]) -> Effects:
    """All items in one transaction. What nodes say, and what the directory tells, come by two ways anyway: neither waits for the
    other's turn."""
    effects, shown = Effects(), dict[UUID, VERecord]()
    with context.leader.transaction():
        if reports := [item for item in items if isinstance(item, Report)]:
            effects.to_send += replies.handle(context, reports)
        told = (item for item in items if not isinstance(item, Report))
        for changes, group in groupby(told, lambda item: isinstance(item, port.Changed)):
            if changes:
                _show(context, [item.record for item in group if isinstance(item, port.Changed)], shown, effects)
                continue
            for item in group:
                if isinstance(item, port.Removed) and item.kind == "ve":
                    shown.pop(UUID(item.key), None)
                _change(context, item, effects)
        if shown:
            wanted.learn(context, shown.values())
    return effects


def _show(context: Context, records: Sequence[Record], shown: dict[UUID, VERecord], effects: Effects) -> None:
    context.projection.show(records)
    for record in records:
        if isinstance(record, NodeRecord):
            effects.nodes.append(record.name)
        if isinstance(record, VERecord):
            shown[record.ve] = record
            context.entries.learn(record)


def _change(context: Context, item: Item, effects: Effects) -> None:
    """One item that is no report and no entry."""
    match item:
        case Broker(up=True):
            context.leader.listens(context.clock())
            effects.silent += _silent_nodes(context) if context.broker_down else []
            context.broker_down, context.again = "", True
        case Broker(reason=reason):
            context.leader.listens(0.0)
            context.lose_broker(reason)
        case port.Malformed(ve=UUID() as ve):
            context.projection.apply(item)
            context.entries.forget(ve)
            foreign.note(context, ve)
        case port.Removed(kind="ve", key=key):
            removals.note(context, UUID(key))
            context.entries.forget(UUID(key))
            context.projection.apply(item)
        case port.Synced():
            context.projection.apply(item)
            effects.silent += _silent_nodes(context)
            removals.note_untold(context)
            context.again = True
        case port.Down():
            context.projection.apply(item)
            context.entries.clear()
        case port.Removed() | port.Malformed():
            context.projection.apply(item)


def _follow(context: Context, inbox: Inbox, effects: Effects) -> None:
    """After the commit. Whatever of this does not happen comes about by itself a little later."""
    if new := [name for name in effects.nodes if inbox.listen_to(server_list(name))]:
        log.debug("listens to %s too", ", ".join(new))
        ports.sender().wake("nodes")
    for name in dict.fromkeys(effects.silent):
        orders.ask_for_list(context, name)
    orders.send(context, effects.to_send)


def _silent_nodes(context: Context) -> list[str]:
    """Nodes not heard of for a while: a new leader asks them at once instead of waiting for their next lists."""
    heard = dict(Liveness.objects.values_list("node", "heard_at"))
    limit = context.clock() - context.config.intervals.relist
    return [name for name in Node.objects.values_list("name", flat=True) if heard.get(name, 0.0) < limit]
