"""kombu's Redis transport for lists that a hostile node may write to.

Whoever may push on a list chooses every byte of the item, and kombu believes it: a malformed item ends the consumer, and the
item itself says which list it came on. Here what can not be read is dropped with a line in the log; the list is the one that the
broker named; and of the headers only what a task of ours needs is left (no compression bombs, no times to wait for).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import kombu.transport
import kombu.transport.redis as base

log = logging.getLogger(__name__)

HEADERS = ("lang", "task", "id", "root_id", "parent_id", "argsrepr", "kwargsrepr", "origin")
"""Headers of a Celery task message that are kept."""

UNREADABLE = (ValueError, TypeError, AttributeError, ArithmeticError, RecursionError, MemoryError)
"""What kombu raises over an item of a list that is no message."""


class Channel(base.Channel):  # type: ignore[misc, unused-ignore]
    """Survives items that are no JSON, and makes one client for its pool of connections, not one for each command: a client holds
    nothing else, any thread may use it, and making it takes redis-py longer than a command takes."""

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
