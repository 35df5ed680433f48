"""A cloud to measure: the real one of the tests, with default intervals, a kept connection to its API and a watch of its own."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.cloud import Cloud
from vmcloud.config import Intervals
from vmcloud.directory import port
from vmcloud.directory.watch import Watcher
from vmcloud.domain.records import VERecord
from vmcloud.domain.vocabulary import Observed
from workers.storage.busybox import build_busybox

from . import counts
from .measure import Report
from .trace import VARIABLE, Trace

BRIDGE, SUBNET = "vcbench0", "10.213.88.0/24"
PATIENCE = 30.0


class Scene:
    """See the module. ``changes``: how many new states of VEs the directory has told."""

    def __init__(self, cloud: Cloud, trace: Trace | None = None) -> None:
        self.cloud, self.trace = cloud, trace
        token = (cloud.data / "secrets" / "admin-token").read_text().strip()
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._http = http.client.HTTPConnection(urlsplit(cloud.url).netloc, timeout=30)
        self._seen: dict[str, tuple[Observed, float]] = {}
        self.changes = 0
        self._condition = threading.Condition()
        self._stop = threading.Event()
        directory = cloud.directory()
        watcher = Watcher(directory.settings, directory.tree.suffix)
        self._thread = threading.Thread(target=watcher.run, args=(self._event, self._stop), daemon=True)
        self._thread.start()

    def tell_missing(self, report: Report) -> None:
        """The report has failed if something that was to be traced is not there."""
        for name in sorted(self.trace.missing if self.trace is not None else ()):
            report.note(f"NOT TRACED: {name} is gone; benchmarks/trace.py names it")
            report.failed = True

    def close(self) -> None:
        """End the watch."""
        self._stop.set()
        self._thread.join(2.0)
        self._http.close()

    def _event(self, event: port.Event) -> None:
        now = time.monotonic()
        match event:
            case port.Changed(record=VERecord(name=name, observed=seen)) if seen is not None:
                with self._condition:
                    if name not in self._seen or self._seen[name][0] is not seen.state:
                        self._seen[name] = seen.state, now
                        self.changes += 1
                        self._condition.notify_all()

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """One request over the kept connection."""
        data = None if body is None else json.dumps(body).encode()
        self._http.request(method, f"/api/v1{path}", data, self._headers)
        answer = self._http.getresponse()
        text = answer.read()
        assert answer.status < 300, (answer.status, text)
        return json.loads(text)

    def state(self, name: str) -> Observed | None:
        """What the directory's watch told of a VE last."""
        with self._condition:
            return self._seen[name][0] if name in self._seen else None

    def observed(self, name: str, state: Observed, since: float) -> float:
        """When the directory's watch told that a VE is in ``state``, not before ``since``; waits for it. Monotonic seconds."""
        with self._condition:
            fine = self._condition.wait_for(lambda: self._is(name, state, since), PATIENCE)
            assert fine, f"{name} was not seen {state} within {PATIENCE:g} s\n{self.cloud.log()}"
            return self._seen[name][1]

    def _is(self, name: str, state: Observed, since: float) -> bool:
        found = self._seen.get(name)
        return found is not None and found[0] is state and found[1] >= since

    def finish(self, job: dict[str, Any]) -> dict[str, Any]:
        """Wait until a job is complete, and well."""
        deadline = time.monotonic() + PATIENCE
        while True:
            found: dict[str, Any] = self.ask("GET", f"/jobs/{job['id']}")
            if found["state"] == "C":
                assert found["outcome"] == "ok", found
                return found
            assert time.monotonic() < deadline, found
            time.sleep(0.01)

    def create(self, name: str, *, kind: str, power: str) -> dict[str, Any]:
        """Ask for a VE; the job."""
        asked = {"name": name, "kind": kind, "image": "busybox", "vcpus": 1, "memory_mib": 64, "power": power}
        job: dict[str, Any] = self.ask("POST", "/ves", asked)
        return job

    def power(self, name: str, verb: str, **arguments: Any) -> dict[str, Any]:
        """Ask for a verb; the job."""
        job: dict[str, Any] = self.ask("POST", f"/ves/{name}/{verb}", arguments)
        return job

    def delete(self, name: str) -> None:
        """Delete a VE and wait."""
        self.finish(self.ask("DELETE", f"/ves/{name}"))


@contextmanager
def scene(*, simulate: int = 0, trace: str = "", more: str = "") -> Iterator[Scene]:
    """A cloud that is up with the image ``busybox``. ``simulate``: how many simulated nodes, 0 for real containers. ``trace``:
    "" for none, "driver" for the driver's calls, "stages" for all stages. ``more``: further lines of ``config.toml``."""
    folder = Path(tempfile.mkdtemp(prefix="b"))
    folder.chmod(0o711)
    cloud = Cloud(
        folder / "d",
        simulate=simulate,
        intervals=asdict(Intervals()),
        node=f'bridge = "{BRIDGE}"\nsubnet = "{SUBNET}"',
        more=more,
    )
    try:
        with traced(folder, trace) as told:
            cloud.up()
        cloud.nodes_up()
        content = b"an image for simulated guests"
        if not simulate:
            build_busybox(folder / "busybox.tar")
            content = (folder / "busybox.tar").read_bytes()
        cloud.image("busybox", content)
        made = Scene(cloud, told)
        try:
            yield made
        finally:
            made.close()
    finally:
        try:
            cloud.run("down", "--purge", "--yes")
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def traced(folder: Path, trace: str) -> Iterator[Trace | None]:
    """What is started inside counts what it asks of its servers (:mod:`.counts`), and is traced where that is asked for; both in
    files in ``folder``."""
    counted = folder / counts.FOLDER
    counted.mkdir()
    counted.chmod(0o1777)
    told, environment = None, {counts.VARIABLE: str(counted)}
    if trace:
        told = Trace(folder / "trace")
        environment[VARIABLE] = f"{folder / 'trace'},{trace}"
    os.environ.update(environment)
    try:
        yield told
    finally:
        for name in environment:
            del os.environ[name]
