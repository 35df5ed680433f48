"""How the executor lays hands on guests: in a child process that can be killed, or in the calling thread.

A child is killed by closing the write end of its lifeline (:mod:`workers.child`): no process id is involved that could
meanwhile belong to somebody else, and its whole process group goes with it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from vmcloud.domain.messages import Seen, StepOrder

from . import child
from .drivers.base import CannotLook, Driver, Fingerprint, Gone, Interrupted
from .images import ImageStore
from .metering import Listed, Metered, metered
from .plans import Tools, Work
from .spoken import Spoken
from .steps import Ended, carry_out, take_back


class Reason(StrEnum):
    """Why a running step is stopped."""

    CANCELLED = "cancelled"
    TIMED_OUT = "timed-out"
    LEAVING = "leaving"


KICKED = "was killed by order"


class Stop:
    """A wish to stop one running step. The first reason counts."""

    def __init__(self, timeout: float) -> None:
        """``timeout``: seconds from now after which the wish comes by itself."""
        self.deadline = time.monotonic() + timeout
        self.reason: Reason | None = None
        self.died = ""
        """How the process died that nobody had killed, in words."""
        self.pid = 0
        """The process that carries the step out now; 0: this one."""
        self.event = threading.Event()
        self._kicked = False
        self._lock = threading.Lock()
        self._kill: Callable[[], None] | None = None

    def wish(self, reason: Reason) -> None:
        """Stop now."""
        with self._lock:
            if self.reason is None:
                self.reason = reason
            kill = self._kill
        self.event.set()
        if kill is not None:
            kill()

    def kick(self) -> None:
        """Kill what carries the step out, as if it had died by itself: the step begins again."""
        with self._lock:
            kill, self._kicked = self._kill, self.reason is None
        self.event.set()
        if kill is not None:
            kill()

    def kicked(self) -> bool:
        """Whether that was wished since the last question, and nothing else."""
        with self._lock:
            kicked, self._kicked = self._kicked and self.reason is None, False
            if kicked:
                self.event.clear()
        return kicked

    @contextlib.contextmanager
    def killing(self, kill: Callable[[], None]) -> Iterator[None]:
        """While this lasts, a wish calls ``kill``; at once if there was one before."""
        with self._lock:
            self._kill = kill
            wished = self.reason is not None
        if wished:
            kill()
        try:
            yield
        finally:
            with self._lock:
                self._kill = None

    def left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.monotonic()


@dataclass(frozen=True)
class Watch:
    """Who is told what during a step: progress; that the guest is looked at for the last time; the state it was found in."""

    report: Callable[[str, int], None]
    look: Callable[[], None]
    found: Callable[[str], None]


class Hands(Protocol):
    """All calls to one kind's driver (or, for kind None, to none)."""

    def carry_out(self, work: Work, watch: Watch, stop: Stop, lane: int, *, undo: bool) -> Ended | None:
        """Do or take back one step. None where it was stopped (``stop.reason`` says why) or died (there is no reason, and
        ``stop.died`` says how)."""

    def converse(self, order: StepOrder, stop: Stop) -> Spoken | None:
        """Hold a session to its end, or until it is stopped. None where its process died or was killed."""

    def list(self) -> Listed:
        """Every guest, and what they use. Raises :class:`CannotLook` where the guests can not be looked at."""

    def inspect(self, native: str) -> Seen | None:
        """One guest. Raises :class:`CannotLook`."""

    def events(self, wanted: Callable[[str], bool]) -> Iterator[Seen | Gone]:
        """State changes of guests that are ``wanted``, and guests that come or go, for ever. Raises :class:`CannotLook`."""

    def fingerprint(self) -> Fingerprint:
        """What is installed. Raises :class:`CannotLook`."""


@runtime_checkable
class Interruptible(Protocol):
    """A driver that is not isolated, and can be stopped in the middle of a call."""

    def interruptible(self, stopped: threading.Event, deadline: float) -> contextlib.AbstractContextManager[None]:
        """Calls of this thread raise :class:`Interrupted` once ``stopped`` is set or ``deadline`` (monotonic) is past."""


