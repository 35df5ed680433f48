"""What the cloud costs while nothing happens: processor time of all our processes with five guests running, and memory."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from vmcloud.domain.vocabulary import Observed

from .measure import Report, Wishes
from .scene import Scene, scene


@dataclass(frozen=True)
class Usage:
    """One process: processor seconds since its start, waited-for children included; its proportional share of memory."""

    name: str
    seconds: float
    pss_mib: float
    switches: int


def run(report: Report, wishes: Wishes) -> None:
    """Guests' own processes and liblxc's monitor of each guest are not counted: raw LXC has them too."""
    with scene() as made:
        for number in range(wishes.size(5, 1)):
            began = time.monotonic()
            made.finish(made.create(f"rest{number}", kind="lxc", power="running"))
            made.observed(f"rest{number}", Observed.RUNNING, began)
        time.sleep(wishes.size(20.0, 0.5))  # until the machine counts as at rest
        before, began = usages(made), time.monotonic()
        time.sleep(wishes.size(wishes.seconds, 1.0))
        after, seconds = usages(made), time.monotonic() - began
        _tell(report, before, after, seconds)


def _tell(report: Report, before: dict[int, Usage], after: dict[int, Usage], seconds: float) -> None:
    total, memory = 0.0, 0.0
    for pid, now in sorted(after.items(), key=lambda item: item[1].name):
        then = before.get(pid)
        used = now.seconds - (then.seconds if then is not None else 0.0)
        switched = (now.switches - (then.switches if then is not None else 0)) / seconds
        total, memory = total + used, memory + now.pss_mib
        report.value(f"{now.name}: processor", 100 * used / seconds, f"% of one core, {switched:.1f} switches/s")
        report.value(f"{now.name}: memory (PSS)", now.pss_mib, "MiB")
    report.value("all: processor", 100 * total / seconds, "% of one core", 2.0)
    report.value("all: memory (PSS)", memory, "MiB")


def usages(made: Scene) -> dict[int, Usage]:
    """Our processes by id: the supervisor, the parts, all that they started; and companions. Not the guests."""
    return look(_ours(made))


def look(pids: list[int]) -> dict[int, Usage]:
    """These processes, as far as they still live."""
    found = {}
    for pid in pids:
        try:
            found[pid] = _usage(pid)
        except OSError:
            continue  # it ended meanwhile; its parent has its time
    return found


def _ours(made: Scene) -> list[int]:
    """Every process of this process namespace that works in the cloud's data directory or is a child of its supervisor (Redis
    writes over what would tell), save guests and their monitors."""
    part = next(each for each in made.cloud.parts().values() if each.get("pid"))
    supervisor = _parent(part["pid"])
    ours = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            argv = (folder / "cmdline").read_bytes().split(b"\0")
            where = (folder / "environ").read_bytes() + b" ".join(argv)
            works = str(made.cloud.data).encode() in where or _parent(int(folder.name)) == supervisor
        except OSError:
            continue
        if works and not argv[0].startswith(b"[lxc monitor]"):
            ours.append(int(folder.name))
    return ours


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def family(root: int) -> list[int]:
    """A process and all that descends from it."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                children.setdefault(_parent(int(folder.name)), []).append(int(folder.name))
            except OSError:
                continue
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def _usage(pid: int) -> Usage:
    folder = Path(f"/proc/{pid}")
    text = (folder / "stat").read_text()
    fields = text.rpartition(")")[2].split()
    ticks = sum(int(each) for each in fields[11:15])
    argv = (folder / "cmdline").read_text().rstrip("\0").split("\0")
    pss = next(int(line.split()[1]) for line in (folder / "smaps_rollup").read_text().splitlines() if line.startswith("Pss:"))
    switches = 0
    for task in (folder / "task").iterdir():
        lines = (task / "status").read_text().splitlines()
        switches += sum(int(line.split()[1]) for line in lines if line.startswith(("voluntary_", "nonvoluntary_")))
    name = " ".join(each.rpartition("/")[2] for each in argv[:3] if each not in ("-m", "-c"))[:32].strip()
    if "multiprocessing" in " ".join(argv):
        name = "child of the worker"
    return Usage(f"{name} [{pid}]", ticks / os.sysconf("SC_CLK_TCK"), pss / 1024, switches)
