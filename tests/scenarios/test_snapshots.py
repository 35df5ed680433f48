"""Snapshots and metering in a whole cloud: what people type, kill -9 on the way of their jobs, cancels and failures."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.cloud import Cloud, cloud
from tests.scenarios.test_faults import ask_until_taken
from workers.drivers import simulated

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(180)]
POINTS = (
    "web.submit.queued",
    "server.dispatch.desired",
    "server.dispatch.committed",
    "server.dispatch.sent",
    "server.result.received",
    "worker.accept.journalled",
    "worker.execute.before-driver",
    "worker.step.acted",
    "worker.finish.journalled",
    "monitor.written",
    "driver.simulated.snapshot.begun",
    "driver.simulated.revert.begun",
    "driver.simulated.delete-snapshot.begun",
)


@pytest.fixture(scope="module")
def running() -> Iterator[Cloud]:
    with cloud(simulate=1) as made:
        made.image()
        yield made


def create(running: Cloud, name: str, *more: str) -> dict[str, Any]:
    running.run("ve", "create", name, "--image", "busybox", "--kind", "simulated", "--wait", *more)
    return running.ves()[name]


def write(running: Cloud, name: str, text: str) -> None:
    running.run("ve", "exec", name, "--", "sh", "-c", f"echo {text} > /root/note; sync")


def read(running: Cloud, name: str) -> str:
    return running.run("ve", "exec", name, "--", "cat", "/root/note").stdout.strip()


def kept(running: Cloud, name: str) -> list[str]:
    return [each["name"] for each in running.ask("GET", f"/ves/{name}/snapshots")["items"]]


def file(running: Cloud) -> Any:
    return running.simulated_file(running.node_names()[0])


def effects(running: Cloud, name: str) -> dict[str, int]:
    counted = simulated.effects(file(running)).items()
    return {what: times for (native, what), times in counted if native.startswith(f"{name}-")}


def test_a_snapshots_life(running: Cloud) -> None:
    """Taken, listed everywhere, gone back to, deleted. What a job says is shown when it is complete."""
    create(running, "life")
    write(running, "life", "one")
    running.run("ve", "snapshot", "life", "first", "--wait")
    assert running.run("ve", "snapshots", "life", "-o", "name").stdout == "first\n"
    record = running.directory().ve_named("main", "life")
    assert record is not None and record.observed is not None
    (shown,) = record.observed.snapshots
    assert (shown.name, shown.job) == ("first", running.ask("GET", "/jobs?verb=snapshot")["items"][0]["id"])
    write(running, "life", "two")
    running.run("ve", "snapshot", "life", "--wait")
    running.run("ve", "revert", "life", "first", "--wait")
    assert running.ves()["life"]["status"] == "running" and read(running, "life") == "one"
    assert kept(running, "life")[0] == "first" and len(kept(running, "life")) == 2
    running.run("ve", "stop", "life", "--wait")
    running.run("ve", "revert", "life", kept(running, "life")[1], "--wait")
    assert running.ves()["life"]["status"] == "stopped"
    running.run("ve", "start", "life", "--wait")
    assert read(running, "life") == "two"
    running.run("ve", "delete-snapshot", "life", *kept(running, "life"), "--wait")
    assert kept(running, "life") == []
    running.check_truths()
    running.run("ve", "delete", "life", "--wait")


def test_refusals_on_the_command_line_are_words_and_leave_no_job(running: Cloud) -> None:
    create(running, "no")
    before = running.ask("GET", "/jobs?limit=1")["items"][0]["id"]
    for arguments, said in (
        (("revert", "no", "x"), "it has none"),
        (("delete-snapshot", "no", "x"), "no snapshot 'x'"),
        (("snapshot", "no", "Not_a_label"), "DNS label"),
        (("snapshot", "nobody", "a"), "no VE is called 'nobody'"),
    ):
        done = running.run("ve", *arguments, check=False)
        assert done.returncode == 1 and said in done.stderr and done.stdout == "", done
    assert running.ask("GET", "/jobs?limit=1")["items"][0]["id"] == before
    running.run("ve", "delete", "no", "--wait")


@pytest.mark.parametrize("point", POINTS)
def test_kill_at(running: Cloud, point: str) -> None:
    """Each job ends well, each effect comes once, and what is shown is what there is."""
    name = point.replace(".", "-")
    create(running, name)
    write(running, name, "one")
    running.break_at(point)
    asked = [
        ask_until_taken(running, "POST", f"/ves/{name}/snapshots", {"name": "a"}, f"{name}1"),
        ask_until_taken(running, "POST", f"/ves/{name}/snapshots", {"name": "b"}, f"{name}2"),
        ask_until_taken(running, "POST", f"/ves/{name}/revert", {"snapshot": "a"}, f"{name}3"),
        ask_until_taken(running, "DELETE", f"/ves/{name}/snapshots/a", None, f"{name}4"),
        ask_until_taken(running, "POST", f"/ves/{name}/snapshots", {"name": "a"}, f"{name}5"),
    ]
    ended = [running.wait(int(str(job["id"])), 40) for job in asked]
    assert [each["outcome"] for each in ended] == ["ok"] * 5, [(each["verb"], each["outcome"], each["reason"]) for each in ended]
    assert running.broke_at(point), f"nothing came to {point}"
    shown = running.ask("GET", f"/ves/{name}/snapshots")["items"]
    assert [(each["name"], each["job"]) for each in shown] == [("b", asked[1]["id"]), ("a", asked[4]["id"])]
    assert running.ves()[name]["status"] == "running" and read(running, name) == "one"
    running.check_truths()
    counted = effects(running, name)
    assert (counted["snapshot"], counted["delete-snapshot"]) == (3, 1), counted
    # A revert and its stop may be repeated where its worker died between them: they end in the same state.
    assert counted["revert"] in ((1, 2) if point.startswith("worker.") else (1,)), counted
    running.run("ve", "delete", name, "--wait")


def test_a_failing_snapshot_leaves_none_and_a_failing_revert_leaves_it_running(running: Cloud) -> None:
    create(running, "bad")
    simulated.plan_fault(file(running), "snapshot", "error")
    assert running.run("ve", "snapshot", "bad", "a", "--wait", check=False).returncode == 1
    assert kept(running, "bad") == [] and running.ves()["bad"]["status"] == "running"
    running.run("ve", "snapshot", "bad", "a", "--wait")
    simulated.plan_fault(file(running), "revert", "error")
    assert running.run("ve", "revert", "bad", "a", "--wait", check=False).returncode == 1
    shown = running.ves()["bad"]
    assert (shown["status"], shown["desired"]) == ("running", "running")
    simulated.plan_fault(file(running), "delete-snapshot", "error")
    assert running.run("ve", "delete-snapshot", "bad", "a", "--wait", check=False).returncode == 1
    assert kept(running, "bad") == ["a"], "it is listed as long as it is there"
    running.check_truths()
    running.run("ve", "delete", "bad", "--wait")


def test_a_guest_that_shuts_itself_down_after_a_failed_snapshot_is_not_started_again(running: Cloud) -> None:
    shown = create(running, "own")
    simulated.plan_fault(file(running), "snapshot", "error")
    running.run("ve", "snapshot", "own", "a", "--wait", check=False)
    from vmcloud.domain.vocabulary import Observed
    from workers.drivers.simulated import outside

    outside(file(running), f"own-{shown['id'][:8]}", Observed.STOPPED)
    running.until(lambda: running.ves()["own"]["desired"] == "stopped", 20, "its own shutdown to be taken for its will")
    running.check_truths()
    running.run("ve", "delete", "own", "--wait")


def test_a_cancelled_revert_leaves_it_running(running: Cloud) -> None:
    create(running, "back")
    running.run("ve", "snapshot", "back", "a", "--wait")
    simulated.plan_fault(file(running), "revert", "hang")
    job = running.ask("POST", "/ves/back/revert", {"snapshot": "a"})
    running.until(
        lambda: [each["phase"] for each in running.job(job["id"])["steps"]] == ["revert"], 15, "the guest to be stopped for it"
    )
    assert running.ves()["back"]["status"] not in ("error", "lost", "crashed")
    running.ask("POST", f"/jobs/{job['id']}/cancel", {})
    assert running.wait(job)["outcome"] == "cancelled"
    assert running.ves()["back"]["status"] == "running" and kept(running, "back") == ["a"]
    running.check_truths()
    running.run("ve", "delete", "back", "--wait")


def test_what_a_ve_uses_is_measured_shown_and_scraped(running: Cloud) -> None:
    create(running, "busy", "--memory", "64")
    create(running, "off", "--power", "stopped")
    running.until(lambda: running.ask("GET", "/ves/busy/usage")["usage"], 15, "a measurement")
    running.until(lambda: running.ask("GET", "/ves/busy/usage")["usage"]["cpu_percent"] is not None, 15, "a second one")
    (shown,) = json.loads(running.run("ve", "top", "-o", "json").stdout)
    assert shown["name"] == "busy" and 0 < shown["usage"]["memory_bytes"] <= 64 << 20
    assert "busy" in running.run("ve", "top").stdout

    def scraped() -> dict[tuple[str, str], float]:
        token = (running.data / "secrets" / "admin-token").read_text().strip()
        request = urllib.request.Request(f"{running.url}/metrics", headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            families = text_string_to_metric_families(answer.read().decode())
        return {
            (sample.name, sample.labels.get("ve", sample.labels.get("node", ""))): sample.value
            for family in families
            for sample in family.samples
        }

    (node,) = running.node_names()
    found = scraped()
    assert found["vmcloud_ve_cpu_seconds_total", "busy"] >= 0 and ("vmcloud_ve_memory_bytes", "off") not in found
    assert found["vmcloud_node_up", node] == 1
    with running.frozen("worker"):
        running.until(lambda: scraped()["vmcloud_node_up", node] == 0, 20, "the node to be missed")
        assert not any(name.startswith("vmcloud_ve_") for name, _ in scraped())
        assert running.run("ve", "top").stdout == ""
    running.nodes_up()
    for name in ("busy", "off"):
        running.run("ve", "delete", name, "--wait")


def test_kinds_are_shown_with_the_nodes_that_offer_them(running: Cloud) -> None:
    shown = json.loads(running.run("kind", "show", "simulated", "-o", "json").stdout)
    assert (shown["nodes"], shown["nodes_up"]) == (1, 1)
    assert "simulated" in running.run("kind", "list").stdout
