"""What travels on a session's websocket, between a person and a program or console of a guest. Pure.

Every message is binary: one byte, the channel, then data. The channels and their numbers are those of Kubernetes' remotecommand
protocol (version 5, KEP 4006), whose clients are many; the contents of STATUS and RESIZE are ours, one JSON object each.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Self

from .errors import Invalid, Problem
from .wire import COUNT_MAX, prose, whole

SUBPROTOCOL = "v1.session.vmcloud"
MESSAGE_MAX = 1 << 20
"""Bytes of one message that are taken."""
CHUNK = 1 << 15
"""Bytes of one message that are sent."""
WINDOW_MAX = 4096
PING_SECONDS = 20.0
"""Between two pings: they keep what translates addresses on the way awake, and show TCP an end that is gone. Nobody waits for
their answers: those queue up behind data, so who reads slowly, or pauses, would be taken for dead. TCP gives up by itself, in a
quarter of an hour (tcp(7), tcp_retries2)."""
PONG_SECONDS = 86400.0
"""As good as never, for whom a number is needed."""

ARGUMENTS_MAX, ARGUMENT_BYTES_MAX = 1024, 1 << 17
"""Words of a command, and bytes of all of them together: what a kernel takes with ease (execve(2): 128 KiB for one)."""
VARIABLES_MAX = 256
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


class Channel(IntEnum):
    """STDIN, RESIZE and CLOSE go to the guest, the others come from it. CLOSE: its one byte of data names a channel (STDIN) on
    which no more follows."""

    STDIN = 0
    STDOUT = 1
    STDERR = 2
    STATUS = 3
    RESIZE = 4
    CLOSE = 255


@dataclass(frozen=True)
class Frame:
    """One message."""

    channel: Channel
    data: bytes = b""

    def encode(self) -> bytes:
        """The wire form."""
        return bytes((self.channel,)) + self.data

    @classmethod
    def decode(cls, message: object) -> Self:
        """Inverse of :meth:`encode`. :class:`Invalid` for anything else."""
        if not isinstance(message, bytes) or not message:
            raise Invalid("a session's message is bytes, the first of them its channel")
        try:
            return cls(Channel(message[0]), message[1:])
        except ValueError:
            raise Invalid(f"a session has no channel {message[0]}") from None


@dataclass(frozen=True)
class Status:
    """How it stands: ``waiting`` for what, or nothing new (then more follow); or the end, by ``exit_code`` or ``problem``."""

    waiting: str = ""
    exit_code: int | None = None
    problem: Problem | None = None

    @property
    def over(self) -> bool:
        """Whether nothing follows."""
        return self.exit_code is not None or self.problem is not None

    def encode(self) -> bytes:
        """The frame."""
        data: dict[str, Any] = {"waiting": self.waiting} if self.waiting else {}
        if self.exit_code is not None:
            data["exit_code"] = self.exit_code
        if self.problem is not None:
            data["problem"] = self.problem.to_json()
        return Frame(Channel.STATUS, json.dumps(data).encode()).encode()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """From a frame's data; :class:`Invalid` for anything else."""
        try:
            found = json.loads(data)
            code, problem = found.get("exit_code"), found.get("problem")
            return cls(
                waiting=prose(found.get("waiting", "")),
                exit_code=whole(code, low=-COUNT_MAX, high=COUNT_MAX) if code is not None else None,
                problem=Problem.from_json({name: prose(text) for name, text in problem.items()}) if problem else None,
            )
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise Invalid(f"not a session's status: {error}") from error


def window(rows: int, columns: int) -> bytes:
    """The frame that tells the size of the person's terminal, in characters."""
    return Frame(Channel.RESIZE, json.dumps({"rows": rows, "columns": columns}).encode()).encode()


def parse_window(data: bytes) -> tuple[int, int]:
    """Rows and columns of such a frame's data; :class:`Invalid` for anything else."""
    try:
        found = json.loads(data)
        return whole(found["rows"], low=1, high=WINDOW_MAX), whole(found["columns"], low=1, high=WINDOW_MAX)
    except (ValueError, TypeError, LookupError) as error:
        raise Invalid(f"not the size of a terminal: {error}") from error


def argv(value: object) -> list[str]:
    """A program and its arguments, checked. Raises :class:`Invalid`."""
    todo = 'Give the program and its arguments, such as ["ls", "-l", "/etc"].'
    if not isinstance(value, list) or not value or not all(isinstance(word, str) for word in value):
        raise Invalid("a list of words is needed", where="argv", todo=todo)
    if len(value) > ARGUMENTS_MAX or sum(len(word.encode()) + 1 for word in value) > ARGUMENT_BYTES_MAX:
        raise Invalid(
            "the command is too long", where="argv", why=f"{ARGUMENTS_MAX} words, {ARGUMENT_BYTES_MAX} bytes are allowed"
        )
    if not value[0]:
        raise Invalid("the program has no name", where="argv", todo=todo)
    if any("\0" in word for word in value):
        raise Invalid("a NUL character", where="argv", why="no program can be given one (execve(2))")
    return value


def environment(value: object) -> dict[str, str]:
    """Variables of a program's environment, checked. Raises :class:`Invalid`."""
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise Invalid("an object of texts is needed", where="environment", todo='Give {"NAME": "value"}.')
    for name, text in value.items():
        if not _VARIABLE.fullmatch(name):
            raise Invalid(f"{name[:60]!r} cannot name a variable", where="environment", why="POSIX: letters, digits, underscore")
        if "\0" in text:
            raise Invalid(f"the value of {name} has a NUL character", where="environment")
    if len(value) > VARIABLES_MAX or sum(len(f"{name}={text}".encode()) for name, text in value.items()) > ARGUMENT_BYTES_MAX:
        raise Invalid("the environment is too large", where="environment")
    return value
