"""A leader in this process over the fake directory: with an inbox that a test fills, and faults between any two statements."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID

from tests.web import Web
from vmcloud.directory import port
from vmcloud.domain.records import NodeRecord, VERecord
from vmcloud.domain.spec import Spec
from vmcloud.domain.vocabulary import Desired, Kind

SPEC = Spec(kind=Kind.SIMULATED, image="busybox", memory_mib=64)
TERM = 3.0


class Orders:
    """Remembers what was sent to nodes."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def send(self, *messages: Any) -> None:
        self.sent += messages

    def waiting(self, name: str) -> int:
        return 0


class Scene:
    """One leadership, from its beginning on, at a time that the test sets."""

    def __init__(self, web: Web, now: float = 1e9) -> None:
        from vmcloud.fleet import ports
        from vmcloud.fleet.models import Lease
        from vmcloud.fleet.server.context import Context
        from vmcloud.fleet.server.inbox import Inbox
        from vmcloud.fleet.server.leader import Leader
        from vmcloud.fleet.server.loop import Turns
        from vmcloud.fleet.server.memory import Set
        from vmcloud.fleet.server.projection import Projection
        from vmcloud.fleet.server.upkeep import Upkeep

        self.now, self.directory, self.orders = now, web.directory, Orders()
        web.directory.find_ve = lambda ve: None  # what the jobs of these tests are about is in SQL only
        Lease.objects.all().delete()
        self.leader = Leader("this", TERM, self.clock, self.clock)
        assert self.leader.campaign()
        changed = Set[UUID]()
        projection = Projection(clock=self.clock, differs=changed.add)
        parts: Any = (ports.cloud(), web.directory, self.orders, self.leader, projection)
        self.context = Context(*parts, clock=self.clock, changed=changed)
        settings: Any = type("Directory", (), {"settings": None, "tree": type("Tree", (), {"suffix": ""})})
        receiver: Any = None
        self.inbox = Inbox(receiver, settings)
        self.inbox.alive = lambda: True  # type: ignore[method-assign]
        self.turns = Turns(self.context, self.inbox, Upkeep(), self.clock)

    def clock(self) -> float:
        return self.now

    def come(self, *items: Any) -> None:
        """These come to the leader."""
        for item in items:
            self.inbox._put(item)

    def sync(self) -> None:
        """The watch has told all there is: a node, and what came before."""
        self.come(port.Changed(NodeRecord("node-1")), port.Synced())
        self.take_in()

    def take_in(self) -> None:
        """Take in what has come."""
        from vmcloud.fleet.server import intake

        intake.run(self.context, self.inbox, self.inbox.look(0.0))

    def turn(self) -> None:
        """One turn, which waits for nothing."""
        self.context.again = True
        self.now += 1.5
        self.turns.one()


def record(ve: UUID, name: str = "web", **fields: Any) -> VERecord:
    """An entry as the directory has it."""
    about = {"node": "node-1", "version": "20300101000000.000001Z#000000#000#000000", **fields}
    return replace(VERecord(ve, name, "main", "ann", SPEC, Desired.RUNNING, generation=1, job=0), **about)


class Faults:
    """Lets the database fail instead of a statement: the ``at``-th from now on (0: none)."""

    def __init__(self, at: int) -> None:
        self.left, self.happened = at, False

    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        from django.db import OperationalError

        if not sql.startswith(("SAVEPOINT", "RELEASE", "ROLLBACK")):
            self.left -= 1
            if self.left == 0:
                self.happened = True
                raise OperationalError("the database is away")
        return execute(sql, params, many, context)


@contextmanager
def failing(at: int) -> Iterator[Faults]:
    """A block in which the database fails once."""
    from django.db import connection

    faults = Faults(at)
    with connection.execute_wrapper(faults):
        yield faults


@contextmanager
def rolled_back() -> Iterator[None]:
    """A block whose changes of the database are undone."""
    from django.db import transaction

    with transaction.atomic():
        yield
        transaction.set_rollback(True)
