"""Root's part at the broker: tells what was denied there, and keeps each list and each user's connections in bounds.

Redis bounds its memory as a whole, not what one user fills of it, and knows no limit of connections for one user or for those
that have not said who they are. So the supervisor looks every few seconds (two small questions where all is well). What is
dropped is the oldest: of what waits for too long the server and the nodes say the newest again by themselves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from vmcloud.dispatch.acl import SUPERVISOR
from vmcloud.domain.denials import Denial

from .resp import Connection, Refused

EVERY = 5.0
"""Seconds between looks."""
SPARE = 4
"""Lists are looked at once this part (a fourth) of the broker's memory is used, ..."""
SHARE = 16
"""... and one may have this part of it (a sixteenth), of which the newer half is kept."""
CROWD = 200
"""Connections at which it is looked whose they are."""
EACH = 256
"""Connections that one node may have; those idle for longest go."""
STRANGERS_SECONDS = 10
"""How long a connection may be without having logged in, once there is a crowd."""

Tell = Callable[[Denial], None]


class Warden:
    """One broker's. :meth:`look` never raises: it is called by a supervisor."""

    def __init__(self, host: str, port: int, password: str, tell: Tell) -> None:
        self._place, self._password, self._tell = (host, port), password, tell
        self._connection: Connection | None = None
        self.dead: dict[str, int] = {}
        """How many messages each consumer has set aside, as seen last."""

    def look(self) -> None:
        """Once, on the connection of the last time: a broker that is full of connections takes no new one."""
        try:
            if self._connection is None:
                self._connection = Connection(*self._place, SUPERVISOR, self._password)
            self._look(self._connection)
        except (OSError, ValueError, IndexError, KeyError, TypeError, Refused):
            # It is away, or starts; its readiness is others' business. A look is repeated anyway.
            self.close()

    def close(self) -> None:
        """Hang up."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _look(self, broker: Connection) -> None:
        # In one transaction: nothing is denied between the two that nobody would read.
        *_, (entries, _), text = broker.ask(
            ("MULTI",), ("ACL", "LOG", "128"), ("ACL", "LOG", "RESET"), ("EXEC",), ("INFO", "memory", "clients")
        )
        for denial in map(refusal, entries):
            self._tell(denial)
        numbers = info(text)
        if numbers["maxmemory"] and numbers["used_memory"] * SPARE > numbers["maxmemory"]:
            self._bound_lists(broker, numbers["maxmemory"] // SHARE)
        if numbers["connected_clients"] > CROWD:
            self._bound_connections(broker)
        keys = list(_scan(broker, "dead.*"))
        self.dead = dict(zip(keys, broker.ask(*(("LLEN", key) for key in keys)), strict=True)) if keys else {}

    def _bound_lists(self, broker: Connection, share: int) -> None:
        for key in _scan(broker, "*"):
            (size,) = broker.ask(("MEMORY", "USAGE", key))
            if size is None or size <= share:
                continue
            who = key.partition(".")[2]
            (kind,) = broker.ask(("TYPE", key))
            if kind == "list":
                (length,) = broker.ask(("LLEN", key))
                keep = length * share // (2 * size)
                # Pushed on the left and taken from the right: the newest are the first.
                broker.ask(("LTRIM", key, "0", str(keep - 1)) if keep else ("DEL", key))
                what = f"{length - keep} messages on {key}"
            else:
                broker.ask(("DEL", key))
                what = f"what it keeps in {key}"
            why = f"dropped, the oldest first: {size >> 20} MiB are more than its share of {share >> 20}"
            self._tell(Denial("broker", who, what, why))

    def _bound_connections(self, broker: Connection) -> None:
        (text,) = broker.ask(("CLIENT", "LIST"))
        found = [dict(field.split("=", 1) for field in line.split() if "=" in field) for line in text.splitlines()]
        surplus = [*strangers(found), *crowds(found)]
        for start in range(0, len(surplus), 500):
            broker.ask(*(("CLIENT", "KILL", "ID", each["id"]) for each in surplus[start : start + 500]))
        for (who, source), count in Counter((each["user"], each["addr"].rpartition(":")[0]) for each in surplus).items():
            why = "too many of one user" if who.startswith("node-") else "nobody logged in"
            self._tell(Denial("broker", who, "connections", why, source, count))


def refusal(entry: list[Any]) -> Denial:
    """An entry of ``ACL LOG``: names and values in turn."""
    values = dict(zip(entry[::2], entry[1::2], strict=True))
    client = dict(field.split("=", 1) for field in str(values.get("client-info", "")).split() if "=" in field)
    what = str(values.get("object", "")) or str(values.get("context", ""))
    return Denial(
        door="broker",
        who=str(values.get("username", ""))[:300],
        what=f"{client.get('cmd', '')} {what}".strip()[:300],
        why=f"no right: {values.get('reason', '')}",
        source=client.get("addr", ""),
        count=int(values.get("count", 1)),
    )


def info(text: str) -> dict[str, int]:
    """The whole numbers in an answer to INFO."""
    pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line)
    return {name: int(value) for name, value in pairs if value.isdigit()}


def strangers(clients: list[dict[str, str]]) -> list[dict[str, str]]:
    """Connections that have not logged in for long. As nobody can log in as the default user, who is it has not."""
    return [each for each in clients if each["user"] == "default" and int(each["age"]) > STRANGERS_SECONDS]


def crowds(clients: list[dict[str, str]]) -> list[dict[str, str]]:
    """Connections of nodes beyond what each may have."""
    found: list[dict[str, str]] = []
    for user, count in Counter(each["user"] for each in clients).items():
        if user.startswith("node-") and count > EACH:
            own = [each for each in clients if each["user"] == user]
            found += sorted(own, key=lambda each: int(each["idle"]), reverse=True)[: count - EACH]
    return found


def _scan(broker: Connection, pattern: str) -> Iterator[str]:
    cursor = "0"
    while True:
        ((cursor, keys),) = broker.ask(("SCAN", cursor, "MATCH", pattern, "COUNT", "1000"))
        yield from keys
        if cursor == "0":
            return
