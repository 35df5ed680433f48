"""Keeps the parts of one machine running (docs/adr/0005-supervision.md).

One thread that sleeps until a child ends, a line comes, a signal arrives or a time is due; at rest nothing is due but the
warden's look at the broker.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from vmcloud.dispatch import alive

from . import layout, status
from .backoff import Backoff
from .child import Child
from .combined import CombinedLog, Lines
from .parts import Part
from .process import Ident, ident
from .ready import Line, Progress
from .status import PartStatus, State, Status
from .warden import EVERY, Warden

OWN = "supervisor"
PROBE_FAST, PROBE_SLOW, EAGER = 0.03, 1.0, 10.0
"""Seconds between readiness checks in a part's first ``EAGER`` seconds, and after."""


@dataclass
class Run:
    """What the supervisor remembers of one part. Times are of the monotonic clock, ``since`` of the wall clock."""

    part: Part
    state: State = "waiting"
    child: Child | None = None
    lines: Lines = field(default_factory=Lines)
    line_seen: bool = False
    started_at: float = 0.0
    ready_at: float = 0.0
    due: float = 0.0
    since: float = 0.0
    starts: int = 0
    last_exit: str = ""
    problem: bool = False
    backoff: Backoff = field(default_factory=Backoff)

    @property
    def satisfied(self) -> bool:
        """Whether what depends on this part may start."""
        return self.state in ("ready", "done")


