"""How a part says that it can be used. Each check is one short exchange over loopback; none needs a client library."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field

from .resp import command

TIMEOUT = 0.5
"""Seconds that one check may take."""

ANONYMOUS_BIND = bytes.fromhex("300c020101600702010304008000")
BIND_SUCCESS = bytes.fromhex("0a0100")
"""LDAP's bind request without a name (RFC 4511, 4.2), and the part of an answer that says success."""


@dataclass(frozen=True)
class Progress:
    """What the supervisor saw of a part since it started it: seconds alive, and whether the awaited line came."""

    alive: float
    line_seen: bool


@dataclass(frozen=True)
class Tcp:
    """Ready when its port takes connections."""

    host: str
    port: int

    def check(self, progress: Progress) -> bool:
        """True if so now."""
        try:
            with socket.create_connection((self.host, self.port), TIMEOUT):
                return True
        except OSError:
            return False


@dataclass(frozen=True)
class Redis:
    """Ready when it answers PING to one of its users (it says LOADING before)."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)

    def check(self, progress: Progress) -> bool:
        """True if so now."""
        try:
            with socket.create_connection((self.host, self.port), TIMEOUT) as connection:
                connection.sendall(command("AUTH", self.user, self.password) + command("PING"))
                answer = b""
                while answer.count(b"\r\n") < 2:
                    more = connection.recv(4096)
                    if not more:
                        return False
                    answer += more
                return answer.startswith(b"+OK\r\n+PONG")
        except OSError:
            return False


@dataclass(frozen=True)
class Ldap:
    """Ready when it answers an anonymous bind, at its port and at its local socket (a path)."""

    host: str
    port: int
    local: str

    def check(self, progress: Progress) -> bool:
        """True if so now."""
        try:
            with socket.create_connection((self.host, self.port), TIMEOUT) as connection:
                if not _binds(connection):
                    return False
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(TIMEOUT)
                connection.connect(self.local)
                return _binds(connection)
        except OSError:
            return False


@dataclass(frozen=True)
class Line:
    """Ready when it has written a line that holds ``text``; or has lived for ``patience`` seconds, if its log is turned down."""

    text: str
    patience: float = float("inf")

    def check(self, progress: Progress) -> bool:
        """True if so now."""
        return progress.line_seen or progress.alive >= self.patience


@dataclass(frozen=True)
class Lasts:
    """Ready when it has lived for some seconds: for parts that announce nothing."""

    seconds: float

    def check(self, progress: Progress) -> bool:
        """True if so now."""
        return progress.alive >= self.seconds


@dataclass(frozen=True)
class Finishes:
    """Ready when it has ended well: something done once before others begin."""

    def check(self, progress: Progress) -> bool:
        """Never true while it runs."""
        return False


Ready = Tcp | Redis | Ldap | Line | Lasts | Finishes


def _binds(connection: socket.socket) -> bool:
    """Whether an LDAP server at the other end takes an anonymous bind."""
    connection.sendall(ANONYMOUS_BIND)
    return BIND_SUCCESS in connection.recv(4096)
