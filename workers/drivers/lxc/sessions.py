"""People inside a guest: its console, programs, and what it wrote to the console."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import socket
import stat
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from workers.drivers import tools
from workers.drivers.base import BadRequest, TimedOut, ToolFailed
from workers.drivers.session import Session
from workers.drivers.spawn import HANG_UP_SECONDS, ProcessSession

from .config import CONSOLE_BYTES, GUEST_PATH
from .guests import CONSOLE, Guests, translate

CONNECT_SECONDS = 5.0
BACKLOG = 256 << 10
"""Bytes of a console's output that wait for a slow reader; older ones are lost."""
LOST = b"\r\n[some output was lost: it came faster than it was read]\r\n"

_NO_ESCAPE = "-1"
_ENVIRONMENT = {"LC_ALL": "C", "PATH": tools.SYSTEM_PATH}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_PTS_MAJORS = range(136, 144)


def run(guests: Guests, native: str, argv: Sequence[str], environment: Mapping[str, str], *, tty: bool) -> Session:
    """``lxc-attach``, which joins the guest's namespaces and control groups, with a clean environment."""
    _check(argv, environment)
    guests.running(native, "exec")
    marker = guests.marker(native, "exec")
    owner = 0 if marker.guest.spec.privileged else guests.settings.idmap_base if marker.base is None else marker.base
    program = tools.require("lxc-attach", operation="exec", package="lxc")
    inside = {"PATH": GUEST_PATH, "HOME": "/root", "USER": "root", **({"TERM": "xterm"} if tty else {}), **environment}
    setting = [word for name, value in inside.items() for word in ("-v", f"{name}={value}")]
    command = [program, "-P", str(guests.path), "-n", native, "--clear-env", *setting, "--", *argv]
    try:
        return ProcessSession(command, _ENVIRONMENT, tty=tty, owner=owner)
    except OSError as error:
        if error.errno == 7:  # E2BIG
            raise BadRequest("exec", "the command and its environment are too long") from error
        raise translate("exec", error) from error


def _check(argv: Sequence[str], environment: Mapping[str, str]) -> None:
    if not argv or not argv[0]:
        raise BadRequest("exec", "there is no command to run", todo="Give a program and its arguments.")
    for name in environment:
        if not _NAME.fullmatch(name):
            raise BadRequest(
                "exec", f"{name!r} is no name of an environment variable", todo="Use letters, digits and _, no digit first."
            )
    if any("\0" in word for word in (*argv, *environment.values())):
        raise BadRequest("exec", "neither arguments nor environment can have a null character")


def console(guests: Guests, native: str) -> Session:
    """The guest's /dev/console, for one person at a time."""
    life = guests.running(native, "console")
    program = tools.require("lxc-console", operation="console", package="lxc")
    return ConsoleSession([program, "-P", str(guests.path), "-n", native, "-t", "0", "-e", _NO_ESCAPE], native, life.init)


def boot_log(guests: Guests, native: str) -> bytes:
    """The end of what the guest wrote to its console since its last start; liblxc bounds the file at about twice that."""
    guests.marker(native, "boot-log")
    try:
        with (guests.path / native / CONSOLE).open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - CONSOLE_BYTES))
            return stream.read(CONSOLE_BYTES)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise translate("boot-log", error) from error


