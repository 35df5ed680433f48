"""What comes to the leader: nodes' reports and wake-ups from the broker, and the directory's watch, in one queue."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
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
    """The broker was lost, or is back."""

    up: bool
    reason: str = ""


Item = Report | Broker | port.Event


class Inbox:
    """Two threads that fill one queue. ``take`` empties it."""

    def __init__(self, receiver: Receiver, directory: Directory) -> None:
        self._receiver, self._watcher = receiver, Watcher(directory.settings, directory.tree.suffix)
        self._items: queue.SimpleQueue[Item] = queue.SimpleQueue()
        self._wanted: deque[str] = deque()
        self._known: set[str] = set()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._receive, name="inbox-broker", daemon=True),
            threading.Thread(target=self._watch, name="inbox-directory", daemon=True),
        ]

    def start(self) -> None:
        """Begin to listen."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop listening; returns when both threads have ended or after two seconds."""
        self._stop.set()
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

    def take(self, timeout: float) -> list[Item]:
        """All that has come; waits up to ``timeout`` seconds for the first."""
        items: list[Item] = []
        try:
            items.append(self._items.get(timeout=timeout))
            while True:
                items.append(self._items.get_nowait())
        except queue.Empty:
            return items

    def _receive(self) -> None:
        up, pause = True, PAUSE[0]
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
                if up:
                    self._items.put(Broker(up=False, reason=str(error)))
                up = False
                self._stop.wait(pause)
                pause = min(pause * 2, PAUSE[1])
                continue
            if not up:
                self._items.put(Broker(up=True))
            up, pause = True, PAUSE[0]
            for list_name, body in messages:
                self._items.put(Report(list_name, body))
        self._receiver.close()

    def _watch(self) -> None:
        pause = PAUSE[0]
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                self._watcher.run(self._items.put, self._stop)
            except Exception as error:
                log.exception("watching the directory failed; it is tried again")
                self._items.put(port.Down(f"the watch failed: {error}"))
                if time.monotonic() - began > PAUSE[1]:
                    pause = PAUSE[0]
                self._stop.wait(pause)
                pause = min(pause * 2, PAUSE[1])
