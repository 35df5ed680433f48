"""A disk that is full, of the job database, the directory, the broker, the images, a node: named refusals, nothing lost or half
made, and it goes on by itself once there is room."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.cloud import Cloud, launched
from tests.disks import Disk, disk

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(180)]
SIZES = {"sql": "24m", "directory": "16m", "broker": "8m", "images": "2m", "node": "32m"}
NAMES = ("one", "two")


@pytest.fixture(scope="module")
def disks() -> Iterator[tuple[Cloud, dict[str, Disk]]]:
    """A cloud each of whose stores has a small disk of its own."""
    with ExitStack() as last:
        folder = Path(last.enter_context(tempfile.TemporaryDirectory(prefix="c", ignore_cleanup_errors=True)))
        folder.chmod(0o711)
        data = folder / "d"
        made = {name: last.enter_context(disk(data / name, size)) for name, size in SIZES.items()}
        running = last.enter_context(launched(data, simulate=1, database=""))
        running.image()
        for name in NAMES:
            running.wait(create(running, name))
        yield running, made


def create(running: Cloud, name: str) -> dict[str, Any]:
    job: dict[str, Any] = running.ask("POST", "/ves", {"name": name, "image": "busybox", "kind": "simulated", "memory_mib": 64})
    return job


def restart(running: Cloud, name: str = "one") -> dict[str, Any]:
    job: dict[str, Any] = running.ask("POST", f"/ves/{name}/restart", {"force": True})
    return job


def pids(running: Cloud) -> dict[str, int]:
    return {name: part["pid"] for name, part in running.parts().items() if part["state"] == "ready"}


def test_the_job_database(disks: tuple[Cloud, dict[str, Disk]]) -> None:
    running, disk_of = disks
    before = pids(running)
    with running.frozen("worker"):
        taken = [restart(running, name)["id"] for name in NAMES]
        disk_of["sql"].fill()
    try:
        refused = running.until(
            lambda: (found := running.api("POST", "/ves/one/stop", {})).status != 202 and found, 20, "a refusal"
        )
        assert (refused.status, refused.body["code"]) == (507, "no-room"), refused
        assert "job database has no room" in refused.body["what"]
        assert running.api("GET", "/ves").status == 200 and running.job(taken[0])["id"] == taken[0], "what is there can be read"
        count = len(running.ask("GET", "/jobs")["items"])
    finally:
        disk_of["sql"].free()
    assert {running.wait(number)["outcome"] for number in taken} == {"ok"}
    assert len(running.ask("GET", "/jobs")["items"]) == count, "what was refused has left nothing"
    assert running.wait(restart(running))["outcome"] == "ok" and pids(running) == before
    running.check_truths()


def test_the_directory(disks: tuple[Cloud, dict[str, Disk]]) -> None:
    running, disk_of = disks
    before = pids(running)
    with disk_of["directory"].full():
        refused = running.api("POST", "/ves", {"name": "never", "image": "busybox", "kind": "simulated", "memory_mib": 64})
        assert (refused.status, refused.body["code"]) == (507, "no-room"), refused
        assert "directory has no room" in refused.body["what"]
        # Small writes may still find room that was freed within its file; what finds none must wait.
        jobs = [restart(running, name) for name in NAMES for _ in range(3)]
        jobs.append(running.ask("PATCH", "/ves/two", {"memory_mib": 128}))
        assert "never" not in running.ves()
    assert {running.wait(job, 60)["outcome"] for job in jobs} == {"ok"}
    running.until(lambda: not running.ask("GET", "/jobs?active=true")["items"], 20, "what was refused to be swept up")
    assert running.wait(create(running, "never"))["outcome"] == "ok", "its name is free"
    running.wait(running.ask("DELETE", "/ves/never"))
    assert pids(running) == before
    running.check_truths()


def test_the_broker(disks: tuple[Cloud, dict[str, Disk]]) -> None:
    running, disk_of = disks
    before = pids(running)
    with disk_of["broker"].full():
        jobs = [restart(running, name) for name in NAMES for _ in range(3)]
        running.until(lambda: any("broker" in running.job(job["id"])["reason"] for job in jobs), 20, "a job to name the broker")
    assert {running.wait(job, 60)["outcome"] for job in jobs} == {"ok"}
    assert pids(running) == before
    running.check_truths()


def test_the_images(disks: tuple[Cloud, dict[str, Disk]]) -> None:
    running, disk_of = disks
    before = sorted(path.name for path in disk_of["images"].folder.iterdir())
    refused = running.api("PUT", "/images/large", b"x" * (4 << 20))
    assert (refused.status, refused.body["code"]) == (507, "no-room"), refused
    assert sorted(path.name for path in disk_of["images"].folder.iterdir()) == before
    assert running.wait(running.ask("PUT", "/images/small", b"x" * 1000))["outcome"] == "ok"


def test_a_node(disks: tuple[Cloud, dict[str, Disk]]) -> None:
    running, disk_of = disks
    before = pids(running)
    with disk_of["node"].full():
        job = restart(running)
        reason = running.until(lambda: "no-room" in (said := running.job(job["id"])["reason"]) and said, 20, "the node to refuse")
        assert "journal" in reason and "no room" in reason
        assert {name: ve["status"] for name, ve in running.ves().items()} == dict.fromkeys(NAMES, "running")
    ended = running.wait(job, 60)
    assert (ended["outcome"], len(ended["steps"])) == ("ok", 1)
    assert pids(running) == before
    running.check_truths()
