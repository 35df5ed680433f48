"""The checker of the fault campaigns looks at a real cloud, and sees what is done to it behind its back: nothing is clean because
nobody looked."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import pytest
import redis

from benchmarks.campaign import drive
from benchmarks.campaign.world import World, world
from benchmarks.checker import look, rules
from benchmarks.checker.facts import Request
from benchmarks.checker.machine import GROUPS

pytestmark = [pytest.mark.scenario, pytest.mark.slow, pytest.mark.timeout(150)]


@pytest.fixture(scope="module")
def running() -> Iterator[World]:
    with world(workers=("sim-a", "lxc-1"), second=False, database="") as made:
        person = made.client()
        for name, kind in (("v", "simulated"), ("c", "lxc"), ("gone", "simulated")):
            job = person.ask("POST", "/ves", {"name": name, "kind": kind, "image": "busybox", "memory_mib": 64})
            made.until(lambda job=job: person.ask("GET", f"/jobs/{job['id']}")["state"] == "C", 30, f"{name} to be made")
        job = person.ask("DELETE", "/ves/gone")
        made.until(lambda: person.ask("GET", f"/jobs/{job['id']}")["state"] == "C", 30, "one to be deleted")
        yield made


def found(running: World) -> list[str]:
    return rules.violations(look.look(drive.places(running), [Request("", "create", "v", "unknown")]))


def home(running: World, node: str) -> Path:
    return running.homes()[node]


@contextmanager
def message(running: World) -> Iterator[None]:
    with redis.Redis.from_url(running.broker_url) as broker:
        broker.lpush("node.ghost", "for nobody")
        yield
        broker.delete("node.ghost")


@contextmanager
def second_end(running: World) -> Iterator[None]:
    with closing(sqlite3.connect(running.data("centre") / "sql" / "vmcloud.sqlite3", timeout=20)) as sql:
        with sql:
            sql.execute("INSERT INTO fleet_jobevent (job_id, at, text) SELECT max(id), 1.0, 'complete: ok' FROM fleet_job")
        yield
        with sql:
            sql.execute("DELETE FROM fleet_jobevent WHERE at = 1.0")


@contextmanager
def open_step(running: World) -> Iterator[None]:
    """In the journal of the node with the container."""
    with closing(sqlite3.connect(home(running, "lxc-1") / "journal.sqlite3", timeout=20)) as journal:
        with journal:
            journal.execute("UPDATE steps SET state = 'accepted'")
        yield
        with journal:
            journal.execute("UPDATE steps SET state = 'done'")


@contextmanager
def half_made(running: World) -> Iterator[None]:
    with closing(sqlite3.connect(home(running, "sim-a-007") / "simulated.sqlite3", timeout=20)) as store:
        with store:
            store.execute(
                "INSERT INTO guests (native, state, since, vcpus, memory_mib, address, mac, whole) "
                "VALUES ('ghost-12345678', 'stopped', 1.0, 1, 64, '[]', '', 0)"
            )
        yield
        with store:
            store.execute("DELETE FROM guests WHERE native = 'ghost-12345678'")


@contextmanager
def frozen(running: World) -> Iterator[None]:
    """The container, by LXC's own tool."""
    path = home(running, "lxc-1") / "lxc"
    [native] = [each.name for each in path.glob("c-????????")]
    subprocess.run(["lxc-freeze", "-P", str(path), "-n", native], check=True, timeout=20)
    yield
    subprocess.run(["lxc-unfreeze", "-P", str(path), "-n", native], check=True, timeout=20)


@contextmanager
def trash(running: World) -> Iterator[None]:
    path = home(running, "lxc-1") / "lxc" / ".trash" / "left"
    path.mkdir(parents=True)
    yield
    path.rmdir()


@contextmanager
def process(running: World) -> Iterator[None]:
    environment = {**os.environ, "VMCLOUD_DATA": str(running.data("lxc-1"))}
    left = subprocess.Popen(["sleep", "60"], env=environment, stdout=subprocess.DEVNULL)
    yield
    left.kill()
    left.wait()


@contextmanager
def group(running: World) -> Iterator[None]:
    tops = [GROUPS / "freezer", GROUPS]
    path = next(top for top in tops if (top / "cgroup.procs").exists()) / "lxc.payload.ghost-12345678"
    path.mkdir()
    yield
    path.rmdir()


SEEDED: list[tuple[Callable[[World], AbstractContextManager[None]], str]] = [
    (message, "node.ghost has 1 items"),
    (second_end, "ended 2 times"),
    (open_step, "the journal of lxc-1 has step"),
    (half_made, "ghost-12345678 on sim-a-007 is half made"),
    (frozen, "suspended"),
    (trash, "folder "),
    (process, "sleep 60"),
    (group, "control group lxc.payload.ghost-12345678"),
]


@pytest.mark.parametrize(("seeded", "words"), SEEDED, ids=[seeded.__name__ for seeded, _ in SEEDED])
def test_the_checker_sees_it(running: World, seeded: Callable[[World], AbstractContextManager[None]], words: str) -> None:
    settled(running)
    with seeded(running):
        violations = found(running)
    assert any(words in each for each in violations), violations


def settled(running: World) -> None:
    """Wait until nothing is wrong."""
    deadline = time.monotonic() + 40
    while (violations := found(running)) and time.monotonic() < deadline:
        time.sleep(0.3)
    assert not violations
