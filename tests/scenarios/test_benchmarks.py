"""Each benchmark still runs: its smoke run has all rows, in the table and as JSON, and leaves nothing behind. Times do not count.

They run in two lanes at once, those with real containers and those without: most of a cloud's start is waiting.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks import main

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(600)]

PATIENCE = 500.0
"""Seconds for all; they take some 90 where nothing else runs."""

CONTAINERS = ("overhead", "create-start", "node", "events", "rest")
"""Those that make a bridge of one name."""
LANES = (CONTAINERS, tuple(name for name in main.BENCHMARKS if name not in CONTAINERS))
ROWS: dict[str, list[str]] = json.loads((main.SOURCE / "tests" / "benchmark_rows.json").read_text())
"""The rows that each smoke run has to have."""


@dataclass(frozen=True)
class Smoke:
    """What the smoke runs came to: of each benchmark what it tells as JSON, all that was printed, and what was left behind."""

    found: dict[str, dict[str, Any]]
    printed: str
    left: dict[str, set[str]]


@pytest.fixture(scope="module")
def smoke() -> Iterator[Smoke]:
    """All smoke runs, once."""
    before, found, printed = traces(), {}, ""
    with tempfile.TemporaryDirectory() as folder:
        lanes = [(lane, Path(folder) / f"{lane[0]}.json", Path(folder) / f"{lane[0]}.log") for lane in LANES]
        runs = [start(*lane) for lane in lanes]
        try:
            for run in runs:
                run.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            pytest.fail("\n".join(log.read_text() for _, _, log in lanes))
        finally:
            for run in runs:
                run.kill()
        for _, numbers, log in lanes:
            found.update({each["benchmark"]: each for each in json.loads(numbers.read_text() or "[]")})
            printed += log.read_text()
    yield Smoke(found, printed, {name: now - before[name] for name, now in traces().items()})


def start(names: tuple[str, ...], numbers: Path, log: Path) -> subprocess.Popen[bytes]:
    """Begin the smoke runs of these benchmarks, as the options of the command ask for them."""
    options = main.parser().parse_args([*names, "--smoke", "--trace", "--json", str(numbers), "--log", os.devnull])
    code = "import os, sys; from benchmarks import inside, main; sys.exit(inside.start(os.environ[main.WISHES]))"
    environment = {**os.environ, "PYTHONPATH": str(main.SOURCE), main.WISHES: main.wishes(options)}
    with log.open("wb") as stream:
        return subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=stream, stderr=stream, close_fds=False)


def traces() -> dict[str, set[str]]:
    """All that could be left behind. Not the empty folder of multiprocessing's fork server, which a worker leaves that is
    killed: that is the worker's to mend, not the benchmarks'."""
    return {
        "files": {path.name for path in Path(tempfile.gettempdir()).iterdir() if not path.name.startswith("pymp-")},
        "processes": {
            (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            for path in Path("/proc").iterdir()
            if path.name.isdigit()
        },
        "mounts": set(Path("/proc/self/mounts").read_text().splitlines()),
        "devices": {name for _, name in socket.if_nameindex()},
    }


def rows(found: dict[str, Any]) -> set[str]:
    """The names of all rows; numbers of processes, and ports, are left out."""
    tables = [f"{table['title']}: {name}" for table in found["tables"] for name in table["rows"]]
    names = [*(each["name"] for each in (*found["series"], *found["values"])), *tables]
    return {re.sub(r" \[\d+\]| [\d.]+:\d+", "", name) for name in names}


@pytest.mark.parametrize("name", main.BENCHMARKS)
def test_a_smoke_run_has_all_rows(smoke: Smoke, name: str) -> None:
    assert name in smoke.found, smoke.printed
    found = smoke.found[name]
    assert rows(found) or found["result"], "it has found nothing"
    assert not [line for line in found["notes"] if line.startswith(("FAILED", "NOT TRACED"))], smoke.printed
    assert set(ROWS[name]) <= rows(found), smoke.printed
    for row in ROWS[name]:
        assert row.rpartition(": ")[2] in smoke.printed, f"{row} is in the JSON and not in the table"


def test_nothing_is_left_behind(smoke: Smoke) -> None:
    assert not any(smoke.left.values()), smoke.left


def test_the_trace_shows_the_stages_of_a_start(smoke: Smoke) -> None:
    stages = "\n".join(smoke.found["overhead"]["notes"])
    for stage in ("web:BaseDatabaseWrapper._commit", "server:Sender.envelopes", "worker:Agent.order", "monitor:Client."):
        assert stage in stages, smoke.printed
