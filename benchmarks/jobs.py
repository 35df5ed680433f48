"""The job engine under load, in OpenPBS's terms: *job_submission* and *job_throughput*, on 100 simulated nodes in one process.

The driver costs nothing; everything else is real and durable. ``--count`` is the number of jobs (default 10,000). Beside them, in
the same run, each stage alone: a commit of the job database, a write in the directory, a message there and back.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import statistics
import time
from pathlib import Path
from typing import Any

from vmcloud.config import Config
from vmcloud.domain.vocabulary import Observed

from .measure import Report, Wishes
from .raw import RoundTrip
from .scene import PATIENCE, Scene, scene
from .syncs import counted

NODES = 100
VES = 200
BATCH = 100
HALF, SECONDS = 30, 10
"""Jobs in a second that are half of what is promised, and for how long."""
RAW, TRACED = 200, 50
"""Repetitions of each raw stage; jobs while strace looks, which makes everything slow."""
TICK = os.sysconf("SC_CLK_TCK")


def run(report: Report, wishes: Wishes) -> None:
    """Creates; start and stop of all VEs in turn; single requests; latency at half load; what waits in thousands; raw stages."""
    jobs = wishes.count or 10_000
    with scene(simulate=NODES) as made:
        report.begins(f"{VES} VEs are made")
        _creates(report, made)
        report.begins(f"{jobs} starts and stops")
        _throughput(report, made, jobs)
        report.begins("one request after the other")
        _one_by_one(report, made)
        report.begins("arrays")
        _arrays(report, made)
        report.begins(f"{HALF} jobs a second")
        _at_half_load(report, made)
        report.begins("waits for the disk are counted")
        _syncs(report, made)
        report.begins(f"{jobs} jobs wait")
        _waiting(report, made, jobs)
        report.begins("each stage alone")
        _raw(report, made)


def _creates(report: Report, made: Scene) -> None:
    before = _spent(made)
    began = time.monotonic()
    last = [made.create(f"v{number}", kind="simulated", power="running") for number in range(VES)][-1]
    submitted = time.monotonic()
    _all_done(made, last["id"])
    seconds = time.monotonic() - began
    report.value("creates: submitted one by one", VES / (submitted - began), "/s", 0)
    report.value("creates: submitted → all complete", VES / seconds, "/s", 25)
    _show_spent(report, made, before, VES, "create")


def _throughput(report: Report, made: Scene, jobs: int) -> None:
    """Start and stop of every VE in turn, submitted in batches; from the first submission to the last state seen."""
    before, told = _spent(made), made.changes
    began = time.monotonic()
    last = _submit(made, jobs)
    submitted = time.monotonic()
    report.value("job_submission, in batches of 100", jobs / (submitted - began), "/s", 400)
    _all_done(made, last)
    ended = time.monotonic()
    states = made.changes - told
    report.value("job_throughput: start/stop submitted → complete", jobs / (ended - began), "/s", 60)
    report.value("states that the directory told meanwhile", states, "")
    report.note("Tuned Slurm: 53/s, Ganeti: 5.8/s on a machine of this size.")
    _show_spent(report, made, before, jobs, "job")


def _submit(made: Scene, jobs: int, **terms: Any) -> int:
    """Start and stop of every VE in turn, in batches; the number of the last job."""
    last = 0
    for first in range(0, jobs, BATCH):
        requests = [_request(number, terms) for number in range(first, min(first + BATCH, jobs))]
        last = made.ask("POST", "/jobs", {"requests": requests})["items"][-1]["job"]["id"]
    return last


def _request(number: int, terms: dict[str, Any]) -> dict[str, Any]:
    args: dict[str, Any] = {"force": True} if number // VES % 2 == 0 else {}
    verb = "stop" if args else "start"
    return {"verb": verb, "ve": f"v{number % VES}", "args": {**args, **({"job": terms} if terms else {})}}


def _one_by_one(report: Report, made: Scene) -> None:
    """Single requests, each as soon as the one before is answered, while the engine does what they ask for."""
    began = time.monotonic()
    for number in range(VES):
        at = time.monotonic()
        last = _power(made, number)
        report.add("request of one job → answered", time.monotonic() - at)
    report.value("job_submission, one by one, done meanwhile", VES / (time.monotonic() - began), "/s")
    _all_done(made, last["id"])


def _power(made: Scene, number: int) -> dict[str, Any]:
    """Start what is stopped and stop what runs."""
    name = f"v{number % VES}"
    running = made.state(name) is Observed.RUNNING
    return made.power(name, "stop" if running else "start", **({"force": True} if running else {}))


def _at_half_load(report: Report, made: Scene) -> None:
    """From the request to the state seen in the directory, while :data:`HALF` jobs come in each second."""
    asked: list[tuple[str, Observed, float]] = []
    began = time.monotonic()
    for number in range(HALF * SECONDS):
        time.sleep(max(0.0, began + number / HALF - time.monotonic()))
        name = f"v{number % VES}"
        wanted = Observed.STOPPED if made.state(name) is Observed.RUNNING else Observed.RUNNING
        asked.append((name, wanted, time.monotonic()))
        _power(made, number)
    for name, wanted, at in asked[-VES:]:
        report.add(f"submit → seen, at {HALF} jobs/s", made.observed(name, wanted, at) - at, target=0.020)


def _syncs(report: Report, made: Scene) -> None:
    """How often each part waits for the disk; but for the worker, since strace can not follow a hundred nodes in one process."""
    if shutil.which("strace") is None:
        report.note("There is no strace here: nobody counted how often the disk was waited for.")
        return
    pids = {name: part["pid"] for name, part in made.cloud.parts().items() if part.get("pid") and name != "worker"}
    with counted(pids) as syncs:
        _all_done(made, _submit(made, TRACED))
    for name, count in syncs.items():
        report.value(f"waits of {name} for the disk, for each job", count / TRACED, "")


def _waiting(report: Report, made: Scene, jobs: int) -> None:
    """As many jobs queued as were run: how long a page of the list takes, and another job beside them."""
    made.ask("POST", "/queues", {"name": "later", "started": False})
    made.finish(made.create("beside", kind="simulated", power="running"))
    began = time.monotonic()
    for number in range(VES):
        at = time.monotonic()
        made.power(f"v{number}", "restart", force=True, job={"queue": "later"})
        report.add("request of one job, held back → answered", time.monotonic() - at)
    report.value("job_submission, one by one, scheduling held", VES / (time.monotonic() - began), "/s", 100)
    _submit(made, jobs, queue="later")
    made.finish(made.power("beside", "stop", force=True))
    for number in range(20):
        at = time.monotonic()
        made.ask("GET", "/jobs?active=true&limit=50")
        report.add(f"first page of the list, {jobs} queued", time.monotonic() - at, target=0.4)
        verb, state = ("start", Observed.RUNNING) if number % 2 == 0 else ("stop", Observed.STOPPED)
        at = time.monotonic()
        job = made.power("beside", verb, **({"force": True} if verb == "stop" else {}))
        report.add(f"submit → seen, {jobs} others queued", made.observed("beside", state, at) - at)
        made.finish(job)


def _arrays(report: Report, made: Scene) -> None:
    """As many creates, then restarts, each asked for by one request."""
    create = {"name": "a%i", "kind": "simulated", "image": "busybox", "memory_mib": 64, "power": "running"}
    for word, path, body, target in (("creates", "/ves", create, 100), ("restarts", "/ves/a%25i/restart", {"force": True}, 400)):
        began = time.monotonic()
        array = made.ask("POST", path, {**body, "job": {"array": f"0-{VES - 1}"}})
        submitted = time.monotonic()
        _all_done(made, array["id"])
        report.value(f"an array of {VES} {word}: submitted", VES / (submitted - began), "/s", target)
        report.value(f"an array of {VES} {word}: submitted → all complete", VES / (time.monotonic() - began), "/s")


def _raw(report: Report, made: Scene) -> None:
    """Each stage alone, one after the other, on the disk and with the servers of the cloud."""
    database = sqlite3.connect(made.cloud.data / "raw.sqlite3", isolation_level=None)
    database.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE raw (text TEXT);")
    directory = made.cloud.directory()
    node = directory.nodes()[0]
    with RoundTrip(Config.load(made.cloud.data)) as trip:
        for number in range(RAW):
            at = time.monotonic()
            database.execute("INSERT INTO raw VALUES (?)", ("x" * 500,))
            report.add("raw: a commit of the job database", time.monotonic() - at)
            at = time.monotonic()
            node = directory.change_node(node, description=f"for the {number}th time")
            report.add("raw: a write in the directory", time.monotonic() - at)
            report.add("raw: a message there and back", trip.once())
    database.close()
    slowest = max(statistics.median(each.samples) for name, each in report.series.items() if name.startswith("raw: "))
    report.value("half of the slowest raw stage", 0.5 / slowest, "/s")


def _all_done(made: Scene, last: int) -> None:
    """Wait until no job up to ``last`` is open."""
    deadline = time.monotonic() + 60 * PATIENCE
    while made.ask("GET", "/jobs?active=true&limit=1")["items"]:
        assert time.monotonic() < deadline, f"jobs up to {last} are not complete\n{made.cloud.log()}"
        time.sleep(0.2)


def _spent(made: Scene) -> dict[str, Any]:
    """Processor seconds of each part so far."""
    found: dict[str, Any] = {}
    for name, part in made.cloud.parts().items():
        if not part.get("pid"):
            continue
        fields = Path(f"/proc/{part['pid']}/stat").read_text().rsplit(")", 1)[1].split()
        found[name] = (int(fields[11]) + int(fields[12])) / TICK
    return found


def _show_spent(report: Report, made: Scene, before: dict[str, Any], jobs: int, word: str) -> None:
    after = _spent(made)
    total = 0.0
    for name in before:
        spent = (after[name] - before[name]) / jobs * 1000
        total += spent
        report.value(f"processor of {name} for each {word}", spent, "ms")
    report.value(f"processor of all parts for each {word}", total, "ms")
