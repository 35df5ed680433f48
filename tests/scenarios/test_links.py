"""What connections do to a cloud whose parts are all well: answers that are lost, half-open lines, a node that is cut off."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.campaign.client import Client
from benchmarks.campaign.world import World, world
from vmcloud.domain.vocabulary import Observed
from workers.drivers import simulated

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(150)]
ANSWERED = 8.0
"""Seconds within which every request is answered, whatever hangs."""


@pytest.fixture(scope="module")
def running() -> Iterator[World]:
    with world(workers=("sim-a",), second=False) as made:
        yield made


@pytest.fixture
def person(running: World) -> Iterator[Client]:
    yield running.client()
    running.proxy.mend()


def ended(running: World, person: Client, job: dict[str, Any], seconds: float = 40.0) -> dict[str, Any]:
    running.until(lambda: person.ask("GET", f"/jobs/{job['id']}")["state"] == "C", seconds, f"job {job['id']} to end")
    found: dict[str, Any] = person.ask("GET", f"/jobs/{job['id']}")
    assert found["outcome"] == "ok", found
    return found


def make(running: World, person: Client, name: str) -> dict[str, Any]:
    ended(running, person, person.ask("POST", "/ves", {"name": name, "image": "busybox", "kind": "simulated"}))
    shown: dict[str, Any] = person.ask("GET", f"/ves/{name}")
    return shown


def effects(running: World, name: str) -> dict[str, int]:
    counted: dict[str, int] = {}
    for home in running.homes().values():
        for (native, operation), times in simulated.effects(home / "simulated.sqlite3").items():
            if native.startswith(f"{name}-"):
                counted[operation] = counted.get(operation, 0) + times
    return counted


def in_time(person: Client, method: str, path: str, body: Any = None) -> Any:
    began = time.monotonic()
    answer = person.send(method, path, body, patience=60.0)
    took = time.monotonic() - began
    assert answer.status and took < ANSWERED, f"{method} {path} took {took:.1f} s: {answer}"
    return answer


def reason(running: World, person: Client, job: dict[str, Any], words: str) -> None:
    def so() -> bool:
        found = person.ask("GET", f"/jobs/{job['id']}")
        assert found["state"] != "C", found
        return words in found["reason"]

    running.until(so, 20, f"job {job['id']} to say {words!r}")


def test_an_order_whose_sending_failed_and_which_arrived_is_carried_out_once(running: World, person: Client) -> None:
    """The broker has it, the server was told nothing, sends it again, and again."""
    make(running, person, "p")
    before = effects(running, "p")
    link = running.proxy.links["centre-broker"]
    job = person.ask("POST", "/ves/p/stop", {"job": {"hold": True}})
    link.deaf = True
    person.ask("POST", f"/jobs/{job['id']}/release", {})
    running.until(lambda: effects(running, "p").get("stop", 0) > before.get("stop", 0), 30, "the node to have stopped it")
    assert person.ask("GET", f"/jobs/{job['id']}")["state"] != "C", "nobody knows yet"
    link.deaf, link.tear_after = False, 0
    full = ended(running, person, job)
    assert full["steps"][0]["attempt"] == 1
    assert effects(running, "p")["stop"] == before.get("stop", 0) + 1
    assert person.ask("GET", "/ves/p")["observed"] == "stopped"


def test_a_broker_that_hangs_hangs_no_request_and_fails_no_job(running: World, person: Client) -> None:
    make(running, person, "b")
    running.proxy.links["centre-broker"].silent = True
    answer = in_time(person, "POST", "/ves/b/stop", {})
    assert answer.status == 202
    for path in ("/jobs", "/ves/b", "/nodes", f"/jobs/{answer.body['id']}"):
        assert in_time(person, "GET", path).status == 200
    reason(running, person, answer.body, "broker")
    running.proxy.mend()
    ended(running, person, answer.body)


def test_a_directory_that_hangs_hangs_no_request_and_fails_no_job(running: World, person: Client) -> None:
    """What is not known is said to be so: a create's name may have been claimed, and asking again under its key settles it."""
    make(running, person, "d")
    running.proxy.links["centre-directory"].silent = True
    answer = in_time(person, "POST", "/ves/d/stop", {})
    assert answer.status == 202
    for path in ("/jobs", "/ves/d", "/nodes"):
        assert in_time(person, "GET", path).status == 200
    create = {"name": "d2", "image": "busybox", "kind": "simulated"}
    began = time.monotonic()
    refused = person.send("POST", "/ves", create, key="d2", patience=60.0)
    assert refused.status == 503 and time.monotonic() - began < 2 * ANSWERED, refused
    reason(running, person, answer.body, "directory")
    running.proxy.mend()
    ended(running, person, answer.body)

    def settled() -> bool:
        again = person.send("POST", "/ves", create, key="d2")
        return again.status in (200, 202) and bool(ended(running, person, again.body))

    running.until(settled, 40, "the create to be taken")
    jobs = person.ask("GET", "/jobs?ve=d2")["items"]
    assert len(jobs) == 1, "one request, however often it was sent"


def test_a_node_that_is_cut_off_keeps_its_guests_and_says_later_what_happened(running: World, person: Client) -> None:
    shown = make(running, person, "n")
    running.cut("sim-a-broker", off=True)
    try:
        job = person.ask("POST", "/ves/n/restart", {})
        native = f"n-{shown['id'][:8]}"
        simulated.outside(running.homes()[shown["node"]] / "simulated.sqlite3", native, Observed.CRASHED)
        running.until(lambda: person.ask("GET", "/ves/n")["status"] == "unknown", 30, "the node to count as down")
        reason(running, person, job, "is down")
    finally:
        running.cut("sim-a-broker", off=False)
    ended(running, person, job)
    running.until(lambda: person.ask("GET", "/ves/n")["status"] == "running", 30, "it to run again")
