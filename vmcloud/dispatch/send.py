"""Publishing: orders from the server to nodes, reports from nodes, wake-ups.

A failed publish is *unknown*, never "not sent": the message may have arrived before the connection broke.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from kombu import Connection
from kombu.exceptions import KombuError

from vmcloud.config import Config
from vmcloud.domain.errors import Unavailable
from vmcloud.domain.messages import Message, Wake

from .app import base_app
from .envelope import Order, seal
from .judge import item
from .routes import ORDER_TASK, REPORT_TASK, route, wake_list

WAKE_PAUSE = 2.0
"""Seconds without wake-ups after one that failed."""


class Sender:
    """Publishes as one identity. Safe for use by several threads: each call borrows a connection. (Not one for each thread: the
    web part answers each request in a thread that is new.)

    ``timeout``: seconds after which a broker that does not answer counts as away.
    """

    def __init__(self, config: Config, identity: str, *, timeout: float = 3.0) -> None:
        self._app = base_app(config, identity)
        self._app.conf.broker_transport_options = {
            **self._app.conf.broker_transport_options,
            "socket_timeout": timeout,
            "socket_connect_timeout": timeout,
        }
        self._silent_until = 0.0
        self._idle: list[Connection] = []
        self._lock = threading.Lock()
        connection = self._app.connection_for_write()
        self._errors = (KombuError, OSError, *connection.connection_errors, *connection.channel_errors)

    def report(self, *messages: Message) -> None:
        """Put a node's messages, in this order and at once, on the lists that :func:`route` says. :class:`Unavailable` if that is
        not certain."""
        self._publish(*((route(message), item(REPORT_TASK, message.to_json())) for message in messages))

    def wake(self, topic: str) -> bool:
        """Wake server (topic ``jobs``) or monitor (``nodes``). False where the broker did not answer: harmless, they poll too.

        After a failure nothing is tried for a moment: who wakes others does not wait for a frozen broker again and again.
        """
        if time.monotonic() < self._silent_until:
            return False
        message = Wake(topic=topic)
        try:
            self._publish((wake_list(message), item(REPORT_TASK, message.to_json())))
        except Unavailable:
            self._silent_until = time.monotonic() + WAKE_PAUSE
            return False
        return True

    def envelopes(self, *sealed: tuple[str, str]) -> None:
        """Put sealed orders on their nodes' lists, (list, order) each. :class:`Unavailable` if that is not certain."""
        self._publish(*((name, item(ORDER_TASK, text)) for name, text in sealed))

    def waiting(self, list_name: str) -> int:
        """How many messages of a list nobody has taken yet. 1 where the broker does not answer: not known to be none."""
        try:
            with self._borrowed() as client:
                return int(client.llen(list_name))
        except self._errors:
            return 1

    def close(self) -> None:
        """Close the connections that nobody uses right now."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.release()

    @contextmanager
    def _borrowed(self) -> Iterator[Any]:
        """The broker's client of a connection that is the caller's for a moment. After an error all idle ones count as dead."""
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        if connection is None:
            connection = self._app.connection_for_write()
        try:
            with connection.default_channel.conn_or_acquire() as client:
                yield client
        except BaseException:
            connection.release()
            self.close()
            raise
        with self._lock:
            self._idle.append(connection)

    def _publish(self, *items: tuple[str, bytes]) -> None:
        """Push what is for lists in a row with one command each, all in one round trip."""
        pushes = [(name, [text for _, text in group]) for name, group in groupby(items, lambda each: each[0])]
        for last in (False, True):
            try:
                with self._borrowed() as client:
                    _push(client, pushes)
                return
            except self._errors as error:  # a connection kept over a restart of the broker fails once: try a fresh one
                if last or "timed out" in str(error).lower() or isinstance(error, TimeoutError):
                    raise Unavailable("the broker does not answer", why=str(error), todo="See `vmcloud status`.") from error


def _push(client: Any, pushes: Sequence[tuple[str, Sequence[bytes]]]) -> None:
    if len(pushes) == 1:
        client.lpush(pushes[0][0], *pushes[0][1])
        return
    pipeline = client.pipeline(transaction=False)
    for name, texts in pushes:
        pipeline.lpush(name, *texts)
    pipeline.execute()


class OrderSender:
    """Signs and publishes orders: the server's right only."""

    def __init__(
        self, sender: Sender, key: Ed25519PrivateKey, *, lifetime: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._sender, self._key, self._lifetime, self._clock = sender, key, lifetime, clock

    def send(self, *orders: Order) -> None:
        """Seal orders now and put them on their nodes' lists. :class:`Unavailable` if that is not certain."""
        now = self._clock()
        self._sender.envelopes(*((route(each), seal(each, self._key, now=now, lifetime=self._lifetime)) for each in orders))

    def waiting(self, list_name: str) -> int:
        """See :meth:`Sender.waiting`."""
        return self._sender.waiting(list_name)
