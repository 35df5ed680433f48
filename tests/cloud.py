"""A whole cloud for tests: the real parts, started by the real ``vmcloud up`` in a folder of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import psycopg

from tests import postgres
from vmcloud.config import Config
from vmcloud.directory.store import Directory
from vmcloud.domain.names import native_name
from workers.drivers import simulated

SOURCE = Path(__file__).resolve().parents[1]
DATABASE = "VMCLOUD_TEST_DATABASE"
"""Environment variable: ``postgres`` where clouds are to keep their jobs there (pytest's option ``--database``)."""
QUICK = {"relist": 2.0, "node_down": 6.0, "resend": 0.5, "reask": 2.0, "lease": 2.0, "reconcile": 1.0, "claim": 1.0}
"""Intervals (seconds) that make a test wait less; all that a cloud does by time, it does by these."""


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody has."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Answer:
    """An answer of the API: its status and its decoded body."""

    def __init__(self, status: int, body: Any) -> None:
        self.status, self.body = status, body

    def __repr__(self) -> str:
        return f"<{self.status} {self.body!r}>"


class Cloud:
    """One cloud in ``data``. ``simulate``: how many simulated nodes; 0: this machine with real containers."""

    def __init__(
        self,
        data: Path,
        *,
        simulate: int = 2,
        intervals: dict[str, float] | None = None,
        node: str = "",
        database: str = "",
        more: str = "",
    ) -> None:
        """``database``: a URL; empty for SQLite in ``data``. ``node``, ``more``: further lines of ``config.toml``."""
        self.data, self.simulate, self.database = data, simulate, database
        self.faults = data / "faults"
        web, broker, directory = free_ports(3)
        self.url = f"http://127.0.0.1:{web}"
        times = {**QUICK, **(intervals or {})}
        kinds = '["simulated"]' if simulate else '["lxc"]'
        lines = [
            f'database_url = "{database}"',
            f'broker_url = "redis://127.0.0.1:{broker}/0"',
            f'directory_uri = "ldap://127.0.0.1:{directory}"',
            f"web_port = {web}",
            f'web_url = "{self.url}"',
            "[node]",
            'name = "n"',
            f"kinds = {kinds}",
            f"simulate = {simulate}",
            node,
            "[intervals]",
            *(f"{name} = {value}" for name, value in times.items()),
            more,
        ]
        data.mkdir(parents=True, exist_ok=True)
        data.chmod(0o711)
        (data / "config.toml").write_text("\n".join(lines) + "\n")
        self.faults.mkdir(exist_ok=True)
        self.faults.chmod(0o777)

    # ------------------------------------------------------------------------------------------------------------ running

    def run(self, *arguments: str, check: bool = True, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """The command line, as a person would use it."""
        env = {
            **os.environ,
            "VMCLOUD_DATA": str(self.data),
            "VMCLOUD_FAULTS": str(self.faults),
            "PYTHONPATH": str(SOURCE),
            "NO_COLOR": "1",
        }
        for name in ("VMCLOUD_URL", "VMCLOUD_TOKEN"):
            env.pop(name, None)
        done = subprocess.run(
            [sys.executable, "-m", "vmcloud.cli", *arguments],
            env=env,
            cwd=self.data,
            capture_output=True,
            text=True,
            input=stdin,
            timeout=120,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(
                f"vmcloud {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}{done.stderr}\n{self.log()}"
            )
        return done

    def up(self, *arguments: str) -> None:
        """Start it and wait until every part is ready."""
        self.run("up", "--detach", *arguments)

    def down(self, *arguments: str) -> None:
        """Stop it; guests stay unless ``--purge --yes``."""
        self.run("down", *arguments)

    def log(self, lines: int = 60) -> str:
        """The end of the combined log."""
        path = self.data / "log" / "vmcloud.log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else "(no log)"

    def parts(self) -> dict[str, dict[str, Any]]:
        """What ``vmcloud status`` says of each part."""
        status = json.loads(self.run("status", "-o", "json", check=False).stdout)
        return {part["name"]: part for part in status["parts"]}

    def signal(self, part: str, number: signal.Signals) -> None:
        """Send a signal to one part's process."""
        os.kill(self.parts()[part]["pid"], number)

    @contextmanager
    def frozen(self, part: str) -> Iterator[None]:
        """The part does not run inside, as when its machine hangs; it goes on afterwards."""
        pid = self.parts()[part]["pid"]
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def break_at(self, point: str) -> None:
        """Let the next process that comes to a fault point die there."""
        (self.faults / point).touch()
        (self.faults / point).chmod(0o666)

    def broke_at(self, point: str) -> bool:
        """Whether that has happened."""
        return not (self.faults / point).exists()

    # ------------------------------------------------------------------------------------------------------------- asking

    def api(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """One request as the administrator; any status is an answer. Bytes are sent as they are, all else as JSON."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        token = (self.data / "secrets" / "admin-token").read_text().strip()
        request = urllib.request.Request(f"{self.url}/api/v1{path}", data=data, method=method)
        request.add_header("Authorization", f"Bearer {token}")
        request.add_header("Content-Type", "application/octet-stream" if isinstance(body, bytes) else "application/json")
        for name, value in headers.items():
            request.add_header(name.replace("_", "-"), value)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return Answer(answer.status, json.load(answer))
        except urllib.error.HTTPError as error:
            return Answer(error.code, json.loads(error.read() or b"null"))

    def page(self, path: str) -> int:
        """The status of a page, for somebody whose session ended long ago."""
        request = urllib.request.Request(f"{self.url}{path}", headers={"Cookie": f"sessionid={'x' * 32}"})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """The body of an answer that must be a success."""
        answer = self.api(method, path, body, **headers)
        assert answer.status < 300, answer
        return answer.body

    def job(self, number: int) -> dict[str, Any]:
        """One job with its steps."""
        found: dict[str, Any] = self.ask("GET", f"/jobs/{number}")
        return found

    def wait(self, job: dict[str, Any] | int, seconds: float = 30.0) -> dict[str, Any]:
        """The job once it is complete."""
        number = job if isinstance(job, int) else job["id"]
        try:
            return self._ended(number, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{json.dumps(self.job(number), indent=1)}\n{self.parts()}") from None

    def _ended(self, number: int, seconds: float) -> dict[str, Any]:
        def ended() -> dict[str, Any] | None:
            found = self.job(number)
            return found if found["state"] == "C" else None

        job: dict[str, Any] = self.until(ended, seconds, f"job {number} to end")
        return job

    def until(self, look: Callable[[], Any], seconds: float, what: str) -> Any:
        """Look until there is something; AssertionError with the log's end after ``seconds``."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                if found := look():
                    return found
            except (AssertionError, OSError, KeyError):
                if time.monotonic() > deadline:
                    raise
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {seconds} s for {what}\n{self.log()}")
            time.sleep(0.03)

    def ves(self) -> dict[str, dict[str, Any]]:
        """All VEs as the read model shows them, by name."""
        return {each["name"]: each for each in self.ask("GET", "/ves?limit=1000")["items"]}

    def nodes_up(self) -> None:
        """Wait until every node is up and known for what it is."""
        self.until(
            lambda: (
                (found := self.ask("GET", "/nodes")["items"]) and all(each["state"] == "up" and each["kinds"] for each in found)
            ),
            30,
            "all nodes to be up",
        )

    def image(self, name: str = "busybox", content: bytes = b"an image for simulated guests") -> None:
        """Import an image."""
        self.wait(self.ask("PUT", f"/images/{name}", content))

    # ------------------------------------------------------------------------------------------------------------- truths

    def directory(self) -> Directory:
        """The directory, read with the server's eyes."""
        config = Config.load(self.data)
        return Directory.of(config.directory_uri, config.suffix, "server", config.secrets("server")["directory_password"])

    def node_names(self) -> tuple[str, ...]:
        """The nodes this cloud has."""
        return Config.load(self.data).node.names

    def simulated_guests(self) -> dict[str, tuple[str, str]]:
        """What really runs on the simulated nodes, from their own files: native name → (node, state)."""
        found = {}
        for node in self.node_names():
            driver = simulated.SimulatedDriver(self.simulated_file(node))
            for seen in driver.list():
                assert seen.native not in found, f"{seen.native} is on two nodes"
                found[seen.native] = (node, seen.state.value)
        return found

    def simulated_file(self, node: str) -> Path:
        """Where a simulated node keeps its guests."""
        return Config.load(self.data).node_home(node) / "simulated.sqlite3"

    def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """The rows of one statement in the job database, read beside the product; ``?`` stands for a value."""
        url = Config.load(self.data).sql
        if url.startswith("sqlite:"):
            with closing(sqlite3.connect(urlsplit(url).path, timeout=20)) as database, database:
                return database.execute(statement, values).fetchall()
        with psycopg.connect(url, autocommit=True) as connection:
            cursor = connection.execute(statement.replace("?", "%s"), values)
            return cursor.fetchall() if cursor.description else []

    def check_truths(self) -> None:
        """Directory = reality = read model, and nothing left over. For simulated nodes."""

        def equal() -> bool:
            real = self.simulated_guests()
            recorded = {native_name(each.name, each.ve): each for each in self.directory().ves()}
            shown = {native_name(name, UUID(each["id"])): each for name, each in self.ves().items()}
            assert set(real) == set(recorded) == set(shown), (sorted(real), sorted(recorded), sorted(shown))
            for native, (node, state) in real.items():
                record = recorded[native]
                assert record.observed is not None and record.node == node, (native, record)
                assert record.observed.state.value == state == shown[native]["observed"], (native, state, record.observed)
                assert record.desired.value == state, (native, record.desired, state)
            assert self.directory().strays() == []
            return True

        self.until(equal, 20, "directory, reality and read model to agree")


@contextmanager
def cloud(*, without: Sequence[str] = (), **settings: Any) -> Iterator[Cloud]:
    """A cloud that is up, and gone without a trace afterwards. ``without``: parts that the test will run."""
    with ExitStack() as last:
        if os.environ.get(DATABASE) == "postgres":
            settings.setdefault("database", last.enter_context(postgres.shared().database()))
        folder = Path(tempfile.mkdtemp(prefix="c"))
        last.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o711)
        yield last.enter_context(launched(folder / "d", without=without, **settings))


@contextmanager
def launched(data: Path, *, without: Sequence[str] = (), **settings: Any) -> Iterator[Cloud]:
    """The same in this folder, with these settings and no others."""
    made = Cloud(data, **settings)
    try:
        made.up(*(word for part in without for word in ("--without", part)))
        if not without:
            made.nodes_up()
        yield made
    finally:
        made.down("--purge", "--yes")
