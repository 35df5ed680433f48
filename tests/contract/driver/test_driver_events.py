"""Changes of state as they happen, whoever makes them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from vmcloud.domain.messages import Seen
from vmcloud.domain.vocabulary import Observed, Power
from workers.drivers.base import Guest

from .bench import Bench
from .talk import boot, check_runs, eventually

pytestmark = pytest.mark.contract

WITHIN = 1.0
ENDED = (Observed.CRASHED, Observed.STOPPED)


class Watch:
    """A listener to one guest's events."""

    def __init__(self, bench: Bench, guest: Guest) -> None:
        self._driver, self._native = bench.again(), guest.native
        self.heard: list[tuple[float, Seen]] = []
        self._listening = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()
        self._listening.wait()
        time.sleep(0.3)  # the source itself takes a moment to be listening
        self.heard.clear()

    def _listen(self) -> None:
        self._listening.set()
        for seen in self._driver.events(lambda native: native == self._native):
            if isinstance(seen, Seen) and seen.native == self._native:
                self.heard.append((time.monotonic(), seen))

    @property
    def states(self) -> list[Observed]:
        """The states that last, without repetitions."""
        found: list[Observed] = []
        for _, seen in list(self.heard):
            if seen.state not in (Observed.STARTING, Observed.STOPPING) and found[-1:] != [seen.state]:
                found.append(seen.state)
        return found

    @contextmanager
    def within(self, *states: Observed) -> Iterator[None]:
        """What is done in here is heard in time."""
        yield
        end = time.monotonic()
        assert eventually(lambda: self.states[-1:] and self.states[-1] in states, 5.0), self.heard
        said = next(when for when, seen in reversed(self.heard) if seen.state in states)
        assert said - end < WITHIN


def test_starts_and_stops_are_heard_in_order_and_in_time(bench: Bench, made: Guest) -> None:
    watch = Watch(bench, made)
    for _ in range(2):
        with watch.within(Observed.RUNNING):
            bench.driver.start(made.native)
        check_runs(bench, made)
        with watch.within(Observed.STOPPED):
            bench.driver.stop(made.native, force=True)
    assert watch.states == [Observed.RUNNING, Observed.STOPPED] * 2


def test_nothing_is_lost_when_much_happens_at_once(bench: Bench, made: Guest) -> None:
    watch = Watch(bench, made)
    with watch.within(Observed.STOPPED):
        for _ in range(3):
            bench.driver.start(made.native)
            bench.driver.stop(made.native, force=True)
    assert eventually(lambda: watch.states == [Observed.RUNNING, Observed.STOPPED] * 3), watch.states


@pytest.mark.power(Power.FREEZE)
def test_freezing_and_thawing_are_heard_in_order_and_in_time(bench: Bench, running: Guest) -> None:
    watch = Watch(bench, running)
    with watch.within(Observed.SUSPENDED):
        bench.driver.freeze(running.native)
    with watch.within(Observed.RUNNING):
        bench.driver.thaw(running.native)
    assert watch.states == [Observed.SUSPENDED, Observed.RUNNING]


def test_a_crash_is_heard_in_time_and_says_what_it_is(bench: Bench, running: Guest) -> None:
    watch = Watch(bench, running)
    with watch.within(*ENDED):
        bench.crash(running.native)
    assert watch.states[-1] is Observed.CRASHED
    last = watch.heard[-1][1]
    assert (last.ve, last.kind, last.vcpus, last.memory_mib) == (running.ve, bench.driver.kind, 1, 64)


def test_what_happens_after_a_crash_is_heard_too(bench: Bench, running: Guest) -> None:
    watch = Watch(bench, running)
    with watch.within(*ENDED):
        bench.crash(running.native)
    with watch.within(Observed.RUNNING):
        boot(bench, running)
