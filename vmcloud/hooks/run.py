"""Running one hook: in bounds of time, processes and output, and with nothing of it left at the end.

The hook runs below a process of its own (:mod:`.corral`) that is told to end when this process closes a pipe, or dies.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

CORRAL = Path(__file__).with_name("corral.py")
PARTING = 30.0
"""Seconds that the corral gets to end what it holds, after the hook's own time."""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NOT_RUN, TIMED_OUT = -1, -4
"""Torque's codes for a hook that could not be run (it is not root's, or not executable) and for one whose time was up."""


@dataclass(frozen=True)
class Limits:
    """``seconds`` to run, ``processes`` at once, ``kept``: bytes of the output's end that are kept."""

    seconds: float = 300.0
    processes: int = 256
    kept: int = 3000


@dataclass(frozen=True)
class Ran:
    """How a hook ended. ``code``: its exit status, 128 + n where signal n killed it, or a negative one of Torque's;
    ``trouble``: what was wrong, in words; ``output``: the end of all that it wrote, ``written`` bytes in all; ``left``: processes
    that it left behind and that were killed; ``stopped``: it was cut short on our own wish."""

    code: int
    trouble: str = ""
    output: str = ""
    written: int = 0
    seconds: float = 0.0
    left: int = 0
    stopped: bool = False

    def sentence(self) -> str:
        """How it ended, with the end of its output, for a log."""
        ended = self.trouble or f"ended with exit status {self.code}"
        text = f"{ended} after {self.seconds:.1f} s"
        if self.left:
            text += f"; {self.left} process{'es' * (self.left > 1)} that it left were killed"
        if not self.output.strip():
            return text
        cut = f" (the end of {self.written} bytes)" if self.written > len(self.output.encode()) else ""
        return f"{text}; its output{cut}:\n{self.output.strip()}"


class Running:
    """A hook under way, for somebody else to stop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pipe = -1
        self._stopped = False

    @property
    def stopped(self) -> bool:
        """Whether it is wanted no more."""
        return self._stopped

    def stop(self) -> None:
        """End the hook and all that it started; also before it has begun."""
        with self._lock:
            self._stopped = True
            self._close()

    def begin(self, pipe: int) -> None:
        """It runs as long as ``pipe`` is open."""
        with self._lock:
            self._pipe = pipe
            if self._stopped:
                self._close()

    def end(self) -> None:
        """It has ended."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        pipe, self._pipe = self._pipe, -1
        if pipe >= 0:
            os.close(pipe)


def run(
    path: Path,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    *,
    limits: Limits,
    data: str = "",
    keep: Collection[int] = (),
    running: Running | None = None,
) -> Ran:
    """Run the hook at ``path`` and wait for its end. Its environment is ``environment`` and a safe PATH, its standard input
    ``data``, its directory its own folder. ``keep``: open files that stay open until all of it has ended (never in the hook
    itself). Raises OSError only where no process is to be had."""
    running = running or Running()
    if running.stopped:
        return Ran(NOT_RUN, "was stopped before it began", stopped=True)
    order = {
        "argv": [str(path), *(each.replace("\0", "") for each in arguments)],
        "environment": {"PATH": PATH, **{name: value.replace("\0", "") for name, value in environment.items()}},
        "directory": str(path.parent),
        "data": data,
        "seconds": limits.seconds,
        "processes": limits.processes,
        "kept": limits.kept,
    }
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", str(CORRAL)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env={},
        start_new_session=True,
        pass_fds=tuple(keep),
    )
    assert process.stdin is not None and process.stdout is not None
    told = os.dup(process.stdin.fileno())
    process.stdin.close()
    try:
        try:
            _write(told, json.dumps(order).encode() + b"\n")
        finally:
            running.begin(told)
        said = _read(process.stdout.fileno(), limits.seconds + PARTING)
    finally:
        running.end()
        process.stdout.close()
        if not _ended(process):
            process.send_signal(signal.SIGKILL)
            process.wait()
    seconds = time.monotonic() - began
    try:
        return Ran(**json.loads(said), seconds=round(seconds, 3))
    except (ValueError, TypeError):
        return Ran(NOT_RUN, "what watches over the hook died", seconds=round(seconds, 3))


def _write(pipe: int, data: bytes) -> None:
    try:
        while data:
            data = data[os.write(pipe, data) :]
    except BrokenPipeError:
        pass  # it died; that it says nothing tells so


def _read(pipe: int, seconds: float) -> bytes:
    """All that comes until the other side closes, or time is up."""
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    said, end = b"", time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and poll.poll(left * 1000):
        if not (chunk := os.read(pipe, 65536)):
            break
        said += chunk
    return said


def _ended(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(PARTING)
    except subprocess.TimeoutExpired:
        return False
    return True
