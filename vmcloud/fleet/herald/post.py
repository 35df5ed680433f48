"""Sending messages to one receiver: over one connection as long as that holds, each in bounded time, with little of the answer
read and nowhere but to the address that was checked."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult

READ_MAX = 1024
"""Bytes of an answer that are read. They are kept nowhere."""
RETRY_AFTER_MAX = 3600.0
GONE = 410
"""The receiver wants no more of it (Standard Webhooks, "Considerations for producers")."""


class NotThere(OSError):
    """Nothing may be sent to this address."""


@dataclass(frozen=True)
class Answer:
    """How one attempt ended. ``code`` None: there was no answer, ``error`` says why; ``after``: seconds that the receiver asks to
    wait; ``refused``: nothing may be sent to its address."""

    code: int | None = None
    error: str = ""
    after: float = 0.0
    refused: bool = False

    @property
    def ok(self) -> bool:
        """Whether it was taken."""
        return self.code is not None and 200 <= self.code < 300

    @property
    def gone(self) -> bool:
        """Whether nothing more is wanted."""
        return self.code == GONE


class Post:
    """One receiver. ``why_not(address)``: why a message may not go there, empty if it may."""

    def __init__(self, url: SplitResult, why_not: Callable[[str], str], seconds: float) -> None:
        self._url, self._why_not, self._seconds = url, why_not, seconds
        self._connection: http.client.HTTPConnection | None = None
        self._socket: socket.socket | None = None
        self._end = float("inf")
        self._late = False
        self._lock = threading.Lock()

    def send(self, body: str, headers: Mapping[str, str]) -> Answer:
        """Send one message."""
        with self._lock:
            self._end, self._late = time.monotonic() + self._seconds, False
        try:
            return self._sent(body, headers)
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            self.close()
            if self._late or isinstance(error, TimeoutError):
                return Answer(error=f"no answer in {self._seconds:g} s")
            return Answer(error=_words(error), refused=isinstance(error, NotThere))
        finally:
            with self._lock:
                self._end = float("inf")

    def look(self, now: float) -> None:
        """End an attempt that takes too long; called now and then by another thread. (A socket's own limit is for each byte.)"""
        with self._lock:
            if now > self._end and self._socket is not None:
                self._late = True
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of the connection."""
        with self._lock:
            connection, self._connection, self._socket = self._connection, None, None
        if connection is not None:
            connection.close()

    def _sent(self, body: str, headers: Mapping[str, str]) -> Answer:
        path = self._url.path or "/"
        target = f"{path}?{self._url.query}" if self._url.query else path
        named = {**headers, "Host": self._url.netloc, "Content-Type": "application/json", "User-Agent": "vmcloud"}
        fresh = self._connection is None
        connection = self._connection or self._connected()
        try:
            connection.request("POST", target, body=body.encode(), headers=named)
            answer = connection.getresponse()
        except (ConnectionError, http.client.BadStatusLine):
            if fresh or self._late:
                raise
            self.close()  # the receiver had closed it meanwhile
            connection = self._connected()
            connection.request("POST", target, body=body.encode(), headers=named)
            answer = connection.getresponse()
        answer.read(READ_MAX)
        if self._late:  # an end of ours in the middle of the headers is taken for theirs
            raise TimeoutError
        if not answer.isclosed() or answer.will_close:
            self.close()
        code = answer.status
        if 200 <= code < 300:
            return Answer(code)
        if 300 <= code < 400:
            return Answer(code, f"{code}: it redirects, and redirects are not followed")
        return Answer(code, f"{code} {printable(answer.reason)}", _after(answer.headers.get("Retry-After", "")))

    def _connected(self) -> http.client.HTTPConnection:
        """A connection to an address that was looked up once and checked."""
        host, https = self._url.hostname or "", self._url.scheme == "https"
        port = self._url.port or (443 if https else 80)
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
        refusals = [why for why in map(self._why_not, addresses) if why]
        if refusals:  # also where only one of several may not be reached: which of them answers is not for others to choose
            raise NotThere(refusals[0])
        opened = self._opened(addresses, port)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # head and body are two writes
        if https:
            context = ssl.create_default_context()
            opened = context.wrap_socket(opened, server_hostname=host, do_handshake_on_connect=False)
        connection = http.client.HTTPConnection(host, port, timeout=self._seconds)
        connection.sock = opened
        with self._lock:
            self._connection, self._socket = connection, opened
        if isinstance(opened, ssl.SSLSocket):
            opened.do_handshake()
        return connection

    def _opened(self, addresses: list[str], port: int) -> socket.socket:
        trouble: OSError | None = None
        for address in addresses:
            left = self._end - time.monotonic()
            if left <= 0:
                raise TimeoutError
            try:
                return socket.create_connection((address, port), timeout=min(left, self._seconds))
            except OSError as error:
                trouble = error
        raise trouble or OSError("it has no address")


def _after(text: str) -> float:
    return min(float(text), RETRY_AFTER_MAX) if text.isascii() and text.isdigit() else 0.0


def printable(text: str) -> str:
    """What a stranger wrote, for people."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)[:200]


def _words(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {printable(error.verify_message)}"
    if isinstance(error, http.client.RemoteDisconnected):
        return "it closed the connection without an answer"
    if isinstance(error, http.client.HTTPException):
        return f"its answer is no HTTP: {type(error).__name__}"
    return printable(getattr(error, "strerror", None) or str(error)) or type(error).__name__
