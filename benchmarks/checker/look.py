"""Finds the facts: reads SQL, directory, broker, journals, the files of simulated guests, and the real ones by LXC's own tools,
the kernel's files and nothing else."""

from __future__ import annotations

import json
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import UUID

import ldap
import ldap.sasl
import psycopg
import redis
from psycopg.rows import dict_row

from . import machine
from .facts import Accepted, Entry, Facts, Guest, Job, Known, Request, Shown, Step, Told

SUFFIX = "dc=vmcloud,dc=internal"
Ask = Callable[[str], list[dict[str, Any]]]
PAGE = 10.0
"""Seconds that one question may take."""


@dataclass(frozen=True)
class Places:
    """Where to look. ``sql``: the job database's URL; ``ldapi``: the directory's socket; ``nodes``: each one's own folder;
    ``data``: all data directories; ``supervisors``: the processes below which all others should be."""

    sql: str
    ldapi: str
    broker: str
    nodes: Mapping[str, str]
    data: tuple[str, ...]
    supervisors: tuple[int, ...]


def look(places: Places, requests: Iterable[Request] = ()) -> Facts:
    """All of it."""
    found: dict[str, Any] = {"requests": tuple(requests)}
    with _database(places.sql) as ask:
        found |= _sql(ask)
    found |= _directory(places.ldapi)
    found["lists"] = _lists(places.broker)
    guests: list[Guest] = []
    told: list[Told] = []
    known: list[Known] = []
    outbox: dict[str, int] = {}
    effects: dict[tuple[str, str, str], int] = {}
    for node, home in places.nodes.items():
        with closing(_open(f"{home}/journal.sqlite3")) as journal:
            told += _told(node, journal)
            known += _known(node, journal)
            outbox[node] = journal.execute("SELECT count(*) FROM outbox").fetchone()[0]
        if Path(home, "simulated.sqlite3").exists():
            with closing(_open(f"{home}/simulated.sqlite3")) as store:
                guests += _simulated(node, store)
                rows = store.execute("SELECT native, operation, times FROM effects")
                effects |= {(node, native, operation): times for native, operation, times in rows}
        else:
            guests += machine.containers(node, home)
    return Facts(
        guests=tuple(guests),
        told=tuple(told),
        known=tuple(known),
        outbox=outbox,
        effects=effects,
        left=tuple(machine.left(places.nodes, guests, places.data, places.supervisors)),
        **found,
    )


def _open(path: str) -> sqlite3.Connection:
    """A database to be read only."""
    made = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=PAGE)
    made.row_factory = sqlite3.Row
    return made


# ------------------------------------------------------------------------------------------------------------------------ SQL


@contextmanager
def _database(url: str) -> Iterator[Ask]:
    """The job database, SQLite's or PostgreSQL's: a function from a statement to its rows."""
    if url.startswith("sqlite:"):
        with closing(_open("/" + urlsplit(url).path.lstrip("/"))) as file:
            yield lambda statement: [dict(row) for row in file.execute(statement)]
        return
    with psycopg.connect(url, autocommit=True, row_factory=dict_row, connect_timeout=3) as connection:
        yield lambda statement: connection.execute(statement.encode()).fetchall()


def _json(value: Any) -> Any:
    """SQLite keeps JSON as text."""
    return json.loads(value) if isinstance(value, str) else value


def _sql(ask: Ask) -> dict[str, Any]:
    told = ask("SELECT job_id, text FROM fleet_jobevent")
    ends = Counter(row["job_id"] for row in told if row["text"].startswith("complete:"))
    jobs = [
        Job(
            id=row["id"],
            verb=row["verb"],
            ve=_uuid(row["ve"]),
            name=row["ve_name"],
            state=row["state"],
            outcome=row["outcome"],
            key=row["key"],
            origin=row["origin"],
            node=row["node"],
            started=row["started_at"],
            ended=row["ended_at"],
            ends=ends[row["id"]],
            tries=row["tries"],
            size=row["size"],
            array=row["array"],
            index=row["index"],
            error=(_json(row["error"]) or {}).get("code", ""),
            result=_json(row["result"]) or {},
            args=_json(row["args"]) or {},
        )
        for row in ask("SELECT * FROM fleet_job ORDER BY id")
    ]
    steps = [
        Step(
            row["job_id"],
            row["number"],
            row["node"],
            row["lane"],
            row["state"],
            row["outcome"],
            row["attempt"],
            row["accepted_at"] or row["sent_at"],
            row["ended_at"],
        )
        for row in ask("SELECT * FROM fleet_step ORDER BY job_id, number")
    ]
    shown = [
        Shown(
            _uuid(row["uuid"]),
            row["name"],
            row["node"],
            row["desired"],
            row["observed_state"],
            row["memory_mib"],
            row["generation"],
            frozenset(each["name"] for each in _json(row["snapshots"])),
        )
        for row in ask("SELECT * FROM fleet_ve")
    ]
    accepted = [
        Accepted(
            _uuid(row["ve"]),
            row["generation"],
            _json(row["wish"])["desired"],
            _json(row["writing"]) is not None,
        )
        for row in ask("SELECT * FROM fleet_accepted")
    ]
    leaders = [row["holder"] for row in ask("SELECT holder, expires FROM fleet_lease") if row["expires"] > time.time()]
    findings = ask("SELECT ve, reason FROM fleet_finding WHERE ve IS NOT NULL")
    return {
        "jobs": tuple(jobs),
        "steps": tuple(steps),
        "shown": tuple(shown),
        "accepted": tuple(accepted),
        "leaders": tuple(filter(None, leaders)),
        "findings": {_uuid(row["ve"]): row["reason"] for row in findings},
        "budgets": frozenset(_uuid(row["ve"]) for row in ask("SELECT ve FROM fleet_budget")),
        "misses": frozenset(_uuid(row["ve"]) for row in ask("SELECT ve FROM fleet_misses WHERE count > 0")),
    }