class Supervisor:
    """Runs ``parts`` for the cloud in ``data`` until it is told to stop."""

    def __init__(
        self,
        parts: Sequence[Part],
        data: Path,
        log: CombinedLog,
        *,
        on_ready: Callable[[], None] = lambda: None,
        warden: Warden | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._runs = {part.name: Run(part) for part in parts}
        self._data, self._log, self._clock = data, log, clock
        self._warden, self._look_at = warden, 0.0
        self._on_ready: Callable[[], None] | None = on_ready
        self._selector = selectors.DefaultSelector()
        self._stopping = self._hurry = False
        self._me = ident(os.getpid()) or Ident(os.getpid(), 0)
        self._since = time.time()
        self._published: Status | None = None

    def run(self) -> None:
        """Start everything, keep it running, return when all has been stopped (SIGTERM, SIGINT, SIGHUP)."""
        wake = self._catch_signals()
        self._say(f"started with process id {self._me.pid}: {', '.join(self._runs)}")
        while True:
            now = self._clock()
            self._advance(now)
            self._guard(now)
            self._publish()
            if self._stopping and all(run.child is None for run in self._runs.values()):
                break
            self._wait(now, wake)
            self._reap(self._clock())
        self._say("all parts have ended")
        self._publish()
        wake.close()

    def stop(self) -> None:
        """Stop all parts; asked again: kill them."""
        if self._stopping:
            self._hurry = True
        else:
            self._stopping = True
            self._say("stopping; guests go on running")

    # -- waiting ------------------------------------------------------------------------------------------------------

    def _catch_signals(self) -> socket.socket:
        """Make signals wake the loop, through a socket that the interpreter writes their numbers to."""
        wake, writing = socket.socketpair()
        wake.setblocking(False)
        writing.setblocking(False)
        signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        self._writing = writing
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        self._selector.register(wake, selectors.EVENT_READ, None)
        return wake

    def _wait(self, now: float, wake: socket.socket) -> None:
        dues = [run.due for run in self._runs.values() if run.due and run.state in ("starting", "backoff", "stopping")]
        dues += [self._look_at] if self._guards else []
        timeout = max(0.0, min(dues) - now) if dues else None
        for key, _ in self._selector.select(timeout):
            if key.data is None:
                numbers = wake.recv(4096)
                if any(number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP) for number in numbers):
                    self.stop()
            else:
                self._pump(key.data, key.fd)

    def _pump(self, run: Run, reading: int) -> None:
        """Take what a part has written."""
        try:
            data = os.read(reading, 65536)
        except BlockingIOError:
            return
        current = run.child is not None and run.child.output == reading
        lines = run.lines if current else Lines()
        text = run.part.ready.text if isinstance(run.part.ready, Line) else None
        for line in lines.feed(data):
            self._log.write(run.part.name, line)
            if current and text is not None and text in line:
                run.line_seen = True
                run.due = 0.001  # look at once
        if not data:
            self._selector.unregister(reading)
            os.close(reading)

    # -- changing states ----------------------------------------------------------------------------------------------

    def _advance(self, now: float) -> None:
        """Take every step that is possible now."""
        for run in self._runs.values():
            if self._stopping:
                self._wind_down(run, now)
            elif run.state == "waiting" and self._may_start(run):
                self._start(run, now)
            elif run.state == "backoff" and now >= run.due:
                run.state, run.due = "waiting", 0.0
                if self._may_start(run):
                    self._start(run, now)
            elif run.state == "starting" and now >= run.due:
                self._probe(run, now)
        if self._on_ready is not None and not self._stopping and all(run.satisfied for run in self._runs.values()):
            self._say("all parts are ready")
            self._publish()
            self._on_ready()
            self._on_ready = None

    @property
    def _guards(self) -> bool:
        """Whether there is a warden, and a broker for it to look at."""
        return self._warden is not None and not self._stopping and self._runs["broker"].state == "ready"

    def _guard(self, now: float) -> None:
        """Let the warden look, when it is time."""
        if self._warden is not None and self._guards and now >= self._look_at:
            self._warden.look()
            self._look_at = self._clock() + EVERY

    def _may_start(self, run: Run) -> bool:
        """Whether all it waits for was reached. Once up, a part outlives what it depends on: all of them reconnect."""
        return run.starts > 0 or all(self._runs[name].satisfied for name in run.part.depends_on)

    def _start(self, run: Run, now: float) -> None:
        run.starts += 1
        run.line_seen, run.lines = False, Lines()
        run.started_at, run.ready_at, run.since = now, 0.0, time.time()
        try:
            self._expect_life(run.part)
            run.child = Child.start(run.part, self._data)
        except (OSError, KeyError) as error:
            run.child = None
            self._ended(run, f"could not be started: {error}", now, ok=False)
            return
        self._selector.register(run.child.output, selectors.EVENT_READ, run)
        run.state, run.due = "starting", now + PROBE_FAST
        self._log.write(OWN, f"{run.part.name}: started with process id {run.child.ident.pid}")

    def _expect_life(self, part: Part) -> None:
        """Make the file that the part touches as long as it hears."""
        if path := part.env.get(alive.VARIABLE):
            layout.write(Path(path), "", user=part.user, mode=0o644)

    def _probe(self, run: Run, now: float) -> None:
        alive = now - run.started_at
        if run.part.ready.check(Progress(alive=alive, line_seen=run.line_seen)):
            # Another program on the same port would answer too: only a part that still lives is ready.
            if run.child is not None and run.child.ended() is None:
                run.state, run.ready_at, run.due, run.problem = "ready", now, 0.0, False
                self._say(f"{run.part.name}: ready after {alive:.2f} s")
            return
        run.due = now + (PROBE_FAST if alive < EAGER else PROBE_SLOW)

    def _reap(self, now: float) -> None:
        """Notice what has ended."""
        for run in self._runs.values():
            child = run.child
            if child is None or (words := child.ended()) is None:
                continue
            child.sweep()
            self._pump_rest(run, child)
            run.child = None
            self._ended(run, words, now, ok=child.process.returncode == 0)

    def _pump_rest(self, run: Run, child: Child) -> None:
        """Take the last words of a part before saying that it ended."""
        while child.output in self._selector.get_map():
            before = self._selector.get_map()[child.output]
            if not self._selector.select(0) or before.fd not in {key.fd for key, _ in self._selector.select(0)}:
                break
            self._pump(run, child.output)

    def _ended(self, run: Run, words: str, now: float, *, ok: bool) -> None:
        run.last_exit = words
        if self._stopping:
            run.state, run.due = "stopped", 0.0
            self._say(f"{run.part.name}: stopped ({words})")
        elif run.part.once and ok:
            run.state, run.due, run.problem = "done", 0.0, False
            self._say(f"{run.part.name}: done after {now - run.started_at:.2f} s")
        else:
            run.backoff = run.backoff.after_end(now - run.ready_at if run.ready_at else 0.0)
            run.state, run.due, run.problem = "backoff", now + run.backoff.delay, True
            self._say(f"{run.part.name}: ended ({words}); starting it again in {run.backoff.delay:.1f} s")

    def _wind_down(self, run: Run, now: float) -> None:
        """Stop a part once everything that depends on it has stopped."""
        child = run.child
        if child is None:
            run.state, run.due = ("done" if run.state == "done" else "stopped"), 0.0
            return
        if run.state != "stopping":
            if any(other.child is not None and self._needs(other.part, run.part.name) for other in self._runs.values()):
                return
            child.signal(signal.SIGTERM)
            run.state, run.due = "stopping", now + run.part.grace
        elif self._hurry or now >= run.due:
            self._say(f"{run.part.name}: did not stop in {run.part.grace:.0f} s, killed")
            child.signal(signal.SIGKILL)
            run.due = now + 5.0

    def _needs(self, part: Part, name: str) -> bool:
        """Whether ``part`` depends on ``name``, also through others (one of them may have been done long ago)."""
        return any(other == name or self._needs(self._runs[other].part, name) for other in part.depends_on)

    # -- telling ------------------------------------------------------------------------------------------------------

    def _publish(self) -> None:
        """Write the status file if something changed."""
        dead = self._warden.dead if self._warden is not None else {}
        found = Status(self._me, self._since, tuple(self._describe(run) for run in self._runs.values()), dead)
        if found != self._published:
            self._published = found
            try:
                status.write(self._data, found)
            except OSError as error:
                self._say(f"the status could not be written: {error}")

    def _describe(self, run: Run) -> PartStatus:
        why = ""
        if run.state == "waiting":
            why = "waits for " + ", ".join(name for name in run.part.depends_on if not self._runs[name].satisfied)
        elif run.state == "backoff":
            why = f"tried again {run.backoff.delay:.1f} s after its end"
        described = PartStatus(
            name=run.part.name,
            state=run.state,
            since=run.since,
            restarts=max(0, run.starts - 1),
            last_exit=run.last_exit,
            why=why,
            problem=run.problem,
        )
        if run.child is None:
            return described
        return replace(described, pid=run.child.ident.pid, started=run.child.ident.started)

    def _say(self, text: str) -> None:
        self._log.write(OWN, text)