class Inline:
    """A driver that neither hangs nor crashes: called in the thread of the caller."""

    def __init__(self, driver: Driver, images: ImageStore) -> None:
        self.driver, self._images = driver, images

    def carry_out(self, work: Work, watch: Watch, stop: Stop, lane: int, *, undo: bool) -> Ended | None:
        """See :class:`Hands`."""
        tools = Tools(self.driver, self._images, watch.report, watch.look, watch.found)
        can_stop = isinstance(self.driver, Interruptible)
        guard = self.driver.interruptible(stop.event, stop.deadline) if can_stop else contextlib.nullcontext()  # type: ignore[attr-defined]
        try:
            with guard:
                return (take_back if undo else carry_out)(work, tools)
        except Interrupted:
            if stop.kicked():
                stop.died = KICKED
                return None
            stop.wish(Reason.TIMED_OUT)  # counts only where nobody wished anything before
            return None

    def converse(self, order: StepOrder, stop: Stop) -> Spoken | None:
        """See :class:`Hands`."""
        from .conversation import converse  # only where there are sessions: it brings asyncio and a websocket client

        late = threading.Timer(max(stop.left(), 0), stop.wish, (Reason.TIMED_OUT,))
        late.daemon = True
        late.start()
        try:
            with contextlib.ExitStack() as stack:
                return converse(self.driver, order, lambda close: stack.enter_context(stop.killing(close)))
        finally:
            late.cancel()

    def list(self) -> Listed:
        """See :class:`Hands`."""
        return Listed(self.driver.list(), metered(self.driver))

    def inspect(self, native: str) -> Seen | None:
        """See :class:`Hands`."""
        return self.driver.inspect(native)

    def events(self, wanted: Callable[[str], bool]) -> Iterator[Seen | Gone]:
        """See :class:`Hands`."""
        return self.driver.events(wanted)

    def fingerprint(self) -> Fingerprint:
        """See :class:`Hands`."""
        return self.driver.fingerprint()


METERING = 3.0
"""Seconds in which a driver has to say what its guests use, after it has listed them."""
IDLE_SECONDS = 10.0
"""How long a child waits for work: a node at rest keeps none."""
POLL_MAX = 1 << 30
"""Milliseconds: the longest that poll(2) can wait, twelve days."""
PARTING = 2.0
"""Seconds in which a process that closed its pipe is expected to be dead."""
USES_MAX = 200
"""Steps of one child: what a binding forgets to free is bounded."""


