"""What a node pushes on its lists is judged before any codec sees it: none of its choice ever works on it."""

from __future__ import annotations

import base64
import bz2
import json
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from kombu import Connection

from tests.broker import Broker, passwords_for, write_cloud
from vmcloud.config import Config
from vmcloud.dispatch.app import consumer_app
from vmcloud.dispatch.judge import ITEM_MAX
from vmcloud.dispatch.judge import item as proper
from vmcloud.dispatch.receive import Receiver
from vmcloud.dispatch.routes import REPORT_TASK
from vmcloud.dispatch.send import Sender
from vmcloud.domain.messages import Accepted

pytestmark = pytest.mark.integration

MESSAGE = Accepted("a", 1, 1, 1, 5.0)
REPORT = b"[[5], {}, {}]"
EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    made = Broker(Path(tmp_path_factory.mktemp("broker")), passwords_for("ab"))
    made.start()
    yield made
    made.kill()


@pytest.fixture(scope="module")
def config(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Config:
    data = Path(tmp_path_factory.mktemp("data"))
    write_cloud(data, broker.url, passwords_for("ab"), {"name": "a"})
    return Config.load(data)


def forged(
    body: bytes | str = REPORT, *, headers: dict[str, Any] | None = None, encoding: Any = "base64", **changes: Any
) -> bytes:
    text = base64.b64encode(body).decode() if isinstance(body, bytes) else body
    made = {
        "body": text,
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"lang": "py", "task": REPORT_TASK, "id": "x", **(headers or {})},
        "properties": {"body_encoding": encoding, "delivery_info": {}, "delivery_tag": "t"},
    }
    return json.dumps({**made, **changes}).encode()


def codec(name: str, body: bytes, kind: str = "application/data") -> bytes:
    return forged(body, **{"content-type": kind, "content-encoding": name})


PUNYCODE = b"a" * 330_000 + b"-" + b"b" * 330_000
CALLBACK = {"task": REPORT_TASK, "args": ["forged"], "kwargs": {}, "options": {"queue": "monitor.b"}, "subtask_type": None}
FORGED = {
    "punycode": codec("punycode", PUNYCODE),
    "bz2": codec("bz2", bz2.compress(b" " * (64 << 20))),
    "zlib": codec("zlib", zlib.compress(b" " * (64 << 20), 9)),
    "utf-7 text": codec("utf-7", REPORT, "text/plain"),
    "json in utf-16": forged(REPORT.decode().encode("utf-16")),
    "binary": codec("binary", REPORT, "application/data"),
    "no type": forged(**{"content-type": None, "content-encoding": None}),
    "another spelling": forged(**{"content-type": "Application/JSON"}),
    "body in no code": forged(REPORT.decode(), encoding=None),
    "body in hex": forged(REPORT.hex(), encoding="hex"),
    "a type of kombu's": forged(b'[[{"__type__": "decimal", "__value__": "1e999999"}], {}, {}]'),
    "the same, hidden": forged(b'[[{"_\\u005Ftype__": "decimal", "__value__": "1e999999"}], {}, {}]'),
    "a callback": forged(json.dumps([[5], {}, {**EMBED, "callbacks": [CALLBACK]}]).encode()),
    "keywords": forged(b'[[5], {"a": 1}, {}]'),
    "another task": forged(headers={"task": "celery.backend_cleanup"}),
    "infinity": forged(b"[[Infinity], {}, {}]"),
    "too long": forged(b'[["' + b"x" * ITEM_MAX + b'"], {}, {}]'),
}


def node(broker: Broker) -> redis.Redis:
    return redis.Redis(port=broker.port, username="node-a", password="pw-node-a")


@pytest.mark.parametrize("name", FORGED)
def test_the_server_drops_it_at_once_and_hears_the_next(broker: Broker, config: Config, name: str) -> None:
    receiver, sender = Receiver(config, "server", ["server.a"]), Sender(config, "node-a")
    began = time.process_time()
    node(broker).lpush("server.a", FORGED[name])
    sender.report(MESSAGE)
    found: list[tuple[str, Any]] = []
    deadline = time.monotonic() + 30
    while not found and time.monotonic() < deadline:
        found = receiver.get(0.1)
    assert found == [("server.a", MESSAGE.to_json())]
    assert time.process_time() - began < 2.0, "a codec worked on it"
    receiver.close()
    sender.close()


def drained(connection: Connection, arrived: list[Any], count: int) -> None:
    deadline = time.monotonic() + 20
    while len(arrived) < count and time.monotonic() < deadline:
        try:
            connection.drain_events(timeout=0.2)
        except TimeoutError:
            continue


def test_a_celery_consumer_sees_none_of_it_and_keeps_nothing(broker: Broker, config: Config) -> None:
    """What the monitor is. A callback in a message would be published with the monitor's rights, on another node's list."""
    node(broker).lpush("monitor.a", *FORGED.values())
    node(broker).lpush("monitor.a", proper(REPORT_TASK, "the last"))
    app = consumer_app(config, "monitor", ["monitor.a", "monitor.b"], ahead=100)
    arrived: list[Any] = []
    with app.connection_for_read() as connection:
        app.amqp.TaskConsumer(connection, on_message=arrived.append).consume()
        began = time.process_time()
        drained(connection, arrived, 1)
        assert time.process_time() - began < 2.0
        assert [message.decode()[0] for message in arrived] == [["the last"]]
        arrived[0].ack()
        assert connection.default_channel.client.hkeys("unacked.monitor") == []


def test_many_large_messages_are_not_held_at_once(broker: Broker, config: Config) -> None:
    """What waits is taken in bounded portions, so that its sender does not choose how much memory the server takes."""
    receiver = Receiver(config, "server", ["server.a"])
    text = proper(REPORT_TASK, "x" * (3 << 20))
    client = node(broker)
    for _ in range(12):
        client.lpush("server.a", text)
    portions = []
    deadline = time.monotonic() + 30
    while sum(portions) < 12 and time.monotonic() < deadline:
        portions.append(len(receiver.get(0.2)))
    assert sum(portions) == 12
    assert max(portions) <= 6, portions
    receiver.close()


def test_what_is_said_is_never_too_long_to_be_heard() -> None:
    with pytest.raises(ValueError, match="too long"):
        proper(REPORT_TASK, "x" * ITEM_MAX)
