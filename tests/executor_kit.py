"""An executor with journal, simulated guests and voice of one node, without any process."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vmcloud.domain.messages import Message, Result, StepOrder
from vmcloud.domain.vocabulary import Kind
from vmcloud.hooks.run import Limits
from workers.drivers.simulated import SimulatedDriver
from workers.executor import Executor
from workers.guests import GuestBook
from workers.hands import Inline
from workers.hooks import NodeHooks
from workers.images import SimulatedImages
from workers.journal import Journal
from workers.lanes import LaneLocks
from workers.observer import Observer, Ticker
from workers.reporter import Reporter


class Ears:
    """A broker that keeps what it is told."""

    def __init__(self) -> None:
        self.heard: list[Message] = []

    def report(self, *messages: Message) -> None:
        self.heard += messages

    def close(self) -> None:
        pass


class Node:
    """Journal, simulated guests, executor and voice of one node, without any process."""

    def __init__(self, folder: Path, *, begun: bool = True) -> None:
        self.journal, self.ears = Journal(folder / "journal.sqlite3"), Ears()
        self.guests = folder / "simulated.sqlite3"
        self.driver, self.images = SimulatedDriver(self.guests), folder / "images"
        self.reporter = Reporter("n1", self.journal, self.ears)
        images = SimulatedImages(self.images, used=self.driver.layers)
        hands = dict.fromkeys((Kind.SIMULATED, None), Inline(self.driver, images))
        book = GuestBook(self.journal, images.path, "10.86.0.0/24")
        nothing: Any = None
        observer = Observer(
            "n1", self.journal, {}, book, self.reporter, Ticker(), facts=nothing, images=lambda: (), interval=60.0
        )
        locks = LaneLocks(folder / "locks")
        self.hooks = folder / "hooks"
        self.hooks.mkdir(exist_ok=True)
        site = NodeHooks(self.hooks, Limits(seconds=2.0))
        self.executor = Executor(
            "n1", self.journal, hands, book, locks, self.reporter, observer, slots=2, hooks=site, server="cloud"
        )
        self.reporter.start()
        if begun:
            self.executor.start()

    def close(self) -> None:
        self.executor.stop(1.0)
        self.reporter.stop(1.0)
        self.driver.close()
        self.journal.close()

    def take(self, each: StepOrder) -> None:
        self.executor.offer(self.journal.accept(each, 1.0))

    def result(self, job: int, seconds: float = 5.0) -> Result:
        def said() -> list[Result]:
            return [each for each in self.ears.heard if isinstance(each, Result) and each.job == job]

        assert eventually(said, seconds), self.ears.heard
        return said()[0]


def eventually(holds: Callable[[], object], seconds: float = 15.0) -> bool:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True
