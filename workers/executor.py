"""Carrying out what the journal holds: some steps at once, one per lane, each in a thread that watches over it.

What ends a step:

- the driver's answer, good or bad;
- a cancel or the step's timeout: its child is killed, the plan undone, the result ``cancelled`` or ``timed-out``;
- a child that dies by itself: the step starts again, at most :data:`STARTS_MAX` times in all (counted in the journal, so
  that deaths of the whole worker count too), then the result is ``failed`` with code ``poison``, and says how it died;
- a worker that ends: the step stays unfinished in the journal, and the next worker starts it again.

A worker that dies takes all its steps along, and only one of them may be why. So a step that it died with again is begun alone
among its like, one after the other: the one that kills is found out, and the others end before the next death counts for them.

Where the executor itself fails (no space for the journal, no process to be had), the step keeps its lane and is tried again
after a pause; where it is lost all the same, the server's next question about it brings it back (:meth:`Executor.offer`).

Around the work of a step that changes a guest run the node's own hooks (:mod:`.hooks`): a prologue may refuse it, and once a
prologue or the work has begun, an epilogue runs after the end, whatever that was. How the work ended is kept before the epilogue:
a worker that dies meanwhile runs that once more, and not the work.

The result is on disk before it is sent, and the sighting that it names is said before it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from vmcloud import faults
from vmcloud.domain.errors import POISON, REQUEUE, Problem, VmcloudError
from vmcloud.domain.messages import Mark, Progress, Result, Seen, Sighting, StepOrder
from vmcloud.domain.vocabulary import SESSION_STEPS, Kind, Observed, Outcome, StepVerb
from vmcloud.hooks.run import Ran

from .accept import NOTHING_SHOWN
from .doing import LOOK, Doing
from .drivers.base import CannotLook, DriverError
from .guests import UNSEEN, GuestBook
from .hands import Hands, Reason, Stop, Watch
from .hooks import EPILOGUE, PROLOGUE, Killing, NodeHooks, Occasion, verdict
from .journal import Journal, Key, State, StepRow
from .lanes import LaneLocks, Lanes
from .observer import Observer
from .plans import Work
from .reporter import Reporter
from .steps import Ended

log = logging.getLogger(__name__)
faults.declare("worker", "worker.execute.before-driver", "worker.execute.after-driver", "worker.finish.journalled")

ABOUT_IMAGES = (StepVerb.FETCH, StepVerb.REMOVE_IMAGE)
"""Steps about no guest."""
STARTS_MAX = 3
UNDO_STARTS_MAX = 3
"""How often the undo of a step that was given up may take the worker along; then it is given up too."""
UNDO_SECONDS = 120.0
LOCK_RETRY = (0.002, 0.2)
"""Seconds until a lane's lock is tried again; doubled each time up to the second."""
PROGRESS_SECONDS = 0.5
HUNG_BESIDE = 3
"""For each place, at most so many steps that hang run beside those that have one."""
PAUSE = (0.5, 30.0)
"""Seconds until a step is tried again at which the executor itself failed; doubled each time up to the second."""
Ticket = tuple[int, int, int]
"""One row of the journal's steps: job, step, and the row's sequence."""


