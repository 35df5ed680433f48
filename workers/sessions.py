"""The sessions of one node: consoles, programs run in guests, boot logs. Beside the executor, since they change no guest: they
hold no lane, take none of its places, and may last a day.

Each runs in a child process that dies with the worker (or, for drivers that are called in this process, in a thread). None is
ever begun twice: what a worker that ended had under way is over.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping

from vmcloud.domain.errors import Problem
from vmcloud.domain.messages import Result
from vmcloud.domain.vocabulary import SESSION_STEPS, Kind, Outcome

from .accept import NOTHING_SHOWN
from .executor import Executor
from .hands import Hands, Reason, Stop
from .journal import Journal, Key, State, StepRow
from .reporter import Reporter
from .spoken import Spoken

log = logging.getLogger(__name__)

SESSIONS_MAX = 64
"""Sessions at once on one node; each is a process of some megabytes."""


class Sessions:
    """See the module."""

    def __init__(self, node: str, journal: Journal, hands: Mapping[Kind | None, Hands], reporter: Reporter) -> None:
        self._node, self._journal, self._hands, self._reporter = node, journal, hands, reporter
        self._lock = threading.Lock()
        self._running: dict[Key, Stop] = {}

    def start(self) -> None:
        """Say of what an earlier worker had under way that it is over."""
        lost = Problem("lost", "the session ended with the worker", todo="Ask for a new one.")
        for row in self._journal.unfinished():
            if row.order is not None and row.order.verb in SESSION_STEPS:
                self._finish(row, Spoken(error=lost), began=time.time())

    def stop(self) -> None:
        """End all of them."""
        with self._lock:
            stops = list(self._running.values())
        for stop in stops:
            stop.wish(Reason.LEAVING)

    def offer(self, row: StepRow) -> None:
        """Begin a session. Harmless where it has begun."""
        if row.order is None or row.state is State.DONE:
            return
        with self._lock:
            if row.key in self._running:
                return
            full = len(self._running) >= SESSIONS_MAX
            stop = Stop(row.order.timeout)
            if not full:
                self._running[row.key] = stop
        if full:
            why = Problem("busy", f"node {self._node} has {SESSIONS_MAX} sessions already", todo="Try again when one has ended.")
            self._finish(row, Spoken(error=why), began=time.time())
            return
        threading.Thread(target=self._hold, args=(row, stop), name=f"session-{row.key[0]}", daemon=True).start()

    def cancel(self, key: Key) -> None:
        """End a session."""
        with self._lock:
            stop = self._running.get(key)
        if stop is not None:
            stop.wish(Reason.CANCELLED)

    def _hold(self, row: StepRow, stop: Stop) -> None:
        began = time.time()
        spoken = Spoken(error=Problem("lost", "the session's process died", todo="Ask for a new one."))
        try:
            begun = self._journal.begin(row.key, row.sequence)
            if begun is None or begun.order is None:
                return
            hands = self._hands.get(begun.order.kind)
            if hands is None:
                spoken = Spoken(error=Problem("unsupported", f"this node has no driver for kind {begun.order.kind}"))
            else:
                spoken = hands.converse(begun.order, stop) or spoken
        except Exception:
            log.exception("session %d failed", row.key[0])
        finally:
            with self._lock:
                del self._running[row.key]
        if stop.reason is not Reason.LEAVING:  # else the next worker says it
            self._finish(row, spoken, began=began, reason=stop.reason)

    def _finish(self, row: StepRow, spoken: Spoken, *, began: float, reason: Reason | None = None) -> None:
        """On disk, then said."""
        outcome, error = (Outcome.FAILED if spoken.error else Outcome.OK), spoken.error
        if reason is Reason.CANCELLED:
            outcome, error = Outcome.CANCELLED, None
        elif reason is Reason.TIMED_OUT:
            outcome, error = Outcome.TIMED_OUT, Problem("timed-out", "the session lasted longer than one may")
        with self._journal.transaction():
            known = self._journal.step(row.key)
            if known is None or known.state is State.DONE:
                return
            now = time.time()
            result = Result(
                node=self._node,
                job=row.key[0],
                step=row.key[1],
                attempt=known.attempt,
                at=now,
                outcome=outcome,
                mark=NOTHING_SHOWN,
                error=error,
                undone=True,
                seconds=now - began,
                exit_code=spoken.exit_code,
            )
            self._journal.finish(result)
        self._reporter.say(result)
        log.info("session %d ended: %s", row.key[0], error.sentence() if error else outcome)


class Division:
    """Who does what is accepted: the sessions theirs, the executor the rest."""

    def __init__(self, executor: Executor, sessions: Sessions) -> None:
        self._executor, self._sessions = executor, sessions

    def offer(self, row: StepRow) -> None:
        """See :class:`workers.accept.Work`."""
        talks = row.order is not None and row.order.verb in SESSION_STEPS
        (self._sessions if talks else self._executor).offer(row)

    def cancel(self, key: Key) -> None:
        """See :class:`workers.accept.Work`."""
        self._sessions.cancel(key)
        self._executor.cancel(key)

    def signal(self, key: Key) -> None:
        """See :class:`workers.accept.Work`; a session is cancelled instead."""
        self._executor.signal(key)
