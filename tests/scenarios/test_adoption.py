"""Orphans become VEs: wholly, or not at all, whatever dies meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import workers.drivers.simulated  # noqa: F401 - declares the fault points
from tests.cloud import Cloud, cloud
from vmcloud import faults
from vmcloud.domain.messages import Seen
from vmcloud.domain.vocabulary import Kind, Observed
from workers.drivers.simulated import appear, outside, plan_fault
from workers.drivers.simulated.store import Store

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(180)]

NODE = "n-001"
POINTS = [
    "web.submit.claiming",
    "web.submit.claimed",
    "server.dispatch.desired",
    "server.dispatch.committed",
    "worker.accept.journalled",
    "worker.execute.before-driver",
    *(name for name in faults.POINTS if name.startswith("driver.simulated.adopt.")),
    "worker.finish.journalled",
    "server.result.received",
    "server.finish.settled",
    "server.finish.completed",
]


@pytest.fixture(scope="module")
def running() -> Iterator[Cloud]:
    with cloud(simulate=2) as made:
        made.image()
        yield made


@pytest.fixture(autouse=True)
def nothing_else(running: Cloud) -> Iterator[None]:
    yield
    for name in list(running.ves()):
        running.wait(running.ask("DELETE", f"/ves/{name}"))
    for each in running.ask("GET", "/strays")["items"]:
        outside(running.simulated_file(each["node"]), each["native"], None)
    running.until(lambda: not running.ask("GET", "/strays")["items"], 10, "all orphans to be gone")


def orphan(running: Cloud, native: str, state: Observed = Observed.STOPPED) -> None:
    """Somebody makes a guest on the first node, and the cloud sees it."""
    path = running.simulated_file(NODE)
    appear(path, Seen(native, Kind.SIMULATED, state, vcpus=2, memory_mib=96))
    store = Store(path)
    store.write_file(native, "/root/theirs", b"kept")
    store.close()
    running.until(lambda: native in orphans(running), 5, "the orphan to be seen")


def orphans(running: Cloud) -> list[str]:
    return [each["native"] for each in running.ask("GET", "/strays")["items"] if each["status"] == "orphan"]


def content(running: Cloud, native: str) -> bytes:
    store = Store(running.simulated_file(NODE))
    try:
        return store.files(native).get("/root/theirs", b"")
    finally:
        store.close()


def adopt(running: Cloud, native: str, name: str, **more: Any) -> dict[str, Any]:
    job: dict[str, Any] = running.ask("POST", f"/strays/{NODE}/{native}/adopt", {"name": name, **more})
    return job


def test_an_orphan_is_adopted_and_then_is_a_ve_like_others(running: Cloud) -> None:
    orphan(running, "old")
    running.run("ve", "adopt", f"{NODE}/old", "--name", "web-9", "--description", "it was there before", "--wait")
    assert orphans(running) == [], "when the job is complete, both lists say so"
    shown = running.ves()["web-9"]
    assert (shown["status"], shown["node"], shown["vcpus"], shown["memory_mib"]) == ("stopped", NODE, 2, 96)
    assert (shown["image"], shown["owner"], shown["description"]) == ("adopted", "admin", "it was there before")
    told = {each["type"]: each["text"] for each in running.ask("GET", "/events")["items"]}
    assert "old" in told["orphan"] and "old" in told["adopted"]
    assert "adopted; it was old" in running.run("ve", "events", "web-9").stdout
    running.run("ve", "start", "web-9", "--wait")
    running.run("ve", "resize", "web-9", "--memory", "128", "--wait")
    assert content(running, f"web-9-{shown['id'][:8]}") == b"kept"
    running.check_truths()


def test_an_orphan_is_shown_and_left_alone(running: Cloud) -> None:
    orphan(running, "alone", Observed.RUNNING)
    line = next(line for line in running.run("ve", "list", "--orphans").stdout.splitlines() if "alone" in line)
    assert f"{NODE}/alone" in line and "orphan" in line and "running" in line
    assert running.run("ve", "list", "--status", "orphan", "-o", "name").stdout == f"{NODE}/alone\n"
    refused = running.run("ve", "adopt", f"{NODE}/alone", "--name", "mine", check=False)
    assert refused.returncode == 1 and "stopped" in refused.stderr and "Traceback" not in refused.stderr
    assert running.simulated_guests()["alone"] == (NODE, "running")
    assert "mine" not in running.ves()


def test_where_it_fails_it_is_an_orphan_as_before_and_the_name_is_free(running: Cloud) -> None:
    orphan(running, "stays")
    plan_fault(running.simulated_file(NODE), "adopt", "error")
    done = running.wait(adopt(running, "stays", "fails"))
    assert done["outcome"] == "failed"
    assert orphans(running) == ["stays"] and "fails" not in running.ves()
    assert running.directory().ve_named("main", "fails") is None
    assert "fails" not in [each.name for each in running.directory().tombstones()]
    assert running.wait(adopt(running, "stays", "fails"))["outcome"] == "ok", "and may be tried again"


def test_one_that_was_started_meanwhile_is_refused_by_its_node(running: Cloud) -> None:
    orphan(running, "fast")
    plan_fault(running.simulated_file(NODE), "adopt", "hang")
    job = adopt(running, "fast", "slow")
    running.until(lambda: running.job(job["id"])["state"] == "R", 10, "the step to be under way")
    outside(running.simulated_file(NODE), "fast", Observed.RUNNING)
    running.ask("POST", f"/jobs/{job['id']}/cancel")
    assert running.wait(job)["outcome"] == "cancelled"
    assert running.simulated_guests()["fast"] == (NODE, "running")
    assert "slow" not in running.ves()


@pytest.mark.parametrize("point", POINTS)
def test_kill_at(running: Cloud, point: str) -> None:
    """Whoever dies: in the end it is a VE, or (where the request itself broke off) an orphan, and never both or neither."""
    native, name = f"o-{point.replace('.', '-')}"[:40], f"a-{point.replace('.', '-')}"[:40]
    orphan(running, native)
    running.break_at(point)
    key = f"key-{point}"

    def asked() -> dict[str, Any] | None:
        try:
            answer = running.api("POST", f"/strays/{NODE}/{native}/adopt", {"name": name}, Idempotency_Key=key)
        except OSError:
            return None
        return answer.body if answer.status in (200, 202) else None  # 200: it is complete already

    job = running.until(asked, 30, "the request to be taken")
    assert running.wait(job)["outcome"] == "ok"
    running.until(lambda: running.broke_at(point), 5, f"a death at {point}")
    running.until(lambda: orphans(running) == [], 10, "a list of the node that was made after it")
    shown = running.ves()[name]
    assert content(running, f"{name}-{shown['id'][:8]}") == b"kept"
    running.check_truths()
