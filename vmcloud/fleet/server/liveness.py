"""Nodes that fall silent or come back: nobody writes that down when it happens, so the leader looks.

Silence counts only for as long as this leader has listened: before, nothing is told of a node.
"""

from __future__ import annotations

from vmcloud.domain.vocabulary import EventType, NodeState
from vmcloud.fleet.models import Liveness, Node
from vmcloud.fleet.services import events, feed, queries

from .context import Context


def tell(context: Context) -> None:
    """An event for each node whose state is not the one told last."""
    now = context.clock()
    told = dict(Liveness.objects.values_list("node", "told"))
    states = queries.node_states(now)
    recorded = Node.objects.filter(name__in=told).values_list("name", flat=True)
    news = {name: states[name] for name in recorded if states[name] not in (told[name], NodeState.UNKNOWN)}
    if not news:
        return
    with context.leader.transaction():
        for name, state in sorted(news.items()):
            Liveness.objects.filter(node=name).update(told=state.value)
            feed.changed("node", name, node=name)
            if told[name] or state is not NodeState.UP:
                words = events.HEARD_AGAIN if state is NodeState.UP else f"is {state}: nothing was heard of it in time"
                events.note(EventType.NODE, f"node {name} {words}", at=now, node=name)
    context.again = True
