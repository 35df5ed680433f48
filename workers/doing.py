"""What a step is doing: the call that it is in, since when, and what is said of one from which nothing is heard for long."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from vmcloud.domain.messages import StepOrder
from vmcloud.domain.vocabulary import StepVerb

from .plans import FROM_BEFORE

PATIENCE = 10.0
"""Seconds without a word after which a call is taken for hung; it is said then, and whenever it has lasted twice as long."""
LOOK = 2.0
"""Seconds between two looks at the steps that run."""
ASKS = ("stop",)
"""Calls that give the guest its grace first."""
BESIDE = ("lane", "prologue", "epilogue", "undo")
"""What is no call of the driver."""


class Doing:
    """One running step. ``pid``: the process group that carries it out, 0 where it is none of its own. ``hung``: something was
    said of the call that it is in."""

    def __init__(self, order: StepOrder, pid: Callable[[], int], clock: Callable[[], float] = time.monotonic) -> None:
        self._order, self._clock, self._pid, self.attempt = order, clock, pid, order.attempt
        self.begins("lane lock")

    def begins(self, name: str) -> None:
        """It has begun a call, or a part of one, of this name; so the one before has returned."""
        order = self._order
        graceful = name in ASKS and order.verb in (StepVerb.STOP, StepVerb.RESTART) and not order.args.get("force")
        self._name, self._since, self.hung = name, self._clock(), False
        self._next = PATIENCE + (float(order.args.get("grace", 0.0)) if graceful else 0.0)

    def carries_out(self, before: str) -> None:
        """Its plan begins; ``before``: the state that an earlier start found its guest in."""
        self.begins("inspect" if self._order.verb in FROM_BEFORE and not before else str(self._order.verb))

    def complaint(self) -> str:
        """What is to be said of it now; empty if nothing."""
        lasted = self._clock() - self._since
        if lasted < self._next:
            return ""
        self._next, self.hung = 2 * lasted, True
        return f"hung in {self._call()} for {lasted:.0f} s{_processes(self._pid())}"

    def _call(self) -> str:
        driver = self._order.kind is not None and self._name.split()[0] not in BESIDE
        return f"{self._order.kind}.{self._name}" if driver else self._name


def _processes(group: int) -> str:
    """The processes that carry it out, apart from the first, and how the kernel says they wait (``D``: nothing ends it)."""
    found = sorted(f"{name} ({state})" for pid, name, state, session in _all() if session == group != 0 and pid != group)
    return f", in {', '.join(found[:3])}" if found else ""


def _all() -> Iterator[tuple[int, str, str, int]]:
    """Every process: id, name, state, session (proc(5))."""
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                head, _, tail = (path / "stat").read_text(errors="replace").rpartition(")")
                fields = tail.split()
                yield int(path.name), head.partition("(")[2], fields[0], int(fields[3])
