"""The command ``benchmarks/run``: reads the options and goes into namespaces of its own, by the recipe of ``runtests``.

``runtests`` ends in a pytest run within new namespaces and control groups. The plugin :mod:`benchmarks.inside` takes the place
of that run, so there is one recipe for both, and what a benchmark does is seen nowhere outside.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1]
WISHES = "VMCLOUD_BENCHMARKS"
"""Environment variable with what to run, as JSON, for the plugin."""
DATABASE = "VMCLOUD_TEST_DATABASE"
"""The one of :mod:`tests.cloud`, which this program can not import: it has the standard library only."""

BENCHMARKS = {
    "overhead": "what the cloud adds around a driver's call, beside a raw broker round trip; simulated and real start",
    "create-start": "create + start from a clone, and start, beside raw LXC tools with the same isolation and storage",
    "ve-list": "`vmcloud ve list` of 100 VEs, wall time with the interpreter's start",
    "admin-list": "pages of the admin with 10,000 VEs, as a browser asks for them",
    "node": "one worker beside raw LXC tools: starts, one by one and 50 at once; a list of 200 guests; at rest with 50",
    "events": "from a guest's change that nobody ordered to the directory, one at a time and 50 in a second",
    "jobs": "job throughput and submission on 100 simulated nodes, with processor, commits and messages for each job",
    "live": "from a change in the directory to the open pages that are told of it, one and a hundred",
    "chaos": "no measurement: random work while parts are killed, frozen and cut off; then every promise is checked",
    "soak": "memory and files of all parts over --count jobs (10,000), and what each gains for every thousand",
    "rest": "processor time of all our processes with 5 guests and nothing to do, and their memory",
    "scale": "--nodes simulated nodes (200) with --ves VEs (10,000): turns, fail-over, pages, batches, and what each part costs",
}

ASKED_FOR = ("chaos", "soak", "scale")
"""Only run where they are named."""

PLAIN = ("count", "seconds", "trace", "smoke", "nodes", "ves", "minutes", "seed")
"""Options that the benchmarks get as they are (:class:`benchmarks.measure.Wishes`)."""


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(
        prog="benchmarks/run",
        description="Measure the cloud. Needs root: it starts real guests, in namespaces of its own.",
        epilog="p50 and p95 count; p99 and the load of the machine are printed so that a noisy run can be told from a slow one.",
    )
    made.add_argument("names", nargs="*", metavar="NAME", help="benchmarks to run (default: all); --list names them")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the numbers to FILE as well")
    made.add_argument("--list", action="store_true", help="name the benchmarks and end")
    made.add_argument(
        "--count", type=int, default=0, metavar="N", help="repetitions, where a benchmark repeats (default: its own)"
    )
    made.add_argument("--seconds", type=float, default=60.0, metavar="S", help="how long `rest` looks (default: 60)")
    made.add_argument("--nodes", type=int, default=0, metavar="N", help="how many nodes `scale` simulates (default: 200)")
    made.add_argument("--ves", type=int, default=0, metavar="N", help="how many VEs `scale` begins with (default: 10,000)")
    made.add_argument("--smoke", action="store_true", help="everything once and as small as can be, to see that it works")
    made.add_argument("--minutes", type=float, default=5.0, metavar="N", help="how long `chaos` lasts (default: 5)")
    made.add_argument("--seed", type=int, default=0, metavar="S", help="what `chaos` is drawn from (default: the time)")
    made.add_argument("--database", choices=("sqlite", "postgres"), default="sqlite", help="where `chaos` keeps jobs")
    made.add_argument("--log", type=Path, metavar="FILE", help="where `chaos` writes what it did (default: build/chaos.jsonl)")
    made.add_argument("--replay", type=Path, metavar="FILE", help="do what that log of `chaos` says, at its times")
    made.add_argument("--trace", action="store_true", help="show where the time goes, by stage (the trace itself costs a little)")
    return made


def main(argv: list[str] | None = None) -> int:
    """The exit code."""
    made = parser()
    options = made.parse_args(argv)
    if options.list:
        for name, text in BENCHMARKS.items():
            print(f"{name:14}{text}")
        return 0
    unknown = [name for name in options.names if name not in BENCHMARKS]
    if unknown:
        made.error(f"no benchmark is called {unknown[0]!r}; there are: {', '.join(BENCHMARKS)}")
    if os.geteuid() != 0:
        made.error("benchmarks start real guests and need root")
    if "chaos" in options.names and options.log is None:
        options.log = SOURCE / "build" / "chaos.jsonl"
        options.log.parent.mkdir(exist_ok=True)
    argv = ["bash", str(SOURCE / "runtests"), "--no-checks", "-q", "-s", "-p", "benchmarks.inside"]
    sys.stdout.flush()
    environment = {**os.environ, WISHES: wishes(options), DATABASE: options.database}
    return subprocess.run(argv, env=environment, close_fds=False, check=False).returncode


def wishes(options: argparse.Namespace) -> str:
    """What these options ask for, for the plugin (JSON)."""
    asked = {
        "names": options.names or [name for name in BENCHMARKS if name not in ASKED_FOR],
        **{name: getattr(options, name) for name in PLAIN},
        "replay": _handed(options.replay, os.O_RDONLY),
        "log": _handed(options.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        "json": _handed(options.json, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    }
    return json.dumps(asked)


def _handed(path: Path | None, flags: int) -> int:
    """A file opened here for the plugin, or -1: inside the namespaces its folder may be another one."""
    if path is None:
        return -1
    opened = os.open(path, flags, 0o644)
    os.set_inheritable(opened, True)
    return opened
