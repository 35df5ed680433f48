"""What is not as it is wanted: told once when it begins and when it ends, shown by `vmcloud reconcile`, mended where asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cloud import Cloud, cloud
from workers.drivers import simulated

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def running() -> Iterator[Cloud]:
    with cloud(simulate=2) as made:
        made.image()
        for name in ("one", "two"):
            made.wait(made.ask("POST", "/ves", {"name": name, "image": "busybox", "kind": "simulated", "power": "stopped"}))
        yield made


def plan(running: Cloud) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = running.ask("GET", "/reconcile")["items"]
    return found


def started_behind(running: Cloud, name: str) -> None:
    """Somebody starts the guest behind the cloud's back."""
    shown = running.ask("GET", f"/ves/{name}")
    driver = simulated.SimulatedDriver(running.simulated_file(shown["node"]))
    driver.start(f"{name}-{shown['id'][:8]}")
    running.until(lambda: running.ask("GET", f"/ves/{name}")["observed"] == "running", 20, "it to be seen running")


def told(running: Cloud, name: str) -> list[str]:
    """What the rules have said about a VE, oldest first."""
    found = running.ask("GET", f"/events?ve={name}&type=rule")["items"]
    return [each["text"] for each in reversed(found)]


def test_drift_is_shown_told_once_and_mended_when_asked(running: Cloud) -> None:
    assert running.run("reconcile").returncode == 0
    started_behind(running, "one")
    running.until(lambda: told(running, "one"), 20, "the rule to say so")
    looked = running.run("reconcile", check=False)
    assert looked.returncode == 4 and "R2" in looked.stdout and "one" in looked.stdout
    [item] = json.loads(running.run("reconcile", "-o", "json", check=False).stdout)
    assert (item["rule"], item["action"], item["fix"]) == ("R2", "report", "stop")
    assert running.ask("GET", "/ves/one")["observed"] == "running", "looking changes nothing"
    mended = running.run("reconcile", "--fix", "--wait")
    [number] = mended.stdout.split()
    job = running.job(int(number))
    assert (job["verb"], job["origin"], job["owner"], job["outcome"]) == ("stop", "reconcile:R2", "admin", "ok")
    assert plan(running) == [] and running.run("reconcile").returncode == 0
    running.until(lambda: len(told(running, "one")) == 2, 20, "the end to be told")
    begin, end = told(running, "one")
    assert begin == "R2: one: seen running, wanted stopped" and "over" in end
    running.check_truths()


def test_a_fix_is_for_the_part_that_was_named_and_is_done_once(running: Cloud) -> None:
    for name in ("one", "two"):
        started_behind(running, name)
    first = running.ask("POST", "/reconcile", {"ve": "two"}, Idempotency_Key="only-two")
    assert running.ask("POST", "/reconcile", {"ve": "two"}, Idempotency_Key="only-two")["id"] == first["id"]
    done = running.wait(first)
    assert (done["outcome"], len(done["jobs"])) == ("ok", 1)
    assert running.wait(done["jobs"][0])["ve_name"] == "two"
    assert [each["name"] for each in plan(running)] == ["one"]
    again = running.wait(running.ask("POST", "/reconcile", {"ve": "two"}))
    assert again["jobs"] == [], "there is nothing left to do"
    running.run("reconcile", "--fix", "--wait", "--ve", "one")
    running.check_truths()


def test_nothing_is_done_on_a_node_that_is_silent(running: Cloud) -> None:
    node = running.ask("GET", "/ves/one")["node"]
    with running.frozen("worker"):
        running.until(lambda: running.ask("GET", f"/nodes/{node}")["state"] == "down", 30, "the node to be down")
        found = plan(running)
        assert {each["rule"] for each in found} == {"R6"} and {each["fix"] for each in found} == {None}
        asked = running.run("reconcile", "--fix", check=False)
        assert asked.returncode == 4 and asked.stdout == "" and "no rule can mend that" in asked.stderr
        running.until(lambda: rules(running, node), 20, "the silence to be told")
    running.nodes_up()
    running.until(lambda: len(rules(running, node)) == 2, 20, "its end to be told")
    begin, end = rules(running, node)
    assert begin.startswith(f"R6: node {node}: ") and "over" in end, "once for the node, not for each of its VEs"


def rules(running: Cloud, node: str) -> list[str]:
    found = running.ask("GET", f"/events?node={node}&type=rule")["items"]
    return [each["text"] for each in reversed(found) if each["ve"] is None]
