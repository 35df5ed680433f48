"""Leases: what comes at the end of a VE's time, once each, whatever dies meanwhile; and what a renewal calls off."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.cloud import Cloud, cloud
from tests.ldap_tools import Tools, refused

pytestmark = pytest.mark.scenario
CONSTRAINT_VIOLATION = 19
RULE = "reconcile:R13"


@pytest.fixture(scope="module")
def running() -> Iterator[Cloud]:
    with cloud(simulate=2) as made:
        made.image()
        yield made


def make(running: Cloud, name: str, **more: Any) -> dict[str, Any]:
    """A VE that runs."""
    body = {"name": name, "image": "busybox", "kind": "simulated", "memory_mib": 64, **more}
    assert running.wait(running.ask("POST", "/ves", body))["outcome"] == "ok"
    return running.ves()[name]


def renew(running: Cloud, name: str, lease: dict[str, Any] | None) -> dict[str, Any]:
    job: dict[str, Any] = running.ask("POST", f"/ves/{name}/alter", {"lease": lease})
    return running.wait(job)


def by_lease(running: Cloud, name: str) -> list[tuple[str, str]]:
    """What the end of its lease has led to, oldest first."""
    jobs = running.ask("GET", f"/jobs?ve={name}")["items"]
    return [(job["verb"], job["outcome"]) for job in reversed(jobs) if job["origin"] == RULE]


def status(running: Cloud, name: str) -> str | None:
    found = running.ves().get(name)
    return found["status"] if found else None


def test_it_is_told_stopped_kept_for_its_grace_and_deleted_once_each(running: Cloud) -> None:
    ve = make(running, "short", lease={"for": 3, "action": "delete", "grace": 3})
    assert ve["lease"]["action"] == "delete" and not ve["lease"]["over"]
    running.until(lambda: "its lease ends" in running.ves()["short"]["reason"], 10, "a warning in the list")
    running.until(lambda: status(running, "short") == "stopped", 20, "the stop")
    kept = running.ves()["short"]
    assert kept["lease"]["over"] and "deleted at" in kept["reason"]
    refused = running.api("POST", "/ves/short/start")
    assert refused.status == 409 and refused.body["code"] == "lease" and "vmcloud ve lease short" in refused.body["todo"]
    running.until(lambda: status(running, "short") is None, 20, "the deletion")
    assert by_lease(running, "short") == [("stop", "ok"), ("delete", "ok")]
    texts = [each["text"] for each in running.ask("GET", "/events?ve=short&type=lease")["items"]]
    assert sum("its lease ends" in text for text in texts) == 1, texts
    running.check_truths()


def test_a_server_that_dies_at_any_instant_makes_one_stop(running: Cloud) -> None:
    make(running, "often", lease={"for": 2})
    for _ in range(4):
        running.signal("server", signal.SIGKILL)
        time.sleep(0.8)  # so that it dies at other instants of the same seconds
    running.until(lambda: status(running, "often") == "stopped", 30, "the stop")
    running.until(lambda: by_lease(running, "often") == [("stop", "ok")], 10, "one job, complete")


def test_a_renewal_keeps_it_and_calls_off_what_waits(running: Cloud) -> None:
    ve = make(running, "kept", lease={"for": 2, "action": "delete", "grace": 60})
    node = ve["node"]
    with running.frozen("worker"):
        running.until(lambda: by_lease(running, "kept"), 20, f"the end of the lease, which {node} does not hear of")
        [over] = running.ask("GET", "/jobs?ve=kept&verb=stop")["items"]
        running.until(lambda: running.job(over["id"])["state"] == "R", 10, "the stop to be sent (before, a cancel ends it)")
        answer = running.ask("POST", "/ves/kept/alter", {"lease": {"for": 3600}})
        running.until(lambda: "to stop and undo" in running.job(over["id"])["reason"], 10, "the cancel to be sent")
    assert running.wait(answer)["outcome"] == "ok"
    assert running.ves()["kept"]["status"] == "running" and not running.ves()["kept"]["lease"]["over"]
    [(_, outcome)] = by_lease(running, "kept")
    assert outcome == "cancelled"


def test_a_stopped_one_is_renewed_started_and_freed_of_its_lease(running: Cloud) -> None:
    make(running, "again", lease={"for": 1})
    running.until(lambda: status(running, "again") == "stopped", 20, "the stop")
    assert renew(running, "again", {"for": 3600})["outcome"] == "ok"
    assert running.wait(running.ask("POST", "/ves/again/start"))["outcome"] == "ok"
    assert renew(running, "again", None)["outcome"] == "ok"
    assert running.ves()["again"]["lease"] is None and status(running, "again") == "running"


def test_a_queue_gives_a_lease_and_allows_no_longer_one(running: Cloud) -> None:
    running.ask("POST", "/queues", {"name": "lab", "max_lease": 7200, "default_lease": 3600})
    body = {"name": "pupil", "image": "busybox", "kind": "simulated", "memory_mib": 64, "job": {"queue": "lab"}}
    for lease, words in (({"for": 8000}, "2 h 13 min"), (None, "without end")):
        refused = running.api("POST", "/ves", {**body, "lease": lease})
        assert refused.status == 422 and words in refused.body["detail"], refused
    running.wait(running.ask("POST", "/ves", body))
    left = datetime.fromisoformat(running.ves()["pupil"]["lease"]["end"]) - datetime.now(UTC)
    assert timedelta(minutes=58) < left <= timedelta(hours=1, seconds=1)
    late = {"lease": {"for": 86400}, "job": {"queue": "lab"}}
    assert running.api("POST", "/ves/pupil/alter", late).status == 422


def test_it_is_read_and_changed_by_any_directory_tool(running: Cloud) -> None:
    make(running, "filed", lease={"for": 7200})
    tools = Tools(running)
    shown = tools.run("ldapsearch", "-LLL", "-b", tools.dn("filed"), "vmcLeaseEnd").stdout
    assert "vmcLeaseEnd: 20" in shown
    tools.modify("filed", vmcLeaseEnd="19990101000000Z")
    assert "it is in the past" in refused(running, "filed")
    assert tools.modify("filed", vmcLeaseAction="explode", check=False) == CONSTRAINT_VIOLATION
    later = (datetime.now(UTC) + timedelta(hours=5)).strftime("%Y%m%d%H%M%SZ")
    tools.modify("filed", vmcLeaseEnd=later, vmcLeaseAction="delete", vmcLeaseGrace="60")
    running.until(lambda: (running.ves()["filed"]["lease"] or {}).get("grace") == 60, 10, "the change to be taken up")
    assert running.ves()["filed"]["lease"]["action"] == "delete"
