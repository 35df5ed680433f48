"""What runs "inside" a simulated guest: a shell of two dozen words that touches nothing of this machine.

Its terminal is a real one, so that what a person types is echoed, edited and ended as anywhere else.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import posixpath
import pty
import select
import shlex
import struct
import termios
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

from ..session import Session, read

GREETING = "simulated guest {name}: no real system. Known words: {words}.\n"
WORDS = "cat, echo, env, exit, false, hostname, ls, poweroff, ps, rm, sh -c, sleep, stty size, sync, true, tty; ; > >&2"
NOT_FOUND, NOT_A_PROGRAM = 127, 126
HUNG_UP = 129
_ENVIRONMENT = {"PATH": "/bin", "HOME": "/root", "USER": "root"}
Say = Callable[[bytes], None]


class Machine(ABC):
    """A guest as its own programs see it."""

    name: str

    @property
    @abstractmethod
    def running(self) -> bool:
        """Whether it still runs."""

    @property
    @abstractmethod
    def processes(self) -> Sequence[str]:
        """The command lines of what runs in it."""

    @abstractmethod
    def files(self) -> Mapping[str, bytes]:
        """All files by path."""

    @abstractmethod
    def write(self, path: str, content: bytes) -> None:
        """Write a file. Raises OSError."""

    @abstractmethod
    def remove(self, path: str) -> bool:
        """Remove a file; whether there was one."""

    @abstractmethod
    def power_off(self) -> None:
        """Shut it down from inside."""


class _HungUp(Exception):
    """Nobody is at the other end any more, or the guest has ended."""


class _Exit(Exception):
    """The word ``exit`` with its code."""


class SimulatedSession(Session):
    """``argv`` None: the console, a shell that reads lines; else that one command. :meth:`begin` starts it."""

    def __init__(self, machine: Machine, argv: Sequence[str] | None, environment: Mapping[str, str], *, tty: bool) -> None:
        self._machine, self._argv, self._tty, self._code = machine, argv, tty, 0
        self._environment = {**_ENVIRONMENT, **({"TERM": "xterm"} if tty else {}), **environment}
        self.title = "sh" if argv is None else " ".join(argv)
        self.stderr = None
        if tty:
            self.stdout, self._in = pty.openpty()
            self.stdin, self._out, self._err = os.dup(self.stdout), self._in, self._in
        else:
            self._in, self.stdin = os.pipe()
            self.stdout, self._out = os.pipe()
            self.stderr, self._err = os.pipe()
        for descriptor in {self._out, self._err}:
            os.set_blocking(descriptor, False)
        self._gone, self._hung = os.pipe()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=f"simulated-{machine.name}", daemon=True)

    def begin(self) -> None:
        """Start it."""
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._hung >= 0

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
        self._thread.join()
        return self._code

    def hang_up(self) -> None:
        """See :class:`Session`."""
        self.drop()
        self._thread.join()

    def drop(self) -> None:
        """As :meth:`hang_up`, without waiting for the end."""
        with self._lock:
            if self._hung >= 0:
                os.write(self._hung, b"\0")

    # ----------------------------------------------------------------------------------------------------------- its thread

    def _run(self) -> None:
        try:
            self._code = self._shell() if self._argv is None else self._command(self._argv, self._say)
        except _Exit as error:
            self._code = int(error.args[0])
        except (_HungUp, OSError):
            self._code = HUNG_UP
        finally:
            if self._argv is None:
                self._code = 0
            with self._lock:
                for descriptor in {self._in, self._out, self._err, self._gone, self._hung}:
                    os.close(descriptor)
                self._hung = -1

    def _shell(self) -> int:
        self._say(GREETING.format(name=self._machine.name, words=WORDS).encode())
        pending = b""
        while True:
            self._say(f"{self._machine.name} # ".encode())
            while b"\n" not in pending:
                data = self._hear()
                if not data:
                    return 0
                pending += data
            line, _, pending = pending.partition(b"\n")
            self._line(line.decode(errors="replace"), self._say)

    def _line(self, line: str, say: Say) -> int:
        """Commands separated by ``;``, each with its output to where ``>`` says."""
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";>&")
        lexer.whitespace_split = True
        code, words = 0, list[str]()
        try:
            for word in [*lexer, ";"]:
                if word and not word.strip(";>&") and word not in (";", ">", ">&"):
                    raise ValueError(f"{word} is not understood")
                if word != ";":
                    words.append(word)
                elif words:
                    code, words = self._redirected(words, say), []
        except ValueError as error:
            self._complain(f"sh: {error}")
            return 2
        return code

    def _redirected(self, words: list[str], say: Say) -> int:
        match words:
            case [*command, ">&", "2"] if command:
                return self._command(command, self._say_error)
            case [*command, ">", path] if command:
                content = bytearray()
                code = self._command(command, content.extend)
                try:
                    self._machine.write(_absolute(path), bytes(content))
                except OSError as error:
                    self._complain(f"sh: {path}: {error.strerror}")
                    return 1
                return code
        return self._command(words, say)

    def _command(self, argv: Sequence[str], say: Say) -> int:
        machine = self._machine
        if not machine.running:
            raise _HungUp
        match list(argv):
            case ["echo", *words]:
                say(" ".join(words).encode(errors="surrogateescape") + b"\n")
            case ["hostname"]:
                say(f"{machine.name}\n".encode())
            case ["env"]:
                say("".join(f"{name}={value}\n" for name, value in self._environment.items()).encode())
            case ["ls"]:
                say("".join(f"{path}\n" for path in machine.files()).encode())
            case ["ps"]:
                say("".join(f"{title}\n" for title in ("init (simulated)", *machine.processes)).encode())
            case ["tty"]:
                say(b"/dev/console\n" if self._tty else b"not a tty\n")
                return 0 if self._tty else 1
            case ["stty", "size"] if self._tty:
                rows, columns, *_ = struct.unpack("HHHH", fcntl.ioctl(self._in, termios.TIOCGWINSZ, bytes(8)))
                say(f"{rows} {columns}\n".encode())
            case ["cat"]:
                while data := self._hear():
                    say(data)
            case ["cat", *paths]:
                return max(self._cat(path, say) for path in paths)
            case ["rm", *paths] if paths:
                return max(self._remove(path) for path in paths)
            case ["sleep", seconds] if seconds.isdigit():
                self._idle(int(seconds))
            case ["sh", "-c", line]:
                return self._line(line, say)
            case ["true" | "sync"]:
                return 0
            case ["false"]:
                return 1
            case ["exit"]:
                raise _Exit(0)
            case ["exit", code] if code.isdigit():
                raise _Exit(int(code) & 0xFF)
            case ["poweroff"]:
                machine.power_off()
                raise _HungUp
            case _ if argv and _absolute(argv[0]) in machine.files() and "/" in argv[0]:
                self._complain(f"{argv[0]}: Permission denied")
                return NOT_A_PROGRAM
            case _:
                self._complain(f"{argv[0] if argv else ''}: not found (this guest is simulated)")
                return NOT_FOUND
        return 0

    def _cat(self, path: str, say: Say) -> int:
        content = self._machine.files().get(_absolute(path))
        if content is None:
            self._complain(f"cat: {path}: No such file or directory")
            return 1
        say(content)
        return 0

    def _remove(self, path: str) -> int:
        if self._machine.remove(_absolute(path)):
            return 0
        self._complain(f"rm: {path}: No such file or directory")
        return 1

    # -------------------------------------------------------------------------------------------------------- its terminal

    def _hear(self) -> bytes:
        """What the person says next; empty at the end."""
        self._await(self._in, select.POLLIN)
        return read(self._in)

    def _say(self, data: bytes) -> None:
        self._put(self._out, data)

    def _say_error(self, data: bytes) -> None:
        self._put(self._err, data)

    def _complain(self, text: str) -> None:
        self._say_error(f"{text}\n".encode(errors="surrogateescape"))

    def _put(self, descriptor: int, data: bytes) -> None:
        while data:
            with contextlib.suppress(BlockingIOError):
                data = data[os.write(descriptor, data) :]
                continue
            self._await(descriptor, select.POLLOUT)

    def _idle(self, seconds: float) -> None:
        if select.select([self._gone], [], [], seconds)[0]:
            raise _HungUp

    def _await(self, descriptor: int, what: int) -> None:
        poll = select.poll()
        poll.register(descriptor, what)
        poll.register(self._gone, select.POLLIN)
        if any(ready == self._gone for ready, _ in poll.poll()):
            raise _HungUp


def _absolute(path: str) -> str:
    return posixpath.normpath(posixpath.join("/root", path))
