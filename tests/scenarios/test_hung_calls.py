"""Calls that do not return: said by name, passed by others, killed by order, begun anew, given up by force."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cloud import Cloud, cloud
from workers.drivers.simulated import effects, plan_fault

pytestmark = [pytest.mark.scenario, pytest.mark.engine, pytest.mark.timeout(180)]
NEW = {"image": "busybox", "kind": "simulated", "memory_mib": 64}


@pytest.fixture(scope="module")
def running() -> Iterator[Cloud]:
    with cloud(simulate=2) as made:
        made.image()
        yield made


def hang(running: Cloud, ve: dict[str, Any], call: str, times: int = 1) -> None:
    plan_fault(running.simulated_file(ve["node"]), call, "hang", times)


def make(running: Cloud, name: str, **more: Any) -> dict[str, Any]:
    assert running.wait(running.ask("POST", "/ves", {**NEW, "name": name, **more}))["outcome"] == "ok"
    return running.ves()[name]


def begun(running: Cloud, job: dict[str, Any]) -> None:
    """Wait until its node works on it."""
    running.until(lambda: "running" in [step["state"] for step in running.job(job["id"])["steps"]], 10, "the step to begin")


def history(running: Cloud, job: dict[str, Any]) -> str:
    return " / ".join(each["text"] for each in running.ask("GET", f"/jobs/{job['id']}/events")["items"])


def test_a_hung_call_is_named_holds_up_nobody_and_is_killed_by_order(running: Cloud) -> None:
    running.ask("POST", "/queues", {"name": "narrow", "max_user_running": 50})
    ve = make(running, "slow")
    beside = make(running, "beside", node=ve["node"])
    elsewhere = make(running, "elsewhere", node=next(each for each in running.node_names() if each != ve["node"]))
    hang(running, ve, "stop")
    job = running.ask("POST", "/ves/slow/stop", {"grace": 0, "job": {"queue": "narrow"}})
    begun(running, job)
    for other in (beside, elsewhere):
        asked = running.ask("POST", f"/ves/{other['name']}/restart", {"job": {"queue": "narrow"}})
        assert running.wait(asked)["outcome"] == "ok", "neither its node nor its queue is stuck behind it"
    after = running.ask("POST", "/ves/slow/start", {})
    running.until(lambda: "hung in simulated.stop for 1" in running.job(job["id"])["reason"], 20, "the call to be named")
    assert f"after job {job['id']}" in running.job(after["id"])["reason"]
    assert running.api("POST", f"/jobs/{after['id']}/signal", {"signal": "KILL"}).body["code"] == "signal"
    refused = running.api("POST", f"/jobs/{job['id']}/signal", {"signal": "suspend"})
    assert refused.status == 409 and "vmcloud ve suspend" in refused.body["todo"]
    assert running.api("POST", f"/jobs/{job['id']}/signal", {"signal": "SIGFOO"}).status == 400
    running.ask("POST", f"/jobs/{job['id']}/signal", {"signal": "9"})
    assert running.wait(job)["outcome"] == "ok" and "signal KILL from admin" in history(running, job)
    assert running.wait(after)["outcome"] == "ok"


def test_a_job_is_rerun_under_its_own_number(running: Cloud) -> None:
    ve = make(running, "anew")
    hang(running, ve, "stop")
    job = running.ask("POST", "/ves/anew/stop", {"grace": 0})
    begun(running, job)
    running.ask("POST", f"/jobs/{job['id']}/rerun")
    ended = running.wait(job)
    assert ended["outcome"] == "ok" and not ended["cancel_requested"] and ended["steps"][0]["attempt"] == 2
    assert "back in its queue" in history(running, job) and running.ves()["anew"]["status"] == "stopped"
    refused = running.api("POST", f"/jobs/{job['id']}/rerun")
    assert refused.status == 409 and "vmcloud job retry" in refused.body["todo"]


def test_by_force_a_job_ends_though_its_node_does_not_answer_and_what_it_says_late_is_told(running: Cloud) -> None:
    ve = make(running, "given")
    before = effects(running.simulated_file(ve["node"]))
    with running.frozen("worker"):
        job = running.ask("POST", "/ves/given/restart", {})
        running.until(lambda: running.job(job["id"])["state"] == "R", 10, "the step to be sent")
        running.ask("POST", f"/jobs/{job['id']}/cancel")
        running.until(lambda: "to stop and undo" in running.job(job["id"])["reason"], 10, "the cancel to wait")
        running.ask("POST", f"/jobs/{job['id']}/cancel", {"force": True})
        ended = running.wait(job, 10)
        assert ended["outcome"] == "cancelled" and ended["error"]["code"] == "abandoned"
        assert f"node {ve['node']}" in ended["error"]["why"] and f"ve:{ve['id']}" in ended["error"]["why"]
        assert running.ask("POST", f"/jobs/{job['id']}/cancel", {"force": True})["state"] == "C", "asking again is harmless"
    running.until(lambda: "speaks of the step that was given up" in history(running, job), 20, "the node's late words")
    assert running.job(job["id"])["outcome"] == "cancelled", "late words change nothing"
    running.until(lambda: running.ves()["given"]["status"] == "running", 20, "the VE to be as it is wanted")
    assert effects(running.simulated_file(ve["node"])).keys() >= before.keys()
    running.check_truths()


def test_a_create_that_was_given_up_is_cleaned_up_when_its_node_is_heard_again(running: Cloud) -> None:
    for node in running.node_names():
        plan_fault(running.simulated_file(node), "define", "hang")
        plan_fault(running.simulated_file(node), "delete", "hang")  # the undo too
    job = running.ask("POST", "/ves", {**NEW, "name": "half"})
    begun(running, job)
    running.ask("POST", f"/jobs/{job['id']}/cancel", {"force": True})
    assert running.wait(job)["error"]["code"] == "abandoned"
    running.signal("worker", signal.SIGKILL)  # and its next one finds the step unfinished
    running.until(lambda: "half" not in running.ves(), 60, "what was left to be deleted")
    assert "speaks of the step that was given up" in history(running, job)
    running.check_truths()
