"""Processes known by id *and* start time, so that a reused process id is never taken for ours (proc(5))."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True)
class Ident:
    """One process for ever. ``started``: clock ticks after boot at which it began."""

    pid: int
    started: int

    @property
    def alive(self) -> bool:
        """Whether it still runs; a zombie does not."""
        stat = _stat(self.pid)
        return stat is not None and stat.started == self.started and stat.state not in "ZX"


@dataclass(frozen=True)
class _Stat:
    state: str
    session: int
    started: int


def parse_stat(text: str) -> tuple[str, int, int]:
    """(state, session, start time in ticks) from one line of ``/proc/<pid>/stat``; a command name may hold anything."""
    fields = text.rpartition(")")[2].split()
    return fields[0], int(fields[3]), int(fields[19])


def _stat(pid: int) -> _Stat | None:
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except (OSError, UnicodeDecodeError):
        return None
    state, session, started = parse_stat(text)
    return _Stat(state=state, session=session, started=started)


def ident(pid: int) -> Ident | None:
    """The process that has ``pid`` now, or None."""
    stat = _stat(pid)
    return Ident(pid=pid, started=stat.started) if stat is not None else None


def session_members(session: int, *, marker: bytes) -> list[Ident]:
    """Living processes of a session whose environment has the entry ``marker`` (``NAME=value``): nobody else's by accident."""
    found = []
    for entry in PROC.iterdir():
        if not entry.name.isdigit():
            continue
        stat = _stat(int(entry.name))
        if stat is None or stat.session != session or stat.state in "ZX":
            continue
        try:
            environment = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if marker in environment:
            found.append(Ident(pid=int(entry.name), started=stat.started))
    return found


def end(processes: list[Ident], *, grace: float) -> bool:
    """Ask ``processes`` to end (SIGTERM), after ``grace`` seconds kill them. True if none is left."""
    for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, 5.0)):
        for process in processes:
            if process.alive:
                try:
                    os.kill(process.pid, number)
                except ProcessLookupError:
                    pass
        if wait_gone(processes, patience):
            return True
    return False


def wait_gone(processes: list[Ident], timeout: float) -> bool:
    """Wait up to ``timeout`` seconds until none of ``processes`` lives; they need not be children."""
    deadline = time.monotonic() + timeout
    while any(process.alive for process in processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
