"""A session that is a process of this node."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence

from . import tools
from .session import Session

HANG_UP_SECONDS = 2.0
"""What a program is given to end after each signal: hang-up, end, kill."""


class ProcessSession(Session):
    """A process of this node that stands for the program in the guest (such as ``lxc-attach``).

    With ``tty`` it leads a session whose controlling terminal is ours, so that it hears of new sizes and of the hang-up; without,
    it stays in the caller's process group and dies with that.
    """

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str], *, tty: bool) -> None:
        """Start it. Raises OSError."""
        self._tty = tty
        self.stderr = None
        if tty:
            self.stdout, terminal = pty.openpty()
            self.stdin = os.dup(self.stdout)
            # Not preexec_fn: the caller may have threads. setsid(1) does not fork here, since its process leads no group.
            argv, theirs = [tools.require("setsid", operation="session"), "--ctty", *argv], (terminal, terminal, terminal)
        else:
            reading, self.stdin = os.pipe()
            self.stdout, out = os.pipe()
            self.stderr, error = os.pipe()
            theirs = (reading, out, error)
        try:
            self._process = subprocess.Popen(
                list(argv), stdin=theirs[0], stdout=theirs[1], stderr=theirs[2], env=dict(environment)
            )
        except OSError:
            for descriptor in filter(None, (self.stdin, self.stdout, self.stderr)):
                os.close(descriptor)
            raise
        finally:
            for descriptor in set(theirs):
                os.close(descriptor)

    def resize(self, rows: int, columns: int) -> None:
        """See :class:`Session`."""
        if self._tty:
            fcntl.ioctl(self.stdout, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def close_stdin(self) -> None:
        """See :class:`Session`."""
        if not self._tty and self.stdin >= 0:
            os.close(self.stdin)
            self.stdin = -1

    def wait(self) -> int:
        """See :class:`Session`."""
        code = self._process.wait()
        return code if code >= 0 else 128 - code

    def hang_up(self) -> None:
        """See :class:`Session`."""
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.send_signal(number)
                self._process.wait(HANG_UP_SECONDS)
                return
