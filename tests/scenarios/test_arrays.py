"""Arrays on real parts: many VEs by one request, so many at once and never more, through a kill of the server."""

from __future__ import annotations

import signal
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from tests.cloud import Cloud, cloud
from vmcloud.config import Config
from workers.drivers.simulated.outside import effects, plan_fault

pytestmark = pytest.mark.scenario
MANY, SLOTS = 100, 5
VE = {"image": "busybox", "kind": "simulated", "memory_mib": 32}


@pytest.fixture(scope="module")
def running() -> Iterator[Cloud]:
    with cloud(simulate=4, node="simulate_delay = 0.01", intervals={"claim": 20.0}) as made:
        made.image()
        yield made


def array(running: Cloud, ref: str) -> dict[str, Any]:
    found: dict[str, Any] = running.ask("GET", f"/jobs/{ref}%5B%5D")
    return found


def parts(running: Cloud, ref: str, **more: str) -> list[dict[str, Any]]:
    query = "".join(f"&{name}={value}" for name, value in more.items())
    return list(reversed(running.ask("GET", f"/jobs?array={ref}&limit=1000{query}")["items"]))


def most_at_once(running: Cloud, jobs: set[int]) -> int:
    """Of these jobs, as the nodes' journals know them: how many were on a node at the same time."""
    moments: list[tuple[float, int]] = []
    for node in running.node_names():
        path = Config.load(running.data).node_home(node) / "journal.sqlite3"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as journal:
            for job, accepted, done in journal.execute("SELECT job, accepted, done FROM steps"):
                if job in jobs:
                    moments += [(accepted, 1), (done, -1)]
    level = highest = 0
    for _, change in sorted(moments):
        level += change
        highest = max(highest, level)
    return highest


def test_a_hundred_creations_five_at_a_time_through_a_kill_of_the_server(running: Cloud) -> None:
    made = running.run(
        "ve", "create", "web-%i", "-i", "busybox", "-k", "simulated", "-m", "32", "--array", f"0-{MANY - 1}%{SLOTS}"
    )
    ref = made.stdout.strip()
    assert ref.endswith("[]"), made
    number = ref.removesuffix("[]")
    running.until(lambda: array(running, number)["array"]["outcomes"].get("ok", 0) >= MANY // 4, 60, "a quarter to end")
    running.signal("server", signal.SIGKILL)
    ended = running.wait(int(number), 90)
    assert (ended["outcome"], ended["array"]["outcomes"], ended["array"]["states"]) == ("ok", {"ok": MANY}, {"X": MANY})
    jobs = parts(running, number)
    assert [each["ref"] for each in jobs] == [f"{number}[{index}]" for index in range(MANY)]
    assert {each["outcome"] for each in jobs} == {"ok"}
    assert 1 < most_at_once(running, {each["id"] for each in jobs}) <= SLOTS
    done = Counter[str]()
    for node in running.node_names():
        done.update(
            {native: times for (native, what), times in effects(running.simulated_file(node)).items() if what == "define"}
        )
    assert len(done) == MANY and set(done.values()) == {1}, "each VE is made once"
    assert {f"web-{index}" for index in range(MANY)} <= set(running.ves())
    running.check_truths()


def test_who_waits_for_an_array_begins_with_its_end_or_never(running: Cloud) -> None:
    stop = running.ask("POST", "/ves/web-%25i/stop", {"job": {"array": "0-9%3", "hold": True}})
    assert (stop["state"], stop["array"]["size"], stop["array"]["slots"]) == ("H", 10, 3)
    ref, number = stop["ref"], stop["id"]
    after = {
        name: running.ask("POST", f"/ves/web-{at}/restart", {"job": {"depend": f"{name}:{ref}{count}"}})
        for at, (name, count) in enumerate(
            [
                ("afterokarray", ""),
                ("afteranyarray", "[5]"),
                ("afternotokarray", "[1]"),
                ("afterstartarray", "[2]"),
                ("afterok", ""),
            ],
            start=50,
        )
    }
    assert {each["state"] for each in after.values()} == {"H"}
    assert after["afteranyarray"]["depend"] == f"afteranyarray:{number}[][5]"
    cycle = running.api("PATCH", f"/jobs/{number}%5B3%5D", {"depend": f"afterok:{after['afterok']['id']}"})
    assert cycle.status == 409 and cycle.body["code"] == "cycle", cycle
    plan_fault(running.simulated_file(running.ves()["web-4"]["node"]), "stop", "error", 1)
    running.ask("POST", f"/jobs/{number}%5B%5D/release")
    ended = running.wait(number)
    assert (ended["outcome"], ended["array"]["outcomes"]) == ("failed", {"failed": 1, "ok": 9})
    assert len(ended["failed_parts"]) == 1 and ended["failed_parts"][0]["ref"] in ended["reason"]
    outcomes = {name: running.wait(job)["outcome"] for name, job in after.items()}
    assert outcomes == {
        "afterokarray": "cancelled",
        "afterok": "cancelled",
        "afteranyarray": "ok",
        "afternotokarray": "ok",
        "afterstartarray": "ok",
    }
    assert "of its 10 parts ended ok, 1 did not" in running.job(after["afterokarray"]["id"])["reason"]
    again = running.ask("POST", f"/jobs/{number}%5B%5D/retry")
    assert again["array"]["size"] == 1 and running.wait(again)["outcome"] == "ok"


def test_parts_are_steered_together_and_by_themselves(running: Cloud) -> None:
    start = running.ask("POST", "/ves/web-%25i/start", {"job": {"array": "0-9", "hold": True}})
    number, ref = start["id"], f"{start['id']}%5B%5D"
    running.ask("POST", f"/jobs/{number}%5B0-4%5D/release")
    running.until(lambda: array(running, str(number))["array"]["outcomes"].get("ok") == 5, 20, "the released parts to end")
    assert array(running, str(number))["state"] in "BH" and parts(running, str(number), indices="5-9", state="H")[4]["index"] == 9
    altered = running.ask("PATCH", f"/jobs/{ref}", {"slots": 1, "priority": -3})
    assert (altered["array"]["slots"], altered["priority"]) == (1, -3)
    assert {each["priority"] for each in parts(running, str(number), state="H")} == {-3}
    running.ask("POST", f"/jobs/{number}%5B7-9%5D/cancel")
    running.ask("POST", f"/jobs/{ref}/release")
    ended = running.wait(number)
    assert (ended["outcome"], ended["array"]["outcomes"]) == ("cancelled", {"cancelled": 3, "ok": 7})
    assert all(each["started"] is None for each in parts(running, str(number), indices="7-9"))
    for method, path in (("POST", "/hold"), ("PATCH", "")):
        assert running.api(method, f"/jobs/{ref}{path}", {"priority": 1} if method == "PATCH" else {}).body["code"] == "begun"


def test_an_array_of_which_one_name_is_taken_makes_nothing(running: Cloud) -> None:
    before = set(running.ves())
    refused = running.api("POST", "/ves", {**VE, "name": "web-%i", "job": {"array": "95-105"}})
    assert refused.status == 409 and refused.body["code"] == "name-taken" and "'web-95'" in refused.body["what"]
    missing = running.api("POST", "/ves/web-%25i/stop", {"job": {"array": "98-101"}})
    assert missing.status == 404 and "'web-100'" in missing.body["what"]
    assert set(running.ves()) == before
    assert "105" not in {each["ve_name"] for each in running.ask("GET", "/jobs?expand=true&limit=1000")["items"]}
