"""When jobs may run: held, waiting for their time or for others, in their turn, tried again, out of time."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.cloud import Cloud, cloud
from workers.drivers.simulated.outside import effects, plan_fault

pytestmark = [pytest.mark.scenario, pytest.mark.engine]
LONG = 1.5
"""Seconds in which a job that may begin certainly has."""


@pytest.fixture(scope="module")
def running() -> Iterator[Cloud]:
    with cloud(simulate=1) as made:
        made.image()
        for name in ("one", "two", "three"):
            made.wait(made.ask("POST", "/ves", {"name": name, "image": "busybox", "kind": "simulated", "memory_mib": 64}))
        yield made


def ask(running: Cloud, verb: str = "restart", ve: str = "one", **terms: Any) -> dict[str, Any]:
    job: dict[str, Any] = running.ask("POST", f"/ves/{ve}/{verb}", {"job": terms} if terms else {})
    return job


def state(running: Cloud, job: dict[str, Any]) -> tuple[str, str]:
    found = running.job(job["id"])
    return found["state"], found["reason"]


def begun(running: Cloud, *jobs: dict[str, Any]) -> list[int]:
    """The numbers of these jobs in the order in which they began."""
    ended = [running.wait(job) for job in jobs]
    return [job["id"] for job in sorted(ended, key=lambda job: job["started"])]


def in_seconds(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def test_a_held_job_waits_until_it_is_released_and_holds_up_nobody(running: Cloud) -> None:
    held = ask(running, hold=True)
    assert (held["state"], held["holds"], held["reason"]) == ("H", "u", "held by its user")
    assert running.wait(ask(running))["outcome"] == "ok", "another one on the same VE goes on"
    assert state(running, held)[0] == "H"
    assert running.ask("POST", f"/jobs/{held['id']}/release")["holds"] == ""
    assert running.wait(held)["outcome"] == "ok"


def test_a_queued_job_can_be_held(running: Cloud) -> None:
    with running.frozen("worker"):
        first, second = ask(running), ask(running)
        answer = running.ask("POST", f"/jobs/{second['id']}/hold", {"who": "o"})
        assert (answer["state"], answer["holds"], answer["reason"]) == ("H", "o", "held by an operator")
        running.until(lambda: state(running, first)[0] == "R", 10, "the first to begin")
        refused = running.api("POST", f"/jobs/{first['id']}/hold")
        assert refused.status == 409 and refused.body["code"] == "begun"
    running.wait(first)
    assert running.api("POST", f"/jobs/{second['id']}/release", {"who": "x"}).status == 400
    running.ask("POST", f"/jobs/{second['id']}/release", {"who": "o"})
    assert running.wait(second)["outcome"] == "ok"


def test_a_held_job_that_is_cancelled_never_runs(running: Cloud) -> None:
    held = running.ask("DELETE", "/ves/three", {"job": {"hold": True}})
    running.ask("POST", f"/jobs/{held['id']}/cancel")
    ended = running.wait(held)
    assert (ended["outcome"], ended["started"]) == ("cancelled", None)
    assert running.ves()["three"]["status"] == "running"


def test_a_job_waits_for_its_time(running: Cloud) -> None:
    began = time.monotonic()
    later = ask(running, not_before=in_seconds(2))
    assert later["state"] == "W" and "time" in later["reason"]
    assert running.wait(later)["outcome"] == "ok" and time.monotonic() - began > 1.9
    far = ask(running, not_before=in_seconds(3600))
    running.ask("PATCH", f"/jobs/{far['id']}", {"not_before": in_seconds(0.5)})
    assert running.wait(far)["outcome"] == "ok"


def test_jobs_follow_others(running: Cloud) -> None:
    first = ask(running, ve="one", hold=True)
    then = ask(running, ve="two", depend=f"afterok:{first['id']}")
    last = ask(running, ve="one", depend=f"afterany:{then['id']}")
    assert state(running, then) == ("H", f"waits for job {first['id']} (afterok)")
    running.ask("POST", f"/jobs/{first['id']}/release")
    assert begun(running, last, then, first) == [first["id"], then["id"], last["id"]]


def test_who_was_to_follow_a_success_is_cancelled_by_a_failure_and_says_so(running: Cloud) -> None:
    first = ask(running, hold=True)
    good = ask(running, ve="two", depend=f"afterok:{first['id']}")
    chained = ask(running, ve="two", depend=f"afterok:{good['id']}")
    bad = ask(running, ve="two", depend=f"afternotok:{first['id']}")
    running.ask("POST", f"/jobs/{first['id']}/cancel")
    for job, other in ((good, first), (chained, good)):
        ended = running.wait(job)
        assert (ended["outcome"], ended["started"], ended["error"]["code"]) == ("cancelled", None, "dependency")
        assert f"job {other['id']}" in ended["reason"] and "cancelled" in ended["reason"]
    assert running.wait(bad)["outcome"] == "ok"
    late = running.api("POST", "/ves/one/restart", {"job": {"depend": f"afterok:{first['id']}"}})
    assert late.status == 409 and late.body["code"] == "dependency"


def test_a_job_waits_for_a_number_of_others_that_were_told_to_run_before_it(running: Cloud) -> None:
    last = ask(running, ve="one", depend="on:2")
    before = [ask(running, ve=ve, depend=f"beforeok:{last['id']}") for ve in ("two", "three")]
    ended = [running.wait(job) for job in (*before, last)]
    assert {job["outcome"] for job in ended} == {"ok"} and ended[2]["started"] >= max(job["ended"] for job in ended[:2])


@pytest.mark.parametrize(
    ("depend", "status", "code"),
    [("afterok:99999", 404, "not-found"), ("afterok", 400, "invalid"), ("beforeok:1", 409, "conflict")],
)
def test_dependencies_that_cannot_be_are_refused(running: Cloud, depend: str, status: int, code: str) -> None:
    jobs = len(running.ask("GET", "/jobs?limit=1000")["items"])
    refused = running.api("POST", "/ves/one/restart", {"job": {"depend": depend}})
    assert (refused.status, refused.body["code"]) == (status, code)
    assert len(running.ask("GET", "/jobs?limit=1000")["items"]) == jobs, "nothing was left behind"


def test_a_circle_is_refused_and_changes_nothing(running: Cloud) -> None:
    first = ask(running, hold=True)
    second = ask(running, ve="two", depend=f"afterok:{first['id']}")
    refused = running.api("PATCH", f"/jobs/{first['id']}", {"depend": f"afterok:{second['id']}"})
    assert refused.status == 409 and refused.body["code"] == "cycle" and "→" in refused.body["why"]
    assert running.job(first["id"])["depend"] == ""
    running.ask("POST", f"/jobs/{first['id']}/release")
    assert running.wait(second)["outcome"] == "ok"


def test_priority_order_and_running_out_of_turn(running: Cloud) -> None:
    ves = ("one", "two", "three")
    with running.frozen("server"):
        plain, low, high = (ask(running, ve=ve, priority=each) for ve, each in zip(ves, (0, -5, 7), strict=True))
        urgent, second, third = ask(running, ve="one"), ask(running, ve="two"), ask(running, ve="three")
        running.ask("POST", f"/jobs/{second['id']}/order", {"job": third["id"]})
        assert running.api("POST", f"/jobs/{second['id']}/order", {"job": second["id"]}).status == 400
        running.ask("PATCH", "/queues/main", {"max_running": 1})  # those that begin in the same moment are told the same time
    try:
        order = begun(running, plain, low, high, urgent, second, third)
    finally:
        running.ask("PATCH", "/queues/main", {"max_running": 0})
    assert order.index(high["id"]) < order.index(plain["id"]) < order.index(low["id"])
    waiting = ask(running, not_before=in_seconds(3600))
    assert running.ask("POST", f"/jobs/{waiting['id']}/run")["priority"] == 1024
    assert running.wait(waiting)["outcome"] == "ok"


def test_what_has_begun_is_not_altered(running: Cloud) -> None:
    done = running.wait(ask(running))
    for method, path, body in (("PATCH", "", {"priority": 1}), ("POST", "/hold", {}), ("POST", "/run", None)):
        refused = running.api(method, f"/jobs/{done['id']}{path}", body)
        assert refused.status == 409 and "complete" in refused.body["what"]
    assert running.api("PATCH", f"/jobs/{done['id'] + 1000}", {"priority": 1}).status == 404


def node_file(running: Cloud) -> Any:
    return running.simulated_file(running.node_names()[0])


def test_a_failure_that_is_worth_it_is_tried_again(running: Cloud) -> None:
    plan_fault(node_file(running), "stop", "error", 1)
    job = ask(running, "stop", retries=2)
    running.until(lambda: state(running, job)[0] == "W", 10, "the second try to be waited for")
    assert "to be tried again" in state(running, job)[1] and running.job(job["id"])["tries"] == 1
    assert running.wait(job)["outcome"] == "ok"
    assert running.ves()["one"]["status"] == "stopped"
    plan_fault(node_file(running), "start", "error", 1)
    failed = running.wait(ask(running, "start"))
    assert failed["outcome"] == "failed" and failed["tries"] == 0, "only who asks for it is tried again"
    again = running.ask("POST", f"/jobs/{failed['id']}/retry")
    assert again["id"] != failed["id"] and again["verb"] == "start" and running.wait(again)["outcome"] == "ok"
    assert running.api("POST", f"/jobs/{again['id']}/retry").status == 409


def test_a_job_whose_walltime_is_over_is_stopped(running: Cloud) -> None:
    plan_fault(node_file(running), "stop", "hang", 1)
    job = running.wait(ask(running, "stop", walltime=1))
    assert (job["outcome"], job["error"]["code"]) == ("timed-out", "walltime")
    running.until(lambda: running.ves()["one"]["desired"] == "running", 10, "what was wanted before to be wanted again")


def test_held_and_waiting_jobs_survive_the_server(running: Cloud) -> None:
    held, first = ask(running, hold=True), ask(running, "stop", ve="two", hold=True)
    follows = ask(running, "start", ve="two", depend=f"afterok:{first['id']}")
    running.signal("server", signal.SIGKILL)
    running.ask("POST", f"/jobs/{held['id']}/release")
    running.ask("POST", f"/jobs/{first['id']}/release")
    assert [running.wait(job)["outcome"] for job in (held, first, follows)] == ["ok"] * 3
    assert effects(node_file(running)), "the node did it"


# ------------------------------------------------------------------------------------------------------------------- queues


@pytest.fixture
def batch(running: Cloud) -> Iterator[str]:
    running.run("queue", "create", "batch", "--max-running", "1")
    yield "batch"
    for job in running.ask("GET", "/jobs?queue=batch&active=true")["items"]:
        running.ask("POST", f"/jobs/{job['id']}/cancel")
        running.wait(job)
    running.run("queue", "delete", "batch")


def test_a_queue_runs_as_many_jobs_as_it_may(running: Cloud, batch: str) -> None:
    with running.frozen("worker"):
        jobs = [ask(running, ve=ve, queue=batch) for ve in ("one", "two", "three")]
        running.until(lambda: "1 are allowed" in state(running, jobs[2])[1], 10, "the last one to be told why it waits")
        assert [state(running, job)[0] for job in jobs] == ["R", "Q", "Q"]
        free = ask(running, ve="two")
        running.until(lambda: "after job" in state(running, free)[1], 10, "the lane to be kept")
    assert begun(running, *jobs) == [job["id"] for job in jobs]
    assert running.wait(free)["outcome"] == "ok"


def test_a_stopped_queue_keeps_its_jobs_and_a_job_can_leave_it(running: Cloud, batch: str) -> None:
    running.run("queue", "set", batch, "--stopped")
    stays, leaves = ask(running, ve="one", queue=batch), ask(running, ve="two", queue=batch)
    running.until(lambda: "is stopped" in state(running, stays)[1], 10, "the reason")
    running.run("job", "move", "main", str(leaves["id"]))
    assert running.wait(leaves)["outcome"] == "ok" and running.job(leaves["id"])["queue"] == "main"
    assert state(running, stays)[0] == "Q"
    assert "has 1 job" in running.run("queue", "delete", batch, check=False).stderr
    running.run("queue", "set", batch, "--started")
    assert running.wait(stays)["outcome"] == "ok"


def test_a_queue_that_takes_no_jobs_refuses_them_in_words(running: Cloud, batch: str) -> None:
    running.run("queue", "set", batch, "--disabled")
    refused = running.api("POST", "/ves/one/restart", {"job": {"queue": batch}})
    assert refused.status == 422 and "takes no jobs" in refused.body["why"]
    assert running.api("POST", "/ves/one/restart", {"job": {"queue": "nowhere"}}).status == 404


def test_routes_and_labels_choose(running: Cloud, batch: str) -> None:
    running.run("queue", "set", batch, "--max-memory", "100M", "--label", "ssd")
    running.run("queue", "create", "front", "--route", batch, "--route", "main")
    try:
        asked = {"image": "busybox", "kind": "simulated", "job": {"queue": "front"}}
        small = running.ask("POST", "/ves", {"name": "small", "memory_mib": 64, **asked})
        big = running.ask("POST", "/ves", {"name": "big", "memory_mib": 128, **asked})
        assert (small["queue"], big["queue"]) == (batch, "main")
        assert running.wait(big)["outcome"] == "ok"
        running.until(lambda: "has no label ssd" in state(running, small)[1], 10, "the reason, node by node")
        assert "a route of front" in running.run("queue", "delete", batch, check=False).stderr
    finally:
        running.run("queue", "delete", "front")


def test_only_administrators_change_queues(running: Cloud) -> None:
    running.run("passwd", "ann", "--create", "--password-stdin", stdin="a long enough word\n")
    token = running.ask("POST", "/tokens", {"username": "ann", "password": "a long enough word", "name": "t"})["token"]
    as_ann = {"Authorization": f"Bearer {token}"}
    for method, path, body in (("POST", "/queues", {"name": "q"}), ("PATCH", "/queues/main", {"priority": 1})):
        assert running.api(method, path, body, **as_ann).status == 403
    assert running.api("DELETE", "/queues/main", **as_ann).status == 403
    assert "main" in {each["name"] for each in running.ask("GET", "/queues", **as_ann)["items"]}
