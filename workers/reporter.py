"""All that one node says, in one order, without ever making its work wait.

Reports go through a thread of their own, at once what waits at the same time. While the broker does not answer they are kept in
the journal (progress and digests are not: they describe a moment that is over) and sent in order when it is back; then a full
list follows at once.
"""

from __future__ import annotations

import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from vmcloud import faults
from vmcloud.domain.errors import Unavailable
from vmcloud.domain.messages import Accepted, Digest, Mark, Message, Progress, Result

from .journal import Journal

log = logging.getLogger(__name__)
faults.declare("worker", "worker.report.before-result")

RETRY_MAX = 5.0
DELAY = 0.15
"""Seconds for which it is held back that a step was accepted, or how far it is: of one that is quicker its result says both. Far
below the seconds after which the server asks again."""
TOGETHER = 100
"""At most so many reports are sent at once."""


class Publisher(Protocol):
    """The transport (:class:`vmcloud.dispatch.send.Sender`)."""

    def report(self, *messages: Message) -> None:
        """Publish, in this order; raises :class:`Unavailable` where that is not certain."""

    def close(self) -> None:
        """Close this thread's connection."""


class Reporter:
    """The voice of one node: numbers what it sees (:meth:`mark`), says what it is given (:meth:`say`)."""

    def __init__(self, name: str, journal: Journal, publisher: Publisher, on_return: Callable[[], None] = lambda: None) -> None:
        """``on_return``: called when the broker is back after an absence."""
        self._journal, self._publisher, self.on_return = journal, publisher, on_return
        self._sequence = 0
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[tuple[Message, ...] | None] = queue.SimpleQueue()
        self._away = bool(journal.spooled(1))
        self._wait = 0.5
        self._retry = 0.0
        self._held: dict[tuple[type[Message], int, int], tuple[float, Accepted | Progress]] = {}
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

    def say(self, *messages: Message) -> None:
        """Send ``messages`` after all those before them."""
        (message, *more) = messages
        if more or not isinstance(message, Accepted | Progress):
            self._queue.put(messages)
            return
        # Held back for a moment. The sending thread need not wake for it, unless it would sleep for longer.
        key = type(message), message.job, message.step
        with self._lock:
            alone = not self._held
            due, _ = self._held.get(key, (time.monotonic() + DELAY, None))
            self._held[key] = due, message
        if alone:
            self._queue.put(())

    def _run(self) -> None:
        while True:
            try:
                if not self._turn():
                    return
            except Exception:  # a node that is mute is worse than one that lacks a report
                log.exception("a report was dropped")

    def _turn(self) -> bool:
        """Wait for what is next to be said, and say it; False at the end."""
        ready, ended = self._heard()
        self._let_go(ready)
        self._send_or_keep([*self._due(float("inf") if ended else time.monotonic()), *ready])
        if self._away and (ended or time.monotonic() >= self._retry):
            self._flush()
        if ended:
            self._publisher.close()
        return not ended

    def _heard(self) -> tuple[list[Message], bool]:
        """What there is to be said, nothing if something else is due first; and whether it is the end."""
        heard: list[Message] = []
        try:
            said = self._queue.get(timeout=self._patience())
            while said is not None:
                heard += said
                if len(heard) >= TOGETHER:
                    return heard, False
                said = self._queue.get_nowait()
        except queue.Empty:
            return heard, False
        return heard, True

    def _let_go(self, ready: Sequence[Message]) -> None:
        """A result makes up for what is held back of its step."""
        with self._lock:
            for message in ready:
                if isinstance(message, Result):
                    for kind in (Accepted, Progress):
                        key = kind, message.job, message.step
                        if key in self._held and self._held[key][1].attempt <= message.attempt:
                            del self._held[key]

    def _patience(self) -> float | None:
        """Seconds until something is due by itself."""
        with self._lock:
            due = [when for when, _ in self._held.values()]
        due += [self._retry] if self._away else []
        return max(min(due) - time.monotonic(), 0.001) if due else None

    def _due(self, now: float) -> list[Message]:
        """What was held back for long enough."""
        with self._lock:
            over = [key for key, (when, _) in self._held.items() if when <= now]
            return [self._held.pop(key)[1] for key in over]

    def _send_or_keep(self, messages: Sequence[Message]) -> None:
        if not messages:
            return
        if not self._away:
            if any(isinstance(message, Result) for message in messages):
                faults.point("worker.report.before-result")
            try:
                self._publisher.report(*messages)
                return
            except Unavailable as error:
                log.warning("the broker is away, reports are kept: %s", error)
                self._away, self._wait = True, 0.5
                self._retry = time.monotonic() + self._wait
            except Exception:
                if len(messages) == 1:
                    raise
                for message in messages:  # one that can not be sent at all must not take the others with it
                    self._alone(message, self._send_or_keep)
                return
        for message in messages:
            if not isinstance(message, Progress | Digest):
                self._alone(message, lambda each: self._journal.spool(each[0]))

    def _alone(self, message: Message, do: Callable[[Sequence[Message]], None]) -> None:
        try:
            do([message])
        except Exception:
            log.exception("a %s report was dropped", message.type)

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
