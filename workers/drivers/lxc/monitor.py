"""liblxc's events: a client of ``lxc-monitord``, which gathers what the guests of one LXCPATH say.

The protocol is liblxc's own (lxc 5.0 src/lxc/monitor.c): an abstract Unix socket named after the LXCPATH, on which each message
is the 264 bytes of ``struct { int type; char name[256]; int value; }`` (256 = NAME_MAX + 1). The daemon ends 30 s after its last
client.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from workers.drivers.base import CannotLook
from workers.drivers.tools import SYSTEM_PATH

_FORMAT = struct.Struct("=i256si")
_STATES = ("STOPPED", "STARTING", "RUNNING", "STOPPING", "ABORTING", "FREEZING", "FROZEN", "THAWED")
_MONITORD = ("/usr/libexec/lxc/lxc-monitord", "/usr/lib/lxc/lxc-monitord", "/usr/lib/x86_64-linux-gnu/lxc/lxc-monitord")
_STATE_MESSAGE, _EXIT_MESSAGE = 0, 2
MESSAGE_BYTES = _FORMAT.size
READY_SECONDS = 5.0


@dataclass(frozen=True)
class Event:
    """One guest's new state, in liblxc's words."""

    native: str
    state: str


@dataclass(frozen=True)
class Exit:
    """One guest's init has ended, with a status as wait(2) has it. Comes before its states STOPPING and STOPPED."""

    native: str
    status: int


def socket_address(lxcpath: str) -> bytes:
    """The abstract address of the monitor of an LXCPATH: FNV-1a (64 bit) of its FIFO's name, then the path, cut to fit."""
    digest = 0xCBF29CE484222325
    for byte in f"lxc/{lxcpath}/monitor-sock".encode():
        digest = ((digest ^ byte) * 0x100000001B3) & (2**64 - 1)
    return f"\0lxc/{digest:016x}/{lxcpath}".encode()[:107]


def find_monitord() -> str | None:
    """The daemon's program; distributions put it in different places."""
    return next((path for path in _MONITORD if Path(path).exists()), None)


def decode(message: bytes) -> Event | Exit | None:
    """What one message says; None for those about neither states nor ends."""
    kind, raw, value = _FORMAT.unpack(message)
    name = raw.split(b"\0", 1)[0].decode(errors="replace")
    if kind == _EXIT_MESSAGE:
        return Exit(name, value)
    return Event(name, _STATES[value]) if kind == _STATE_MESSAGE and 0 <= value < len(_STATES) else None


def connect(lxcpath: Path, timeout: float = READY_SECONDS) -> socket.socket:
    """A connection to the monitor, which is started if it does not run. Raises :class:`CannotLook`."""
    end = time.monotonic() + timeout
    while True:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            client.connect(socket_address(str(lxcpath)))
            return client
        except OSError as error:
            client.close()
            if time.monotonic() > end:
                raise CannotLook("events", f"lxc-monitord does not answer: {error.strerror}") from error
        _start_monitord(lxcpath, max(0.1, end - time.monotonic()))


def _start_monitord(lxcpath: Path, timeout: float) -> None:
    """Start the daemon and wait for the byte by which it says that it listens (it ends at once if another one does)."""
    program = find_monitord()
    if program is None:
        raise CannotLook("events", "the program lxc-monitord is not installed", todo="Install the package lxc.")
    ready, told = os.pipe()
    try:
        daemon = subprocess.Popen(
            [program, str(lxcpath), str(told)],
            pass_fds=[told],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={"LC_ALL": "C", "PATH": SYSTEM_PATH},
        )
        os.close(told)
        told = -1
        poll = select.poll()
        poll.register(ready, select.POLLIN)
        if poll.poll(timeout * 1000) and not os.read(ready, 1):
            daemon.wait(timeout)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotLook("events", f"lxc-monitord does not start: {error}") from error
    finally:
        os.close(ready)
        if told >= 0:
            os.close(told)


def tell(lxcpath: Path, native: str, state: str) -> None:
    """Say a change that liblxc was no part of, as it says its own: on the FIFO of the monitor,
    which is there while anybody listens."""
    with suppress(OSError):
        fifo = os.open(f"/run/lxc/{lxcpath}/monitor-fifo", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.write(fifo, _FORMAT.pack(_STATE_MESSAGE, native.encode(), _STATES.index(state)))
        finally:
            os.close(fifo)