class Executor:
    """The executing side of one node. ``slots``: steps at once; ``server``: the cloud's name, for hooks."""

    def __init__(
        self,
        node: str,
        journal: Journal,
        hands: Mapping[Kind | None, Hands],
        book: GuestBook,
        locks: LaneLocks,
        reporter: Reporter,
        observer: Observer,
        *,
        slots: int,
        hooks: NodeHooks,
        server: str,
    ) -> None:
        self._node, self._journal, self._hands, self._book = node, journal, hands, book
        self._locks, self._reporter, self._observer, self._slots = locks, reporter, observer, slots
        self._site, self._server = hooks, server
        self._lanes: Lanes[Ticket] = Lanes()
        self._condition = threading.Condition()
        self._running: dict[Ticket, Stop] = {}
        self._doing: dict[Ticket, Doing] = {}
        self._looking = False
        self._suspects: list[str] = []
        """Lanes of steps with which the worker died again and again. The first one's turn it is; the others wait for it."""
        self._open = False
        self._leaving = threading.Event()

    def start(self) -> None:
        """Take up what the journal holds unfinished, then what is offered."""
        rows = [row for row in self._journal.unfinished() if row.order is None or row.order.verb not in SESSION_STEPS]
        if rows:
            log.info("%d unfinished steps are taken up", len(rows))
        for row in rows:
            self._journal.died(row.sequence, "its worker died with it")
        suspects = [row.order.lane for row in rows if row.order is not None and row.starts >= STARTS_MAX - 1]
        with self._condition:
            self._suspects = list(dict.fromkeys(suspects))
            self._open = True
        for row in rows:
            self.offer(row)

    def stop(self, patience: float) -> None:
        """Begin nothing more; give what runs ``patience`` seconds to end, then leave it to the next worker."""
        with self._condition:
            self._open = False
            self._condition.wait_for(lambda: not self._running, patience)
            left = list(self._running.items())
        self._leaving.set()
        for (job, step, _), stop in left:
            log.info("step %d.%d is left to the next start", job, step)
            stop.wish(Reason.LEAVING)
        with self._condition:
            self._condition.wait_for(lambda: not self._running, 2.0)

    def offer(self, row: StepRow) -> None:
        """Carry out ``row`` when its lane and a slot are free. Harmless where it waits or runs already."""
        if row.order is None or row.state is State.DONE:
            return
        ticket = (*row.key, row.sequence)
        with self._condition:
            if row.order.lane in self._suspects[1:]:
                return
            if ticket not in self._running and not self._lanes.waits(ticket):
                self._lanes.add(ticket, row.order.lane, row.sequence)
            self._fill()

    def cancel(self, key: Key) -> None:
        """Stop a running step and undo it. One that has not begun is the journal's matter."""
        with self._condition:
            stops = [stop for ticket, stop in self._running.items() if ticket[:2] == key]
        for stop in stops:
            stop.wish(Reason.CANCELLED)

    def signal(self, key: Key) -> None:
        """Kill the process of a running step; it begins again."""
        with self._condition:
            stops = [stop for ticket, stop in self._running.items() if ticket[:2] == key]
        for stop in stops:
            stop.kick()

    def _look(self) -> None:
        """Say of each step whose call does not return that it does not; as long as any runs, again in a moment."""
        for (job, step, _), each in list(self._doing.items()):
            if words := each.complaint():
                log.warning("step %d.%d: %s", job, step, words)
                self._reporter.say(Progress(self._node, job, step, each.attempt, time.time(), words))
        with self._condition:
            self._looking = False
            if not self._leaving.is_set():
                self._fill()

    def _look_later(self) -> None:
        later = threading.Timer(LOOK, self._look)
        later.daemon = True
        later.start()

    def _places(self) -> bool:
        """Whether one more may run. One that hangs does nothing, so it holds up no other guest: up to some, it has no place."""
        hung = sum(each.hung for each in self._doing.values())
        return len(self._running) - min(hung, HUNG_BESIDE * self._slots) < self._slots

    def _fill(self) -> None:
        while self._open and self._places() and (taken := self._lanes.take()) is not None:
            ticket, lane = taken
            stop = Stop(float("inf"))
            thread = threading.Thread(target=self._attend, args=(ticket, lane, stop), name="steps", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # until another step ends, or the server asks again
                log.error("step %d.%d can not begin now: %s", *ticket[:2], error)
                self._lanes.give_back(ticket, lane, ticket[2])
                return
            self._running[ticket] = stop
        if self._running and not self._looking:
            self._looking = True
            self._look_later()

    def _attend(self, ticket: Ticket, lane: str, stop: Stop) -> None:
        """See a step through, and then, in the same thread, those that wait for a slot."""
        taken: tuple[Ticket, str] | None = ticket, lane
        while taken is not None:
            (ticket, lane), pause = taken, PAUSE[0]
            try:
                while not self._tried(ticket, lane, stop) and not self._leaving.wait(pause):
                    pause = min(pause * 2, PAUSE[1])
            finally:
                with self._condition:
                    del self._running[ticket]
                    self._lanes.release(lane)
                    self._cleared(lane)
                    self._condition.notify_all()
                    taken = self._lanes.take() if self._open and self._places() else None
                    if taken is not None:
                        stop = self._running[taken[0]] = Stop(float("inf"))
                    self._fill()

    def _cleared(self, lane: str) -> None:
        """A step of this lane has ended; if the lane was suspected, the next one's turn has come."""
        if not self._open or lane not in self._suspects[:1]:
            return
        del self._suspects[0]
        following = self._suspects[:1]
        for row in self._journal.unfinished() if following else ():
            if row.order is not None and row.order.lane in following:
                self.offer(row)

    def _tried(self, ticket: Ticket, lane: str, stop: Stop) -> bool:
        """See one step through; False where the executor itself failed. What the machine lacked is not held against the step."""
        try:
            self._see_through(ticket, lane, stop)
        except Exception as error:
            log.exception("the executor failed at step %d.%d and tries again", *ticket[:2])
            if isinstance(error, OSError | sqlite3.Error):
                with contextlib.suppress(sqlite3.Error):
                    self._journal.leave(ticket[:2])
            return False
        return True

    def _see_through(self, ticket: Ticket, lane: str, stop: Stop) -> None:
        key = ticket[:2]
        row = self._journal.step(key)
        if row is None or row.order is None or row.state is State.DONE or row.sequence != ticket[2]:
            return
        order = row.order
        hands = self._hands.get(order.kind if order.verb not in ABOUT_IMAGES else None) or self._hands[None]
        doing = self._doing[ticket] = Doing(order, lambda: stop.pid)
        try:
            self._carry_through(ticket, row.order, hands, lane, stop, doing)
        finally:
            del self._doing[ticket]

    def _carry_through(self, ticket: Ticket, order: StepOrder, hands: Hands, lane: str, stop: Stop, doing: Doing) -> None:
        key = ticket[:2]
        held = self._hold(lane, stop)
        if held is None:
            return
        self._observer.begin(order.native)
        try:
            while (row := self._journal.begin(key, ticket[2])) is not None:
                run = _Run(self, row, hands, held, stop, doing)
                if run.done():
                    return
                log.warning("the process of step %d.%d %s (start %d of %d)", *key, stop.died, row.starts, STARTS_MAX)
                stop.event.wait(0.2 * row.starts)
        finally:
            self._observer.end(order.native)
            os.close(held)

    def _hold(self, lane: str, stop: Stop) -> int | None:
        """The lane's lock; a child of a worker that was killed may have it for a moment longer. None: leave."""
        pause = LOCK_RETRY[0]  # the child of the step before may be dying just now
        while (held := self._locks.hold(lane)) is None:
            if stop.event.wait(pause) and stop.reason is Reason.LEAVING:
                return None
            stop.event.clear()
            pause = min(pause * 2, LOCK_RETRY[1])
        return held


class _Run:
    """One start of one step."""

    def __init__(self, executor: Executor, row: StepRow, hands: Hands, lane: int, stop: Stop, doing: Doing) -> None:
        assert row.order is not None
        self._x, self._row, self._hands, self._lane, self._stop, self._doing = executor, row, hands, lane, stop, doing
        self._order = row.order
        self._mark: Mark | None = None
        self._found = row.before
        self._told = ("", -2, 0.0)
        self._began = time.time()

    def done(self) -> bool:
        """Carry out; False if the process died and another start is due."""
        row, stop = self._row, self._stop
        if (kept := row.result) is not None:
            return self._end(
                kept.outcome, Ended(self._seen_now(), kept.error, kept.retryable, kept.undone, kept.spec, kept.output)
            )
        if row.cancel:
            stop.wish(Reason.CANCELLED)
        poison = row.starts > STARTS_MAX
        try:
            work = Work(self._order, *self._x._book.guests(self._order), before=row.before)
        except (VmcloudError, DriverError) as error:
            problem = error.problem if isinstance(error, VmcloudError) else error.problem()
            return self._end(Outcome.FAILED, Ended(seen=self._unseen(), error=problem, undone=True))
        ended = self._prologue(work) if stop.reason is None and not poison else None
        if ended is None and stop.reason is None and not poison:
            stop.deadline = time.monotonic() + self._order.timeout
            self._doing.carries_out(row.before)
            faults.point("worker.execute.before-driver")
            ended = self._hands.carry_out(work, self._watch(), stop, self._lane, undo=False)
            faults.point("worker.execute.after-driver")
        if ended is not None:
            return self._end(Outcome.OK if ended.error is None else Outcome.FAILED, ended)
        match stop.reason:
            case Reason.LEAVING:
                self._x._journal.leave(row.key)
            case Reason.CANCELLED:
                return self._end(Outcome.CANCELLED, self._take_back(work))
            case Reason.TIMED_OUT:
                why = f"{self._order.verb} took longer than {self._order.timeout:g} s"
                ended = self._take_back(work)
                problem = ended.error or Problem("timed-out", why, where=self._order.native)
                return self._end(Outcome.TIMED_OUT, replace(ended, error=problem, retryable=True))
            case None:
                if stop.died:
                    self._x._journal.died(row.sequence, f"its process {stop.died}")
                if row.starts < STARTS_MAX:
                    return False
                return self._end(Outcome.FAILED, replace(self._take_back(work), error=self._poison()))
        return True

    def _occasion(self) -> Occasion:
        known = self._x._journal.ve(self._order.ve) if self._order.ve is not None else None
        return Occasion(self._order, self._x._server, self._row.starts, known.spec if known is not None else None)

    def _prologue(self, work: Work) -> Ended | None:
        """Run the prologue, if there is one. None: go on, or the step was stopped meanwhile; else it was refused."""
        if (path := self._x._site.has(PROLOGUE, self._order.verb)) is None:
            return None
        occasion = self._occasion()
        ran = self._hook(path, occasion.prologue(), occasion.environment(PROLOGUE), self._stop.killing)
        if self._stop.reason is not None or (problem := verdict(ran, self._x._node)) is None:
            return None
        return replace(self._take_back(work), error=problem, retryable=problem.code == REQUEUE)

    def _end(self, outcome: Outcome, ended: Ended) -> bool:
        """The work is over: run the epilogue, if there is one, and tell how the work ended. True, for :meth:`done`."""
        path = self._x._site.has(EPILOGUE, self._order.verb)
        if path is not None and self._row.starts <= STARTS_MAX + UNDO_STARTS_MAX:
            self._x._journal.conclude(self._row.sequence, self._result(outcome, ended, self._row.attempt, NOTHING_SHOWN))
            occasion = self._occasion()
            seconds = time.time() - self._began
            arguments = occasion.epilogue(outcome, seconds, retryable=ended.retryable)
            state = str(ended.seen.state) if ended.seen else "gone"
            error = ended.error.sentence() if ended.error else ""
            environment = occasion.environment(EPILOGUE, OUTCOME=str(outcome), ERROR=error, STATE=state)
            self._hook(path, arguments, environment, self._while_staying)
            if self._x._leaving.is_set():
                self._x._journal.leave(self._row.key)
                return True
        self._finish(outcome, ended)
        return True

    def _while_staying(self, kill: Callable[[], None]) -> AbstractContextManager[None]:
        """An epilogue is stopped by nothing but the worker's end: what was done is done."""
        return self._stop.killing(lambda: kill() if self._x._leaving.is_set() else None)

    def _hook(self, path: Path, arguments: list[str], environment: dict[str, str], killing: Killing) -> Ran:
        """Run a hook, and note how it ended for the job's history."""
        sequence, name, node = self._row.sequence, path.name, self._x._node
        self._progress(name, -1)
        self._x._journal.note(sequence, f"{name} on node {node} was begun, and the worker ended before it did")
        ran = self._x._site.run(path, arguments, environment, killing, self._lane)
        self._x._journal.note(sequence, f"{name} on node {node} {ran.sentence()}", instead=True)
        if ran.code != 0:
            log.warning("step %d.%d: %s %s", *self._row.key, path, ran.sentence())
        return ran

    def _seen_now(self) -> Seen | None:
        """The guest as it is now."""
        self._look()
        try:
            return self._hands.inspect(self._order.native)
        except CannotLook:
            return self._unseen()

    def _poison(self) -> Problem:
        order, known = self._order, self._x._journal.step(self._row.key)
        deaths = Counter(known.deaths if known is not None else ())
        return Problem(
            POISON,
            f"{order.verb} killed what carried it out {STARTS_MAX} times and is not tried again",
            where=f"step {order.job}.{order.step} on node {order.node}",
            why=", ".join(f"{how} ({count}x)" for how, count in deaths.items()),
            todo="The node's log says what it did last; ask for it again once the cause is gone.",
        )

    def _take_back(self, work: Work) -> Ended:
        """Undo in a fresh child; what it could not do is said by ``undone``."""
        self._mark = None
        self._doing.begins("undo")
        if self._row.starts > STARTS_MAX + UNDO_STARTS_MAX:
            return Ended(seen=self._unseen())
        ended = self._hands.carry_out(
            replace(work, before=self._before()), self._watch(), Stop(UNDO_SECONDS), self._lane, undo=True
        )
        return ended or Ended(seen=self._unseen())

    def _before(self) -> str:
        return self._found

    def _watch(self) -> Watch:
        return Watch(self._progress, self._look, self._keep)

    def _keep(self, state: str) -> None:
        """The state in which the guest was found; what an earlier start found counts more."""
        self._found = self._found or state
        self._x._journal.before(self._row.key, state)

    def _look(self) -> None:
        self._doing.begins("inspect")
        self._mark = self._x._reporter.mark()
        self._x._observer.looking(self._order.native)

    def _progress(self, name: str, percent: int) -> None:
        self._doing.begins(name)
        told, percent_told, when = self._told
        now = time.monotonic()
        if name == told and (percent == percent_told or (now - when < PROGRESS_SECONDS and percent != 100)):
            return
        self._told = name, percent, now
        order = self._order
        self._x._reporter.say(Progress(self._x._node, order.job, order.step, order.attempt, time.time(), name, percent))

    def _result(self, outcome: Outcome, ended: Ended, attempt: int, mark: Mark) -> Result:
        now = time.time()
        return Result(
            node=self._x._node,
            job=self._order.job,
            step=self._order.step,
            attempt=attempt,
            at=now,
            outcome=outcome,
            mark=mark,
            seen=ended.seen,
            error=ended.error,
            retryable=ended.retryable,
            undone=ended.undone,
            seconds=now - self._began,
            spec=ended.spec,
            output=ended.output,
        )

    def _unseen(self) -> Seen | None:
        order = self._order
        if order.kind is None or order.ve is None:
            return None
        return Seen(native=order.native, kind=order.kind, state=Observed.UNKNOWN, ve=order.ve)

    def _finish(self, outcome: Outcome, ended: Ended) -> None:
        """1. on disk; 2. what was seen is said; 3. the result is said."""
        x, order, now = self._x, self._order, time.time()
        shown = order.ve is not None and order.verb not in ABOUT_IMAGES and not (order.verb in UNSEEN and ended.seen is None)
        mark = (self._mark or x._reporter.mark()) if shown else NOTHING_SHOWN
        with x._journal.transaction():
            row = x._journal.step(self._row.key)
            x._book.note(order, outcome, ended)
            seen = x._book.merge(ended.seen) if ended.seen is not None else None
            if row is None or row.sequence != self._row.sequence:
                log.warning("step %d.%d ended %s; another order has its number now", order.job, order.step, outcome)
                x._observer.soon()
                return
            result = replace(self._result(outcome, replace(ended, seen=seen), row.attempt, mark), notes=row.notes)
            x._journal.finish(result)
        faults.point("worker.finish.journalled")
        if shown and order.ve is not None:
            native = seen.native if seen is not None else order.native
            x._observer.said(native, mark, seen.state if seen is not None else None)
            known = x._journal.ve(order.ve)
            strayed = known is not None and known.native != order.native  # its own guest is not gone with it
            guests, gone = ((seen,), ()) if seen is not None else ((), () if strayed else (order.ve,))
            left = (str(order.args["orphan"]),) if order.verb is StepVerb.ADOPT and outcome is Outcome.OK else ()
            x._reporter.say(Sighting(x._node, mark, now, full=False, guests=guests, gone=gone, left=left), result)
        else:
            x._reporter.say(result)
        if order.verb in ABOUT_IMAGES:
            x._observer.soon()
        sentence = ended.error.sentence() if ended.error else str(seen.state if seen else "gone")
        log.info("step %d.%d %s %s: %s, %s", order.job, order.step, order.verb, order.native, outcome, sentence)
