"""With any one part stopped or frozen, work waits visibly, with a reason that names what is missing, and ends when it is back."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cloud import Cloud, cloud

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def running() -> Iterator[Cloud]:
    with cloud(simulate=2) as made:
        made.image()
        yield made


def make(running: Cloud, name: str) -> dict[str, Any]:
    job = running.wait(running.ask("POST", "/ves", {"name": name, "image": "busybox", "kind": "simulated"}))
    assert job["outcome"] == "ok", job
    return running.ves()[name]


def reason_of(running: Cloud, number: int, words: str) -> Any:
    """Wait until the job says why it waits."""
    job = running.until(lambda: words in (found := running.job(number))["reason"] and found, 20, f"job {number} to say {words!r}")
    assert job["state"] != "C"
    return job


def ends_well(running: Cloud, number: int) -> None:
    assert running.wait(number, 40)["outcome"] == "ok"
    running.check_truths()


def test_worker_frozen(running: Cloud) -> None:
    """The node's worker hangs: its step is sent, and again, and waits; then the node counts as down, and that is said."""
    node = make(running, "w1")["node"]
    with running.frozen("worker"):
        job = running.ask("POST", "/ves/w1/stop", {})
        reason_of(running, job["id"], f"node {node}")
        reason_of(running, job["id"], f"node {node} is down")
        assert running.ves()["w1"]["status"] == "unknown"
    ends_well(running, job["id"])


def test_monitor_frozen(running: Cloud) -> None:
    """The guest has stopped and nobody writes it down: the job waits for that, so that nobody is told what is not shown."""
    make(running, "m1")
    with running.frozen("monitor"):
        job = running.ask("POST", "/ves/m1/stop", {})
        found = reason_of(running, job["id"], "waits")
        assert found["state"] == "E"
        reason_of(running, job["id"], "monitor")
        assert running.ves()["m1"]["observed"] == "running"
    ends_well(running, job["id"])
    assert running.ves()["m1"]["observed"] == "stopped"


def test_directory_frozen(running: Cloud) -> None:
    """What is wanted can not be written down: nothing begins. A create is refused, for its name can not be claimed."""
    make(running, "d1")
    with running.frozen("directory"):
        job = running.ask("POST", "/ves/d1/stop", {})
        reason_of(running, job["id"], "directory")
        refused = running.api("POST", "/ves", {"name": "d2", "image": "busybox", "kind": "simulated"})
        assert refused.status == 503, refused
        assert "directory" in refused.body["detail"]
    ends_well(running, job["id"])
    # The refused create's fate was unknown when the directory hung; the sweep settles it one way or the other.
    running.until(lambda: running.ves().get("d2", {"status": "running"})["status"] == "running", 20, "d2 to be all or nothing")
    running.check_truths()


def test_broker_frozen(running: Cloud) -> None:
    """Nothing reaches the nodes; requests are still taken, and the step is sent when the broker is back."""
    make(running, "b1")
    with running.frozen("broker"):
        job = running.ask("POST", "/ves/b1/stop", {})
        reason_of(running, job["id"], "broker")
    ends_well(running, job["id"])


def test_broker_emptied(running: Cloud) -> None:
    """The broker is lost with all in it while work is under way: all of it is asked for again."""
    make(running, "e1")
    with running.frozen("worker"):
        job = running.ask("POST", "/ves/e1/stop", {})
        running.until(lambda: running.job(job["id"])["state"] == "R", 10, "the step to be sent")
        running.signal("broker", signal.SIGKILL)
        shutil.rmtree(running.data / "broker" / "appendonlydir")
    ends_well(running, job["id"])


def test_server_frozen(running: Cloud) -> None:
    """Nobody decides: jobs are taken and wait in Q."""
    make(running, "s1")
    with running.frozen("server"):
        job = running.ask("POST", "/ves/s1/stop", {})
        assert running.job(job["id"])["state"] == "Q"
    ends_well(running, job["id"])


def test_web_killed(running: Cloud) -> None:
    """Jobs under way need no web; it is started again by itself."""
    make(running, "h1")
    job = running.ask("POST", "/ves/h1/stop", {})
    before = running.parts()["web"]["pid"]
    running.signal("web", signal.SIGKILL)
    running.until(lambda: running.parts()["web"]["pid"] not in (before, None), 20, "web to be started again")
    ends_well(running, job["id"])
    assert running.parts()["web"]["restarts"] >= 1
