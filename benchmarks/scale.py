"""A cloud of --nodes simulated nodes and --ves VEs (200 and 10,000): what grows with what.

Everything is measured twice, first with a tenth of the nodes and VEs. The last column says how much faster than the number of VEs
a row grew: 0 where it stayed as it was, 1 where it grew as the VEs did, 2 with their square.

1. converge: SQL is empty, the directory says what is wanted and nothing of what is seen; until the read model shows both of all;
2. at rest: what each part spends; 3. looks at one VE, one node, lists, the start page; 4. a batch of resizes; 5. an array is
cancelled; 6. the leader is killed, and a second server takes over. A turn of the leader is the time in which it does not take
anything from its inbox; its processor time is what counts on a machine that does other things as well.
"""

from __future__ import annotations

import http.client
import itertools
import json
import math
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.cloud import Cloud
from vmcloud.config import Intervals
from vmcloud.local.parts import environment

from . import seed, spent, trace
from .admin_list import Browser
from .measure import Report, Wishes, quantile
from .scene import traced

PATIENCE = 3600.0
"""Seconds for anything: with ten times as many VEs than was meant, much takes ten times as long."""
IDLE = 0.001
"""Seconds below which the time between two looks at the inbox is no turn."""


@dataclass(frozen=True)
class Sizes:
    """How much of everything. ``rest``: seconds at rest. ``looks``: how often each page is looked at. ``batch``: resizes in one
    request. ``array``: parts of the array that is cancelled."""

    nodes: int
    ves: int
    rest: float = 60.0
    looks: int = 10
    batch: int = 1000
    array: int = 5000

    def tenth(self) -> Sizes:
        """The smaller cloud: a tenth of the nodes and VEs, and as much of all else as it has VEs for."""
        nodes, ves = max(1, self.nodes // 10), max(2, self.ves // 10)
        return Sizes(nodes, ves, self.rest, self.looks, min(self.batch, ves), min(self.array, ves))


def run(report: Report, wishes: Wishes) -> None:
    """Both clouds."""
    sizes = Sizes(wishes.nodes or 200, wishes.ves or 10_000, rest=wishes.seconds)
    if wishes.smoke:
        sizes = Sizes(wishes.nodes or 5, wishes.ves or 50, rest=1.0, looks=2, batch=20, array=20)
    sizes = Sizes(**{**asdict(sizes), "batch": min(sizes.batch, sizes.ves), "array": min(sizes.array, sizes.ves)})
    small, large = (_cloud(report, each) for each in (sizes.tenth(), sizes))
    factor = math.log(sizes.ves / sizes.tenth().ves)
    both = {name: (small.rows.get(name, math.nan), value) for name, value in large.rows.items()}
    rows = {name: (*pair, math.log(pair[1] / pair[0]) / factor if min(pair) > 0 else 0.0) for name, pair in both.items()}
    tenth = sizes.tenth()
    report.table("what grows with VEs", (f"{tenth.ves} VEs", f"{sizes.ves} VEs", "power"), rows)
    report.note(f"{tenth.nodes} and {sizes.nodes} nodes; batches of {tenth.batch} and {sizes.batch}, arrays of the same and more")
    for text in dict.fromkeys((*small.missing, *large.missing)):
        report.note(f"NOT TRACED: {text} is gone; benchmarks/trace.py names it")
        report.failed = True


@dataclass
class Found:
    """The rows of one cloud."""

    rows: dict[str, float] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)


def _cloud(report: Report, sizes: Sizes) -> Found:
    found = Found()
    words = f"{sizes.nodes} nodes, {sizes.ves} VEs"
    report.begins(f"{words} are written")
    with _seeded(sizes) as (cloud, told):
        made = _Made(cloud, sizes, found, told)
        acts: Sequence[tuple[str, Callable[[], None]]] = (
            ("converge", made.converge),
            ("at rest", made.rest),
            ("looks", made.looks),
            ("resizes", made.resizes),
            ("cancel", made.cancel),
            ("fail-over", made.fail_over),
        )
        for name, act in acts:
            report.begins(f"{words}: {name}")
            told.read()
            before = spent.look(cloud) if name != "converge" else None
            act()
            after = spent.look(cloud)
            made.turns(name)
            before = before or spent.Look(made.started, {})
            if name == "at rest":
                made.spent_at_rest(before, after)
            elif name != "fail-over":  # there the processes are other ones
                made.used(name, before, after)
            spent.show(report, before, after, f"{words}, {name}")
        found.missing = told.missing
    return found


