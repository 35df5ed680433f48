"""A site's own programs in a whole cloud: prologue and epilogue on a node, hooks at the server, webhooks."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests import receiver as kit
from tests.cloud import Cloud, cloud
from tests.receiver import Receiver
from vmcloud.config import Config

pytestmark = [pytest.mark.scenario, pytest.mark.engine]


@pytest.fixture(scope="module")
def running() -> Iterator[Cloud]:
    with cloud(simulate=1, more="[webhooks]\npause = 0.1\nseconds = 1.0") as made:
        made.image()
        yield made


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with kit.receiver() as made:
        yield made


@contextmanager
def put(path: Path, text: str) -> Iterator[None]:
    """A hook, for a while."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    try:
        yield
    finally:
        path.unlink()
        if path.parent.name != "hooks":
            path.parent.rmdir()


def node_hooks(running: Cloud) -> Path:
    (name,) = running.node_names()
    return Config.load(running.data).node_home(name) / "hooks"


def create(running: Cloud, name: str, **more: Any) -> dict[str, Any]:
    made: dict[str, Any] = running.ask("POST", "/ves", {"name": name, "image": "busybox", "kind": "simulated", **more})
    return made


def history(running: Cloud, job: dict[str, Any]) -> list[str]:
    return [each["text"] for each in running.ask("GET", f"/jobs/{job['id']}/events")["items"]]


def test_a_prologue_puts_a_job_back_refuses_the_next_and_both_are_explained(running: Cloud) -> None:
    folder = node_hooks(running)
    words = f"[ -e {folder}/.again ] && exit 0; touch {folder}/.again; echo a backup runs; exit 2"
    with put(folder / "prologue", words):
        job = running.wait(create(running, "put-back"))
        assert (job["outcome"], job["tries"]) == ("ok", 1)
        lines = history(running, job)
        assert any(
            line.startswith("prologue on node n-001 ended with exit status 2") and "a backup runs" in line for line in lines
        )
        assert any("try 1 of 6 failed" in line for line in lines)
    with put(folder / "prologue", "echo $2 may not; exit 1"):
        job = running.wait(create(running, "refused"))
        assert (job["outcome"], job["error"]["code"]) == ("failed", "prologue") and "admin may not" in job["reason"]
    running.check_truths()  # of what was refused nothing is left


def test_hooks_and_webhooks_are_told_and_hold_up_no_job(running: Cloud, receiver: Receiver) -> None:
    out = running.faults / "told"
    receiver.behaviour = kit.hang
    number = running.ask("POST", "/webhooks", {"url": receiver.url, "types": ["job.ended"]})["id"]
    with put(running.data / "hooks" / "job.ended" / "10-slow", f"cat >> {out}; echo >> {out}; sleep 1000"):
        running.until(lambda: "hooks are told of what happens" in running.log(), 20, "the herald")
        began = time.monotonic()
        job = running.wait(create(running, "told"))
        assert job["outcome"] == "ok" and time.monotonic() - began < 15
        running.until(lambda: f'"id":"job-{job["id"]}-ended-' in out.read_text(), 20, "the hook to be told")
        shown = running.until(lambda: (found := webhook(running, number))["failures"] and found, 20, "a failed attempt")
        assert shown["enabled"] and shown["waiting"] >= 1
    receiver.heard.clear()
    receiver.behaviour = kit.answer(204)
    running.signal("server", signal.SIGKILL)  # the next leader's herald goes on
    told = running.until(lambda: receiver.told("job.ended"), 30, "the message after the fail-over")
    assert told[0]["data"]["id"] == job["id"] and told[0]["data"]["outcome"] == "ok"
    running.until(lambda: webhook(running, number)["waiting"] == 0, 20, "the outbox to be empty")
    (sent,) = running.ask("GET", f"/webhooks/{number}/deliveries")["items"]
    assert (sent["state"], sent["code"]) == ("delivered", 204) and sent["attempts"] > 1
    assert running.run("webhook", "test", str(number)).returncode == 0
    assert receiver.told("webhook.test")


def webhook(running: Cloud, number: int) -> dict[str, Any]:
    found: dict[str, Any] = running.ask("GET", f"/webhooks/{number}")
    return found


def test_a_step_that_kills_its_worker_is_poison_and_no_rule_asks_for_it_again(running: Cloud) -> None:
    point = "worker.execute.before-driver"
    running.wait(create(running, "victim", power="stopped"))
    job = None
    for _ in range(3):
        running.break_at(point)
        job = job or running.ask("POST", "/ves/victim/start")
        running.until(lambda: running.broke_at(point), 20, "the worker to die")
    assert job is not None
    job = running.wait(job, 60)
    assert (job["outcome"], job["error"]["code"], job["tries"]) == ("failed", "poison", 0)
    assert job["error"]["why"] == "its worker died with it (3x)" and job["error"]["where"] == f"step {job['id']}.1 on node n-001"
    running.until(lambda: running.ves()["victim"]["status"] == "error", 20, "the VE to be given up")
    assert running.wait(create(running, "other"))["outcome"] == "ok"
    assert running.ask("GET", "/jobs?ve=victim")["items"][0]["id"] == job["id"]
    assert running.wait(running.ask("POST", "/ves/victim/start"))["outcome"] == "ok"  # a person may ask again
    running.check_truths()