class ConsoleSession(Session):
    """``lxc-console`` without a terminal of its own: it relays bytes as they are and ends when its input does, so also when this
    process is killed.

    What it says is read all the time, whether anybody reads here or not: liblxc's monitor process writes to the console without
    looking, and where that blocks, the guest can be neither looked at nor stopped (lxc 5.0.2 terminal.c; measured).
    """

    stderr = None

    def __init__(self, argv: Sequence[str], native: str, init: int) -> None:
        """Connect. Raises :class:`BadRequest` where somebody else has the console."""
        self._init = init
        self._socket, theirs = socket.socketpair()
        try:
            self._process = subprocess.Popen(
                list(argv), stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=subprocess.PIPE, env=_ENVIRONMENT, cwd="/"
            )
        except OSError as error:
            self._socket.close()
            raise ToolFailed("console", f"{argv[0]} does not start: {error.strerror}") from error
        finally:
            theirs.close()
        try:
            self._connect(native)
        except BaseException:
            self._process.kill()
            self._process.wait()
            self._socket.close()
            raise
        self.stdin = os.dup(self._socket.fileno())
        self.stdout, out = os.pipe()
        os.set_blocking(out, False)
        self._pump = threading.Thread(target=_pump, args=(os.dup(self._socket.fileno()), out), name="console", daemon=True)
        self._pump.start()

    def _connect(self, native: str) -> None:
        """Wait until the program has the console's other end, or has ended because another has it."""
        assert self._process.stderr is not None
        end = time.monotonic() + CONNECT_SECONDS
        while not _has_console(self._process.pid):
            if self._process.poll() is not None:
                said = self._process.stderr.read().decode(errors="replace")
                if "Denied access" in said:
                    todo = "Wait until they have left it, or use exec with a terminal."
                    raise BadRequest("console", f"somebody else is at the console of {native}", todo=todo)
                raise ToolFailed("console", f"no console of {native}", exit_code=self._process.returncode, stderr=said)
            if time.monotonic() > end:
                raise TimedOut("console", f"the console of {native} did not answer within {CONNECT_SECONDS:g} s")
            time.sleep(0.001)

    def resize(self, rows: int, columns: int) -> None:
        """Set on the guest's own side, since liblxc passes no size on; nothing happens where the guest has made its console
        something else."""
        with contextlib.suppress(OSError), contextlib.ExitStack() as opened:
            descriptor = os.open(f"/proc/{self._init}/root", os.O_PATH | os.O_DIRECTORY)
            for name, kind in (("dev", os.O_DIRECTORY), ("console", 0)):
                opened.callback(os.close, descriptor)
                descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW | kind, dir_fd=descriptor)
            opened.callback(os.close, descriptor)
            found = os.fstat(descriptor)
            if stat.S_ISCHR(found.st_mode) and os.major(found.st_rdev) in _PTS_MAJORS:
                terminal = os.open(f"/proc/self/fd/{descriptor}", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
                opened.callback(os.close, terminal)
                fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def close_stdin(self) -> None:
        """A console has no end of input."""

    def wait(self) -> int:
        """See :class:`Session`."""
        self._process.wait()
        return 0

    def hang_up(self) -> None:
        """See :class:`Session`. What runs at the console stays there, as at any machine's."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        try:
            self._process.wait(HANG_UP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def close(self) -> None:
        """See :class:`Session`."""
        super().close()
        self._socket.close()
        assert self._process.stderr is not None
        self._process.stderr.close()


def _has_console(pid: int) -> bool:
    try:
        return any(str(entry.readlink()).endswith("/ptmx") for entry in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False


def _pump(source: int, target: int) -> None:
    """Read all that comes; pass on what is taken, and the newest :data:`BACKLOG` bytes of what is not."""
    waiting, lost, ended = bytearray(), False, False
    poll = select.poll()
    poll.register(source, select.POLLIN)
    try:
        while waiting or not ended:
            if waiting:
                poll.register(target, select.POLLOUT)
            ready = dict(poll.poll())
            if target in ready:
                del waiting[: os.write(target, waiting[:4096])]
                poll.unregister(target)
            if source in ready:
                data = os.read(source, 1 << 16)
                if not data:
                    ended = True
                    poll.unregister(source)
                waiting += data
                if len(waiting) > BACKLOG:
                    waiting[: len(waiting) - BACKLOG] = b""
                    lost = True
            if lost and len(waiting) < BACKLOG:
                waiting[:0] = LOST
                lost = False
    except OSError:
        pass  # nobody reads any more, so lxc-console must not go on
    finally:
        os.close(target)
        with socket.socket(fileno=source) as connection, contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
