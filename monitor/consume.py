"""From a message on a list to the directory: decode, check who speaks, publish, hold on while the directory is away."""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vmcloud import faults
from vmcloud.directory.errors import Denied, Rejected, Unavailable
from vmcloud.domain.denials import denied
from vmcloud.domain.errors import Invalid
from vmcloud.domain.messages import Sighting, Wake, parse

from .publish import Publisher

log = logging.getLogger(__name__)

faults.declare("monitor", "monitor.received", "monitor.written")

BACKOFF = (0.1, 3.0)
"""First and longest pause (s) between attempts while the directory is away; doubled each time."""


STUCK = 60.0
"""Seconds without progress on a message after which the monitor does not count as answering."""


class Stopping(Exception):
    """The monitor is told to end while the directory is away; the message must go back to its list."""


class Turns:
    """Who may be published beside whom, of one node: each begins when all before it have begun, and one that must be ``alone``
    when they have ended."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._given = self._begun = self._under_way = 0
        self._alone = False

    @contextmanager
    def turn(self, *, alone: bool) -> Iterator[None]:
        """Wait for it, and have it."""
        with self._condition:
            number, self._given = self._given, self._given + 1
            self._condition.wait_for(lambda: self._begun == number and not self._alone and not (alone and self._under_way))
            self._begun, self._under_way, self._alone = number + 1, self._under_way + 1, alone
            self._condition.notify_all()
        try:
            yield
        finally:
            with self._condition:
                self._under_way, self._alone = self._under_way - 1, False
                self._condition.notify_all()


class Intake:
    """Takes the messages of the lists ``monitor`` and ``monitor.<node>``, in any number of threads.

    ``wake`` is called for a wake-up about nodes. ``stopping`` says whether to give up waiting; ``sleep`` is the clock's.
    """

    def __init__(
        self, publisher: Publisher, wake: Callable[[], None], stopping: Callable[[], bool], sleep: Callable[[float], None]
    ) -> None:
        self._publisher = publisher
        self._wake = wake
        self._stopping = stopping
        self._sleep = sleep
        self._turns: defaultdict[str, Turns] = defaultdict(Turns)
        self._lock = threading.Lock()
        self._progress: dict[int, float] = {}

    def answers(self, now: float) -> bool:
        """Whether every thread that has a message in hand got on with it lately. ``now``: of the monotonic clock."""
        with self._lock:
            return all(now - at < STUCK for at in self._progress.values())

    def take(self, speaker: str, data: object) -> None:
        """Handle one message; ``speaker`` is the node whose list it came on, empty for the list of wake-ups.

        What can not be believed or understood is logged and dropped: it would be no better the second time, and every node says
        everything again within seconds. Raises :class:`Stopping`.
        """
        try:
            self._take(speaker, data)
        finally:
            with self._lock:
                self._progress.pop(threading.get_ident(), None)

    def _proceed(self) -> None:
        with self._lock:
            self._progress[threading.get_ident()] = time.monotonic()

    def _take(self, speaker: str, data: object) -> None:
        self._proceed()
        faults.point("monitor.received")
        try:
            message = parse(data)
        except Invalid as error:
            denied("broker", speaker, f"a message on the list of {speaker or 'wake-ups'}", f"dropped: {error}")
            return
        if isinstance(message, Wake) and not speaker:
            if message.topic == "nodes":
                self._wake()
        elif not isinstance(message, Sighting):
            what = f"a message of type {message.type} on the list of {speaker or 'wake-ups'}"
            denied("broker", speaker, what, "dropped: it does not belong there")
        elif message.node != speaker:
            why = f"dropped: it says it is of node {message.node} and came on the list of {speaker or 'wake-ups'}"
            denied("broker", speaker, "a sighting of another node", why)
        else:
            # The marks in the entries put changes of single guests in order; what is not there has no entry with a mark.
            whole = message.full or bool(message.gone or message.left) or message.facts is not None
            with self._lock:
                turns = self._turns[speaker]
            with turns.turn(alone=whole):
                self._publish(message)
        faults.point("monitor.written")

    def _publish(self, sighting: Sighting) -> None:
        pause = BACKOFF[0]
        while True:
            self._proceed()
            try:
                outcome = self._publisher.publish(sighting)
            except Unavailable as error:
                log.warning("a sighting of node %s waits: %s", sighting.node, error)
                if self._stopping():
                    raise Stopping from error
                self._sleep(pause)
                pause = min(pause * 2, BACKOFF[1])
                continue
            except (Denied, Rejected, Invalid) as error:
                denied("directory", sighting.node, "what a node saw", f"dropped a sighting of node {sighting.node}: {error}")
                return
            if not outcome.node_known:
                log.warning("dropped a sighting: the directory knows no node %s", sighting.node)
            return
