"""Changes by LDAP when things go wrong: the server dies on the way, a job beside them is cancelled or fails."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cloud import Cloud, cloud
from tests.ldap_tools import Tools, entry, jobs, refused, settled, show
from workers.drivers import simulated

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(180)]
PATIENCE = 60.0
"""Seconds: who dies often is started again ever later."""


@pytest.fixture(scope="module")
def running() -> Iterator[Cloud]:
    with cloud(simulate=1, node="simulate_delay = 0.3") as made:
        made.image()
        yield made


@pytest.fixture
def tools(running: Cloud) -> Tools:
    return Tools(running)


@pytest.fixture
def web(running: Cloud) -> Iterator[str]:
    """A running VE of this test's own; gone afterwards."""
    name = "ve-" + uuid.uuid4().hex[:8]
    asked = {"name": name, "image": "busybox", "kind": "simulated", "memory_mib": 64}
    running.wait(running.ask("POST", "/ves", asked), PATIENCE)
    yield name
    running.wait(running.ask("DELETE", f"/ves/{name}"), PATIENCE)


@pytest.mark.parametrize(
    ("point", "kind"),
    [
        ("announced", "taken up"),
        ("written", "taken up"),
        ("concluded", "taken up"),
        ("announced", "refused"),
        ("written", "unreadable"),
        ("written", "added"),
    ],
)
def test_a_server_that_dies_on_the_way_doubles_nothing(running: Cloud, tools: Tools, web: str, point: str, kind: str) -> None:
    added = f"{web}-new"
    point = f"server.foreign.{point}"
    running.break_at(point)
    match kind:
        case "taken up":
            tools.modify(web, vmcDesiredState="stopped", vmcMemoryMiB="72", description="x")
            found = settled(running, web, 3, PATIENCE)
            assert [(each["verb"], each["outcome"]) for each in found] == [("alter", "ok"), ("resize", "ok"), ("stop", "ok")]
        case "refused" | "unreadable":
            tools.modify(web, vmcMemoryMiB="-7" if kind == "refused" else "7" * 40)
            text = refused(running, web, PATIENCE)
            assert "is out of range" in text or "more than 15 digits" in text
            assert [each["outcome"] for each in settled(running, web, 1, PATIENCE)] == ["failed"]
        case "added":
            tools.run("ldapadd", stdin=entry(tools, added))
            [create] = settled(running, added, 1, PATIENCE)
            assert (create["verb"], create["outcome"]) == ("create", "ok")
            running.wait(running.ask("DELETE", f"/ves/{added}"), PATIENCE)
    assert running.broke_at(point), f"nothing came to {point}"
    kept = running.ask("GET", f"/events?ve={web}")["items"]
    texts = [each["text"] for each in kept if each["type"] in ("foreign", "refused")]
    assert len(texts) == len(set(texts)) == {"taken up": 3, "added": 0}.get(kind, 1), texts
    running.check_truths()


def under_way(running: Cloud, job: dict[str, Any]) -> None:
    """Wait until its node works on it."""
    running.until(lambda: any(step["state"] == "running" for step in running.job(job["id"])["steps"]), 10, "it to begin")


def test_a_cancelled_job_goes_back_to_what_was_before_it_and_no_further(running: Cloud, tools: Tools, web: str) -> None:
    """A resize is cancelled on the way, and so is what somebody wrote meanwhile, which then knows the right way back."""
    simulated.plan_fault(running.simulated_file(running.node_names()[0]), "apply", "hang")
    first = running.ask("PATCH", f"/ves/{web}", {"memory_mib": 80})
    running.until(
        lambda: any(step["state"] == "running" for step in running.job(first["id"])["steps"]), 10, "the resize to begin"
    )
    tools.modify(web, vmcMemoryMiB="96", vmcDesiredState="stopped")
    resize, stop = running.until(lambda: len(found := jobs(running, web)) == 2 and found, 10, "resize and stop to be queued")
    running.ask("POST", f"/jobs/{resize['id']}/cancel")
    running.wait(resize["id"])
    running.ask("POST", f"/jobs/{first['id']}/cancel")
    assert running.wait(first)["outcome"] == "cancelled"
    assert running.wait(resize["id"])["outcome"] == "cancelled"
    assert running.wait(stop["id"])["outcome"] == "ok"
    shown = show(running, web)
    assert (shown["memory_mib"], shown["observed"]) == (64, "stopped")
    running.check_truths()


def test_changes_one_after_the_other_are_carried_out_in_their_order(running: Cloud, tools: Tools, web: str) -> None:
    busy = running.ask("POST", f"/ves/{web}/restart", {})
    under_way(running, busy)
    tools.modify(web, vmcDesiredState="stopped")
    running.until(lambda: jobs(running, web), 10, "the stop to be queued")
    tools.modify(web, vmcDesiredState="running", vmcMemoryMiB="70")
    running.until(lambda: len(jobs(running, web)) == 3, 10, "resize and start to be queued")
    found = settled(running, web, 3)
    assert [(each["verb"], each["outcome"]) for each in found] == [("stop", "ok"), ("resize", "ok"), ("start", "ok")]
    assert running.wait(busy)["outcome"] == "ok"
    shown = show(running, web)
    assert (shown["memory_mib"], shown["observed"]) == (70, "running")
    running.check_truths()
