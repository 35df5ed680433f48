"""kombu's Redis transport for lists that a hostile node may write to.

Whoever may push on a list chooses every byte of the item, and kombu believes it: a malformed item ends the consumer, and the
item itself says which list it came on. Here what can not be read is dropped with a line in the log; the list is the one that the
broker named; and of the headers only what a task of ours needs is left (no compression bombs, no times to wait for).
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable, Iterable
from typing import Any, ClassVar
from uuid import uuid4

import kombu.transport
import kombu.transport.redis as base
from kombu.transport import virtual
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import dumps

log = logging.getLogger(__name__)

HEADERS = ("lang", "task", "id", "root_id", "parent_id", "argsrepr", "kwargsrepr", "origin")
"""Headers of a Celery task message that are kept."""

UNREADABLE = (ValueError, TypeError, AttributeError, ArithmeticError, RecursionError, MemoryError)
"""What kombu raises over an item of a list that is no message."""


def item(task: str, argument: object) -> bytes:
    """What stands on a list: a task message with one argument as Celery makes it (docs.celeryq.dev, message protocol 2), with
    those of its headers that the other end keeps. Made here because Celery and kombu take ten times as long for it."""
    number = str(uuid4())
    embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    body = json.dumps([[argument], {}, embed], separators=(",", ":")).encode()
    message = {
        "body": base64.b64encode(body).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {
            "lang": "py",
            "task": task,
            "id": number,
            "root_id": number,
            "parent_id": None,
            "argsrepr": "-",
            "kwargsrepr": "{}",
            "origin": "vmcloud",
        },
        "properties": {
            "correlation_id": number,
            "reply_to": "",
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": ""},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": number,
        },
    }
    return json.dumps(message, separators=(",", ":")).encode()


class Held:
    """What this process has of one hash of unacknowledged messages, whatever became of the connections through which it came.
    ``taken``: what it works on; ``owed``: what it is done with, and could not tell the broker."""

    _all: ClassVar[dict[str, Held]] = {}

    def __init__(self) -> None:
        self.taken: set[str] = set()
        self.owed: set[str] = set()

    @classmethod
    def of(cls, key: str) -> Held:
        """That of the hash ``key``."""
        return cls._all.setdefault(key, cls())


class QoS(base.QoS):  # type: ignore[misc, unused-ignore]
    """Keeps what was taken and not acknowledged in a hash. kombu has an index by time beside it for a sweep that is switched off
    here (:mod:`.app`), and so needs a transaction of two commands each time."""

    def append(self, message: Any, delivery_tag: str) -> None:
        delivery = message.delivery_info
        taken = dumps([message._raw, delivery["exchange"], delivery["routing_key"]])
        with self.channel.conn_or_acquire() as client:
            client.hset(self.unacked_key, delivery_tag, taken)
        Held.of(self.unacked_key).taken.add(delivery_tag)
        virtual.QoS.append(self, message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        self.ack_all([delivery_tag])

    def ack_all(self, tags: Iterable[str]) -> None:
        """Acknowledge several at once; those that can not be now are when there is a connection again (:meth:`settle`)."""
        tags, held = list(tags), Held.of(self.unacked_key)
        held.owed.update(tags)
        held.taken.difference_update(tags)
        with self.channel.conn_or_acquire() as client:
            client.hdel(self.unacked_key, *tags)
        held.owed.difference_update(tags)
        for tag in tags:
            virtual.QoS.ack(self, tag)

    def settle(self) -> None:
        """On a new connection: acknowledge what this process is done with, put back what it never got or what a dead
        predecessor had, and leave what it works on."""
        held = Held.of(self.unacked_key)
        owed = set(held.owed)
        with self.channel.conn_or_acquire() as client:
            for tag in map(bytes_to_str, client.hkeys(self.unacked_key)):
                if tag in held.owed:
                    client.hdel(self.unacked_key, tag)
                elif tag not in held.taken:
                    self.restore_by_tag(tag, client)
        held.owed -= owed  # of some the broker was told before the connection broke, and only its answer was lost


class Channel(base.Channel):  # type: ignore[misc, unused-ignore]
    """Survives items that are no JSON, and makes one client for its pool of connections, not one for each command: a client holds
    nothing else, any thread may use it, and making it takes redis-py longer than a command takes."""

    QoS = QoS
    _client: Any = None

    def _create_client(self, asynchronous: bool = False) -> Any:
        if asynchronous:
            return super()._create_client(asynchronous=True)
        if self._client is None or self._client.connection_pool is not self.pool:
            self._client = super()._create_client()
        return self._client

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)
        except UNREADABLE as error:
            log.error("dropped an item of a list that is no message: %s", _short(error))
            return True


class Transport(base.Transport):  # type: ignore[misc, unused-ignore]
    """Checks each message before anything acts on it."""

    Channel = Channel
    _callbacks: dict[str, Callable[[Any], Any]]

    def _deliver(self, message: Any, queue: str) -> None:
        try:
            checked = _checked(message, queue)
        except Exception as error:
            log.error("dropped a malformed message on %s: %s", queue, _short(error))
            return
        try:
            super()._deliver(checked, queue)
        except _link_errors(self):
            raise
        except Exception as error:
            log.error("dropped a malformed message on %s: %s", queue, _short(error))
            self._forget(checked["properties"]["delivery_tag"])

    def _forget(self, tag: str) -> None:
        """Acknowledge what was dropped, where it waits for that: it must not come back with the next start."""
        for channel in self.channels:
            if channel.qos is not None and tag in channel.qos._delivered:
                channel.basic_reject(tag, requeue=False)


def _checked(message: Any, queue: str) -> dict[str, Any]:
    """The message with nothing in it that its sender must not choose."""
    if not isinstance(message, dict) or not isinstance(message.get("body"), str):
        raise ValueError("it has no body")
    properties, headers = message.get("properties"), message.get("headers") or {}
    if not isinstance(properties, dict) or not isinstance(headers, dict):
        raise ValueError("it has no properties")
    return {
        "body": message["body"],
        "content-type": message.get("content-type"),
        "content-encoding": message.get("content-encoding"),
        "headers": {name: headers[name] for name in HEADERS if isinstance(headers.get(name), str)},
        "properties": {
            "body_encoding": properties.get("body_encoding"),
            "correlation_id": headers.get("id") if isinstance(headers.get("id"), str) else "",
            "delivery_mode": 2,
            "priority": 0,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "delivery_tag": str(uuid4()),
        },
    }


def _link_errors(transport: Any) -> tuple[type[BaseException], ...]:
    """Errors of the connection. kombu counts KeyError among them; a message can cause one."""
    found = (*transport.connection_errors, *transport.channel_errors)
    return tuple(each for each in found if not issubclass(KeyError, each))


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:300]


def install() -> None:
    """Make this the transport of ``redis://`` in this process."""
    for scheme in ("redis", "rediss"):
        kombu.transport.TRANSPORT_ALIASES[scheme] = f"{__name__}:{Transport.__name__}"
