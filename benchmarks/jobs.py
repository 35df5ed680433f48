"""The job engine under load, in OpenPBS's terms: *job_submission* and *job_throughput*, on 100 simulated nodes in one process.

The driver costs nothing; everything else is real and durable. ``--count`` is the number of jobs (default 10,000). Where each
millisecond of a job goes is told by part (processor time, statements, messages), and beside it, in the same run, what each stage
needs alone (:mod:`.alone`).
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from typing import Any

from vmcloud.domain.vocabulary import Observed

from . import alone, spent
from .measure import Report, Wishes
from .scene import PATIENCE, Scene, scene
from .syncs import counted

BATCH = 100


@dataclass(frozen=True)
class Sizes:
    """How much of everything. ``half`` jobs in a second, for ``seconds``, are half of what is promised. ``raw``: repetitions of
    each raw stage. ``traced``: jobs while strace looks, which makes everything slow. ``pages``: looks at the list of jobs."""

    jobs: int = 10_000
    nodes: int = 100
    ves: int = 200
    half: int = 30
    seconds: int = 10
    raw: int = 200
    traced: int = 50
    pages: int = 20


SMOKE = Sizes(jobs=12, nodes=3, ves=6, half=10, seconds=1, raw=3, traced=4, pages=2)


def run(report: Report, wishes: Wishes) -> None:
    """Creates; start and stop of all VEs in turn; single requests; latency at half load; what waits in thousands; raw stages."""
    sizes: Sizes = wishes.size(Sizes(jobs=wishes.count or Sizes.jobs), SMOKE)
    with scene(simulate=sizes.nodes) as made:
        report.begins(f"{sizes.ves} VEs are made")
        _creates(report, made, sizes)
        report.begins(f"{sizes.jobs} starts and stops")
        _throughput(report, made, sizes)
        report.begins("one request after the other")
        _one_by_one(report, made, sizes)
        report.begins("arrays")
        _arrays(report, made, sizes)
        report.begins(f"{sizes.half} jobs a second")
        _at_half_load(report, made, sizes)
        report.begins("waits for the disk are counted")
        _syncs(report, made, sizes)
        report.begins(f"{sizes.jobs} jobs wait")
        _waiting(report, made, sizes)
        report.begins("each stage alone")
        alone.measure(report, made, sizes.raw)


def _creates(report: Report, made: Scene, sizes: Sizes) -> None:
    before = spent.look(made.cloud)
    began = time.monotonic()
    last = [made.create(f"v{number}", kind="simulated", power="running") for number in range(sizes.ves)][-1]
    submitted = time.monotonic()
    _all_done(made, last["id"])
    seconds = time.monotonic() - began
    report.value("creates: submitted one by one", sizes.ves / (submitted - began), "/s", 0)
    report.value("creates: submitted → all complete", sizes.ves / seconds, "/s", 25)
    spent.show(report, before, spent.look(made.cloud), "a create", units=sizes.ves, unit="job")


def _throughput(report: Report, made: Scene, sizes: Sizes) -> None:
    """Start and stop of every VE in turn, submitted in batches; from the first submission to the last state seen."""
    before, told = spent.look(made.cloud), made.changes
    began = time.monotonic()
    last = _submit(made, sizes, sizes.jobs)
    submitted = time.monotonic()
    report.value("job_submission, in batches of 100", sizes.jobs / (submitted - began), "/s", 400)
    _all_done(made, last)
    ended = time.monotonic()
    states = made.changes - told
    report.value("job_throughput: start/stop submitted → complete", sizes.jobs / (ended - began), "/s", 60)
    report.value("states that the directory told meanwhile", states, "")
    report.note("Tuned Slurm: 53/s, Ganeti: 5.8/s on a machine of this size.")
    spent.show(report, before, spent.look(made.cloud), "a start or stop", units=sizes.jobs, unit="job")


def _submit(made: Scene, sizes: Sizes, jobs: int, **terms: Any) -> int:
    """Start and stop of every VE in turn, in batches; the number of the last job."""
    last = 0
    for first in range(0, jobs, BATCH):
        requests = [_request(number, sizes.ves, terms) for number in range(first, min(first + BATCH, jobs))]
        last = made.ask("POST", "/jobs", {"requests": requests})["items"][-1]["job"]["id"]
    return last


def _request(number: int, ves: int, terms: dict[str, Any]) -> dict[str, Any]:
    args: dict[str, Any] = {"force": True} if number // ves % 2 == 0 else {}
    verb = "stop" if args else "start"
    return {"verb": verb, "ve": f"v{number % ves}", "args": {**args, **({"job": terms} if terms else {})}}


def _one_by_one(report: Report, made: Scene, sizes: Sizes) -> None:
    """Single requests, each as soon as the one before is answered, while the engine does what they ask for."""
    began = time.monotonic()
    for number in range(sizes.ves):
        at = time.monotonic()
        last = _power(made, f"v{number}")
        report.add("request of one job → answered", time.monotonic() - at)
    report.value("job_submission, one by one, done meanwhile", sizes.ves / (time.monotonic() - began), "/s")
    _all_done(made, last["id"])


def _power(made: Scene, name: str) -> dict[str, Any]:
    """Start what is stopped and stop what runs."""
    running = made.state(name) is Observed.RUNNING
    return made.power(name, "stop" if running else "start", **({"force": True} if running else {}))


def _at_half_load(report: Report, made: Scene, sizes: Sizes) -> None:
    """From the request to the state seen in the directory, while ``half`` jobs come in each second."""
    asked: list[tuple[str, Observed, float]] = []
    began = time.monotonic()
    for number in range(sizes.half * sizes.seconds):
        time.sleep(max(0.0, began + number / sizes.half - time.monotonic()))
        name = f"v{number % sizes.ves}"
        wanted = Observed.STOPPED if made.state(name) is Observed.RUNNING else Observed.RUNNING
        asked.append((name, wanted, time.monotonic()))
        _power(made, name)
    for name, wanted, at in asked[-sizes.ves :]:
        report.add(f"submit → seen, at {sizes.half} jobs/s", made.observed(name, wanted, at) - at, target=0.020)


def _syncs(report: Report, made: Scene, sizes: Sizes) -> None:
    """How often each part waits for the disk; but for the worker, since strace can not follow a hundred nodes in one process."""
    if shutil.which("strace") is None:
        report.note("There is no strace here: nobody counted how often the disk was waited for.")
        return
    pids = {name: part["pid"] for name, part in made.cloud.parts().items() if part.get("pid") and name != "worker"}
    with counted(pids) as syncs:
        _all_done(made, _submit(made, sizes, sizes.traced))
    for name, count in syncs.items():
        report.value(f"waits of {name} for the disk, for each job", count / sizes.traced, "")


def _waiting(report: Report, made: Scene, sizes: Sizes) -> None:
    """As many jobs queued as were run: how long a page of the list takes, and another job beside them."""
    made.ask("POST", "/queues", {"name": "later", "started": False})
    made.finish(made.create("beside", kind="simulated", power="running"))
    began = time.monotonic()
    for number in range(sizes.ves):
        at = time.monotonic()
        made.power(f"v{number}", "restart", force=True, job={"queue": "later"})
        report.add("request of one job, held back → answered", time.monotonic() - at)
    report.value("job_submission, one by one, scheduling held", sizes.ves / (time.monotonic() - began), "/s", 100)
    _submit(made, sizes, sizes.jobs, queue="later")
    made.finish(made.power("beside", "stop", force=True))
    for number in range(sizes.pages):
        at = time.monotonic()
        made.ask("GET", "/jobs?active=true&limit=50")
        report.add(f"first page of the list, {sizes.jobs} queued", time.monotonic() - at, target=0.4)
        verb, state = ("start", Observed.RUNNING) if number % 2 == 0 else ("stop", Observed.STOPPED)
        at = time.monotonic()
        job = made.power("beside", verb, **({"force": True} if verb == "stop" else {}))
        report.add(f"submit → seen, {sizes.jobs} others queued", made.observed("beside", state, at) - at)
        made.finish(job)


def _arrays(report: Report, made: Scene, sizes: Sizes) -> None:
    """As many creates, then restarts, each asked for by one request."""
    create = {"name": "a%i", "kind": "simulated", "image": "busybox", "memory_mib": 64, "power": "running"}
    for word, path, body, target in (("creates", "/ves", create, 100), ("restarts", "/ves/a%25i/restart", {"force": True}, 400)):
        began = time.monotonic()
        array = made.ask("POST", path, {**body, "job": {"array": f"0-{sizes.ves - 1}"}})
        submitted = time.monotonic()
        _all_done(made, array["id"])
        report.value(f"an array of {sizes.ves} {word}: submitted", sizes.ves / (submitted - began), "/s", target)
        report.value(f"an array of {sizes.ves} {word}: submitted → all complete", sizes.ves / (time.monotonic() - began), "/s")


def _all_done(made: Scene, last: int) -> None:
    """Wait until no job up to ``last`` is open."""
    deadline = time.monotonic() + PATIENCE + last  # no job takes a second
    while made.ask("GET", "/jobs?active=true&limit=1")["items"]:
        assert time.monotonic() < deadline, f"jobs up to {last} are not complete\n{made.cloud.log()}"
        time.sleep(0.2)
