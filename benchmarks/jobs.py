"""The job engine under load, in OpenPBS's terms: *job_submission* and *job_throughput*, on 100 simulated nodes in one process.

The driver costs nothing; everything else is real and durable. ``--count`` is the number of jobs (default 2000).
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from vmcloud.domain.vocabulary import Observed

from .measure import Report, Wishes
from .scene import PATIENCE, Scene, scene

NODES = 100
VES = 200
BATCH = 100
TICK = os.sysconf("SC_CLK_TCK")


def run(report: Report, wishes: Wishes) -> None:
    """Creates, then starts and stops of all VEs in turn, then single requests."""
    jobs = wishes.count or 2000
    with scene(simulate=NODES) as made:
        _creates(report, made)
        _throughput(report, made, jobs)
        _one_by_one(report, made)
        _arrays(report, made)


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
    number, last = 0, 0
    while number < jobs:
        requests = []
        for _ in range(min(BATCH, jobs - number)):
            verb = "stop" if number // VES % 2 == 0 else "start"
            requests.append({"verb": verb, "ve": f"v{number % VES}", "args": {"force": True} if verb == "stop" else {}})
            number += 1
        answers = made.ask("POST", "/jobs", {"requests": requests})["items"]
        last = answers[-1]["job"]["id"]
    submitted = time.monotonic()
    report.value("job_submission, in batches of 100", jobs / (submitted - began), "/s", 400)
    _all_done(made, last)
    ended = time.monotonic()
    states = made.changes - told
    report.value("job_throughput: start/stop submitted → complete", jobs / (ended - began), "/s", 60)
    report.value("states that the directory told meanwhile", states, "")
    report.note("Tuned Slurm: 53/s, Ganeti: 5.8/s on a machine of this size.")
    _show_spent(report, made, before, jobs, "job")


def _one_by_one(report: Report, made: Scene) -> None:
    """Single requests, and from each to the state seen, at a rate that the engine bears easily."""
    took: list[float] = []
    jobs = []
    began = time.monotonic()
    for number in range(VES):
        at = time.monotonic()
        verb = "stop" if number % 2 else "start"
        jobs.append(made.ask("POST", f"/ves/v{number}/{verb}", {"force": True} if verb == "stop" else {}))
        took.append(time.monotonic() - at)
    report.value("job_submission, one by one", VES / (time.monotonic() - began), "/s", 100)
    _all_done(made, jobs[-1]["id"])
    for each in took:
        report.add("request of one job → answered", each)
    for number in range(40):
        name, verb, state = f"v{number}", "stop", Observed.STOPPED
        if number % 2 == 0:
            made.finish(made.power(name, "stop", force=True))
            verb, state = "start", Observed.RUNNING
        else:
            made.finish(made.power(name, "start"))
        at = time.monotonic()
        job = made.power(name, verb, **({"force": True} if verb == "stop" else {}))
        report.add("submit → seen, one at a time", made.observed(name, state, at) - at, target=0.020)
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
