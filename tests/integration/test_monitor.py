"""The monitor as a process, between a real broker and a real slapd."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.slapd import SUFFIX, Slapd, free_port, slapd
from vmcloud.config import Config
from vmcloud.dispatch.acl import acl_file
from vmcloud.dispatch.send import Sender
from vmcloud.domain.errors import Unavailable
from vmcloud.domain.messages import Mark, NodeFacts, Seen, Sighting
from vmcloud.domain.names import native_name
from vmcloud.domain.records import NodeRecord, VERecord
from vmcloud.domain.spec import Spec
from vmcloud.domain.vocabulary import Desired, Kind, Observed

pytestmark = [pytest.mark.integration, pytest.mark.timeout(15)]
__all__ = ["slapd"]

FACTS = NodeFacts(kinds=(Kind.LXC,), cpus=4, memory_mib=4096, disk_mib=9000, version="0.1.0")
IDENTITIES = ("web", "server", "monitor", "supervisor", "node-n1", "node-n2")


class Cloud:
    """A data directory, a broker, a slapd, a monitor."""

    def __init__(self, data: Path, slapd: Slapd) -> None:
        self.data, self.slapd = data, slapd
        self.port = free_port()
        self.faults = data / "faults"
        self.faults.mkdir()
        (data / "config.toml").write_text(
            f'suffix = "{SUFFIX}"\nbroker_url = "redis://127.0.0.1:{self.port}/0"\ndirectory_uri = "{slapd.uri}"\n'
        )
        (data / "secrets").mkdir()
        for name in IDENTITIES:
            secrets = {"broker_password": f"broker-{name}", "directory_password": slapd.passwords.get(name, "")}
            (data / "secrets" / f"{name}.json").write_text(json.dumps(secrets))
        (data / "users.acl").write_text(acl_file({name: f"broker-{name}" for name in IDENTITIES}))
        self.config = Config.load(data)
        self.processes: list[subprocess.Popen[str]] = []
        argv = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--aclfile", str(data / "users.acl")]
        self._run([*argv, "--save", "", "--appendonly", "no", "--dir", str(data)])
        self.server = slapd.directory("server")
        for name in ("n1", "n2"):
            self.server.add_node(NodeRecord(name=name))
        self.senders: dict[str, Sender] = {}

    def _run(self, argv: list[str], **options: Any) -> subprocess.Popen[str]:
        process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, text=True, **options)
        self.processes.append(process)
        return process

    def monitor(self) -> subprocess.Popen[str]:
        """Start the monitor and wait until it is ready."""
        environment = {**os.environ, "VMCLOUD_DATA": str(self.data), "VMCLOUD_FAULTS": str(self.faults)}
        path = self.data / f"monitor-{len(self.processes)}.log"
        with path.open("w") as stream:
            process = self._run([sys.executable, "-m", "monitor"], env=environment, stderr=stream)
        until(lambda: " ready." in path.read_text() or process.poll() is not None)
        assert process.poll() is None, path.read_text()
        return process

    def a_ve(self, name: str = "web-1") -> VERecord:
        spec = Spec(kind=Kind.LXC, image="busybox")
        record = VERecord(uuid4(), name, "main", "alice", spec, Desired.RUNNING, generation=1, job=1)
        return self.server.change_ve(self.server.claim(record), node="n1")

    def say(self, sequence: int, *guests: Seen, node: str = "n1", **changes: Any) -> None:
        sender = self.senders.setdefault(node, Sender(self.config, f"node-{node}"))
        message = replace(Sighting(node, Mark(1, sequence), time.time(), full=False, guests=guests), **changes)
        deadline = time.monotonic() + 5
        while True:
            try:
                sender.report(message)
                return
            except Unavailable:
                assert time.monotonic() < deadline
                time.sleep(0.02)

    def state(self, record: VERecord) -> Observed | None:
        stored = self.server.ve(record.ve)
        return stored.observed.state if stored is not None and stored.observed is not None else None

    def close(self) -> None:
        for process in reversed(self.processes):
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(5)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait(5)


@pytest.fixture
def cloud(tmp_path: Path, slapd: Slapd) -> Iterator[Cloud]:
    if shutil.which("redis-server") is None:
        pytest.fail("redis-server is not installed: ./runtests installs it")
    made = Cloud(tmp_path, slapd)
    yield made
    made.close()


def guest(record: VERecord, state: Observed = Observed.RUNNING) -> Seen:
    return Seen(native_name(record.name, record.ve), Kind.LXC, state, ve=record.ve, generation=1)


def until(check: Callable[[], bool], seconds: float = 8.0) -> float:
    """Seconds until ``check`` holds."""
    began = time.monotonic()
    while not check():
        assert time.monotonic() - began < seconds
        time.sleep(0.002)
    return time.monotonic() - began


def test_sightings_reach_the_directory_and_sigterm_ends_the_monitor(cloud: Cloud) -> None:
    record = cloud.a_ve()
    monitor = cloud.monitor()
    cloud.say(1, guest(record), facts=FACTS, full=True)
    until(lambda: cloud.state(record) is Observed.RUNNING)
    node = cloud.server.node("n1")
    assert node is not None
    assert node.facts == FACTS
    delays = []
    for sequence in range(2, 32):
        state = Observed.STOPPED if sequence % 2 == 0 else Observed.RUNNING
        cloud.say(sequence, guest(record, state))
        delays.append(until(lambda state=state: cloud.state(record) is state))  # type: ignore[misc]
    print(f"from report to directory: p50 {sorted(delays)[len(delays) // 2] * 1e3:.1f} ms")
    monitor.terminate()
    assert monitor.wait(5) == 0


def test_a_node_added_later_is_heard(cloud: Cloud) -> None:
    cloud.server.remove_node("n2")
    cloud.monitor()
    cloud.server.add_node(NodeRecord(name="n2"))
    cloud.say(1, facts=FACTS, node="n2")
    assert Sender(cloud.config, "server").wake("nodes")

    def heard() -> bool:
        node = cloud.server.node("n2")
        return node is not None and node.facts == FACTS

    until(heard)


@pytest.mark.parametrize("point", ["monitor.received", "monitor.written"])
def test_a_monitor_killed_anywhere_loses_no_sighting(cloud: Cloud, point: str) -> None:
    record = cloud.a_ve()
    monitor = cloud.monitor()
    (cloud.faults / point).touch()
    cloud.say(1, guest(record))
    assert monitor.wait(5) == -signal.SIGKILL
    cloud.monitor()
    until(lambda: cloud.state(record) is Observed.RUNNING)


def test_sightings_wait_while_the_directory_is_down(cloud: Cloud) -> None:
    record = cloud.a_ve()
    cloud.monitor()
    cloud.slapd.stop()
    cloud.say(1, guest(record))
    cloud.say(2, guest(record, Observed.STOPPED))
    time.sleep(0.3)
    cloud.slapd.start()
    until(lambda: cloud.state(record) is Observed.STOPPED)


def test_a_monitor_ended_while_the_directory_is_down_keeps_the_message(cloud: Cloud) -> None:
    record = cloud.a_ve()
    monitor = cloud.monitor()
    cloud.slapd.stop()
    cloud.say(1, guest(record))
    time.sleep(0.5)
    monitor.terminate()
    assert monitor.wait(8) == 0
    cloud.slapd.start()
    cloud.monitor()
    until(lambda: cloud.state(record) is Observed.RUNNING)
