"""What each part of a cloud spends: processor time, what it asks of its servers, memory."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.cloud import Cloud

from . import counts
from .measure import Report
from .rest import family

TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Spent:
    """One part so far: processor seconds (also of children that have ended), calls by name, anonymous memory in MiB."""

    seconds: float = 0.0
    calls: dict[str, int] = field(default_factory=dict)
    memory: float = 0.0


@dataclass(frozen=True)
class Look:
    """All parts at one moment of the steady clock."""

    at: float
    parts: dict[str, Spent]


def look(cloud: Cloud) -> Look:
    """How much it is now."""
    found = {}
    for name, part in cloud.parts().items():
        if pid := part.get("pid"):
            found[name] = _of(cloud.data.parent / counts.FOLDER, pid)
    return Look(time.monotonic(), found)


def _of(counted: Path, root: int) -> Spent:
    """A part with all its processes."""
    seconds, memory, calls = 0.0, 0.0, dict.fromkeys(counts.DOORS, 0)
    for pid in family(root):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        except OSError:
            continue  # it has ended meanwhile
        seconds += sum(map(int, fields[11:15])) / TICK
        memory += float(lines.get("RssAnon", "0 kB").split()[0]) / 1024
        for name, count in counts.read(counted, pid).items():
            calls[name] += count
    return Spent(seconds, calls, memory)


def show(report: Report, before: Look, after: Look, title: str, *, units: float = 0, unit: str = "second") -> None:
    """A table of what each part has spent between two looks for each of so many ``units`` (default: seconds that have passed)."""
    units = units or after.at - before.at
    rows, columns = {}, ("ms", *counts.DOORS, "MiB")
    for name, now in after.parts.items():
        then = before.parts.get(name, Spent())
        if now.seconds < then.seconds:
            then = Spent()  # it was started anew
        calls = [(count - then.calls.get(door, 0)) / units for door, count in now.calls.items()]
        rows[name] = ((now.seconds - then.seconds) / units * 1000, *calls, now.memory)
    rows["all parts"] = tuple(map(sum, zip(*rows.values(), strict=True)))
    report.table(f"{title}: processor and calls for each {unit}", columns, rows)
