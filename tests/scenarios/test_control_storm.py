"""Three people with LDAP tools at once, with sense and without, beside jobs of the command line; the server dies in between."""

from __future__ import annotations

import random
import signal
import threading
from typing import Any

import pytest

from tests.cloud import Cloud, cloud
from tests.ldap_tools import Tools

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(240)]

NAMES = [f"ve-{number}" for number in range(6)]
VALUES: dict[str, list[str | None]] = {
    "vmcDesiredState": ["running", "stopped", "suspended", "running", "stopped", "gone", "Running; reboot", None],
    "vmcMemoryMiB": ["64", "96", "-1", "0", "9" * 400, "1e3", "99999999", None],
    "vmcVCPUs": ["1", "2", "70000", "-3", "7" * 12, None],
    "vmcDiskMiB": ["0", "-1", "10"],
    "vmcImageName": ["busybox", "other", "$(reboot)", "x" * 300],
    "vmcRestartPolicy": ["always", "on-failure", "sometimes", None],
    "vmcDrift": ["report", "nothing"],
    "vmcOwner": ["admin", "rita", "<b>", "x" * 2000, None],
    "description": ["fine", "x" * 1200, "<script>alert(1)</script>", "' OR 1=1 --", "\u2028 \U0001f600", None],
    "vmcRequestedNode": ["n-001", "nowhere", None],
    "vmcPrivileged": ["TRUE", "FALSE", "maybe"],
    "vmcGeneration": ["1", "999"],
    "vmcNodeName": ["n-002"],
    "vmcUUID": ["00000000-0000-0000-0000-000000000000"],
}


def write(tools: Tools, chance: random.Random, person: str, count: int) -> None:
    for _ in range(count):
        names = chance.sample(sorted(VALUES), chance.choice([1, 1, 2, 3]))
        values = {name: chance.choice(VALUES[name]) for name in names}
        tools.modify(chance.choice(NAMES), person, check=False, **values)


def ask(running: Cloud, chance: random.Random, count: int, asked: list[int]) -> None:
    for _ in range(count):
        verb = chance.choice(["start", "stop", "restart", "suspend", "resume"])
        answer = running.api("POST", f"/ves/{chance.choice(NAMES)}/{verb}", {})
        if answer.status in (200, 202):
            asked.append(answer.body["id"])


def test_a_storm_of_changes_leaves_one_truth() -> None:
    chance = random.Random(20261121)
    with cloud(simulate=2) as running:
        running.image()
        tools = Tools(running)
        tools.person("olga", "operators")
        tools.person("adam", "administrators")
        for job in [running.ask("POST", "/ves", {"name": n, "image": "busybox", "kind": "simulated"}) for n in NAMES]:
            running.wait(job)
        asked: list[int] = []
        threads = [
            threading.Thread(target=write, args=(tools, random.Random(chance.random()), person, 40))
            for person in ("", "olga", "adam")
        ]
        threads.append(threading.Thread(target=ask, args=(running, random.Random(chance.random()), 25, asked)))
        for thread in threads:
            thread.start()
        threads[0].join(3.0)
        running.signal("server", signal.SIGKILL)
        for thread in threads:
            thread.join()
        running.until(lambda: not open_jobs(running), 60, f"all jobs to be over: {open_jobs(running)}")
        restarts = {name: part["restarts"] for name, part in running.parts().items() if part["restarts"]}
        assert restarts == {"server": 1}, "nothing but the one that was killed ever ended"
        for name in NAMES:
            settle(running, name)
        running.check_truths()
        for name, shown in running.ves().items():
            assert shown["image"] == "busybox" and not shown["privileged"] and shown["memory_mib"] in (64, 96, 128), (name, shown)
        jobs = running.ask("GET", "/jobs?limit=1000")["items"]
        assert {each["state"] for each in jobs} == {"C"}
        assert all(job["error"] or job["outcome"] != "failed" for job in jobs), "each failure says why"
        assert {job["owner"] for job in jobs if job["origin"] == "ldap"} >= {"root", "adam"}


def open_jobs(running: Cloud) -> list[Any]:
    return [(each["id"], each["verb"], each["reason"]) for each in running.ask("GET", "/jobs?active=1&limit=100")["items"]]


def settle(running: Cloud, name: str) -> None:
    """Some of them were made suspended and stopped at once, or failed on the way: one last word about each."""
    shown = running.ask("GET", f"/ves/{name}")
    if shown["observed"] == "suspended":
        running.wait(running.ask("POST", f"/ves/{name}/resume", {}))
    running.wait(running.ask("POST", f"/ves/{name}/stop", {}))
