"""A session that is a process of this node."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from . import tools
from .session import Session

HANG_UP_SECONDS = 2.0
"""What a program is given to end after it was asked to, before it is killed."""

FIRST_SIZE = (24, 80)
"""Rows and columns of a terminal whose person has not said any: programs do not bear with a terminal of no size."""

_F_SETSIG = getattr(fcntl, "F_SETSIG", 10)


class ProcessSession(Session):
    """A process of this node that stands for the program in the guest (such as ``lxc-attach``).

    It dies with this process, even where that is killed. With ``tty`` it leads a session whose controlling terminal is ours, so
    that it hears of new sizes, and of the hang-up that the kernel makes of a closed terminal. Without, it leads a process group
    of its own, so that a program that signals its group reaches nobody else; the kernel kills that group when a pipe (*lifeline*)
    closes that only this process holds.
    """

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str], *, tty: bool, owner: int = 0) -> None:
        """Start it. ``owner`` is the node's id of the guest's root, which may then open its /dev/stdin, stdout and stderr also
        where they are pipes. Raises OSError."""
        self._tty, self._lifeline = tty, -1
        self._process = self._on_terminal(argv, environment) if tty else self._on_pipes(argv, environment, owner)

    def _on_terminal(self, argv: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        self.stderr = None
        self.stdout, terminal = pty.openpty()
        self.stdin = os.dup(self.stdout)
        self.resize(*FIRST_SIZE)
        # Not preexec_fn: the caller may have threads. setsid(1) does not fork here, since its process leads no group.
        program = [tools.require("setsid", operation="session"), "--ctty", *argv]
        try:
            return subprocess.Popen(program, stdin=terminal, stdout=terminal, stderr=terminal, env=dict(environment), cwd="/")
        except OSError:
            os.close(self.stdin)
            os.close(self.stdout)
            raise
        finally:
            os.close(terminal)

    def _on_pipes(self, argv: Sequence[str], environment: Mapping[str, str], owner: int) -> subprocess.Popen[bytes]:
        """The program begins only when the lifeline is armed; a kill of this process before that leaves a shell that ends."""
        bash = tools.require("bash", operation="session", package="bash")
        reading, self.stdin = os.pipe()
        self.stdout, out = os.pipe()
        self.stderr, error = os.pipe()
        watched, self._lifeline = os.pipe()
        try:
            for descriptor in (reading, out, error):
                os.fchown(descriptor, owner, owner)
            process = subprocess.Popen(
                [bash, "-c", _keeper(watched), "session", *argv],
                stdin=reading,
                stdout=out,
                stderr=error,
                env=dict(environment),
                cwd="/",
                process_group=0,
                pass_fds=[watched],
            )
            fcntl.fcntl(watched, fcntl.F_SETOWN, -process.pid)
            fcntl.fcntl(watched, _F_SETSIG, signal.SIGKILL)
            fcntl.fcntl(watched, fcntl.F_SETFL, fcntl.fcntl(watched, fcntl.F_GETFL) | os.O_ASYNC)
            os.write(self.stdin, b"\n")
        except OSError:
            for descriptor in (self.stdin, self.stdout, self.stderr, self._lifeline):
                os.close(descriptor)
            raise
        finally:
            for descriptor in (reading, out, error, watched):
                os.close(descriptor)
        return process

    def resize(self, rows: int, columns: int) -> None:
        """See :class:`Session`."""
        if self._tty:
            fcntl.ioctl(self.stdout, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def close_stdin(self) -> None:
        """See :class:`Session`."""
        if not self._tty and self.stdin >= 0:
            descriptor, self.stdin = self.stdin, -1
            os.close(descriptor)

    def wait(self) -> int:
        """See :class:`Session`."""
        code = self._process.wait()
        self._let_go()
        return code if code >= 0 else 128 - code

    def hang_up(self) -> None:
        """See :class:`Session`. Ask all that came of the process, then kill it. Programs on a terminal lead a session of their
        own and may take no notice of its end; those without it stay in the process's group, also where their parent has gone."""
        if self._process.poll() is not None:
            return
        with contextlib.ExitStack() as opened:
            family = _family(self._process.pid, opened)
            for number in (signal.SIGHUP, signal.SIGTERM):
                _send(family, number)
            if not _ended(family, HANG_UP_SECONDS):
                family += _family(self._process.pid, opened)
            _send(family, signal.SIGKILL)
            if not self._tty:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(HANG_UP_SECONDS)
        self._let_go()

    def _let_go(self) -> None:
        lifeline, self._lifeline = self._lifeline, -1
        if lifeline >= 0:
            os.close(lifeline)


def _keeper(lifeline: int) -> str:
    """The script that waits for one line, then runs its arguments with the rest of the input. The shell stays and holds the
    lifeline, which so is not open in the program; what it has to say of the program's end is said to nobody."""
    spare = 9 if lifeline != 9 else 8
    return f'read -r _ && exec {spare}>&2 2>/dev/null && "$@" 2>&{spare} {spare}>&- {lifeline}<&-; exit $?'


def _family(root: int, opened: contextlib.ExitStack) -> list[int]:
    """Process descriptors of a process and of all that came of it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found, family = [root], []
    for pid in found:
        found += children.get(pid, [])
        with contextlib.suppress(OSError):
            family.append(os.pidfd_open(pid))
            opened.callback(os.close, family[-1])
    return family


def _send(family: Sequence[int], number: int) -> None:
    for descriptor in family:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, number)


def _ended(family: Sequence[int], seconds: float) -> bool:
    """Whether all of them end in time."""
    end = time.monotonic() + seconds
    for descriptor in family:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        if not poll.poll(max(0.0, end - time.monotonic()) * 1000):
            return False
    return True
