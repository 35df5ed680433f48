"""What comes to the leader: nodes' reports and wake-ups from the broker, and the directory's watch, in one queue.

What has come stays here until it is acknowledged, which the leader does when it has committed what follows from it: nobody says
it again soon, and the watch never does.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vmcloud.directory import port
from vmcloud.directory.store import Directory
from vmcloud.directory.watch import Watcher
from vmcloud.dispatch.receive import Lost, Receiver

log = logging.getLogger(__name__)

POLL = 1.0
"""Seconds the receiver waits before it looks whether it should stop or read more lists."""
PAUSE = (0.1, 2.0)
"""First and longest pause (s) between attempts after an error; doubled each time."""


@dataclass(frozen=True)
class Report:
    """Something a node said, undecoded, and the list that carried it."""

    list_name: str
    body: Any


@dataclass(frozen=True)
class Broker:
    """The broker is heard, for the first time or again; or it was lost."""

    up: bool
    reason: str = ""


Item = Report | Broker | port.Event


class Inbox:
    """Two threads that fill one queue. ``look`` shows what is in it, ``acknowledge`` takes away what was dealt with."""

    def __init__(self, receiver: Receiver, directory: Directory) -> None:
        self._receiver, self._watcher = receiver, Watcher(directory.settings, directory.tree.suffix)
        self._items: deque[Item] = deque()
        self._came = threading.Condition()
        self._wanted: deque[str] = deque()
        self._known: set[str] = set()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(self._receive,), name="inbox-broker", daemon=True),
            threading.Thread(target=self._run, args=(self._watch,), name="inbox-directory", daemon=True),
        ]

    def start(self) -> None:
        """Begin to listen."""
        for thread in self._threads:
            thread.start()

    def interrupt(self) -> None:
        """Stop listening and waiting, from any thread: somebody else is to hear what comes now."""
        self._stop.set()
        with self._came:
            self._came.notify_all()

    def stop(self) -> None:
        """Stop listening; returns when both threads have ended or after two seconds."""
        self.interrupt()
        for thread in self._threads:
            thread.join(2 * POLL)

    def alive(self) -> bool:
        """Whether both threads run. A leader that is deaf must not lead on."""
        return all(thread.is_alive() for thread in self._threads)

    def listen_to(self, list_name: str) -> bool:
        """Read one more list soon; False if it is read already."""
        if list_name in self._known:
            return False
        self._known.add(list_name)
        self._wanted.append(list_name)
        return True

    def look(self, timeout: float, beyond: int = 0) -> list[Item]:
        """All that has come and is not acknowledged, in the order in which it came. Waits up to ``timeout`` seconds for more than
        ``beyond`` items."""
        with self._came:
            self._came.wait_for(lambda: len(self._items) > beyond or self._stop.is_set(), timeout)
            return list(self._items)

    def acknowledge(self, count: int) -> None:
        """The first ``count`` items have been dealt with."""
        with self._came:
            for _ in range(count):
                self._items.popleft()

    def _put(self, item: Item) -> None:
        with self._came:
            self._items.append(item)
            self._came.notify_all()

    def _run(self, listen: Callable[[], object]) -> None:
        try:
            listen()
        finally:
            with self._came:
                self._came.notify_all()  # whoever waits looks whether both threads are alive

    def _receive(self) -> None:
        up: bool | None = None
        pause = PAUSE[0]
        while not self._stop.is_set():
            try:
                while self._wanted:
                    self._receiver.add(self._wanted[0])
                    self._wanted.popleft()
                messages = self._receiver.get(POLL)
            except Exception as error:
                if not isinstance(error, Lost):
                    log.exception("reading from the broker failed; it is tried again")
                    self._receiver.close()
                if up is not False:
                    self._put(Broker(up=False, reason=str(error)))
                up = False
                self._stop.wait(pause)
                pause = min(pause * 2, PAUSE[1])
                continue
            if not up:
                self._put(Broker(up=True))
            up, pause = True, PAUSE[0]
            for list_name, body in messages:
                self._put(Report(list_name, body))
        self._receiver.close()

    def _watch(self) -> None:
        pause = PAUSE[0]
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                self._watcher.run(self._put, self._stop)
            except Exception as error:
                log.exception("watching the directory failed; it is tried again")
                self._put(port.Down(f"the watch failed: {error}"))
                if time.monotonic() - began > PAUSE[1]:
                    pause = PAUSE[0]
                self._stop.wait(pause)
                pause = min(pause * 2, PAUSE[1])
