"""Clocks that are off by a day: on a node, and on the server in the middle of work. What depends on a clock is refused by name;
nothing is lost; all goes on when the clock is right again. The clocks are turned by libfaketime."""

from __future__ import annotations

import glob
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cloud import Cloud, cloud
from vmcloud.local.parts import environment

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(150)]
DAY = 86400.0
MODULES = {"server": ["vmcloud.site", "server"], "worker": ["workers"]}


class Part:
    """A part that a test runs in the supervisor's place, with a clock that the test sets."""

    def __init__(self, running: Cloud, name: str) -> None:
        self._running, self._name = running, name
        self._file = running.data / f"clock-{name}"
        self.set("+0")
        self._process: subprocess.Popen[bytes] | None = None

    def set(self, offset: str) -> None:
        """``+1d``, ``-1d``, ``+0``: from now on."""
        self._file.write_text(f"{offset}\n")
        self._file.chmod(0o644)

    def start(self) -> None:
        [library] = glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")  # noqa: PTH207 - an absolute pattern
        clock = {
            "LD_PRELOAD": library,
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        with (self._running.data / "log" / f"{self._name}.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *MODULES[self._name]],
                env={**environment(self._running.data), **clock, "VMCLOUD_PART": self._name},
                cwd=self._running.data,
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(10)


@pytest.fixture(scope="module")
def parts() -> Iterator[tuple[Cloud, Part, Part]]:
    """A cloud, and its server and worker with clocks of their own."""
    with cloud(without=("server", "worker"), simulate=2) as made:
        server, worker = Part(made, "server"), Part(made, "worker")
        try:
            server.start()
            worker.start()
            made.nodes_up()
            made.image()
            yield made, server, worker
        finally:
            server.kill()
            worker.kill()


def make(running: Cloud, name: str) -> dict[str, Any]:
    job = running.wait(running.ask("POST", "/ves", {"name": name, "image": "busybox", "kind": "simulated"}))
    assert job["outcome"] == "ok", job
    return running.ves()[name]


def waits(running: Cloud, job: dict[str, Any], words: str) -> None:
    found = running.until(lambda: words in (it := running.job(job["id"]))["reason"] and it, 20, f"the job to say {words!r}")
    assert found["state"] != "C"


def test_a_node_whose_clock_is_off_by_a_day_refuses_by_name_and_loses_nothing(parts: tuple[Cloud, Part, Part]) -> None:
    running, _, worker = parts
    node = make(running, "v")["node"]
    for offset, words in (("-1d", "clock is"), ("+1d", "clock is ahead")):
        worker.set(offset)
        running.until(lambda: "clock" in shown(running, node)["reason"], 20, "the node's page to say that its clock is off")
        job = running.ask("POST", "/ves/v/stop", {})
        waits(running, job, words)
        assert running.ves()["v"]["observed"] == "running", "what is there is seen all the same"
        worker.set("+0")
        assert running.wait(job, 40)["outcome"] == "ok"
        running.until(lambda: not shown(running, node)["reason"], 20, "that to be over")
        assert running.wait(running.ask("POST", "/ves/v/start", {}), 40)["outcome"] == "ok"
    worker.set("+1d")
    worker.kill()
    worker.start()
    running.until(lambda: "clock" in shown(running, node)["reason"], 20, "a worker that starts so to say so")
    worker.set("+0")
    assert running.wait(running.ask("POST", "/ves/v/restart", {}), 40)["outcome"] == "ok", "nor is it in the way afterwards"
    running.check_truths()


def shown(running: Cloud, name: str) -> dict[str, Any]:
    found: dict[str, Any] = running.ask("GET", f"/nodes/{name}")
    return found


def test_a_server_whose_clock_is_set_goes_on_when_it_is_right_again(parts: tuple[Cloud, Part, Part]) -> None:
    running, server, _ = parts
    make(running, "w")
    for offset, off in (("-1d", -DAY), ("+1d", DAY)):
        first = running.ask("POST", "/ves/w/restart", {})
        server.set(offset)
        running.until(lambda off=off: abs(lease_ends_in(running) - off) < 60, 20, "the leader to write by that clock")
        job = running.ask("POST", "/ves/w/stop", {})
        waits(running, job, "clock")
        server.set("+0")
        assert [running.wait(each, 40)["outcome"] for each in (first, job)] == ["ok", "ok"]
        assert running.wait(running.ask("POST", "/ves/w/start", {}), 40)["outcome"] == "ok"
    server.set("+1d")
    running.until(lambda: lease_ends_in(running) > DAY - 60, 20, "the lease to end tomorrow")
    server.kill()
    server.set("+0")
    server.start()
    assert running.wait(running.ask("POST", "/ves/w/stop", {}), 40)["outcome"] == "ok", "who comes after does not wait a day"
    running.check_truths()


def lease_ends_in(running: Cloud) -> float:
    """Seconds, by the right clock."""
    ((expires,),) = running.sql("SELECT expires FROM fleet_lease")
    return float(expires) - time.time()
