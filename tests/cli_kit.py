"""Commands against a scripted web server on loopback: what is asked, what is printed where, and the exit codes.

Import the fixtures where they are used: ``from tests.cli_kit import Cloud, Run, cloud, run``.
"""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from vmcloud.cli import rest
from vmcloud.cli.main import main

TOKEN = "vmc_of_a_test"


@dataclass
class Request:
    """One request as the server got it."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)


Answer = tuple[int, Any]
HANG_UP: Answer = (0, None)


@dataclass
class Cloud:
    """A scripted API: ``answers`` by "METHOD path"; a list is used up one by one, its last stays; a function is asked."""

    url: str = ""
    answers: dict[str, Any] = field(default_factory=dict)
    asked: list[Request] = field(default_factory=list)

    def answer(self, request: Request) -> Answer:
        """What the script says."""
        self.asked.append(request)
        found = self.answers.get(f"{request.method} {request.path}")
        if found is None:
            return 404, {"what": f"no {request.path} here", "code": "not-found", "todo": "Look."}
        if isinstance(found, list):
            found = found.pop(0) if len(found) > 1 else found[0]
        if callable(found):
            found = found(request)
        return found if isinstance(found, tuple) else (200, found)


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Cloud]:
    """A scripted cloud, and an environment that points to it and to nothing else."""
    script = Cloud()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            parts = urlsplit(self.path)
            if self.headers.get("Transfer-Encoding") == "chunked":
                body = b""
                while length := int(self.rfile.readline(), 16):
                    body += self.rfile.read(length)
                    self.rfile.readline()
                self.rfile.readline()
            else:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = parts.path.removeprefix("/api/v1")
            status, data = script.answer(Request(self.command, path, dict(parse_qsl(parts.query)), dict(self.headers), body))
            if not status:
                self.close_connection = True
                return
            raw = data if isinstance(data, bytes) else json.dumps(data).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve

        def log_message(self, format: str, *args: Any) -> None:
            """Silence."""

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that went away is no news."""

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    script.url = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setenv("VMCLOUD_URL", script.url)
    monkeypatch.setenv("VMCLOUD_TOKEN", TOKEN)
    monkeypatch.setenv("VMCLOUD_DATA", str(tmp_path / "nothing"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.delenv("VMCLOUD_DEBUG", raising=False)
    monkeypatch.delenv("VMCLOUD_PROJECT", raising=False)
    monkeypatch.setattr(rest, "PAUSE", 0.01)
    yield script
    server.shutdown()
    server.server_close()


def job(number: int = 12, verb: str = "start", state: str = "Q", **fields: Any) -> dict[str, Any]:
    """A job as the API tells it."""
    words = {"Q": "queued", "H": "held", "R": "running", "E": "exiting", "B": "begun", "C": "complete"}
    return {
        "id": number,
        "ref": str(number),
        "array": None,
        "part_of": None,
        "verb": verb,
        "ve": None,
        "ve_name": "web-1",
        "project": "main",
        "kind": "lxc",
        "node": "node-1",
        "owner": "admin",
        "state": state,
        "state_name": words[state],
        "reason": "",
        "outcome": "ok" if state == "C" else None,
        "error": None,
        "origin": "cli",
        "args": {},
        "queue": "main",
        "priority": 0,
        "depend": "",
        "version": 1,
        "cancel_requested": False,
        "created": "2026-01-01T00:00:00.000+00:00",
        "started": None,
        "ended": "2026-01-01T00:00:01.500+00:00" if state == "C" else None,
        "steps": [],
        **fields,
    }


def step(state: str = "running", phase: str = "", percent: int | None = None, outcome: str | None = None) -> dict[str, Any]:
    """A step as the API tells it."""
    return {
        "number": 1,
        "verb": "create",
        "node": "node-1",
        "state": state,
        "phase": phase,
        "percent": percent,
        "outcome": outcome,
    }


def ve(name: str) -> dict[str, Any]:
    """A VE as the API tells it."""
    return {
        "id": f"id-of-{name}",
        "name": name,
        "project": "main",
        "kind": "lxc",
        "node": "node-1",
        "status": "running",
        "reason": "",
        "desired": "running",
        "image": "busybox",
        "vcpus": 1,
        "memory_mib": 128,
        "disk_mib": 0,
        "addresses": ["10.86.0.2"],
        "owner": "admin",
        "restart": "never",
        "lease": None,
        "mac": None,
        "since": None,
    }


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command line in this process: exit code, stdout, stderr."""

    def runner(*arguments: str) -> tuple[int, str, str]:
        code = main(list(arguments))
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return runner
