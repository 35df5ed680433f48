"""What is told as it happens: the stream of changes, events, a read after one's own write, the read model made anew."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from tests.cloud import Cloud, cloud
from vmcloud.domain.vocabulary import Observed
from workers.drivers.simulated.outside import outside

pytestmark = pytest.mark.scenario


@pytest.fixture(scope="module")
def running() -> Iterator[Cloud]:
    with cloud() as made:
        made.image()
        yield made


class Stream:
    """A client of ``GET /watch`` that reads one event at a time."""

    def __init__(self, running: Cloud, query: str = "", **headers: str) -> None:
        token = (running.data / "secrets" / "admin-token").read_text().strip()
        self._connection = http.client.HTTPConnection(running.url.removeprefix("http://"), timeout=20)
        asked = {"Authorization": f"Bearer {token}", **{name.replace("_", "-"): value for name, value in headers.items()}}
        self._connection.request("GET", f"/api/v1/watch{query}", headers=asked)
        self.answer = self._connection.getresponse()
        self.number = ""

    def next(self) -> tuple[str, dict[str, Any]]:
        """Type and data of the next event; comments are passed over."""
        found: dict[str, str] = {}
        while line := self.answer.readline().decode().rstrip("\n"):
            name, _, value = line.partition(": ")
            if name:
                found[name] = value
        if "event" not in found:
            return self.next()
        self.number = found["id"]
        return found["event"], json.loads(found["data"])

    def until(self, **wanted: str) -> dict[str, Any]:
        """The next change that has these values."""
        while True:
            event, data = self.next()
            if event == "change" and all(data[name] == value for name, value in wanted.items()):
                return data

    def close(self) -> None:
        self._connection.close()


@contextmanager
def stream(running: Cloud, query: str = "", **headers: str) -> Iterator[Stream]:
    with closing(Stream(running, query, **headers)) as made:
        assert made.answer.status == 200 and made.answer.headers["Content-Type"].startswith("text/event-stream")
        yield made


def create(running: Cloud, name: str, **fields: Any) -> dict[str, Any]:
    asked = {"name": name, "image": "busybox", "kind": "simulated", "memory_mib": 64, **fields}
    job: dict[str, Any] = running.ask("POST", "/ves", asked)
    return job


def events(running: Cloud, query: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = running.ask("GET", f"/events?{query}")["items"]
    return found


def test_a_stream_tells_jobs_and_ves_as_they_change(running: Cloud) -> None:
    with stream(running) as following:
        assert following.next()[0] == "ready"
        job = create(running, "told")
        assert following.until(kind="job", key=str(job["id"]))["ve"] == job["ve"]
        assert following.until(kind="ve", key=job["ve"])["project"] == "main"
        running.wait(job)


def test_a_stream_can_be_narrowed_and_resumed(running: Cloud) -> None:
    first, second = (running.wait(create(running, name)) for name in ("narrow", "wide"))
    with stream(running, f"?kinds=ve,job&key={first['ve']}") as following:
        following.next()
        for job in (second, first):
            running.wait(running.ask("POST", f"/ves/{job['ve']}/stop"))
        assert following.next()[1]["ve"] == first["ve"]
        place = following.number
    running.wait(running.ask("POST", f"/ves/{first['ve']}/start"))
    for query, headers in ((f"?after={place}", {}), ("", {"Last_Event_ID": place})):
        with stream(running, query, **headers) as following:
            assert following.next()[0] == "ready"
            following.until(kind="ve", key=first["ve"])
    with stream(running, "?after=999999999") as following:
        assert following.next()[0] == "reset"


@pytest.mark.parametrize(
    ("query", "status", "word"),
    [("?kinds=vm", 400, "'vm'"), ("?after=soon", 400, "'soon'"), ("?since=1", 400, "'since'")],
)
def test_a_stream_that_cannot_be_is_refused_in_words(running: Cloud, query: str, status: int, word: str) -> None:
    answer = running.api("GET", f"/watch{query}")
    assert answer.status == status and word in answer.body["what"] and answer.body["todo"]


def test_a_stream_needs_somebody_who_is_known(running: Cloud) -> None:
    assert running.api("GET", "/watch", Authorization="Bearer vmc_nobody").status == 401
    assert running.api("POST", "/watch", {}).status == 405


def test_a_killed_guest_is_an_event_and_a_stopped_one_is_its_jobs(running: Cloud) -> None:
    ve = running.wait(create(running, "killed", restart="never"))["ve"]
    running.wait(running.ask("POST", f"/ves/{ve}/restart"))
    assert events(running, f"ve={ve}") == []
    kill(running, "killed")
    told = running.until(lambda: events(running, f"ve={ve}&type=state"), 30, "the event")
    assert told[0]["text"].startswith("crashed on node") and "before running" in told[0]["text"]
    assert told[0]["ve_name"] == "killed" and told[0]["job"] is None
    lines = json.loads(running.run("ve", "events", "killed", "-o", "json").stdout)
    assert {"job", "state"} <= {each["type"] for each in lines}


def kill(running: Cloud, name: str) -> None:
    """End a simulated guest behind the cloud's back, as its node's disk tells it."""
    found = [(native, node) for native, (node, _) in running.simulated_guests().items() if native.startswith(f"{name}-")]
    for native, node in found:
        outside(running.simulated_file(node), native, Observed.CRASHED)


def test_a_node_that_falls_silent_is_an_event(running: Cloud) -> None:
    with running.frozen("worker"):
        told = running.until(lambda: events(running, "type=node"), 30, "the node to be down")
        assert {each["node"] for each in told} <= set(running.node_names()) and "is down" in told[0]["text"]
    running.until(lambda: any("heard again" in each["text"] for each in events(running, "type=node")), 30, "the node to be back")
    running.nodes_up()


def test_a_read_after_ones_own_write_shows_it(running: Cloud) -> None:
    for number in range(5):
        job = create(running, f"own-{number}")
        assert job["directory_version"]
        after = job["directory_version"].replace("#", "%23")
        assert running.ask("GET", f"/ves/own-{number}?after={after}")["job"] == job["id"]
        assert f"own-{number}" in {each["name"] for each in running.ask("GET", f"/ves?limit=1000&after={after}")["items"]}
    began = time.monotonic()
    assert running.api("GET", "/ves?after=30000101000000.000000Z%23000000%23000%23000000").status == 200
    assert 0.4 < time.monotonic() - began < 5
    assert running.api("GET", "/ves?after=yesterday").status == 400


def test_the_read_model_is_made_anew(running: Cloud) -> None:
    ve = running.wait(create(running, "anew"))["ve"]
    running.sql("UPDATE fleet_ve SET vcpus = 77, owner = 'mallory' WHERE name = 'anew'")
    running.sql("INSERT INTO fleet_image (name, kind, sha256, size, description) VALUES ('ghost', 'lxc', ?, 1, '')", "0" * 64)
    assert running.ask("GET", "/ves/anew")["owner"] == "mallory"
    said = running.run("directory", "rebuild").stdout
    assert said.startswith("rebuilt in ") and " VEs" in said
    assert running.ask("GET", "/ves/anew")["owner"] == "admin"
    assert running.api("GET", "/images/ghost").status == 404
    running.wait(running.ask("DELETE", f"/ves/{ve}"))


def test_without_a_server_nothing_is_made_anew_and_it_says_so(running: Cloud) -> None:
    with running.frozen("server"):
        told = [running.run("directory", "rebuild", "--timeout", "2s", check=False) for _ in range(2)]
    assert [each.returncode for each in told] == [1, 1]
    # The first one may still find the lease held, takes it away, and waits in vain.
    assert "not done after 2 s" in told[0].stderr or "no server leads" in told[0].stderr
    assert "no server leads" in told[1].stderr
