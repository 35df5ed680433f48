"""When what happened, in every process of a cloud, without a line of the program knowing of it.

Installed by a ``.pth`` file of the benchmark's interpreter (:mod:`benchmarks.inside`) where the environment names a file to write
to. Functions in :data:`TRACED` are wrapped as their module is loaded; fault points of the program are told as well. The clock is
CLOCK_MONOTONIC, which all processes of a machine share.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

VARIABLE = "VMCLOUD_TEST_TRACE"

DRIVER_CALLS = {
    "workers.drivers.lxc.driver": [f"LxcDriver.{verb}" for verb in ("define", "start", "stop", "inspect")],
    "workers.drivers.simulated.driver": [f"SimulatedDriver.{verb}" for verb in ("define", "start", "stop", "inspect")],
}
"""All that `overhead` needs."""

STAGES = {
    "vmcloud.fleet.services.submit": ["act", "create_ve"],
    "vmcloud.dispatch.send": ["Sender.wake", "Sender.envelope", "Sender.report"],
    "vmcloud.fleet.server.inbox": ["Inbox.take"],
    "vmcloud.fleet.server.loop": ["Server._take_in"],
    "vmcloud.fleet.server.schedule": ["run", "begin", "_wanted", "_commit", "_placed"],
    "vmcloud.fleet.server.finish": ["run", "_settle"],
    "vmcloud.fleet.server.mend": ["run"],
    "vmcloud.fleet.server.orders": ["send", "resend"],
    "vmcloud.directory.store": ["Directory.change_ve", "Directory.ve", "Directory.claim", "Directory.observe_ve"],
    "workers.agent": ["Agent.order"],
    "workers.drivers.lxc.driver": ["LxcDriver._after"],
    "workers.observer": ["Observer._take"],
    "monitor.publish": ["Publisher.look"],
    "workers.hands": ["Isolated.carry_out", "Inline.carry_out", "_Child.__init__", "_Child.__exit__"],
    "workers.child": ["step"],
    "workers.executor": ["_Run._finish", "Executor._see_through"],
    "monitor.consume": ["Intake.take"],
}
"""What ``--trace`` shows besides."""


def install() -> None:
    """Wrap what is to be traced, as it is loaded."""
    wanted = dict(DRIVER_CALLS)
    path, _, stages = os.environ[VARIABLE].partition(",")
    if stages:
        wanted |= {name: [*wanted.get(name, ()), *what] for name, what in STAGES.items()}
    sys.meta_path.insert(0, _Finder({name: tuple(what) for name, what in wanted.items()}, _writer(path)))


def _writer(path: str) -> Callable[[str], None]:
    opened = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def write(what: str) -> None:
        os.write(opened, f"{time.monotonic():.6f} {os.getpid()} {what}\n".encode())

    return write


class _Finder(importlib.abc.MetaPathFinder):
    """Finds as the others do, and wraps what was loaded."""

    def __init__(self, wanted: dict[str, tuple[str, ...]], write: Callable[[str], None]) -> None:
        self._wanted, self._write = wanted, write

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in self._wanted:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        loader: Any = spec.loader if spec is not None else None
        if loader is None:
            return None
        load = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            load(module)
            for what in self._wanted[name]:
                owner, _, function = what.rpartition(".")
                place = getattr(module, owner) if owner else module
                label = what if owner else f"{name.rpartition('.')[2]}.{what}"
                setattr(place, function, _wrapped(getattr(place, function), label, self._write))

        loader.exec_module = exec_module
        return spec


def _wrapped(function: Callable[..., Any], label: str, write: Callable[[str], None]) -> Callable[..., Any]:
    @functools.wraps(function)
    def traced(*arguments: Any, **named: Any) -> Any:
        write(f"> {label}")
        try:
            return function(*arguments, **named)
        finally:
            write(f"< {label}")

    return traced


@dataclass(frozen=True)
class Moment:
    """``begins`` or ended: one traced call."""

    at: float
    pid: int
    begins: bool
    what: str


class Trace:
    """The file that a cloud's processes write to, and what was read of it."""

    def __init__(self, path: Path) -> None:
        path.touch()
        path.chmod(0o666)
        self._stream = path.open()

    def read(self) -> list[Moment]:
        """What was written since the last call, by time."""
        found = []
        for line in self._stream:
            at, pid, way, what = line.split()
            found.append(Moment(float(at), int(pid), way == ">", what))
        return sorted(found, key=lambda moment: moment.at)
