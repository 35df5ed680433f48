"""A node may push any bytes on the lists it writes: nobody who reads them goes deaf, and nobody is taken for another."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.broker import Broker, passwords_for, write_cloud
from vmcloud.config import Config
from vmcloud.dispatch.app import consumer_app
from vmcloud.dispatch.receive import Receiver
from vmcloud.dispatch.routes import REPORT_TASK
from vmcloud.dispatch.send import Sender
from vmcloud.domain.messages import Accepted

pytestmark = pytest.mark.integration

MESSAGE = Accepted("a", 1, 1, 1, 5.0)
NODES = ("a", "b")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    made = Broker(Path(tmp_path_factory.mktemp("broker")), passwords_for(NODES))
    made.start()
    yield made
    made.kill()


@pytest.fixture(scope="module")
def config(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Config:
    data = Path(tmp_path_factory.mktemp("data"))
    write_cloud(data, broker.url, passwords_for(NODES), {"name": "a"})
    return Config.load(data)


@pytest.fixture(scope="module")
def receiver(config: Config) -> Iterator[Receiver]:
    made = Receiver(config, "server", ["server", "server.a", "server.b"])
    yield made
    made.close()


def item(body: Any = b"[[5], {}, {}]", **changes: Any) -> bytes:
    """An item as kombu writes it, except for the changes."""
    text = base64.b64encode(body).decode() if isinstance(body, bytes) else body
    info = {"exchange": "", "routing_key": "server.b"}
    made = {
        "body": text,
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"lang": "py", "task": REPORT_TASK, "id": "x"},
        "properties": {"body_encoding": "base64", "delivery_info": info, "delivery_tag": "t", "correlation_id": "x"},
    }
    return json.dumps({**made, **changes}).encode()


GARBAGE = [
    b"garbage",
    b"",
    b"\xff\xfe\x00",
    b"5",
    b"null",
    b"[]",
    b"{}",
    b"[" * 100_000,
    b'{"__type__": "uuid", "__value__": 5}',
    item(5),
    item("%%%"),
    item("A"),
    item(b"no json"),
    item(b"\xff\xff"),
    item(b"5"),
    item(b"[]"),
    item(b"[[1, 2], {}, {}]"),
    item(b"[" * 100_000),
    item(b'[[{"__type__": "uuid", "__value__": 5}], {}, {}]'),
    item(headers=5),
    item(headers={"compression": "application/x-bz2"}),
    item(properties=None),
    item(properties={}),
    item(properties={"body_encoding": ["x"], "delivery_info": 5}),
    item(**{"content-type": "application/x-python-serialize"}),
    item(**{"content-type": "application/no-such-thing", "content-encoding": "no-such-thing"}),
    item(**{"content-type": ["x"], "content-encoding": 7}),
]


def node(broker: Broker) -> redis.Redis:
    return redis.Redis(port=broker.port, username="node-a", password="pw-node-a")


def take(receiver: Receiver) -> list[tuple[str, Any]]:
    """What comes first; fails after five seconds of silence."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if found := receiver.get(0.1):
            return found
    raise AssertionError("the receiver is deaf")


@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda value: repr(value[:30]))
def test_the_receiver_drops_what_it_can_not_decode(broker: Broker, config: Config, receiver: Receiver, garbage: bytes) -> None:
    sender = Sender(config, "node-a")
    node(broker).lpush("server.a", garbage)
    sender.report(MESSAGE)
    found: list[tuple[str, Any]] = []
    while not found:
        found = [pair for pair in take(receiver) if pair[1] != 5]
    assert found == [("server.a", MESSAGE.to_json())]
    sender.close()


def test_a_message_counts_as_said_by_whose_list_it_came_on(broker: Broker, receiver: Receiver) -> None:
    node(broker).lpush("server.a", item())
    assert take(receiver) == [("server.a", 5)]


def test_a_celery_worker_reads_on_and_keeps_nothing_of_the_garbage(broker: Broker, config: Config) -> None:
    """What the monitor is: acknowledging late, on its own thread."""
    for garbage in GARBAGE:
        node(broker).lpush("monitor.a", garbage)
    forged = base64.b64encode(b'[["forged"], {}, {}]').decode()
    headers = {"lang": "py", "task": REPORT_TASK, "id": "x", "eta": "2999-01-01T00:00:00"}
    node(broker).lpush("monitor.a", item(forged, headers=headers))
    app = consumer_app(config, "monitor", ["monitor.a", "monitor.b"])
    arrived: list[Any] = []
    with app.connection_for_read() as connection:
        consumer = app.amqp.TaskConsumer(connection, on_message=arrived.append)
        consumer.consume()
        deadline = time.monotonic() + 5
        while not (arrived and "forged" in str(arrived[-1].body)) and time.monotonic() < deadline:
            try:
                connection.drain_events(timeout=0.2)
            except TimeoutError:
                continue
        last = arrived[-1]
        assert last.delivery_info["routing_key"] == "monitor.a" and "eta" not in last.headers
        assert last.decode()[0] == ["forged"]
        for message in arrived:
            message.ack()
        assert connection.default_channel.client.hkeys("unacked.monitor") == []
