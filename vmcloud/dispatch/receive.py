"""Receiving without a Celery worker: the server's inbox, and a process that stands for many simulated nodes.

Reads the same Celery task messages with kombu. Messages are taken without acknowledgement: each is a trigger, and what is lost
with a dying process is asked for again. What can not be decoded is dropped with a line in the log (:mod:`.transport`).
"""

from __future__ import annotations

import contextlib
import socket
from collections import deque
from collections.abc import Iterable
from typing import Any

from kombu import Connection, Consumer
from kombu import Message as Delivery
from kombu.exceptions import KombuError

from vmcloud.config import Config

from .app import broker_url, queue, transport_options

PORTION = 16 << 20
"""Bytes after which :meth:`Receiver.get` takes no more at once: how much waits is its senders' choice."""


class Lost(Exception):
    """The broker is gone or frozen; call again to reconnect."""


class Receiver:
    """Reads several lists as one identity. For one thread."""

    def __init__(self, config: Config, identity: str, lists: Iterable[str]) -> None:
        self._config, self._identity = config, identity
        self._lists = list(dict.fromkeys(lists))
        self._inbox: deque[tuple[str, Any]] = deque()
        self._bytes = 0
        self._connection: Connection | None = None
        self._consumer: Consumer | None = None

    def add(self, name: str) -> None:
        """Read one more list from now on."""
        if name not in self._lists:
            self._lists.append(name)
            if self._consumer is not None:
                self._consumer.add_queue(queue(name))
                self._consumer.consume(no_ack=True)

    def get(self, timeout: float) -> list[tuple[str, Any]]:
        """Wait up to ``timeout`` seconds; all (list, argument) pairs that have come, in order of arrival, but no more than a
        portion. :class:`Lost`."""
        self._bytes = 0
        try:
            self._connect()
            assert self._connection is not None
            with contextlib.suppress(socket.timeout, TimeoutError):
                self._connection.drain_events(timeout=timeout)
                while self._bytes < PORTION:
                    self._connection.drain_events(timeout=0.001)
        except (KombuError, OSError, *_errors(self._connection)) as error:
            self.close()
            raise Lost(str(error)) from error
        taken = list(self._inbox)
        self._inbox.clear()
        return taken

    def close(self) -> None:
        """Drop the connection."""
        connection, self._connection, self._consumer = self._connection, None, None
        if connection is not None:
            with contextlib.suppress(Exception):  # it is already lost; nothing it says matters
                connection.release()

    def _connect(self) -> None:
        if self._connection is not None:
            return
        self._connection = Connection(
            broker_url(self._config, self._identity), transport_options=transport_options(self._identity)
        )
        self._connection.connect()
        queues = [queue(name) for name in self._lists]
        self._consumer = Consumer(
            self._connection, queues, callbacks=[self._take], accept=["json"], no_ack=True, auto_declare=False
        )
        self._consumer.consume(no_ack=True)

    def _take(self, body: Any, delivery: Delivery) -> None:
        (argument,) = body[0]
        self._bytes += len(delivery.body)
        self._inbox.append((delivery.delivery_info["routing_key"], argument))


def _errors(connection: Connection | None) -> tuple[type[Exception], ...]:
    return (*connection.connection_errors, *connection.channel_errors) if connection is not None else ()
