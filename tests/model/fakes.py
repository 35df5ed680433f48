"""What stands in for the outside of the engine: clocks, the directory, and the broker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from tests.model.faults import Faults
from tests.model.nodes import Lists
from vmcloud.directory.codec import Tree
from vmcloud.directory.fake import FakeDirectory
from vmcloud.directory.store import Found
from vmcloud.domain.errors import Unavailable
from vmcloud.domain.records import Record, VERecord

WRITES = ("claim", "change_ve", "remove_ve", "bury", "change_node", "add_image")
"""Calls of the directory that change it."""


class Clock:
    """Seconds since the epoch, and a steady clock; both stand still unless the test moves them."""

    def __init__(self) -> None:
        self.wall, self.steady_now = 1_800_000_000.0, 1_000.0

    def now(self) -> float:
        """As :func:`time.time`."""
        return self.wall

    def steady(self) -> float:
        """As :func:`time.monotonic`."""
        return self.steady_now

    def pass_(self, seconds: float) -> None:
        """Let time pass."""
        self.wall += seconds
        self.steady_now += seconds

    def jump(self, seconds: float) -> None:
        """Somebody sets the clock."""
        self.wall += seconds


class Directory(FakeDirectory):
    """The fake directory with what the leader asks of the real one besides, and with all that was ever written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.tree = Tree("dc=test")
        self.written: dict[UUID, list[VERecord]] = {}
        """Of each VE, every state of its entry, oldest first."""

    def find_ve(self, ve: UUID) -> Found | None:
        """The entry, however it is."""
        record = self.ve(ve)
        if record is None:
            return None
        dn = self.tree.ve(record.project, record.name)
        return Found(dn, ve, record.version, record, refusal=record.refusal, generation=record.generation, job=record.job)

    def check(self) -> None:
        """It answers."""

    def writers(self, found: Found, names: Any, since: float) -> dict[str, str]:
        """The access log knows of nobody: only the parts write here."""
        return {}

    def remover(self, dn: str, since: float) -> str:
        """Nobody else deletes entries here."""
        return ""

    def _put(self, record: Any) -> Any:
        stored: Record = super()._put(record)
        if isinstance(stored, VERecord):
            self.written.setdefault(stored.ve, []).append(stored)
        return stored


class Port:
    """The directory as one part sees it: each call is an effect at which a fault may happen."""

    def __init__(self, directory: Directory, faults: Faults) -> None:
        self._directory, self._faults = directory, faults
        self.tree = directory.tree

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._directory, name)
        if not callable(found):
            return found
        return lambda *args, **named: self._faults.call("write" if name in WRITES else "read", lambda: found(*args, **named))


@dataclass
class Broker:
    """Sender of orders and wake-ups. ``down``: it does not answer until the test says so."""

    lists: Lists
    faults: Faults
    down: bool = False

    def send(self, *orders: Any) -> None:
        """Put orders on their nodes' lists."""
        self._checked()
        self.faults.call("broker", lambda: [self.lists.orders[order.node].append(order) for order in orders])

    def wake(self, topic: str) -> bool:
        """Nobody has to be woken: the test says whose turn it is."""
        return not self.down

    def waiting(self, name: str) -> int:
        """How many messages the monitor has not read."""
        return 1 if self.down else len(self.lists.sightings[name.partition(".")[2]])

    def _checked(self) -> None:
        if self.down:
            raise Unavailable("the broker does not answer")
