"""What runs "inside" a simulated guest: a shell of half a dozen words that touches nothing of this machine."""

from __future__ import annotations

import contextlib
import os
import shlex
import socket
import threading
from collections.abc import Sequence

from .session import Session

GREETING = "simulated guest {name}: no real system. Known words: echo, hostname, cat, true, false, exit [code].\n"
NOT_FOUND = 127


class SimulatedSession(Session):
    """``argv`` None: the console, a shell that reads lines; else that one command."""

    def __init__(self, name: str, argv: Sequence[str] | None, *, tty: bool) -> None:
        self._name, self._tty, self._code = name, tty, 0
        self._ours, self._theirs = socket.socketpair()
        self.stdin, self.stdout = os.dup(self._ours.fileno()), os.dup(self._ours.fileno())
        self._errors_to: int | None = None
        self.stderr = None
        if not tty:
            self.stderr, self._errors_to = os.pipe()
        self._thread = threading.Thread(target=self._run, args=(argv,), daemon=True)
        self._thread.start()

    def resize(self, rows: int, columns: int) -> None:
        """See :class:`Session`."""

    def close_stdin(self) -> None:
        """See :class:`Session`."""
        with contextlib.suppress(OSError):
            self._ours.shutdown(socket.SHUT_WR)

    def wait(self) -> int:
        """See :class:`Session`."""
        self._thread.join()
        return self._code

    def hang_up(self) -> None:
        """See :class:`Session`."""
        with contextlib.suppress(OSError):
            self._ours.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    def close(self) -> None:
        """See :class:`Session`."""
        super().close()
        self._ours.close()

    def _run(self, argv: Sequence[str] | None) -> None:
        try:
            self._code = self._shell() if argv is None else self._command(argv)
        except OSError:  # the person is gone
            self._code = 129
        finally:
            self._theirs.close()
            if self._errors_to is not None:
                os.close(self._errors_to)

    def _shell(self) -> int:
        self._say(GREETING.format(name=self._name))
        with self._theirs.makefile("rb") as lines:
            self._say(f"{self._name} # ")
            for line in lines:
                try:
                    argv = shlex.split(line.decode(errors="replace"))
                except ValueError as error:
                    self._say(f"{error}\n")
                    argv = []
                if argv[:1] == ["exit"]:
                    return 0
                if argv:
                    self._command(argv)
                self._say(f"{self._name} # ")
        return 0

    def _command(self, argv: Sequence[str]) -> int:
        match list(argv):
            case ["echo", *words]:
                self._say(" ".join(words) + "\n")
            case ["hostname"]:
                self._say(f"{self._name}\n")
            case ["cat"]:
                while data := self._theirs.recv(1 << 16):
                    self._theirs.sendall(data)
            case ["true"]:
                return 0
            case ["false"]:
                return 1
            case ["exit", code] if code.isdigit():
                return int(code) & 0xFF
            case _:
                self._complain(f"{argv[0]}: not found\n")
                return NOT_FOUND
        return 0

    def _say(self, text: str) -> None:
        self._theirs.sendall((text.replace("\n", "\r\n") if self._tty else text).encode())

    def _complain(self, text: str) -> None:
        if self._errors_to is None:
            self._say(text)
        else:
            os.write(self._errors_to, text.encode())
