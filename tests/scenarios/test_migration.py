"""Migrations between simulated nodes, and what else works on several nodes or objects: whatever is killed, and wherever, a guest
runs on exactly one node, the record says which, and nothing is left on the other."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from tests.cloud import Cloud, cloud

pytestmark = pytest.mark.scenario

LEADER = ("server.dispatch.desired", "server.dispatch.committed", "server.dispatch.sent", "server.result.received")
LEADER += ("server.step.written", "server.finish.completed")
WORKER = ("worker.accept.journalled", "worker.execute.before-driver", "worker.step.acted", "worker.finish.journalled")
ACTS = ("prepare", "send", "receive", "activate", "clean")
DRIVER = tuple(f"driver.simulated.migrate-{act}.{where}" for act in ACTS for where in ("begun", "half", "done"))


@pytest.fixture(scope="module")
def running() -> Iterator[Cloud]:
    with cloud(simulate=3) as made:
        made.image()
        yield made


def make(running: Cloud, name: str, **more: Any) -> dict[str, Any]:
    running.wait(running.ask("POST", "/ves", {"name": name, "image": "busybox", "kind": "simulated", "memory_mib": 16, **more}))
    return running.ves()[name]


def act(running: Cloud, verb: str, ve: str, /, **args: Any) -> dict[str, Any]:
    made: dict[str, Any] = running.ask("POST", "/jobs", {"requests": [{"verb": verb, "ve": ve, "args": args}]})
    [item] = made["items"]
    assert "id" in item.get("job", item), item
    job: dict[str, Any] = item.get("job", item)
    return job


def alarms(running: Cloud) -> list[str]:
    found = [each["text"] for each in running.ask("GET", "/events?type=rule&limit=200")["items"]]
    return [text for text in found if text.startswith("R5")]


def leftovers(running: Cloud) -> list[str]:
    """Guests that are on their way to a node, or have left one, and should not be so any more."""
    found = []
    for node in running.node_names():
        with closing(sqlite3.connect(running.simulated_file(node))) as database:
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            for table in tables & {"incoming", "outgoing"}:  # made with the first migration
                found += [f"{native} on {node}: {table}" for (native,) in database.execute(f"SELECT native FROM {table}")]
    return found


def whole(running: Cloud, name: str, state: str = "running") -> str:
    """The node where the VE is, everywhere said to be the same."""
    running.nodes_up()
    running.check_truths()
    shown = running.ves()[name]
    assert (shown["status"], shown["observed"]) == (state, state)
    assert alarms(running) == []
    return str(shown["node"])


@pytest.mark.parametrize(("live", "power"), [(False, "running"), (True, "running"), (False, "stopped"), (True, "stopped")])
def test_a_guest_moves_with_its_power_and_its_snapshots(running: Cloud, live: bool, power: str) -> None:
    name = f"moved-{power}-{'live' if live else 'offline'}"
    made = make(running, name, power=power)
    running.wait(running.ask("POST", f"/ves/{name}/snapshots", {"name": "kept"}))
    target = next(each for each in running.node_names() if each != made["node"])
    job = running.wait(act(running, "migrate", name, node=target, live=live))
    assert (job["outcome"], [step["outcome"] for step in job["steps"]]) == ("ok", ["ok"] * 6), job
    shown = running.ves()[name]
    assert whole(running, name, power) == target and [each["name"] for each in shown["snapshots"]] == ["kept"]
    back = running.wait(act(running, "migrate", name, node=made["node"], live=live))
    assert back["outcome"] == "ok" and whole(running, name, power) == made["node"]
    running.wait(running.ask("DELETE", f"/ves/{name}"))
    running.check_truths()


def test_without_a_node_the_one_with_the_most_room_is_chosen(running: Cloud) -> None:
    made = make(running, "anywhere")
    job = running.wait(act(running, "migrate", "anywhere"))
    assert job["outcome"] == "ok" and job["args"]["node"] not in ("", made["node"])
    assert whole(running, "anywhere") == job["args"]["node"]
    running.wait(running.ask("DELETE", "/ves/anywhere"))


@pytest.mark.parametrize(
    ("args", "where", "words"),
    [
        ({"node": "there"}, "node", "no node is called"),
        ({"node": "HERE"}, "node", "is on node"),
        ({"live": "yes"}, "live", "true or false"),
        ({"host": "n-1"}, "host", "takes no"),
    ],
)
def test_what_can_not_be_is_refused_at_once(running: Cloud, args: dict[str, Any], where: str, words: str) -> None:
    made = running.ves().get("refused") or make(running, "refused")
    args = {name: made["node"] if value == "HERE" else value for name, value in args.items()}
    made = running.ask("POST", "/jobs", {"requests": [{"verb": "migrate", "ve": "refused", "args": args}]})
    problem = made["items"][0].get("problem", made["items"][0])
    assert words in str(problem) and where in str(problem)


ALL = [(point, live) for point in (*LEADER, *WORKER, *DRIVER) for live in (True, False)]
QUICK = [(point, bool(number % 2)) for number, point in enumerate((*LEADER, *WORKER, *DRIVER[1::3]))]
SLOW = [pytest.param(*each, marks=pytest.mark.slow) for each in ALL if each not in QUICK]


@pytest.mark.parametrize(("point", "live"), [*QUICK, *SLOW])
def test_killed_anywhere_it_is_on_one_node(running: Cloud, point: str, live: bool) -> None:
    """A worker that is away for longer than a node may be silent counts as down: then all is taken back."""
    name = f"k-{point.replace('.', '-').replace('driver-simulated-', '')}-{'live' if live else 'off'}"[:50].rstrip("-")
    made = make(running, name)
    running.break_at(point)
    job = running.wait(act(running, "migrate", name, live=live), 60)
    assert running.broke_at(point), f"nothing came to {point}"
    there_or_back(running, made, job)
    running.wait(running.ask("DELETE", f"/ves/{name}"))
    running.check_truths()


def there_or_back(running: Cloud, made: dict[str, Any], job: dict[str, Any]) -> None:
    """The migration of the VE ``made`` has ended well, or all of it is taken back because a node was away for too long."""
    node = whole(running, made["name"])
    if job["outcome"] == "ok":
        assert node == job["args"]["node"] != made["node"]
    else:
        assert job["error"]["code"] == "node-down" and node == made["node"], job
    assert leftovers(running) == []


def test_server_and_worker_killed_together(running: Cloud) -> None:
    made = make(running, "both")
    running.break_at("server.step.written")
    running.break_at("worker.finish.journalled")
    there_or_back(running, made, running.wait(act(running, "migrate", "both", live=True), 60))
    running.wait(running.ask("DELETE", "/ves/both"))


def test_the_worker_is_killed_again_and_again(running: Cloud) -> None:
    make(running, "often")
    job = act(running, "migrate", "often", live=False)
    for _ in range(3):
        os.kill(running.parts()["worker"]["pid"], signal.SIGKILL)
        running.until(lambda: running.parts()["worker"]["state"] == "ready", 60, "the worker")
    assert running.wait(job, 90)["outcome"] in ("ok", "failed")  # failed: it was away for longer than a node may be silent
    whole(running, "often")
    assert leftovers(running) == []
    running.wait(running.ask("DELETE", "/ves/often"))


def test_a_cancel_before_the_point_without_return_takes_all_back(running: Cloud) -> None:
    made = make(running, "called-off")
    for _ in range(6):
        job = act(running, "migrate", "called-off", live=True)
        running.api("POST", f"/jobs/{job['id']}/cancel")
        ended = running.wait(job, 40)
        node = whole(running, "called-off")
        assert ended["outcome"] in ("ok", "cancelled")
        if ended["outcome"] == "cancelled":
            assert node == made["node"]
        made = running.ves()["called-off"]
    running.wait(running.ask("DELETE", "/ves/called-off"))


def test_a_drain_empties_a_node_and_shows_its_plan_first(running: Cloud) -> None:
    first, *others = running.node_names()
    names = [f"drained-{number}" for number in range(4)]
    for name in names:
        make(running, name, node=first)
    plan = running.ask("GET", f"/nodes/{first}/moves")["items"]
    assert {each["name"] for each in plan} >= set(names) and all(each["to"] in others for each in plan)
    job = running.wait(running.ask("POST", f"/nodes/{first}/drain"), 60)
    assert job["outcome"] == "ok" and len(job["jobs"]) == len(plan)
    running.check_truths()
    assert all(each["node"] != first for each in running.ves().values())
    assert next(each for each in running.ask("GET", "/nodes")["items"] if each["name"] == first)["cordoned"]
    running.wait(running.ask("POST", f"/nodes/{first}/uncordon"))
    assert alarms(running) == []
    for name in names:
        running.wait(running.ask("DELETE", f"/ves/{name}"))


def test_a_ve_is_renamed_and_its_later_jobs_find_it(running: Cloud) -> None:
    made = make(running, "before")
    renamed = act(running, "rename", "before", name="after")
    stopped = act(running, "stop", "before")
    assert running.wait(renamed)["outcome"] == running.wait(stopped)["outcome"] == "ok"
    assert "before" not in running.ves() and running.ves()["after"]["id"] == made["id"]
    assert whole(running, "after", "stopped") == made["node"]
    taken = running.ask("POST", "/jobs", {"requests": [{"verb": "rename", "ve": "after", "args": {"name": "after"}}]})
    assert "taken" in str(taken["items"][0])
    running.wait(running.ask("DELETE", "/ves/after"))
    running.check_truths()


def test_a_copy_is_a_ve_of_its_own(running: Cloud) -> None:
    made = make(running, "original")
    job = running.wait(act(running, "copy", "original", name="twin", start=True))
    assert job["outcome"] == "ok"
    twin = running.ves()["twin"]
    assert twin["id"] != made["id"] and twin["node"] == made["node"] and whole(running, "twin") == made["node"]
    for name in ("original", "twin"):
        running.wait(running.ask("DELETE", f"/ves/{name}"))
    running.check_truths()


def test_an_image_in_use_stays_and_one_that_is_not_goes(running: Cloud) -> None:
    running.image("scratch", b"another image")
    make(running, "user", image="scratch")
    refused = running.api("POST", "/images/scratch/delete")
    assert refused.status == 409 and "user" in str(refused.body)
    running.wait(running.ask("DELETE", "/ves/user"))
    assert running.wait(running.ask("POST", "/images/scratch/delete"))["outcome"] == "ok"
    assert "scratch" not in [each["name"] for each in running.ask("GET", "/images")["items"]]
    running.image("scratch", b"under the same name again")
    assert running.wait(running.ask("POST", "/images/scratch/delete"))["outcome"] == "ok"
