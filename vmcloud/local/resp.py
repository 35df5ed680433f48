"""As much of the broker's protocol (RESP2, redis.io/docs/reference/protocol-spec) as root's part needs to look after it: a client
library would stay in the supervisor's memory for ever."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence
from typing import Any

TIMEOUT = 0.5
"""Seconds that the broker may take for each piece of an answer; the supervisor does nothing else meanwhile."""
ANSWER_MAX = 64 << 20


class Refused(Exception):
    """The broker answered with an error."""


def command(*words: str) -> bytes:
    """One command."""
    encoded = [word.encode() for word in words]
    return b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded)


class Connection:
    """One connection. OSError where it is lost, :class:`Refused` for an answer that is an error."""

    def __init__(self, host: str, port: int, user: str, password: str) -> None:
        self._socket = socket.create_connection((host, port), TIMEOUT)
        self._stream = self._socket.makefile("rb")
        self.ask(("AUTH", user, password))

    def ask(self, *commands: Sequence[str]) -> list[Any]:
        """Send commands in one go; their answers (text, numbers, lists, None)."""
        self._socket.sendall(b"".join(command(*words) for words in commands))
        answers = [self._read() for _ in commands]
        if wrong := next((each for each in answers if isinstance(each, Refused)), None):
            raise wrong
        return answers

    def close(self) -> None:
        """Hang up."""
        with contextlib.suppress(OSError):
            self._stream.close()
            self._socket.close()

    def _read(self) -> Any:
        line = self._stream.readline(65536)
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the broker hung up")
        kind, rest = line[:1], line[1:-2].decode(errors="replace")
        if kind == b"+":
            return rest
        if kind == b"-":
            return Refused(rest)
        if kind == b":":
            return int(rest)
        size = int(rest)
        if kind == b"$":
            if size > ANSWER_MAX:
                raise ConnectionError("the broker's answer is too long")
            return None if size < 0 else self._stream.read(size + 2)[:-2].decode(errors="replace")
        if kind == b"*":
            return None if size < 0 else [self._read() for _ in range(size)]
        raise ConnectionError("the broker's answer is not understood")
