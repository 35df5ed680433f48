"""One table of routes: which message travels on which list, as which task.

Lists are the broker's; queues (PBS's meaning) are the server's business and unknown here.
"""

from __future__ import annotations

from vmcloud.domain.messages import (
    Accepted,
    CancelOrder,
    Digest,
    Message,
    Progress,
    Refused,
    RelistOrder,
    Result,
    Sighting,
    SignalOrder,
    StepOrder,
    Wake,
)

ORDER_TASK = "vmcloud.order"
"""The one task on ``node.<name>``; its argument is a sealed envelope."""
REPORT_TASK = "vmcloud.report"
"""The one task on every other list; its argument is a message's JSON object."""

SERVER_LIST = "server"
MONITOR_LIST = "monitor"

_NODE_ROUTES: dict[type[Message], str] = {
    StepOrder: "node",
    CancelOrder: "node",
    SignalOrder: "node",
    RelistOrder: "node",
    Accepted: "server",
    Refused: "server",
    Progress: "server",
    Result: "server",
    Digest: "server",
    Sighting: "monitor",
}


def node_list(node: str) -> str:
    """Orders to one node."""
    return f"node.{node}"


def server_list(node: str) -> str:
    """What one node says to the server."""
    return f"server.{node}"


def monitor_list(node: str) -> str:
    """What one node saw."""
    return f"monitor.{node}"


def route(message: Message) -> str:
    """The list for a message to or from a node (its ``node`` field says which)."""
    return f"{_NODE_ROUTES[type(message)]}.{getattr(message, 'node')}"  # noqa: B009 - every type in the table has it


def wake_list(message: Wake) -> str:
    """Wakes about nodes concern the monitor as well; the sender chooses by topic: jobs → server, nodes → monitor."""
    return MONITOR_LIST if message.topic == "nodes" else SERVER_LIST


def speaker(list_name: str) -> str:
    """The node whose voice a list carries, or empty for the wake-up lists."""
    return list_name.partition(".")[2]
