"""``vmcloud status``: the parts of this machine, as data and as a table."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from vmcloud.config import Config

from . import parts, status
from .status import PartStatus

SILENT = 30.0
"""Seconds without a sign of life after which a part counts as not answering."""
CONSUMERS = {"monitor": "monitor", "server": "server", "node": "worker"}
"""The part that consumes with an identity, by what the identity's name begins with."""


@dataclass(frozen=True)
class Row:
    """One part. ``uptime``: seconds, None while it does not run."""

    name: str
    state: str
    pid: int | None
    uptime: float | None
    restarts: int
    last_exit: str
    why: str

    @property
    def up(self) -> bool:
        """Whether it does what it should."""
        return self.state in ("ready", "done")


@dataclass(frozen=True)
class Found:
    """All parts; ``supervisor`` is None where none runs."""

    data: str
    web_url: str
    supervisor: int | None
    rows: tuple[Row, ...]

    @property
    def healthy(self) -> bool:
        """Whether a supervisor runs and each of its parts does what it should."""
        return self.supervisor is not None and all(row.up for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        """For ``-o json``."""
        return {
            "data": self.data,
            "web_url": self.web_url,
            "supervisor": self.supervisor,
            "healthy": self.healthy,
            "parts": [dict(row.__dict__) for row in self.rows],
        }


def collect(config: Config, now: Callable[[], float] = time.time) -> Found:
    """Look at the status file, and believe a process id in it only if that process still lives."""
    found = status.read(config.data)
    if found is None or not found.running:
        said = {part.name: part for part in found.parts} if found else {}
        rows = tuple(_stopped(name, said.get(name)) for name in parts.NAMES)
        return Found(str(config.data), config.web_url, None, rows)
    rows = tuple(_row(config, part, now(), found.dead) for part in found.parts)
    return Found(str(config.data), config.web_url, found.supervisor.pid, rows)


def _row(config: Config, part: PartStatus, now: float, dead: Mapping[str, int]) -> Row:
    alive = part.ident is not None and part.ident.alive
    silent = _silent(config, part, now) if alive and part.state == "ready" else 0.0
    why = f"lives and does not answer since {duration(silent)}; kill -9 {part.pid} lets it begin anew" if silent else part.why
    if aside := _aside(part.name, dead):
        why = "; ".join(filter(None, (why, f"{aside} messages set aside, see `vmcloud doctor`")))
    return Row(
        name=part.name,
        state="silent" if silent else part.state,
        pid=part.pid if alive else None,
        uptime=round(now - part.since, 1) if alive else None,
        restarts=part.restarts,
        last_exit=part.last_exit,
        why=why,
    )


def _silent(config: Config, part: PartStatus, now: float) -> float:
    """Seconds since a part gave a sign of life, where they are too many (and it is one of those that do); else 0."""
    try:
        heard = parts.alive_file(config.data, part.name).stat().st_mtime
    except OSError:
        return 0.0
    return now - heard if now - heard > SILENT else 0.0


def _aside(part: str, dead: Mapping[str, int]) -> int:
    """How many messages the consumers of one part have set aside."""
    return sum(count for name, count in dead.items() if CONSUMERS.get(name.split(".", 1)[1].split("-")[0]) == part)


def _stopped(name: str, said: PartStatus | None) -> Row:
    """A part without a supervisor; it may live on for a moment after its supervisor was killed."""
    left = said is not None and said.ident is not None and said.ident.alive
    return Row(
        name=name,
        state="left over" if left else "stopped",
        pid=said.pid if left and said else None,
        uptime=None,
        restarts=said.restarts if said else 0,
        last_exit=said.last_exit if said else "",
        why="its supervisor was killed; `vmcloud up` ends it" if left else "",
    )


def table(found: Found) -> str:
    """For people."""
    head = f"Cloud in {found.data}, web at {found.web_url}: "
    head += f"supervisor {found.supervisor}" if found.supervisor else "not running (start it: vmcloud up --detach)"
    cells = [["PART", "STATE", "PID", "UPTIME", "RESTARTS", "LAST EXIT", "NOTE"]]
    for row in found.rows:
        uptime = duration(row.uptime) if row.uptime is not None else "-"
        cells.append([row.name, row.state, str(row.pid or "-"), uptime, str(row.restarts), row.last_exit or "-", row.why])
    return head + "\n" + columns(cells)


def columns(cells: list[list[str]]) -> str:
    """Cells under each other, two blanks between."""
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells)


def duration(seconds: float) -> str:
    """``42s``, ``3m07s``, ``5h02m``, ``12d03h``."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"