def _uuid(value: Any) -> str:
    """SQLite keeps a UUID without hyphens; every other place has them."""
    return str(UUID(str(value))) if value else ""


# ------------------------------------------------------------------------------------------------------------------ directory


def _directory(socket: str) -> dict[str, Any]:
    connection = ldap.initialize(f"ldapi://{quote(socket, safe='')}")
    connection.set_option(ldap.OPT_NETWORK_TIMEOUT, PAGE)
    connection.set_option(ldap.OPT_TIMEOUT, PAGE)
    connection.sasl_interactive_bind_s("", ldap.sasl.external())
    try:
        ves = connection.search_s(f"ou=ves,{SUFFIX}", ldap.SCOPE_SUBTREE, "(objectClass=vmcVE)")
        tombstones = connection.search_s(f"ou=tombstones,{SUFFIX}", ldap.SCOPE_SUBTREE, "(objectClass=vmcTombstone)")
        strays = connection.search_s(f"ou=nodes,{SUFFIX}", ldap.SCOPE_SUBTREE, "(objectClass=vmcStray)")
    finally:
        connection.unbind_s()
    return {
        "entries": tuple(
            _entry({name: [each.decode() for each in values] for name, values in entry.items()}) for _, entry in ves
        ),
        "tombstones": frozenset(entry["cn"][0].decode().lower() for _, entry in tombstones),
        "strays": tuple(name for name, _ in strays),
    }


def _entry(entry: Mapping[str, list[str]]) -> Entry:
    def one(name: str, default: str = "") -> str:
        return entry.get(name, [default])[0]

    return Entry(
        ve=one("vmcUUID").lower(),
        name=one("cn"),
        node=one("vmcNodeName"),
        desired=one("vmcDesiredState"),
        observed=one("vmcObservedState"),
        observed_node=one("vmcObservedNode"),
        memory=int(one("vmcMemoryMiB", "128")),
        observed_memory=int(one("vmcObservedMemoryMiB", "0")),
        generation=int(one("vmcGeneration", "0")),
        job=int(one("vmcJob", "0")),
        snapshots=frozenset(each.split()[0] for each in entry.get("vmcSnapshot", [])),
    )


# --------------------------------------------------------------------------------------------------------------- broker, nodes


def _lists(url: str) -> dict[str, int]:
    """Every key of the broker with its length."""
    with redis.Redis.from_url(url, socket_timeout=PAGE, decode_responses=True) as broker:
        lengths = {"list": broker.llen, "hash": broker.hlen, "zset": broker.zcard, "set": broker.scard}
        return {key: int(lengths.get(broker.type(key), lambda _: 1)(key)) for key in broker.scan_iter()}


def _told(node: str, journal: sqlite3.Connection) -> Iterator[Told]:
    for row in journal.execute("SELECT * FROM steps"):
        order, result = json.loads(row["order"] or "{}"), json.loads(row["result"] or "{}")
        verb, outcome = str(order.get("verb", "")), str(result.get("outcome", ""))
        yield Told(node, row["job"], row["step"], row["attempt"], row["state"], outcome, row["starts"], verb)


def _known(node: str, journal: sqlite3.Connection) -> Iterator[Known]:
    for row in journal.execute("SELECT * FROM ves"):
        yield Known(node, row["ve"], row["native"], row["presence"], row["address"])


def _simulated(node: str, store: sqlite3.Connection) -> Iterator[Guest]:
    kept: dict[str, set[str]] = {}
    for native, name in store.execute("SELECT native, name FROM snapshots"):
        kept.setdefault(native, set()).add(name)
    for row in store.execute("SELECT * FROM guests"):
        native = row["native"]
        yield Guest(node, native, row["state"], row["memory_mib"], frozenset(kept.get(native, ())), bool(row["whole"]))


class LeaderWatch:
    """How long nobody led, at the longest: the lease had run out, or nobody had taken it."""

    def __init__(self, url: str) -> None:
        self._url, self.longest, self._since = url, 0.0, 0.0

    def look(self) -> None:
        """Call it often."""
        now = time.time()
        try:
            with _database(self._url) as ask:
                leases = ask("SELECT holder, expires FROM fleet_lease")
        except (sqlite3.Error, psycopg.Error):
            return
        if any(row["holder"] and row["expires"] > now for row in leases):
            self._since = 0.0
            return
        self._since = self._since or now
        self.longest = max(self.longest, now - self._since)
