"""One node can not fill the broker, crowd others out of it, or be denied there without anybody reading it."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.broker import Broker, passwords_for, write_cloud
from vmcloud.config import Config
from vmcloud.dispatch.send import Sender
from vmcloud.domain.denials import Denial
from vmcloud.domain.errors import Unavailable
from vmcloud.domain.messages import Accepted
from vmcloud.local import broker as settings
from vmcloud.local import warden
from vmcloud.local.warden import Warden

pytestmark = pytest.mark.integration

MIB = 1 << 20


@pytest.fixture
def broker(place: Path) -> Iterator[Broker]:
    made = Broker(place / "broker", passwords_for("ab"))
    made.start()
    yield made
    made.kill()


@pytest.fixture
def told() -> list[Denial]:
    return []


@pytest.fixture
def guard(broker: Broker, told: list[Denial]) -> Iterator[Warden]:
    made = Warden("127.0.0.1", broker.port, "pw-supervisor", told.append)
    yield made
    made.close()


def client(broker: Broker, identity: str) -> redis.Redis:
    return redis.Redis(port=broker.port, username=identity, password=f"pw-{identity}", socket_timeout=5)


def bounded(broker: Broker, mib: int) -> redis.Redis:
    """An administrator's client of a broker that may keep so many MiB; the user is for this test only."""
    broker.kill()
    users = broker.folder / "users.acl"
    users.write_text(users.read_text() + "user test on >test ~* &* +@all\n")
    broker.start()
    made = redis.Redis(port=broker.port, username="test", password="test")
    made.config_set("maxmemory", mib * MIB)
    made.config_set("maxmemory-policy", "noeviction")
    return made


def test_what_a_node_fills_is_cut_back_and_told_and_others_keep_theirs(broker: Broker, guard: Warden, told: list[Denial]) -> None:
    root = bounded(broker, 128)
    node, other = client(broker, "node-a"), client(broker, "node-b")
    other.lpush("server.b", "from b")
    for number in range(30):
        node.lpush("server.a", f"{number:02}" + "x" * MIB)
    for number in range(20):
        node.hset("unacked.node-a", str(number), "x" * MIB)
    guard.look()
    assert root.info("memory")["used_memory"] < 24 * MIB
    assert root.lindex("server.a", 0)[:2] == b"29", "the newest stay"
    assert root.lrange("server.b", 0, -1) == [b"from b"] and not root.exists("unacked.node-a")
    assert {(each.who, each.what.split(" ", 1)[1]) for each in told} == {
        ("a", "messages on server.a"),
        ("node-a", "it keeps in unacked.node-a"),
    }


def test_a_full_broker_refuses_and_evicts_nothing_and_the_sender_keeps_what_it_has(broker: Broker, place: Path) -> None:
    """Unavailable is what makes a node's reporter keep a report in its journal."""
    root = bounded(broker, 8)
    root.rpush("node.b", "an order")
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        for _ in range(20):
            client(broker, "node-a").lpush("server.a", "x" * MIB)
    root.config_set("maxmemory", 4 * MIB)
    write_cloud(place / "data", broker.url, passwords_for("ab"), {"name": "a"})
    sender = Sender(Config.load(place / "data"), "node-a")
    with pytest.raises(Unavailable):
        sender.report(Accepted("a", 1, 1, 1, 5.0))
    assert root.lrange("node.b", 0, -1) == [b"an order"]
    root.delete("server.a")
    sender.report(Accepted("a", 1, 1, 1, 5.0))
    sender.close()


def test_the_broker_that_up_starts_is_bounded(place: Path) -> None:
    lines = settings.settings(place, "127.0.0.1", 1).splitlines()
    found = dict(line.split(" ", 1) for line in lines)
    assert int(found["maxmemory"]) == settings.MEMORY and found["maxmemory-policy"] == "noeviction"
    assert 0 < int(found["timeout"]) <= 3600 and int(found["tcp-keepalive"]) > 0
    assert int(found["proto-max-bulk-len"]) < 64 * MIB


def test_connections_without_a_login_are_ended_and_told(
    broker: Broker, guard: Warden, told: list[Denial], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warden, "STRANGERS_SECONDS", 0)
    guard.look()
    strangers = [socket.create_connection(("127.0.0.1", broker.port)) for _ in range(warden.CROWD + 50)]
    known = client(broker, "server")
    known.ping()
    time.sleep(2.1)
    guard.look()
    try:
        assert all(each.recv(1) == b"" for each in strangers)
        assert known.connection_pool._available_connections and known.ping()
        assert [(each.who, each.count, each.source) for each in told if each.what == "connections"] == [
            ("default", len(strangers), "127.0.0.1")
        ]
    finally:
        for each in strangers:
            each.close()


def test_a_crowd_of_one_node_loses_those_that_it_uses_least() -> None:
    clients = [{"user": "node-a", "id": str(number), "idle": str(number), "age": "99"} for number in range(warden.EACH + 3)]
    clients += [{"user": "web", "id": "w", "idle": "0", "age": "99"}] * 300
    assert [each["id"] for each in warden.crowds(clients)] == [str(warden.EACH + 2 - number) for number in range(3)]


def test_what_the_broker_denies_is_told_once(broker: Broker, guard: Warden, told: list[Denial]) -> None:
    with pytest.raises(redis.exceptions.NoPermissionError):
        client(broker, "node-a").lpush("node.b", "forged")
    with pytest.raises(redis.exceptions.AuthenticationError):
        redis.Redis(port=broker.port, username="server", password="guessed").ping()
    guard.look()
    guard.look()
    by = {each.who: each for each in told}
    assert len(told) == 2 and set(by) == {"node-a", "server"}
    assert "node.b" in by["node-a"].what and by["node-a"].why == "no right: key"
    assert by["node-a"].source.startswith("127.0.0.1:") and by["server"].why == "no right: auth"


def test_a_warden_of_a_broker_that_is_away_raises_nothing(broker: Broker, guard: Warden, told: list[Denial]) -> None:
    guard.look()
    broker.kill()
    guard.look()
    guard.look()
    broker.start()
    with pytest.raises(redis.exceptions.NoPermissionError):
        client(broker, "web").lpush("node.b", "forged")
    guard.look()
    assert [each.who for each in told] == ["web"]
