"""kombu's Redis transport for lists that a hostile node may write to.

Whoever may push on a list chooses every byte of the item, and kombu believes it: a malformed item ends the consumer, the item
itself says which list it came on, which codec reads its body, and which tasks to publish once it was handled. Here an item is
judged (:mod:`.judge`) before any code of kombu or Celery touches it; what does not pass is dropped and told as a denial. What a
consumer had under way when its process died is counted, and set aside after :data:`.judge.DELIVERIES_MAX` times (:class:`QoS`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from queue import Empty
from typing import Any, ClassVar

import kombu.serialization
import kombu.transport
import kombu.transport.redis as base
from kombu.transport import virtual
from kombu.utils.encoding import bytes_to_str

from vmcloud.domain.denials import denied

from . import judge

DEAD_MAX = 100
"""Messages set aside that are kept of one consumer; the oldest go."""
DEAD_SECONDS = 7 * 86400
"""How long they are kept after the last of them was set aside."""
DEAD_PIECE = 2000
"""Characters that are kept of one: enough to tell what it was."""


def dead_list(identity: str) -> str:
    """The list of what one consumer set aside."""
    return f"dead.{identity}"


class Held:
    """What this process has of one hash of unacknowledged messages, whatever became of the connections through which it came.
    ``taken``: what it works on; ``owed``: what it is done with, and could not tell the broker; ``settled``: whether it has looked
    at what a predecessor left."""

    _all: ClassVar[dict[str, Held]] = {}

    def __init__(self) -> None:
        self.taken: set[str] = set()
        self.owed: set[str] = set()
        self.settled = False

    @classmethod
    def of(cls, key: str) -> Held:
        """That of the hash ``key``."""
        return cls._all.setdefault(key, cls())


class QoS(base.QoS):  # type: ignore[misc, unused-ignore]
    """Keeps what was taken and not acknowledged in a hash. kombu has an index by time beside it for a sweep that is switched off
    here (:mod:`.app`), and so needs a transaction of two commands each time."""

    def append(self, message: Any, delivery_tag: str) -> None:
        delivery = message.delivery_info
        taken = json.dumps([message._raw, delivery["exchange"], delivery["routing_key"]])
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
        predecessor had, and leave what it works on. What several predecessors had in hand when they died is set aside: one of
        them may have died of it."""
        held = Held.of(self.unacked_key)
        owed = set(held.owed)
        with self.channel.conn_or_acquire() as client:
            for tag in map(bytes_to_str, client.hkeys(self.unacked_key)):
                if tag in held.owed:
                    client.hdel(self.unacked_key, tag)
                elif tag not in held.taken:
                    self._put_back(client, tag, died=not held.settled)
        held.owed -= owed  # of some the broker was told before the connection broke, and only its answer was lost
        held.settled = True

    def restore_by_tag(self, tag: str, client: Any = None, leftmost: bool = False) -> None:
        """Put back a message that this process was asked to give back."""
        with self.channel.conn_or_acquire(client) as connected:
            self._put_back(connected, bytes_to_str(tag), died=False)
        Held.of(self.unacked_key).taken.discard(bytes_to_str(tag))

    def _put_back(self, client: Any, tag: str, *, died: bool) -> None:
        """Move a message from the hash to the end of its list where it is the next to be taken; with ``died`` count it."""
        found = client.hget(self.unacked_key, tag)
        if found is None:
            return
        raw, _, name = json.loads(found)
        deliveries = judge.deliveries(raw["headers"]) + died
        with client.pipeline(transaction=True) as pipe:
            pipe.hdel(self.unacked_key, tag)
            if deliveries < judge.DELIVERIES_MAX:
                raw["headers"][judge.DELIVERIES] = deliveries
                pipe.rpush(name, json.dumps(raw))
            else:
                self._set_aside(pipe, name, raw)
            pipe.execute()

    def _set_aside(self, pipe: Any, name: str, raw: dict[str, Any]) -> None:
        identity = self.unacked_key.removeprefix("unacked.")
        kept = {"at": round(time.time(), 3), "list": name, "id": raw["headers"].get("id", ""), "body": raw["body"][:DEAD_PIECE]}
        pipe.lpush(dead_list(identity), json.dumps(kept))
        pipe.ltrim(dead_list(identity), 0, DEAD_MAX - 1)
        pipe.expire(dead_list(identity), DEAD_SECONDS)
        why = f"{judge.DELIVERIES_MAX} processes ended while they had it in hand; it is kept in {dead_list(identity)}"
        denied("broker", name.partition(".")[2], f"message {kept['id']} on {name}", why)