class Isolated:
    """A driver whose calls may hang or crash: each runs in a child process. ``patience``: seconds for one look.

    A child takes 10 ms to be there, as long as a container's start takes; so one that has done its step waits for the next. A
    killed one never does: whatever state its step left it in is gone with it.
    """

    def __init__(self, place: child.Place, *, patience: float = 10.0) -> None:
        self._place, self._patience = place, patience
        self._idle: list[_Child] = []
        self._trimming = False
        self._lock = threading.Lock()

    def carry_out(self, work: Work, watch: Watch, stop: Stop, lane: int, *, undo: bool) -> Ended | None:
        """See :class:`Hands`."""
        pipe, ended = self._hand(work, undo, lane), None
        try:
            ended = self._follow(pipe, watch, stop)
        finally:  # also where somebody who is told failed, such as the journal on a full disk: the lane must come free
            if ended is not None and pipe.uses < USES_MAX and not pipe.cut:
                self._keep(pipe)
            else:
                pipe.end()
        return ended

    def _follow(self, pipe: _Child, watch: Watch, stop: Stop) -> Ended | None:
        """Hear a child to the end of its step."""
        stop.pid = pipe.pid
        with stop.killing(pipe.killer()):
            try:
                while pipe.says(max(stop.left(), 0)):
                    match pipe.connection.recv():
                        case ("report", name, percent):
                            watch.report(name, percent)
                        case ("found", state):
                            watch.found(state)
                        case ("look",):
                            watch.look()
                            pipe.connection.send("look")
                        case ("ended", Ended() as ended):
                            pipe.use_up()
                            return ended
                stop.wish(Reason.TIMED_OUT)
            except (EOFError, OSError):
                if stop.reason is None:
                    stop.died = KICKED if stop.kicked() else pipe.death()
        return None

    def converse(self, order: StepOrder, stop: Stop) -> Spoken | None:
        """See :class:`Hands`."""
        with _Child(child.session, self._place, order) as pipe, stop.killing(pipe.kill):
            try:
                if not pipe.says(max(stop.left(), 0)):
                    stop.wish(Reason.TIMED_OUT)
                    return None
                spoken: Spoken = pipe.connection.recv()
                pipe.done = True
                return spoken
            except (EOFError, OSError):
                return None

    def _hand(self, work: Work, undo: bool, lane: int) -> _Child:
        """A child that has the work: one that waits, or a new one where there is none."""
        while True:
            with self._lock:
                waiting = self._idle.pop() if self._idle else None
            if waiting is None:
                break
            try:
                child.hand(waiting.connection, work, undo, lane)
                return waiting
            except OSError:  # it died while it waited
                waiting.end()
        fresh = _Child(child.step, self._place)
        with contextlib.suppress(OSError):  # it died: who listens to it will see
            child.hand(fresh.connection, work, undo, lane)
        return fresh

    def _keep(self, pipe: _Child) -> None:
        """Let a child wait for the next step."""
        with self._lock:
            pipe.idle_since = time.monotonic()
            self._idle.append(pipe)
            if self._trimming:
                return
            self._trimming = True
        self._trim_later()

    def _trim_later(self) -> None:
        later = threading.Timer(IDLE_SECONDS, self._trim)
        later.daemon = True
        later.start()

    def _trim(self) -> None:
        """End those that have waited for long: the last that worked is the first to work again."""
        limit = time.monotonic() - IDLE_SECONDS
        with self._lock:
            over = [each for each in self._idle if each.idle_since <= limit]
            self._idle = [each for each in self._idle if each.idle_since > limit]
            self._trimming = again = bool(self._idle)
        for each in over:
            each.end()
        if again:
            self._trim_later()

    def list(self) -> Listed:
        """See :class:`Hands`."""
        with _Child(child.list_guests, self._place, ()) as pipe:
            guests = _seen(self._hear(pipe, "list"))
            try:
                return Listed(guests, self._hear(pipe, "usage", min(METERING, self._patience)))
            except CannotLook as error:
                return Listed(guests, Metered(trouble=str(error)))

    def inspect(self, native: str) -> Seen | None:
        """See :class:`Hands`."""
        return next(iter(_seen(self._call(child.list_guests, (native,)))), None)

    def events(self, wanted: Callable[[str], bool]) -> Iterator[Seen | Gone]:
        """See :class:`Hands`."""
        with _Child(child.events, self._place) as pipe:
            while True:
                try:
                    said = pipe.connection.recv()
                    if isinstance(said, tuple):
                        pipe.connection.send(wanted(said[1]))
                        continue
                except (EOFError, OSError) as error:
                    raise CannotLook("events", "the process that watches the guests died") from error
                if isinstance(said, str):
                    raise CannotLook("events", said)
                yield said

    def fingerprint(self) -> Fingerprint:
        """See :class:`Hands`."""
        found: Fingerprint = self._call(child.fingerprint)
        return found

    def _call(self, target: Callable[..., None], *arguments: object) -> Any:
        with _Child(target, self._place, *arguments) as pipe:
            return self._hear(pipe, target.__name__)

    def _hear(self, pipe: _Child, what: str, patience: float | None = None) -> Any:
        """The next that a child says."""
        patience = self._patience if patience is None else patience
        try:
            if pipe.says(patience):
                return pipe.connection.recv()
        except (EOFError, OSError) as error:
            raise CannotLook(what, f"the {self._place.kind} driver's process died") from error
        raise CannotLook(what, f"the {self._place.kind} driver did not answer in {patience:.0f} s")


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _seen(said: Any) -> Sequence[Seen]:
    """The guests that a child said, unless it could not look."""
    if isinstance(said, str):
        raise CannotLook("list", said)
    found: Sequence[Seen] = said
    return found


