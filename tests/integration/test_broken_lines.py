"""What a consumer has taken and a connection broke over: done once it was told, worked on once, and never left lying about."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from benchmarks.campaign.proxy import Proxy
from tests.broker import Broker, passwords_for, write_cloud
from vmcloud.config import Config
from vmcloud.dispatch.app import RestoreOwn, consumer_app
from vmcloud.dispatch.judge import item
from vmcloud.dispatch.routes import REPORT_TASK
from vmcloud.dispatch.transport import Held

pytestmark = pytest.mark.integration
UNACKED = "unacked.monitor"


@pytest.fixture
def broker(place: Path) -> Iterator[Broker]:
    made = Broker(place / "broker", passwords_for(["a"]))
    made.start()
    yield made
    made.kill()


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    made = Proxy()
    yield made
    made.close()


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def said(connection: Any, arrived: list[Any], count: int) -> list[Any]:
    """Wait until so many messages have come."""
    deadline = time.monotonic() + 5
    while len(arrived) < count and time.monotonic() < deadline:
        try:
            connection.drain_events(timeout=0.2)
        except TimeoutError:
            continue
    assert len(arrived) == count
    return arrived


def test_what_a_broken_connection_left_is_settled_by_the_next(
    broker: Broker, proxy: Proxy, place: Path, closing: ExitStack
) -> None:
    """Found by a fault campaign (seed 3): an acknowledgement that did not arrive stayed in the broker until the next start."""
    write_cloud(place / "data", broker.url, passwords_for(["a"]), {"name": "a"})
    link = proxy.link("monitor", broker.port)
    config = replace(Config.load(place / "data"), broker_url=f"redis://127.0.0.1:{link}/0")
    node = redis.Redis(port=broker.port, username="node-a", password="pw-node-a")
    monitor = redis.Redis(port=broker.port, username="monitor", password="pw-monitor")
    node.lpush("monitor.a", item(REPORT_TASK, 1), item(REPORT_TASK, 2))
    app = consumer_app(config, "monitor", ["monitor.a"], ahead=5)
    first = app.connection_for_read()
    closing.callback(first.release)
    arrived: list[Any] = []
    consumer = app.amqp.TaskConsumer(first, on_message=arrived.append)
    consumer.consume()
    one, two = said(first, arrived, 2)
    proxy.links["monitor"].silent = True
    with pytest.raises((*first.connection_errors, *first.channel_errors)):
        one.ack()
    monitor.hset(UNACKED, "a dead predecessor's", monitor.hget(UNACKED, two.delivery_tag))
    assert len(monitor.hkeys(UNACKED)) == 3
    proxy.mend()
    RestoreOwn.start(None, SimpleNamespace(app=app))
    assert monitor.hkeys(UNACKED) == [two.delivery_tag.encode()], "it is worked on; the one is done, the other put back"
    assert monitor.brpop("monitor.a", 1) and not monitor.brpop("monitor.a", 0.1)
    two.ack()
    assert monitor.hkeys(UNACKED) == []
    assert not Held.of(UNACKED).taken and not Held.of(UNACKED).owed
