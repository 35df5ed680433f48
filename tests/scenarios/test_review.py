"""What a review found could go wrong, each as the scenario that showed it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest

from tests.cloud import Cloud, cloud
from vmcloud.config import Config
from vmcloud.dispatch.send import Sender
from vmcloud.domain.messages import Digest, Mark, NodeFacts
from vmcloud.domain.vocabulary import Kind, Observed
from workers.drivers import simulated

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(180)]

NEW = {"image": "busybox", "kind": "simulated"}


@pytest.fixture(scope="module")
def running() -> Iterator[Cloud]:
    with cloud(simulate=3) as made:
        made.image()
        yield made


def make(running: Cloud, name: str, **more: object) -> dict[str, object]:
    job = running.wait(running.ask("POST", "/ves", {**NEW, "name": name, **more}))
    assert job["outcome"] == "ok", job
    found: dict[str, object] = running.ves()[name]
    return found


def test_a_delete_cancelled_before_it_began_deletes_nothing(running: Cloud) -> None:
    make(running, "keep")
    with running.frozen("worker"):
        job = running.ask("DELETE", "/ves/keep")
        running.until(lambda: running.job(job["id"])["state"] == "R", 10, "the step to be sent")
        running.ask("POST", f"/jobs/{job['id']}/cancel", {})
        running.until(lambda: "undo" in running.job(job["id"])["reason"], 10, "the cancel to be on its way")
    ended = running.wait(job)
    if ended["outcome"] == "cancelled":
        time.sleep(3)  # reconcile looks every second: it must not carry out what was cancelled
        assert running.ves()["keep"]["desired"] == "running"
        running.check_truths()


def test_a_failed_start_is_tried_again_and_not_taken_for_the_guests_will(running: Cloud) -> None:
    node = make(running, "try", power="stopped")["node"]
    simulated.plan_fault(running.simulated_file(str(node)), "start", "error", times=2)
    job = running.wait(running.ask("POST", "/ves/try/start", {}))
    assert job["outcome"] == "failed"
    running.until(lambda: running.ves()["try"]["status"] == "running", 30, "reconcile to start it")
    assert running.ves()["try"]["desired"] == "running"


def test_a_guests_own_shutdown_is_its_will(running: Cloud) -> None:
    shown = make(running, "own")
    native = f"own-{str(shown['id'])[:8]}"
    time.sleep(0.2)
    simulated.outside(running.simulated_file(str(shown["node"])), native, Observed.STOPPED)
    running.until(lambda: running.ves()["own"]["desired"] == "stopped", 20, "it to be wanted stopped")
    assert running.ves()["own"]["status"] == "stopped"


def test_a_guest_that_is_not_there_any_more_is_lost_and_not_made_again(running: Cloud) -> None:
    shown = make(running, "gone")
    native = f"gone-{str(shown['id'])[:8]}"
    simulated.outside(running.simulated_file(str(shown["node"])), native, None)
    running.until(lambda: running.ves()["gone"]["status"] == "lost", 20, "it to be reported lost")
    assert native not in running.simulated_guests()
    running.wait(running.ask("DELETE", "/ves/gone"))
    running.check_truths()


def test_waiting_jobs_do_not_keep_others_from_beginning(running: Cloud) -> None:
    """Two hundred and more that have no room, and one that has; and a cancel overtakes what waits."""
    full = [make(running, f"full{number}", memory_mib=262144 - 4096) for number in range(3)]
    with ThreadPoolExecutor(8) as pool:
        waiting = list(
            pool.map(lambda n: running.ask("POST", "/ves", {**NEW, "name": f"w{n}", "memory_mib": 100000}), range(210))
        )
    job = running.wait(running.ask("POST", "/ves", {**NEW, "name": "small", "memory_mib": 64}))
    assert job["outcome"] == "ok"
    assert "no node has room" in running.job(waiting[-1]["id"])["reason"]
    for each in waiting:
        running.ask("POST", f"/jobs/{each['id']}/cancel", {})
    for each in waiting:
        assert running.wait(each, 60)["outcome"] == "cancelled"
    for shown in full:
        running.wait(running.ask("DELETE", f"/ves/{shown['name']}"))
    running.wait(running.ask("DELETE", "/ves/small"))


def test_many_creates_at_once_never_overfill_a_node(running: Cloud) -> None:
    with ThreadPoolExecutor(16) as pool:
        jobs = list(pool.map(lambda n: running.ask("POST", "/ves", {**NEW, "name": f"o{n}", "memory_mib": 40000}), range(30)))
    running.until(lambda: all(running.job(job["id"])["state"] in "CQ" for job in jobs), 60, "each to run or to wait for room")
    for node in running.ask("GET", "/nodes")["items"]:
        assert node["memory_placed_mib"] <= node["memory_mib"], node
    for job in jobs:
        running.ask("POST", f"/jobs/{job['id']}/cancel", {})
        if running.wait(job)["outcome"] == "ok":
            running.wait(running.ask("DELETE", f"/ves/{job['ve_name']}"))
    running.check_truths()


def test_a_node_can_not_call_anothers_guest_missing(running: Cloud) -> None:
    shown = make(running, "mine")
    other = next(name for name in running.node_names() if name != shown["node"])
    config = Config.load(running.data)
    sender = Sender(config, f"node-{other}")
    facts = NodeFacts((Kind.SIMULATED,), 64, 262144, 0, "0", simulated=True)
    for sequence in range(3):
        mark = Mark(2**40, sequence)
        sender.report(Digest(other, mark, time.time(), 0, facts, missing=(UUID(str(shown["id"])),)))
    time.sleep(1)
    assert running.ves()["mine"]["status"] == "running"
    running.wait(running.ask("DELETE", "/ves/mine"))


def test_an_impossible_value_written_by_ldap_stops_nobody(running: Cloud) -> None:
    make(running, "odd")
    uri = f"ldapi://{str(running.data / 'directory' / 'run' / 'ldapi').replace('/', '%2F')}"
    suffix = Config.load(running.data).suffix
    ldif = f"dn: cn=odd,ou=main,ou=ves,{suffix}\nchangetype: modify\nreplace: vmcMemoryMiB\nvmcMemoryMiB: 0\n"
    subprocess.run(["ldapmodify", "-Q", "-Y", "EXTERNAL", "-H", uri], input=ldif, text=True, check=True, capture_output=True)
    before = running.parts()["server"]["pid"]
    time.sleep(3)
    assert running.wait(running.ask("POST", "/ves", {**NEW, "name": "even"}))["outcome"] == "ok"
    assert running.parts()["server"]["pid"] == before, running.log()
    ldif = ldif.replace("vmcMemoryMiB: 0", "vmcMemoryMiB: 128")
    subprocess.run(["ldapmodify", "-Q", "-Y", "EXTERNAL", "-H", uri], input=ldif, text=True, check=True, capture_output=True)
