"""All that one node says, in one order, without ever making its work wait.

Reports go through a thread of their own. While the broker does not answer they are kept in the journal (progress and digests are
not: they describe a moment that is over) and sent in order when it is back; then a full list follows at once.
"""

from __future__ import annotations

import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from typing import Protocol

from vmcloud import faults
from vmcloud.domain.errors import Unavailable
from vmcloud.domain.messages import Digest, Mark, Message, Progress, Result

from .journal import Journal

log = logging.getLogger(__name__)
faults.declare("worker", "worker.report.before-result")

RETRY_MAX = 5.0
PROGRESS_DELAY = 0.15
"""Seconds for which progress is held back: of a step that is quicker, nobody wants to hear it."""


class Publisher(Protocol):
    """The transport (:class:`vmcloud.dispatch.send.Sender`)."""

    def report(self, message: Message) -> None:
        """Publish; raises :class:`Unavailable` where that is not certain."""

    def close(self) -> None:
        """Close this thread's connection."""


class Reporter:
    """The voice of one node: numbers what it sees (:meth:`mark`), says what it is given (:meth:`say`)."""

    def __init__(self, name: str, journal: Journal, publisher: Publisher, on_return: Callable[[], None] = lambda: None) -> None:
        """``on_return``: called when the broker is back after an absence."""
        self._journal, self._publisher, self.on_return = journal, publisher, on_return
        self._sequence = 0
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._away = bool(journal.spooled(1))
        self._wait = 0.5
        self._retry = 0.0
        self._held: dict[tuple[int, int], tuple[float, Progress]] = {}
        self._thread = threading.Thread(target=self._run, name=f"reporter-{name}", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def stop(self, patience: float) -> None:
        """Send what waits, for at most ``patience`` seconds; the rest is in the journal or can be asked for again."""
        self._queue.put(None)
        self._thread.join(patience)

    def mark(self) -> Mark:
        """The next mark. Take it right *before* looking: what happens after the look then has a later one."""
        with self._lock:
            self._sequence += 1
            return Mark(self._journal.epoch, self._sequence)

    def say(self, message: Message) -> None:
        """Send ``message`` after all those before it."""
        self._queue.put(message)

    def _run(self) -> None:
        while True:
            try:
                if not self._turn():
                    return
            except Exception:  # a node that is mute is worse than one that lacks a report
                log.exception("a report was dropped")

    def _turn(self) -> bool:
        """Wait for the next report and send it; False at the end."""
        try:
            message = self._queue.get(timeout=self._patience())
        except queue.Empty:
            if self._away and time.monotonic() >= self._retry:
                self._flush()
            message = self._due()
            if message is None:
                return True
        else:
            if isinstance(message, Progress):
                due, _ = self._held.get((message.job, message.step), (time.monotonic() + PROGRESS_DELAY, None))
                self._held[message.job, message.step] = due, message
                return True
            if isinstance(message, Result):
                self._held.pop((message.job, message.step), None)
        if message is None:
            if self._away:
                self._flush()
            self._publisher.close()
            return False
        self._send_or_keep(message)
        return True

    def _patience(self) -> float | None:
        """Seconds until something is due by itself."""
        due = [when for when, _ in self._held.values()] + ([self._retry] if self._away else [])
        return max(min(due) - time.monotonic(), 0.001) if due else None

    def _due(self) -> Progress | None:
        now = time.monotonic()
        for key, (when, message) in self._held.items():
            if when <= now:
                del self._held[key]
                return message
        return None

    def _send_or_keep(self, message: Message) -> None:
        if not self._away:
            if isinstance(message, Result):
                faults.point("worker.report.before-result")
            try:
                self._publisher.report(message)
                return
            except Unavailable as error:
                log.warning("the broker is away, reports are kept: %s", error)
                self._away, self._wait = True, 0.5
                self._retry = time.monotonic() + self._wait
        if not isinstance(message, Progress | Digest):
            self._journal.spool(message)
        if time.monotonic() >= self._retry:
            self._flush()

    def _flush(self) -> None:
        """Send what was kept; if the broker is still away, or the journal fails, try later."""
        try:
            while kept := self._journal.spooled():
                for number, message in kept:
                    self._send_kept(message)
                    self._journal.unspool(number)
        except (Unavailable, sqlite3.Error, OSError) as error:
            if not isinstance(error, Unavailable):
                log.error("the reports that were kept can not be read: %s", error)
            self._wait = min(self._wait * 2, RETRY_MAX)
            self._retry = time.monotonic() + self._wait
            return
        self._away, self._wait = False, 0.5
        log.info("the broker is back, all that was kept has been said")
        self.on_return()

    def _send_kept(self, message: Message) -> None:
        """One that can not be sent at all must not stand in the way of the others."""
        try:
            self._publisher.report(message)
        except Unavailable:
            raise
        except Exception:
            log.exception("a %s report was dropped", message.type)