class Message(virtual.Message):  # type: ignore[misc, unused-ignore]
    """A message whose body was decoded when it was judged."""

    def __init__(self, payload: dict[str, Any], channel: Any = None, **kwargs: Any) -> None:
        self._parsed = payload.pop("parsed")
        super().__init__(payload, channel=channel, **kwargs)

    def _decode(self) -> Any:
        return self._parsed


class Channel(base.Channel):  # type: ignore[misc, unused-ignore]
    """Survives items that are no JSON, and makes one client for its pool of connections, not one for each command: a client holds
    nothing else, any thread may use it, and making it takes redis-py longer than a command takes."""

    QoS = QoS
    Message = Message
    _client: Any = None

    def _create_client(self, asynchronous: bool = False) -> Any:
        if asynchronous:
            return super()._create_client(asynchronous=True)
        if self._client is None or self._client.connection_pool is not self.pool:
            self._client = super()._create_client()
        return self._client

    def _brpop_read(self, **options: Any) -> Any:
        """As kombu's, but for the item: it is judged before anything decodes it, and says nothing of its list."""
        try:
            try:
                answer = self.client.parse_response(self.client.connection, "BRPOP", **options)
            except self.connection_errors:
                self.client.connection.disconnect()
                raise
            if not answer:
                raise Empty
            name = bytes_to_str(answer[0])
            self._queue_cycle.rotate(name)
            self.connection.judge_and_deliver(answer[1], name)
            return True
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()


class Transport(base.Transport):  # type: ignore[misc, unused-ignore]
    """Delivers what passes the judge."""

    Channel = Channel
    _callbacks: dict[str, Callable[[Any], Any]]

    def judge_and_deliver(self, item: bytes, name: str) -> None:
        """Hand an item of the list ``name`` to its consumer, or drop it."""
        try:
            message = judge.judged(item, name)
        except judge.UNFIT as error:
            _dropped(name, error)
            return
        try:
            super()._deliver(message, name)
        except _link_errors(self):
            raise
        except Exception as error:
            _dropped(name, error)
            self._forget(message["properties"]["delivery_tag"])

    def _forget(self, tag: str) -> None:
        """Acknowledge what was dropped, where it waits for that: it must not come back with the next start."""
        for channel in self.channels:
            if channel.qos is not None and tag in channel.qos._delivered:
                channel.basic_reject(tag, requeue=False)


def _dropped(name: str, error: BaseException) -> None:
    denied("broker", name.partition(".")[2], f"an item on {name}", f"dropped, it is no message: {type(error).__name__}: {error}")


def _link_errors(transport: Any) -> tuple[type[BaseException], ...]:
    """Errors of the connection. kombu counts KeyError among them; a message can cause one."""
    found = (*transport.connection_errors, *transport.channel_errors)
    return tuple(each for each in found if not issubclass(KeyError, each))


def install() -> None:
    """Make this the transport of ``redis://`` in this process, and JSON no more than JSON: kombu's own decoder makes numbers,
    times and bytes of objects that ask for it."""
    for scheme in ("redis", "rediss"):
        kombu.transport.TRANSPORT_ALIASES[scheme] = f"{__name__}:{Transport.__name__}"
    kombu.serialization.register("json", json.dumps, judge.decode, content_type="application/json", content_encoding="utf-8")
