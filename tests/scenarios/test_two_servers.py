"""Two servers, one cloud: when the leader is killed or frozen the other one leads within seconds; the first writes no more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import pytest

from tests.cloud import QUICK, Cloud, cloud
from vmcloud.config import Intervals
from vmcloud.local.parts import environment

pytestmark = [pytest.mark.scenario, pytest.mark.engine]
TAKEN_OVER = 5.0
"""Seconds within which another server leads."""


@pytest.fixture(scope="module")
def running() -> Iterator[Cloud]:
    with cloud(simulate=2, intervals={**QUICK, "lease": asdict(Intervals())["lease"]}) as made:
        made.image()
        yield made


@contextmanager
def another_server(running: Cloud) -> Iterator[subprocess.Popen[bytes]]:
    """A second server process, started as the supervisor starts the first; its log goes beside the cloud's."""
    with (running.data / "log" / "second.log").open("wb") as log:
        made = subprocess.Popen(
            [sys.executable, "-m", "vmcloud.site", "server"],
            env={**environment(running.data), "VMCLOUD_PART": "server", "VMCLOUD_FAULTS": str(running.faults)},
            cwd=running.data,
            stdout=log,
            stderr=log,
        )
    try:
        running.until(lambda: b"standing by" in said(running), 20, "the second server to stand by")
        yield made
    finally:
        made.send_signal(signal.SIGCONT)
        made.kill()
        made.wait(10)


def said(running: Cloud) -> bytes:
    return (running.data / "log" / "second.log").read_bytes()


def leader(running: Cloud) -> tuple[str, int]:
    """Holder and epoch of the lease, as the table has it."""
    ((holder, epoch),) = running.sql("SELECT holder, epoch FROM fleet_lease")
    return holder, epoch


def led_by_another(running: Cloud, holder: str) -> float:
    """Seconds until somebody else leads."""
    began = time.monotonic()
    running.until(lambda: leader(running)[0] not in ("", holder), 20, "another leader")
    return time.monotonic() - began


def create(running: Cloud, name: str) -> dict[str, Any]:
    job: dict[str, Any] = running.ask("POST", "/ves", {"name": name, "image": "busybox", "kind": "simulated", "memory_mib": 64})
    return job


def test_a_killed_leader_is_replaced_within_seconds_and_nothing_is_lost(running: Cloud) -> None:
    with another_server(running) as second:
        holder, epoch = leader(running)
        jobs = [create(running, f"k{number}") for number in range(5)]
        running.signal("server", signal.SIGSTOP)  # so that it can not be started anew before the other one leads
        running.signal("server", signal.SIGKILL)
        seconds = led_by_another(running, holder)
        assert seconds < TAKEN_OVER and leader(running)[1] > epoch
        assert [running.wait(job)["outcome"] for job in jobs] == ["ok"] * 5
        assert running.wait(create(running, "after"))["outcome"] == "ok"
        assert second.poll() is None
    running.check_truths()


def test_a_frozen_leader_is_replaced_and_its_late_writes_are_refused(running: Cloud) -> None:
    # The test before may have left nobody leading: the one that is frozen must be the one that leads.
    running.until(lambda: str(running.parts()["server"]["pid"]) in leader(running)[0], 20, "the cloud's own server to lead")
    with another_server(running) as second:
        holder, epoch = leader(running)
        with running.frozen("server"):
            jobs = [create(running, f"f{number}") for number in range(5)]
            assert led_by_another(running, holder) < TAKEN_OVER
            assert [running.wait(job)["outcome"] for job in jobs] == ["ok"] * 5
            changed = running.wait(running.ask("POST", "/ves/f0/stop"))
        now = leader(running)
        assert now[1] > epoch and str(second.pid) in now[0]
        deposed = f"was leader in epoch {epoch}; another server leads now"
        running.until(lambda: deposed in running.log(400), 20, "the first one to notice")
        time.sleep(1.0)
        assert leader(running) == now, "it stands by"
        assert running.job(changed["id"])["outcome"] == "ok" and running.ves()["f0"]["status"] == "stopped"
        running.wait(running.ask("POST", "/ves/f0/start"))
        with frozen(second):
            assert led_by_another(running, now[0]) < TAKEN_OVER, "and back again"
            running.wait(create(running, "back"))
    running.check_truths()


@contextmanager
def frozen(process: subprocess.Popen[bytes]) -> Iterator[None]:
    os.kill(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process.pid, signal.SIGCONT)
