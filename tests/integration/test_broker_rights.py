"""A node that is taken over can not command another: what each broker user may not do, tried on a real broker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.broker import Broker
from vmcloud.dispatch.acl import acl_file, rules

pytestmark = pytest.mark.integration

IDENTITIES = ("server", "monitor", "web", "supervisor", "node-a", "node-b")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    made = Broker(Path(tmp_path_factory.mktemp("broker")), {identity: f"pw-{identity}" for identity in IDENTITIES})
    made.start()
    yield made
    made.kill()


def client(broker: Broker, identity: str) -> redis.Redis:
    return redis.Redis(port=broker.port, username=identity, password=f"pw-{identity}", socket_timeout=5)


FORGED = json.dumps({"body": "e30=", "headers": {}, "properties": {}})
DENIED: list[tuple[str, tuple[str | int, ...]]] = [
    *(
        ("node-a", command)
        for command in (
            ("LPUSH", "node.b", FORGED),
            ("BRPOP", "node.b", 1),
            ("LRANGE", "node.a", 0, -1),
            ("LPUSH", "monitor.b", FORGED),
            ("LPUSH", "server.b", FORGED),
            ("LPUSH", "server", FORGED),
            ("LPUSH", "monitor", FORGED),
            ("BRPOP", "monitor.a", 1),
            ("BRPOP", "server.a", 1),
            ("HSET", "unacked.node-b", "tag", FORGED),
            ("ZADD", "unacked_index.node-b", 0, "tag"),
            ("HGET", "unacked.server", "tag"),
            ("EVAL", "return 1", 0),
            ("SCRIPT", "LOAD", "return 1"),
            ("KEYS", "*"),
            ("SCAN", 0),
            ("FLUSHALL",),
            ("CONFIG", "GET", "*"),
            ("ACL", "LIST"),
            ("ACL", "SETUSER", "node-a", "+@all"),
            ("CLIENT", "LIST"),
            ("PUBLISH", "x", "y"),
            ("SUBSCRIBE", "x"),
            ("RENAME", "node.a", "node.b"),
            ("LMOVE", "node.a", "node.b", "LEFT", "LEFT"),
            ("SORT", "node.a", "STORE", "node.b"),
            ("MONITOR",),
            ("INFO",),
            ("SHUTDOWN",),
        )
    ),
    ("web", ("LPUSH", "node.a", FORGED)),
    ("web", ("LPUSH", "monitor.a", FORGED)),
    ("web", ("BRPOP", "server", 1)),
    ("monitor", ("LPUSH", "node.a", FORGED)),
    ("monitor", ("LPUSH", "server.a", FORGED)),
    ("monitor", ("BRPOP", "server.a", 1)),
    ("server", ("BRPOP", "node.a", 1)),
    ("server", ("LPUSH", "monitor.a", FORGED)),
    ("server", ("ACL", "SETUSER", "server", "+@all", "allkeys")),
    ("server", ("ACL", "SETUSER", "node-c", "on", ">x")),
    ("server", ("ACL", "DELUSER", "monitor")),
    ("server", ("ACL", "SAVE")),
    ("server", ("ACL", "LOG")),
    ("monitor", ("LPUSH", "dead.node-a", FORGED)),
    ("supervisor", ("LPUSH", "node.a", FORGED)),
    ("supervisor", ("ACL", "SETUSER", "server", "+@all")),
    ("supervisor", ("BRPOP", "node.a", 1)),
    ("server", ("FLUSHALL",)),
    ("server", ("CONFIG", "SET", "dir", "/")),
]


@pytest.mark.parametrize(
    ("identity", "command"), DENIED, ids=lambda value: value if isinstance(value, str) else " ".join(map(str, value))[:40]
)
def test_denied(broker: Broker, identity: str, command: tuple[str | int, ...]) -> None:
    with pytest.raises(redis.exceptions.NoPermissionError):
        client(broker, identity).execute_command(*command)


def test_allowed_is_what_each_part_does(broker: Broker) -> None:
    client(broker, "server").lpush("node.a", "x")
    assert client(broker, "node-a").brpop("node.a", 1)
    for name in ("monitor.a", "server.a"):
        client(broker, "node-a").lpush(name, "x")
    assert client(broker, "server").llen("monitor.a") == 1
    assert client(broker, "monitor").brpop("monitor.a", 1) and client(broker, "server").brpop("server.a", 1)
    client(broker, "web").lpush("server", "x")
    assert client(broker, "server").brpop("server", 1)


def test_nobody_gets_in_without_a_password(broker: Broker) -> None:
    with pytest.raises(redis.exceptions.AuthenticationError):
        redis.Redis(port=broker.port).ping()
    for identity, password in (("default", ""), ("node-a", "wrong"), ("nobody", "x")):
        with pytest.raises(redis.exceptions.AuthenticationError):
            redis.Redis(port=broker.port, username=identity, password=password).ping()


def test_transactions_survive_a_restart_of_the_broker(broker: Broker) -> None:
    """kombu writes in transactions; the append-only file must give them back."""
    with client(broker, "node-a").pipeline(transaction=True) as pipe:
        pipe.hset("unacked.node-a", "tag", "kept").zadd("unacked_index.node-a", {"tag": 1})
        pipe.execute()
    broker.kill()
    broker.start()
    assert client(broker, "node-a").hget("unacked.node-a", "tag") == b"kept"


def test_passwords_are_not_in_the_file_and_strangers_have_no_rules() -> None:
    assert "secret" not in acl_file({"web": "secret"})
    with pytest.raises(ValueError, match="no broker user"):
        rules("admin")
