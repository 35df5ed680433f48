"""Random work while random parts are killed and frozen; then quiet, and a checker that knows nothing of the product's decisions.

``VMCLOUD_TEST_SEED`` and ``VMCLOUD_TEST_SECONDS`` replay or lengthen a run.
"""

from __future__ import annotations

import os
import random
import signal
import time
from typing import Any

import pytest

from tests.cloud import Cloud, cloud

pytestmark = [pytest.mark.scenario, pytest.mark.slow, pytest.mark.timeout(900)]

SEED = int(os.environ.get("VMCLOUD_TEST_SEED", "1"))
SECONDS = float(os.environ.get("VMCLOUD_TEST_SECONDS", "60"))
PARTS = ["broker", "directory", "web", "server", "monitor", "worker"]
VERBS = ["start", "stop", "restart", "suspend", "resume", "delete", "resize"]


def test_nothing_is_lost_or_doubled() -> None:
    dice = random.Random(SEED)
    print(f"seed {SEED}, {SECONDS} s")
    with cloud(simulate=4, node="simulate_delay = 0.05") as running:
        running.image()
        taken: dict[int, tuple[str, str]] = {}
        end = time.monotonic() + SECONDS
        next_blow = time.monotonic() + 1
        while time.monotonic() < end:
            name = f"v{dice.randrange(12)}"
            submit(running, dice, name, taken)
            time.sleep(dice.uniform(0, 0.15))
            if time.monotonic() > next_blow:
                blow(running, dice)
                next_blow = time.monotonic() + dice.uniform(0.5, 3)
        running.until(lambda: all_parts_ready(running), 90, "all parts to be ready")
        for number in taken:
            running.wait(number, 90)
        quiet(running)
        check(running, taken)


def submit(running: Cloud, dice: random.Random, name: str, taken: dict[int, tuple[str, str]]) -> None:
    """One request; only an accepted one counts, and one whose answer was lost may have been."""
    verb = dice.choice(["create", *VERBS])
    try:
        if verb == "create":
            answer = running.api("POST", "/ves", {"name": name, "image": "busybox", "kind": "simulated"})
        elif verb == "delete":
            answer = running.api("DELETE", f"/ves/{name}")
        elif verb == "resize":
            answer = running.api("PATCH", f"/ves/{name}", {"memory_mib": dice.choice([64, 128, 256])})
        else:
            answer = running.api("POST", f"/ves/{name}/{verb}", {})
    except (OSError, ValueError):
        return
    if answer.status == 202:
        taken[answer.body["id"]] = (verb, name)
    assert answer.status in (202, 404, 409, 500, 503), answer
    assert answer.status != 500 or "incident" in str(answer.body), answer


def blow(running: Cloud, dice: random.Random) -> None:
    part = dice.choice(PARTS)
    try:
        pid = running.parts()[part]["pid"]
    except (KeyError, AssertionError, ValueError):
        return
    if not pid:
        return
    try:
        if dice.random() < 0.35:
            os.kill(pid, signal.SIGSTOP)
            time.sleep(dice.uniform(0.2, 4))
            os.kill(pid, signal.SIGCONT)
        else:
            os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def all_parts_ready(running: Cloud) -> bool:
    return all(part["state"] in ("ready", "done") for part in running.parts().values())


def quiet(running: Cloud) -> None:
    """No job is open for three seconds in a row (reconcile may still have made some)."""

    def still() -> bool:
        return not running.ask("GET", "/jobs?active=true")["items"]

    def three_seconds() -> bool:
        for _ in range(6):
            if not still():
                return False
            time.sleep(0.5)
        return True

    running.until(three_seconds, 90, "quiet")


def check(running: Cloud, taken: dict[int, tuple[str, str]]) -> None:
    """SQL, directory, reality, read model."""
    running.check_truths()
    jobs: dict[int, tuple[Any, ...]] = {
        row[0]: row for row in running.sql("SELECT id, verb, ve_name, state, outcome FROM fleet_job")
    }
    open_steps = running.sql("SELECT count(*) FROM fleet_step WHERE state IN ('sent', 'accepted', 'running')")
    ends = dict(running.sql("SELECT job_id, count(*) FROM fleet_jobevent WHERE text LIKE ? GROUP BY job_id", "complete:%"))
    assert open_steps == [(0,)]
    for number, (verb, name) in taken.items():
        assert number in jobs, f"accepted job {number} {verb} {name} is lost"
        assert jobs[number][3] == "C" and jobs[number][4] in ("ok", "failed", "cancelled", "timed-out"), jobs[number]
        assert ends.get(number) == 1, f"job {number} ended {ends.get(number)} times"
    names = {each.name: 0 for each in running.directory().ves()}
    for native in running.simulated_guests():
        names[native.rpartition("-")[0]] += 1
    assert set(names.values()) <= {1}, names
