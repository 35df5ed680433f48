"""When what happened, in every process of a cloud, without a line of the program knowing of it.

Installed by a ``.pth`` file of the benchmark's interpreter (:mod:`benchmarks.inside`) where the environment names a file to write
to. Functions in :data:`TRACED` are wrapped as their module is loaded. The clock is CLOCK_MONOTONIC, which all processes of a
machine share. These tables, and :mod:`.seed`, are the places where benchmarks name what is inside the program; one
that names what is gone is a failure of the benchmark, told in its notes, and no failure of the program.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from . import counts

VARIABLE = "VMCLOUD_TEST_TRACE"


def _both(*tables: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    return {name: [what for table in tables for what in table.get(name, ())] for table in tables for name in table}


DRIVER_CALLS = {
    "workers.drivers.lxc.driver": [f"LxcDriver.{verb}" for verb in ("define", "start", "stop", "inspect")],
    "workers.drivers.simulated.driver": [f"SimulatedDriver.{verb}" for verb in ("define", "start", "stop", "inspect")],
}
"""All that `overhead` needs."""

STAGES = {
    "django.db.backends.base.base": ["BaseDatabaseWrapper._commit"],
    "vmcloud.directory.client": [f"Client.{name}" for name in ("search", "add", "modify", "overwrite", "delete")],
    "vmcloud.dispatch.send": ["Sender.wake", "Sender.envelopes", "Sender.report"],
    "workers.agent": ["Agent.order"],
    "workers.drivers.lxc.driver": ["LxcDriver._after"],
    "workers.observer": ["Observer._take"],
    "workers.hands": ["Isolated.carry_out", "Inline.carry_out", "_Child.__init__", "_Child.__exit__"],
    "workers.child": ["step"],
    "workers.executor": ["_Run._finish", "Executor._see_through"],
    "monitor.publish": ["Publisher.look"],
    "monitor.consume": ["Intake.take"],
}
"""What ``--trace`` shows besides. Of web and server the effects: whatever is between two of them is theirs."""


TURNS = {"vmcloud.fleet.server.inbox": ["Inbox.look"]}
"""What the leader does between two of these is a turn."""
TRACED = {"driver": DRIVER_CALLS, "stages": _both(DRIVER_CALLS, STAGES), "turns": TURNS}
"""What can be asked for."""
Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]


def install() -> None:
    """Wrap what is to be traced or counted, as it is loaded."""
    finder = _Finder()
    if folder := os.environ.get(counts.VARIABLE):
        counter = counts.Counter(Path(folder))
        for number, (module, functions) in enumerate(counts.DOORS.values()):
            for function in functions:
                finder.add(module, function, counts.wrapper(counter, number))
    if traced := os.environ.get(VARIABLE):
        path, _, what = traced.partition(",")
        write = _writer(path)
        finder.missing = lambda label: write("!", label)
        for module, names in TRACED[what].items():
            for function in names:
                label = function if "." in function else f"{module.rpartition('.')[2]}.{function}"
                finder.add(module, function, functools.partial(_wrapped, label=label, write=write))
    sys.meta_path.insert(0, finder)


def _writer(path: str) -> Callable[[str, str], None]:
    opened = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    module = sys.orig_argv[sys.orig_argv.index("-m") + 1] if "-m" in sys.orig_argv else sys.orig_argv[0]
    part = os.environ.get("VMCLOUD_PART") or module.partition(".")[0].replace("workers", "worker")

    def write(way: str, what: str) -> None:
        os.write(opened, f"{time.monotonic():.6f} {time.thread_time():.6f} {os.getpid()} {way} {part}:{what}\n".encode())

    return write


class _Finder(importlib.abc.MetaPathFinder):
    """Finds as the others do, and wraps what was loaded."""

    def __init__(self) -> None:
        self._wanted: dict[str, list[tuple[str, Wrap]]] = {}
        self.missing: Callable[[str], None] = lambda label: None

    def add(self, module: str, function: str, wrap: Wrap) -> None:
        """Wrap a function, or a method named with its class, when its module is loaded."""
        self._wanted.setdefault(module, []).append((function, wrap))

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
            for what, wrap in self._wanted[name]:
                owner, _, function = what.rpartition(".")
                place = getattr(module, owner, None) if owner else module
                if found := getattr(place, function, None):
                    setattr(place, function, wrap(found))
                else:
                    self.missing(f"{name}:{what}")

        loader.exec_module = exec_module
        return spec


def _wrapped(function: Callable[..., Any], label: str, write: Callable[[str, str], None]) -> Callable[..., Any]:
    @functools.wraps(function)
    def traced(*arguments: Any, **named: Any) -> Any:
        write(">", label)
        try:
            return function(*arguments, **named)
        finally:
            write("<", label)

    return traced


@dataclass(frozen=True)
class Moment:
    """``begins`` or ended: one traced call. ``what``: the part and the function. ``processor``: seconds of its thread so far."""

    at: float
    pid: int
    begins: bool
    what: str
    processor: float


class Trace:
    """The file that a cloud's processes write to, and what was read of it."""

    def __init__(self, path: Path) -> None:
        path.touch()
        path.chmod(0o666)
        self._stream = path.open()
        self.missing: set[str] = set()
        """What was to be traced and is not there."""

    def read(self) -> list[Moment]:
        """What was written since the last call, by time."""
        found = []
        for line in self._stream:
            at, processor, pid, way, what = line.split()
            if way == "!":
                self.missing.add(what)
            else:
                found.append(Moment(float(at), int(pid), way == ">", what, float(processor)))
        return sorted(found, key=lambda moment: moment.at)
