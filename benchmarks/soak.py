"""What grows while jobs come and go: memory of each part, files of each store, sampled over ``--count`` jobs (default 10,000).

Starts and stops on simulated nodes, some VEs made and deleted between them. What a part gains for each thousand jobs is the slope
of a line through its samples, without the first quarter: caches fill, pools open. The archive takes jobs up early, so that the
tables can be seen to stay as they are.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

from .measure import Report, Wishes
from .scene import PATIENCE, Scene, scene

BEHIND = 400
"""Jobs that wait at most: so it is as in a cloud that keeps up."""
KEPT = 60.0
"""Seconds that a job which has ended stays in the tables."""
WARM = 0.25
"""Share of the run that is not counted."""
KIB = 1024


def run(report: Report, wishes: Wishes) -> None:
    """Jobs, and a sample after each so many of them."""
    jobs, batch = wishes.count or wishes.size(10_000, 60), wishes.size(100, 5)
    with scene(simulate=wishes.size(20, 2), more=f"[keep]\njobs_days = {KEPT / 86400}") as made:
        for number in range(batch):
            last = made.create(f"v{number}", kind="simulated", power="running")
        made.finish(last)
        _settle(made, 0)
        samples: dict[str, list[tuple[int, float]]] = {}
        began, done, every = time.monotonic(), 0, max(jobs // 60, batch)
        due = every
        while done < jobs:
            _batch(made, done // batch, batch)
            done += batch
            _settle(made, BEHIND)
            if done >= due or done >= jobs:
                due += every
                for name, value in measured(made).items():
                    samples.setdefault(name, []).append((done, value))
        _settle(made, 0)
        report.value("jobs", done, "")
        report.value("jobs in a second", done / (time.monotonic() - began), "/s")
        for name, series in samples.items():
            counted = [each for each in series if each[0] >= WARM * done]
            slope = statistics.linear_regression(*zip(*counted, strict=True)).slope
            report.value(f"{name}: at the end", series[-1][1] / KIB / KIB, "MiB")
            report.value(f"{name}: more for each 1000 jobs", slope * 1000 / KIB, "KiB")


def _batch(made: Scene, number: int, ves: int) -> None:
    """A start or a stop of each VE; now and then one VE is made and one deleted."""
    verb = "stop" if number % 2 == 0 else "start"
    arguments = {"force": True} if verb == "stop" else {}
    requests = [{"verb": verb, "ve": f"v{ve}", "args": arguments} for ve in range(ves)]
    made.ask("POST", "/jobs", {"requests": requests})
    if number % 10 == 9:
        made.finish(made.create(f"short-{number}", kind="simulated", power="running"))
        made.delete(f"short-{number}")


def _settle(made: Scene, behind: int) -> None:
    """Wait until no more than so many jobs are open."""
    deadline = time.monotonic() + 20 * PATIENCE
    while len(made.ask("GET", f"/jobs?active=true&limit={behind + 1}")["items"]) > behind:
        assert time.monotonic() < deadline, made.cloud.log()
        time.sleep(0.1)


def measured(made: Scene) -> dict[str, float]:
    """Bytes: memory that is a process's own (what it maps of files is the page cache's), and files."""
    found: dict[str, float] = {}
    for name, part in made.cloud.parts().items():
        if part.get("pid"):
            found[f"memory of {name}"] = own_memory(part["pid"])
    data = made.cloud.data
    files: dict[str, Callable[[], list[Path]]] = {
        "job database": lambda: [*(data / "sql").iterdir()],
        "broker": lambda: [*(data / "broker").rglob("*")],
        "directory": lambda: [*(data / "directory" / "db").iterdir()],
        "access log of the directory": lambda: [*(data / "directory" / "accesslog").iterdir()],
        "journals": lambda: [*(data / "node").glob("*/journal.sqlite3*")],
    }
    return found | {f"files of {name}": float(sum(map(on_disk, paths()))) for name, paths in files.items()}


def own_memory(pid: int) -> float:
    """Anonymous resident memory of a process (proc_pid_status(5))."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return float(lines["RssAnon"].split()[0]) * KIB


def on_disk(path: Path) -> int:
    """What a file takes on its disk: those of the directory are mostly holes."""
    try:
        return path.stat().st_blocks * 512
    except FileNotFoundError:
        return 0