class _Child:
    """A running child; killed, if it still lives, when its context ends. ``done``: it has nothing left to do, so that nobody need
    wait for its death. ``uses``: how many steps it has done; ``idle_since``: when it did the last one (monotonic)."""

    _context: multiprocessing.context.ForkServerContext | None = None
    _first = threading.Lock()

    def __init__(self, target: Callable[..., None], *arguments: object) -> None:
        self.connection: Connection
        self.connection, theirs = multiprocessing.Pipe()
        self._poll = select.poll()
        self._poll.register(self.connection, select.POLLIN)
        reading, self._lifeline = os.pipe()
        self._lock = threading.Lock()
        self.done = False
        self.uses = 0
        self.idle_since = 0.0
        try:
            # daemon: multiprocessing must not wait for a hung child when the worker ends
            self._process = self._server().Process(target=target, args=(*arguments, theirs, child.Handed(reading)), daemon=True)
            self._process.start()
        except BaseException:  # such as no process to be had; it is tried again, for hours if need be
            self._cut()
            self.connection.close()
            raise
        finally:
            theirs.close()
            os.close(reading)

    @classmethod
    def _server(cls) -> multiprocessing.context.ForkServerContext:
        with cls._first:
            if cls._context is None:
                cls._context = multiprocessing.get_context("forkserver")
                # The server imports before anybody tells it the parent's sys.path (Lib/multiprocessing/forkserver.py of 3.11).
                root, known = str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")
                if root not in known.split(os.pathsep):
                    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (root, known)))
                cls._context.set_forkserver_preload(["workers.preload"])
            return cls._context

    def says(self, seconds: float) -> bool:
        """Whether it says something, or dies, within that time. (The connection's own method makes a selector each time.)"""
        return bool(self._poll.poll(min(seconds * 1000, POLL_MAX)))

    def killer(self) -> Callable[[], None]:
        """A function that ends the child in its present use and does nothing in a later one: a late wish to stop a step must not
        hit the next."""
        use = self.uses

        def kill() -> None:
            with self._lock:
                if self.uses == use:
                    self._cut()

        return kill

    @property
    def pid(self) -> int:
        """Of the process, which leads a group and a session of its own."""
        return self._process.pid or 0

    def death(self) -> str:
        """How it died, in words."""
        self._process.join(PARTING)
        code = self._process.exitcode
        if code is None:
            return "said no more"
        return f"was killed by {_signal(-code)}" if code < 0 else f"ended with exit status {code}"

    @property
    def cut(self) -> bool:
        """Whether it was ordered to die."""
        return self._lifeline < 0

    def use_up(self) -> None:
        """Its step is over; it may have another."""
        with self._lock:
            self.uses += 1

    def kill(self) -> None:
        """End it and all that it started."""
        with self._lock:
            self._cut()

    def _cut(self) -> None:
        lifeline, self._lifeline = self._lifeline, -1
        if lifeline >= 0:
            os.close(lifeline)

    def __enter__(self) -> _Child:
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()
        self.connection.close()
        if self.done:
            threading.Thread(target=self._bury, daemon=True).start()
        else:
            self._bury()

    def end(self) -> None:
        """Be done with it."""
        self.done = self.uses > 0
        self.__exit__()

    def _bury(self) -> None:
        self._process.join(5)  # longer only if the kernel can not end it; then the lane's lock says that it lives
        if self._process.exitcode is not None:
            self._process.close()
