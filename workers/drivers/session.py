"""Programs and consoles of guests with open ends: descriptors to write to and read from."""

from __future__ import annotations

import contextlib
import errno
import os
from abc import ABC, abstractmethod


class Session(ABC):
    """One program or console. ``stdin`` is written to, ``stdout`` and ``stderr`` are read from (blocking, until :func:`read`
    gives nothing); on a terminal they are one, and ``stderr`` is None."""

    stdin: int
    stdout: int
    stderr: int | None

    @abstractmethod
    def resize(self, rows: int, columns: int) -> None:
        """The size of the person's terminal, in characters; nothing happens where there is no terminal."""

    @abstractmethod
    def close_stdin(self) -> None:
        """No more input follows."""

    @abstractmethod
    def wait(self) -> int:
        """The exit code once it has ended (128 + n where signal n ended it); 0 for a console."""

    @abstractmethod
    def hang_up(self) -> None:
        """The person is gone: end it. Harmless where it has ended."""

    def close(self) -> None:
        """Close our ends, once and last."""
        for descriptor in (self.stdin, self.stdout, self.stderr):
            if descriptor is not None and descriptor >= 0:
                with contextlib.suppress(OSError):
                    os.close(descriptor)
        self.stdin = self.stdout = -1
        self.stderr = None


def read(descriptor: int, size: int = 1 << 16) -> bytes:
    """What there is; empty at the end. A terminal whose other side is closed answers with EIO, which is its end."""
    try:
        return os.read(descriptor, size)
    except OSError as error:
        if error.errno in (errno.EIO, errno.EBADF):
            return b""
        raise
