"""What the supervisor says about itself and its parts: one file, replaced at once, and how to read it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from . import layout
from .process import Ident

State = Literal["waiting", "starting", "ready", "done", "backoff", "stopping", "stopped"]


@dataclass(frozen=True)
class PartStatus:
    """One part. ``since``: seconds since the epoch of its last start; ``last_exit``: how it ended last, in words; ``why``: what
    it waits for, or when it is tried again. ``problem``: it ended unwell and has not been ready since."""

    name: str
    state: State
    pid: int = 0
    started: int = 0
    since: float = 0.0
    restarts: int = 0
    last_exit: str = ""
    why: str = ""
    problem: bool = False

    @property
    def up(self) -> bool:
        """Whether it does what it should."""
        return self.state in ("ready", "done")

    @property
    def ident(self) -> Ident | None:
        """Its process, if it had one when this was written."""
        return Ident(self.pid, self.started) if self.pid else None


@dataclass(frozen=True)
class Status:
    """A supervisor and its parts. ``dead``: how many messages each list of those that were set aside has."""

    supervisor: Ident
    since: float
    parts: tuple[PartStatus, ...] = field(default_factory=tuple)
    dead: dict[str, int] = field(default_factory=dict)

    @property
    def running(self) -> bool:
        """Whether the supervisor that wrote this still lives."""
        return self.supervisor.alive

    @property
    def all_up(self) -> bool:
        """Whether every part does what it should."""
        return all(part.up for part in self.parts)


def path(data: Path) -> Path:
    """Where it is."""
    return data / "run" / "status.json"


def write(data: Path, status: Status) -> None:
    """Replace the file. Readable by all: it holds no secret."""
    layout.write(path(data), json.dumps(asdict(status), indent=1) + "\n", mode=0o644)


def read(data: Path) -> Status | None:
    """What was written last, whether or not its supervisor lives; None where nothing (readable) was."""
    try:
        found: dict[str, Any] = json.loads(path(data).read_text())
        return Status(
            supervisor=Ident(**found["supervisor"]),
            since=float(found["since"]),
            parts=tuple(PartStatus(**part) for part in found["parts"]),
            dead={str(name): int(count) for name, count in found.get("dead", {}).items()},
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return None