class _Made:
    """A cloud, and what is done with it."""

    def __init__(self, cloud: Cloud, sizes: Sizes, found: Found, told: trace.Trace) -> None:
        self._cloud, self._sizes, self._found, self._told = cloud, sizes, found, told
        self.started = time.monotonic()

    def _row(self, name: str, value: float) -> None:
        self._found.rows[name] = value

    def turns(self, name: str) -> None:
        """How long the leader's turns were since the last time."""
        moments = [each for each in self._told.read() if each.what.endswith("Inbox.look")]
        lasted = [
            (after.at - before.at, after.processor - before.processor)
            for before, after in itertools.pairwise(moments)
            if not before.begins and after.begins and before.pid == after.pid and after.at - before.at > IDLE
        ]
        for number, of in enumerate(("", ", its processor time")):
            for word, share in (("p50", 0.5), ("p95", 0.95), ("longest", 1.0)):
                found = quantile([each[number] for each in lasted], share) if lasted else 0.0
                self._row(f"{name}: a turn, {word}{of}, ms", found * 1000)

    def used(self, name: str, before: spent.Look, after: spent.Look) -> None:
        """What the parts needed for all of it: what else the machine does is not in it."""
        used = {part: now.seconds - before.parts.get(part, spent.Spent()).seconds for part, now in after.parts.items()}
        self._row(f"{name}: processor of the server, s", max(0.0, used.get("server", 0.0)))
        self._row(f"{name}: processor of all parts, s", max(0.0, sum(used.values())))

    def spent_at_rest(self, before: spent.Look, after: spent.Look) -> None:
        """What each part needs only to be there."""
        for name, now in after.parts.items():
            used = (now.seconds - before.parts[name].seconds) / (after.at - before.at)
            self._row(f"at rest: processor of {name}, ms a second", used * 1000)
            self._row(f"at rest: memory of {name}, MiB", now.memory)

    def converge(self) -> None:
        """From the start of server, monitor and worker on."""
        self.started = began = time.monotonic()
        starting = threading.Thread(target=self._cloud.up, daemon=True)  # it may have more to wait for than it has patience
        starting.start()
        told: dict[str, float] = {}
        while len(told) < 3:
            rows, seen = seed.shown(self._cloud)
            if rows >= self._sizes.ves:
                told.setdefault("converge: the read model shows all VEs, s", time.monotonic() - began)
            if seen >= self._sizes.ves:
                told.setdefault("converge: and what was seen of all, s", time.monotonic() - began)
            if len(told) == 2 and self._up():
                told.setdefault("converge: and all nodes are up, s", time.monotonic() - began)
            assert time.monotonic() - began < PATIENCE, f"{told}\n{self._cloud.log()}"
            time.sleep(min(1.0, self._sizes.ves / 1000))
        starting.join(PATIENCE)
        for name, seconds in told.items():
            self._row(name, seconds)
        open_jobs = self._ask("GET", "/jobs?active=true&limit=1")["items"]
        assert not open_jobs, f"nothing should be put right: {open_jobs}"

    def _up(self) -> bool:
        try:
            page = self._ask("GET", "/nodes?limit=1000")
            found = page["items"]
            while page["next"]:
                page = self._ask("GET", f"/nodes?limit=1000&cursor={page['next']}")
                found += page["items"]
        except (OSError, AssertionError):
            return False
        return len(found) >= self._sizes.nodes and all(each["state"] == "up" for each in found)

    def rest(self) -> None:
        """Nobody wants anything."""
        time.sleep(self._sizes.rest)

    def looks(self) -> None:
        """What people look at; and the processor time of the web part for each."""
        browser, node = Browser(self._cloud), self._cloud.node_names()[0]
        pages: dict[str, Callable[[], object]] = {
            "one VE": lambda: self._ask("GET", f"/ves/{seed.name(1)}"),
            "one node": lambda: self._ask("GET", f"/nodes/{node}"),
            "the first 50 VEs": lambda: self._ask("GET", "/ves?limit=50"),
            "the start page": lambda: browser.get("/admin/"),
        }
        for name, look in pages.items():
            look()
            took, before = [], spent.look(self._cloud)
            for _ in range(self._sizes.looks):
                began = time.monotonic()
                look()
                took.append(time.monotonic() - began)
            used = spent.look(self._cloud).parts["web"].seconds - before.parts["web"].seconds
            self._row(f"look at {name}: p50, ms", quantile(took, 0.5) * 1000)
            self._row(f"look at {name}: processor of web, ms", used * 1000 / self._sizes.looks)

    def resizes(self) -> None:
        """One request, and until all of it is done."""
        began, many = time.monotonic(), self._sizes.batch
        requests = [{"verb": "resize", "ve": seed.name(number), "args": {"memory_mib": 96}} for number in range(many)]
        items = self._ask("POST", "/jobs", {"requests": requests})["items"]
        assert all(each["job"] for each in items), items
        self._row("a batch of resizes: answered, ms for each", (time.monotonic() - began) * 1000 / many)
        self._done()
        self._row("a batch of resizes: complete, ms for each", (time.monotonic() - began) * 1000 / many)

    def cancel(self) -> None:
        """An array that waits in a queue which is not started is cancelled by one request."""
        self._ask("POST", "/queues", {"name": "later", "started": False})
        began, many = time.monotonic(), self._sizes.array
        body = {"force": True, "job": {"array": f"0-{many - 1}", "queue": "later"}}
        array = self._ask("POST", f"/ves/{seed.NAMES.replace('%', '%25')}/restart", body)
        self._row("an array: submitted, ms for each part", (time.monotonic() - began) * 1000 / many)
        began = time.monotonic()
        self._ask("POST", f"/jobs/{array['id']}/cancel")
        self._row("cancel of an array: answered, ms for each part", (time.monotonic() - began) * 1000 / many)
        self._done()
        self._row("cancel of an array: complete, ms for each part", (time.monotonic() - began) * 1000 / many)

    def fail_over(self) -> None:
        """From the kill of the leader until a job that was asked for right after it is complete."""
        with _another_server(self._cloud):
            self._cloud.signal("server", signal.SIGKILL)
            began = time.monotonic()
            self._ask("POST", f"/ves/{seed.name(1)}/start", {})
            self._done()
            self._row("the leader is killed: until the next job is complete, s", time.monotonic() - began)

    def _done(self) -> None:
        """Wait until no job is open."""
        deadline = time.monotonic() + PATIENCE
        while self._ask("GET", "/jobs?active=true&limit=1")["items"]:
            assert time.monotonic() < deadline, self._cloud.log()
            time.sleep(0.05)

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        """One request, however long it takes."""
        token = (self._cloud.data / "secrets" / "admin-token").read_text().strip()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        with closing(http.client.HTTPConnection(urlsplit(self._cloud.url).netloc, timeout=PATIENCE)) as connection:
            connection.request(method, f"/api/v1{path}", None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read()
        assert answer.status < 300, (answer.status, text[:2000])
        return json.loads(text)


@contextmanager
def _seeded(sizes: Sizes) -> Iterator[tuple[Cloud, trace.Trace]]:
    """A cloud with all its VEs, of which nothing runs; it is gone without a trace afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="s"))
    folder.chmod(0o711)
    cloud = Cloud(folder / "d", simulate=sizes.nodes, intervals=asdict(Intervals()))
    try:
        cloud.up("--only", "broker", "--only", "directory", "--only", "prepare")
        cloud.down()
        seed.fill(cloud, sizes.ves)
        with traced(folder, "turns") as told:
            assert told is not None
            yield cloud, told
    finally:
        try:
            cloud.down("--purge", "--yes")
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _another_server(cloud: Cloud) -> Iterator[None]:
    """A second server process that stands by, started as the supervisor starts the first."""
    path = cloud.data / "log" / "second.log"
    with path.open("wb") as log:
        argv, env = [sys.executable, "-m", "vmcloud.site", "server"], {**environment(cloud.data), "VMCLOUD_PART": "server"}
        running = subprocess.Popen(argv, env=env, cwd=cloud.data, stdout=log, stderr=log)
    try:
        cloud.until(lambda: b"standing by" in path.read_bytes(), 30, "the second server to stand by")
        yield
    finally:
        running.kill()
        running.wait(10)
