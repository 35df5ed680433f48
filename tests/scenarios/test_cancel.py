"""Cancel: before the start it is certain never to run; while it runs it is stopped and undone; after the end it is too late."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.cloud import Cloud, cloud
from workers.drivers import simulated

pytestmark = [pytest.mark.scenario, pytest.mark.engine, pytest.mark.timeout(120)]

NEW = {"image": "busybox", "kind": "simulated"}


@pytest.fixture(scope="module")
def running() -> Iterator[Cloud]:
    with cloud(simulate=1, node="simulate_delay = 1.5") as made:
        made.image()
        yield made


def effects(running: Cloud, name: str, operation: str) -> int:
    counted = simulated.effects(running.simulated_file(running.node_names()[0]))
    return sum(times for (native, each), times in counted.items() if native.startswith(f"{name}-") and each == operation)


def cancelled(running: Cloud, job: dict[str, Any]) -> dict[str, Any]:
    running.ask("POST", f"/jobs/{job['id']}/cancel", {})
    ended = running.wait(job)
    assert ended["outcome"] == "cancelled", ended
    return ended


def test_a_queued_job_never_runs(running: Cloud) -> None:
    running.wait(running.ask("POST", "/ves", {**NEW, "name": "q"}))
    first = running.ask("POST", "/ves/q/restart", {})
    second = running.ask("POST", "/ves/q/stop", {})
    running.until(lambda: "after job" in running.job(second["id"])["reason"], 10, "the second job to say what it waits for")
    cancelled(running, second)
    assert running.wait(first)["outcome"] == "ok"
    assert running.ves()["q"]["desired"] == "running", "what never ran wants nothing"
    running.check_truths()


def test_a_create_in_progress_is_undone_and_its_name_is_free_again(running: Cloud) -> None:
    job = running.ask("POST", "/ves", {**NEW, "name": "c"})
    running.until(lambda: running.job(job["id"])["steps"], 10, "the step to be sent")
    cancelled(running, job)
    assert "c" not in running.ves()
    running.check_truths()
    assert running.wait(running.ask("POST", "/ves", {**NEW, "name": "c"}))["outcome"] == "ok"
    running.check_truths()


def test_a_stop_in_progress_leaves_wanted_what_was_wanted(running: Cloud) -> None:
    running.wait(running.ask("POST", "/ves", {**NEW, "name": "s"}))
    job = running.ask("POST", "/ves/s/stop", {})
    running.until(lambda: running.job(job["id"])["state"] == "R", 10, "the step to be sent")
    running.ask("POST", f"/jobs/{job['id']}/cancel", {})
    ended = running.wait(job)
    wanted = "running" if ended["outcome"] == "cancelled" else "stopped"
    running.until(lambda: running.ves()["s"]["desired"] == wanted, 10, f"it to be wanted {wanted}")
    running.until(
        lambda: running.ves()["s"]["status"] == wanted, 20, "drift or restart policy to settle it"
    ) if wanted == "stopped" else None


def test_a_step_that_was_never_heard_of_is_certain_never_to_run(running: Cloud) -> None:
    """The node is frozen when the step is sent and when it is cancelled; both arrive late, and nothing runs."""
    running.wait(running.ask("POST", "/ves", {**NEW, "name": "n"}))
    before = effects(running, "n", "stop")
    with running.frozen("worker"):
        job = running.ask("POST", "/ves/n/stop", {})
        running.until(lambda: running.job(job["id"])["state"] == "R", 10, "the step to be sent")
        running.ask("POST", f"/jobs/{job['id']}/cancel", {})
        running.until(lambda: "undo" in running.job(job["id"])["reason"], 10, "the job to say whom it waits for")
    ended = running.wait(job)
    assert (ended["outcome"] == "cancelled") == (effects(running, "n", "stop") == before)


def test_after_the_end_it_is_too_late(running: Cloud) -> None:
    job = running.wait(running.ask("POST", "/ves", {**NEW, "name": "e"}))
    running.ask("POST", f"/jobs/{job['id']}/cancel", {})
    assert running.job(job["id"])["outcome"] == "ok"
    assert running.ves()["e"]["status"] == "running"


def test_a_failing_step_says_why_and_leaves_wanted_what_the_table_says(running: Cloud) -> None:
    running.wait(running.ask("POST", "/ves", {**NEW, "name": "f"}))
    file = running.simulated_file(running.node_names()[0])
    simulated.plan_fault(file, "stop", "error")
    ended = running.wait(running.ask("POST", "/ves/f/stop", {}))
    assert ended["outcome"] == "failed" and ended["reason"]
    running.until(lambda: running.ves()["f"]["desired"] == "running", 10, "a failed stop to be wanted no more")
    simulated.plan_fault(file, "define", "error")
    ended = running.wait(running.ask("POST", "/ves", {**NEW, "name": "g"}))
    assert ended["outcome"] == "failed" and ended["reason"]
    assert "g" not in running.ves()
    running.check_truths()
