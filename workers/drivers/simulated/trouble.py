"""What can go wrong with a call on a simulated guest: planned faults, the weather, cancels and deadlines."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ..base import CannotLook, Interrupted, TimedOut, ToolFailed, check_name
from .store import Store
from .weather import Fails, Weather

STUCK = 0.2
"""Seconds that a tool which is stuck (a planned fault) is waited for."""
ACTS = (
    *("define", "delete", "start", "stop", "freeze", "thaw", "resize", "save"),
    *("snapshot", "revert", "delete-snapshot", "adopt", "disown", "rename", "copy"),
    *(f"migrate-{part}" for part in ("prepare", "discard", "send", "keep", "receive", "activate", "clean")),
)
"""Calls that change something, as they are called in errors, faults and effects."""


class Trouble:
    """That of one driver, each thread's its own."""

    def __init__(self, store: Store, weather: Weather) -> None:
        self._store, self._weather = store, weather
        self._thread = threading.local()

    @contextmanager
    def interruptible(self, stopped: threading.Event, deadline: float) -> Iterator[None]:
        """Delays and hangs of this thread end with :class:`Interrupted` when ``stopped`` is set or ``deadline`` is past."""
        self._thread.stopped, self._thread.deadline = stopped, deadline
        try:
            yield
        finally:
            del self._thread.stopped, self._thread.deadline

    def begin(self, operation: str, native: str, *, planned: str = "") -> End:
        """What every call on a guest begins with: its name, a planned fault, the weather. Returns what it ends with."""
        check_name(native, operation)
        self.fault(planned or operation)
        self._thread.delay = 0.0
        if operation not in ACTS:
            return End(operation, Fails.NO)
        number = self._store.draw(operation) if self._weather.changes else 0
        self._thread.delay, fails = self._weather.draw(operation, number)
        if fails is Fails.BEFORE:
            raise ToolFailed(operation, "a simulated failure, by chance", exit_code=1)
        return End(operation, fails)

    def work(self, share: float = 1.0) -> None:
        """Take the time that the call takes, or a share of it."""
        if self._thread.delay:
            self._wait(self._thread.delay * share)

    def _wait(self, seconds: float) -> None:
        stopped = getattr(self._thread, "stopped", None)
        if stopped is None:
            time.sleep(seconds)
            return
        left = self._thread.deadline - time.monotonic()
        if stopped.wait(min(seconds, max(left, 0))) or left < seconds:
            raise Interrupted

    def fault(self, operation: str) -> None:
        """Fail if a test asked for it (:func:`.outside.plan_fault`)."""
        match self._store.take_fault(operation):
            case "":
                return
            case "hang":
                self._wait(86400.0)
            case "stuck":
                self._wait(STUCK)
                raise TimedOut(operation, f"the simulated tool did not end within {STUCK:g} s")
            case "look":
                raise CannotLook(operation, "the simulated hypervisor does not answer")
            case _:
                raise ToolFailed(operation, "a simulated failure", exit_code=1, stderr="as the test wished")


class End:
    """The end of an acting call, which may fail although it has done everything."""

    def __init__(self, operation: str, fails: Fails) -> None:
        self._operation, self._fails = operation, fails

    def __call__(self) -> None:
        if self._fails is Fails.AFTER:
            raise ToolFailed(self._operation, "a simulated failure, by chance, after it was done", exit_code=1)
