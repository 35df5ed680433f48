"""What the leader's functions share: ports, clock, lease, and what is known to be out of reach."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from vmcloud.config import Config
from vmcloud.directory.store import Directory
from vmcloud.dispatch.routes import monitor_list
from vmcloud.dispatch.send import OrderSender
from vmcloud.domain.vocabulary import JobState, Outcome
from vmcloud.faults import declare
from vmcloud.fleet.models import Job, JobEvent

from .leader import Leader
from .projection import Projection

declare(
    "server",
    "server.dispatch.placed",
    "server.dispatch.desired",
    "server.dispatch.committed",
    "server.dispatch.sent",
    "server.result.received",
    "server.result.stored",
    "server.finish.buried",
    "server.finish.removed",
    "server.finish.settled",
    "server.finish.completed",
)


@dataclass
class Context:
    """One leading server's hands and eyes. ``again``: something was done that may allow more; look again at once."""

    config: Config
    directory: Directory
    orders: OrderSender
    leader: Leader
    projection: Projection
    clock: Callable[[], float] = time.time
    broker_down: str = ""
    again: bool = field(default=False)

    def note(self, job: Job, text: str) -> None:
        """Add a line to the job's history."""
        JobEvent.objects.create(job=job, at=self.clock(), text=text)

    def unread(self, node: str) -> bool:
        """Whether the monitor has not read all that a node said to it."""
        return bool(node) and self.orders.waiting(monitor_list(node)) > 0

    def exit(self, job: Job, outcome: Outcome, *, error: dict[str, str] | None = None, result: dict | None = None) -> None:
        """The work of a job is over, one way or the other: what is left is to record it and to see it shown."""
        job.change(state=JobState.EXITING, outcome=outcome.value, error=error, result=result, exiting_at=self.clock(), reason="")
        self.again = True
