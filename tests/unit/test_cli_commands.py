"""Commands against a scripted web server on loopback: what is asked, what is printed where, and the exit codes."""

from __future__ import annotations

import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from vmcloud.cli import rest
from vmcloud.cli.main import main
from vmcloud.domain.queueing import Queue

pytestmark = pytest.mark.unit
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
    words = {"Q": "queued", "H": "held", "R": "running", "E": "exiting", "C": "complete"}
    return {
        "id": number,
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


# ------------------------------------------------------------------------------------------------------------------ lists


def test_a_list_is_read_page_by_page(cloud: Cloud, run: Run) -> None:
    pages = {"": {"items": [ve("a")], "next": "c1"}, "c1": {"items": [ve("b")], "next": None}}
    cloud.answers["GET /ves"] = lambda request: pages[request.query.get("cursor", "")]
    assert run("ve", "list", "-o", "name") == (0, "a\nb\n", "")
    assert cloud.asked[0].query == {"project": "main", "limit": "1000"}
    assert cloud.asked[0].headers["Authorization"] == f"Bearer {TOKEN}"


def test_filters_and_projects_are_asked_for(cloud: Cloud, run: Run) -> None:
    cloud.answers["GET /ves"] = {"items": [ve("a")], "next": None}
    assert run("ve", "list", "-A", "--node", "node-1", "--kind", "lxc", "--status", "stopped", "-o", "json")[:2] == (0, "[]\n")
    assert cloud.asked[0].query == {"project": "*", "limit": "1000", "node": "node-1", "kind": "lxc"}


def test_every_list_has_every_form(cloud: Cloud, run: Run) -> None:
    node = {
        "name": "node-1",
        "state": "up",
        "cordoned": True,
        "maintenance": False,
        "kinds": ["lxc"],
        "ves": 1,
        "cpus": 4,
        "memory_mib": 1024,
        "memory_placed_mib": 0,
        "heard": None,
        "reason": "",
        "disk_mib": 1,
        "guests_seen": 1,
        "simulated": False,
        "address": None,
        "version": "0.1",
        "labels": [],
        "description": "",
    }
    image = {"name": "busybox", "kind": "lxc", "size": 5, "sha256": "a" * 64, "description": ""}
    queue = {"name": "main", "queued": 1, "running": 0, **Queue("main", max_vcpus=4).to_json()}
    lists = {"ve": [ve("a")], "node": [node], "image": [image], "job": [job(state="C")], "queue": [queue]}
    for word, items in lists.items():
        cloud.answers[f"GET /{word}s"] = {"items": items, "next": None}
        assert json.loads(run(word, "list", "-o", "json")[1]) == items
        for form in ("table", "wide", "yaml", "name"):
            code, out, err = run(word, "list", "-o", form)
            assert (code, err) == (0, "") and out
    assert "up, cordoned" in run("node", "list")[1]


def test_show_goes_on_after_a_failure(cloud: Cloud, run: Run) -> None:
    cloud.answers["GET /ves/b"] = ve("b")
    code, out, err = run("ve", "show", "a", "b", "-o", "name")
    assert (code, out) == (1, "b\n") and err == "vmcloud: a: no /ves/a here\n  do: Look.\n"


def test_a_filter_that_finds_nothing_says_why(cloud: Cloud, run: Run) -> None:
    cloud.answers["GET /ves"] = cloud.answers["GET /jobs"] = {"items": [], "next": None}
    for arguments in (("ve", "list", "--node", "nix"), ("job", "list", "--node", "nix")):
        code, out, err = run(*arguments)
        assert (code, out) == (1, "") and "no node is called 'nix'" in err
    code, _, err = run("ve", "list", "-p", "nope")
    assert code == 0 and "project 'nope' has no VE" in err
    cloud.answers["GET /events"] = {"items": [], "next": None}
    code, out, err = run("ve", "events", "x3")
    assert (code, out) == (1, "") and "'x3'" in err


def test_events_are_jobs_and_what_no_job_tells(cloud: Cloud, run: Run) -> None:
    def happened(number: int, at: str, text: str, **fields: Any) -> dict[str, Any]:
        about = {"project": "main", "ve": "u", "ve_name": "web-1", "node": "node-1", "job": None}
        return {"id": number, "at": f"2026-01-01T00:00:{at}.000+00:00", "type": "state", "text": text, **about, **fields}

    cloud.answers["GET /jobs"] = {
        "items": [job(1, created="2026-01-01T00:00:01.000+00:00", state="C", outcome="ok")],
        "next": None,
    }
    told = [happened(2, "03", "other", project="other"), happened(1, "02", "crashed on node node-1, before running")]
    cloud.answers["GET /events"] = {"items": told, "next": None}
    code, out, _ = run("ve", "events", "web-1")
    lines = [line.split(maxsplit=2)[1:] for line in out.splitlines()[1:]]
    assert code == 0 and [line[0] for line in lines] == ["state", "job"]
    assert lines[0][1].startswith("crashed on node node-1, before running") and lines[1][1].startswith("start: ok")
    assert [each["job"] for each in json.loads(run("ve", "events", "web-1", "-o", "json")[1])] == [None, 1]


def test_events_are_those_of_the_project(cloud: Cloud, run: Run) -> None:
    cloud.answers["GET /events"] = {"items": [], "next": None}
    cloud.answers["GET /jobs"] = {"items": [job(3), job(2, project="other"), job(1)], "next": None}
    assert run("ve", "events", "web-1", "-o", "name")[:2] == (0, "3\n1\n")
    assert run("ve", "events", "web-1", "-o", "name", "--limit", "1")[:2] == (0, "3\n")
    assert run("ve", "events", "web-1", "-o", "name", "-p", "other")[:2] == (0, "2\n")


# ---------------------------------------------------------------------------------------------------------------- actions


def test_an_action_prints_the_number_on_stdout_and_words_on_stderr(cloud: Cloud, run: Run) -> None:
    cloud.answers["POST /ves/web-1/start"] = (202, job())
    assert run("ve", "start", "web-1") == (0, "12\n", "job 12 start web-1: queued\n")
    request = cloud.asked[0]
    assert len(request.headers["Idempotency-Key"]) == 32 and request.headers["User-Agent"].startswith("vmcloud-cli")


def test_one_operand_fails_and_the_others_are_done(cloud: Cloud, run: Run) -> None:
    for name, number in (("a", 1), ("c", 3)):
        cloud.answers[f"POST /ves/{name}/stop"] = (202, job(number, "stop", ve_name=name))
    code, out, err = run("ve", "stop", "a", "b", "c", "--force", "--grace", "1m")
    assert (code, out) == (1, "1\n3\n") and "vmcloud: b: no /ves/b/stop here" in err
    assert cloud.asked[0].json == {"force": True, "grace": 60.0}


def test_operands_given_twice_are_asked_for_once(cloud: Cloud, run: Run) -> None:
    cloud.answers["POST /ves/a/start"] = (202, job(1, ve_name="a"))
    code, out, err = run("ve", "start", "a", "a")
    assert (code, out) == (0, "1\n") and "a was given 2 times" in err and len(cloud.asked) == 1


def test_with_several_operands_each_job_is_named_first(cloud: Cloud, run: Run) -> None:
    for name, number in (("a", 1), ("b", 2)):
        cloud.answers[f"POST /ves/{name}/start"] = (202, job(number, ve_name=name))
        cloud.answers[f"GET /jobs/{number}"] = [job(number, ve_name=name), job(number, ve_name=name, state="C", version=2)]
    assert run("ve", "start", "a", "b", "--wait")[2].splitlines() == [
        "job 1 start a: queued",
        "job 2 start b: queued",
        "job 1 start a: ok in 1.5 s",
        "job 2 start b: ok in 1.5 s",
    ]


def test_a_running_step_is_told_once(cloud: Cloud, run: Run) -> None:
    running = step("running", "unpack", 0)
    cloud.answers["GET /jobs/12"] = [
        job(state="R", version=2, steps=[running], reason="create on node-1: unpack 0 %"),
        job(state="R", version=3, steps=[running], reason="create on node-1: unpack"),
        job(state="C", version=4),
    ]
    assert run("job", "wait", "12")[2].splitlines() == [
        "job 12 start web-1: running, unpack 0 %",
        "job 12 start web-1: ok in 1.5 s",
    ]


def test_create_sends_only_what_was_given(cloud: Cloud, run: Run) -> None:
    cloud.answers["POST /ves"] = (202, job(verb="create"))
    run("ve", "create", "hello", "--image", "busybox")
    assert cloud.asked[0].json == {"name": "hello", "image": "busybox", "project": "main"}
    run(
        *("ve", "create", "hello", "-i", "busybox", "-k", "simulated", "--vcpus", "2", "-m", "1G", "--disk", "0", "-n", "n1"),
        *("--power", "stopped", "--restart", "always", "--description", "mine", "--privileged", "-p", "other"),
    )
    assert cloud.asked[1].json == {
        "name": "hello",
        "image": "busybox",
        "kind": "simulated",
        "vcpus": 2,
        "memory_mib": 1024,
        "disk_mib": 0,
        "node": "n1",
        "power": "stopped",
        "restart": "always",
        "description": "mine",
        "privileged": True,
        "project": "other",
    }


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        (("ve", "restart", "x"), "POST /ves/x/restart"),
        (("ve", "suspend", "x"), "POST /ves/x/suspend"),
        (("ve", "resume", "x"), "POST /ves/x/resume"),
        (("ve", "resize", "x", "-m", "64"), "PATCH /ves/x"),
        (("ve", "alter", "x", "--restart", "never"), "POST /ves/x/alter"),
        (("ve", "delete", "x"), "DELETE /ves/x"),
        (("node", "cordon", "x"), "POST /nodes/x/cordon"),
        (("node", "uncordon", "x"), "POST /nodes/x/uncordon"),
        (("job", "cancel", "7"), "POST /jobs/7/cancel"),
        (("job", "cancel", "7", "--force"), "POST /jobs/7/cancel"),
        (("job", "rerun", "7"), "POST /jobs/7/rerun"),
        (("job", "signal", "7", "KILL"), "POST /jobs/7/signal"),
        (("ve", "lease", "a", "+8h"), "POST /ves/a/alter"),
    ],
)
def test_each_command_asks_for_its_action(cloud: Cloud, run: Run, arguments: tuple[str, ...], asked: str) -> None:
    cloud.answers[asked] = (202, job())
    assert run(*arguments)[:2] == (0, "12\n")


def test_json_of_an_action_is_the_job(cloud: Cloud, run: Run) -> None:
    cloud.answers["DELETE /ves/x"] = (202, job(verb="delete"))
    assert json.loads(run("ve", "delete", "x", "-o", "json")[1])["id"] == 12
    cloud.answers["DELETE /ves/y"] = (202, job(13, "delete"))
    assert [each["id"] for each in json.loads(run("ve", "delete", "x", "y", "-o", "json")[1])] == [12, 13]


def test_an_import_streams_a_file(cloud: Cloud, run: Run, tmp_path: Path) -> None:
    archive = tmp_path / "a.tar"
    archive.write_bytes(os.urandom(3 << 20))
    cloud.answers["PUT /images/tiny"] = (202, job(verb="import", ve_name=None, args={"image": "tiny"}))
    assert run("image", "import", "tiny", str(archive), "--description", "d")[:2] == (0, "12\n")
    assert cloud.asked[0].body == archive.read_bytes()
    assert cloud.asked[0].query == {"kind": "lxc", "description": "d"}
    code, out, err = run("image", "import", "tiny", str(tmp_path / "none"))
    assert (code, out) == (1, "") and "cannot be read" in err


# ---------------------------------------------------------------------------------------------------------------- waiting


def test_wait_says_each_change_once_and_ends_well(cloud: Cloud, run: Run) -> None:
    cloud.answers["POST /ves"] = (202, job(verb="create"))
    cloud.answers["GET /jobs/12"] = [
        job(verb="create", version=2),
        job(verb="create", state="R", version=3, steps=[step("sent")]),
        job(verb="create", state="R", version=4, steps=[step("running", "unpack", 40)]),
        job(verb="create", state="R", version=4, steps=[step("running", "unpack", 40)]),
        job(verb="create", state="C", version=9, steps=[step("done", outcome="ok")]),
    ]
    code, out, err = run("ve", "create", "web-1", "-i", "busybox", "--wait")
    assert (code, out) == (0, "12\n")
    assert err.splitlines() == [
        "job 12 create web-1: queued",
        "job 12 create web-1: running, sent to node-1",
        "job 12 create web-1: running, unpack 40 %",
        "job 12 create web-1: ok in 1.5 s",
    ]
    assert [request.query.get("version") for request in cloud.asked[1:]] == [None, "2", "3", "4", "4"]


def test_wait_for_a_job_that_fails_says_why_and_exits_1(cloud: Cloud, run: Run) -> None:
    cloud.answers["POST /ves/web-1/start"] = (202, job())
    error = {"code": "lxc", "what": "no such bridge", "why": "vmcloud0 is missing", "todo": "Run vmcloud doctor."}
    cloud.answers["GET /jobs/12"] = job(state="C", version=5, outcome="failed", error=error)
    code, out, err = run("ve", "start", "web-1", "-w")
    assert (code, out) == (1, "12\n")
    assert err.splitlines() == [
        "vmcloud: job 12 start web-1: failed",
        "  why: no such bridge: vmcloud0 is missing",
        "  do: Run vmcloud doctor.",
    ]


def test_timeout_ends_the_waiting_only(cloud: Cloud, run: Run) -> None:
    cloud.answers["GET /jobs/12"] = job(reason="node-1 is down")
    code, _, err = run("job", "wait", "12", "--timeout", "0.1")
    assert code == 1 and "not complete after 0.1 s" in err and "node-1 is down" in err and "vmcloud job wait 12" in err


def test_waiting_survives_a_restart_of_the_web_part(cloud: Cloud, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    cloud.answers["GET /jobs/12"] = [job(), *[HANG_UP] * 4, job(state="C", version=2)]
    code, _, err = run("job", "wait", "12")
    assert code == 0 and "trying again" in err and err.endswith("job 12 start web-1: ok in 1.5 s\n")


def test_watch_prints_steps_and_logs_print_events(cloud: Cloud, run: Run) -> None:
    cloud.answers["GET /jobs/12"] = [
        job(state="R", version=2, steps=[step("running", "unpack", 40)]),
        job(state="C", version=3, steps=[step("done", outcome="ok")]),
    ]
    assert run("job", "watch", "12") == (
        0,
        "job 12 start web-1: running\n  step 1 create on node-1: running, unpack 40 %\n"
        "  step 1 create on node-1: ok\njob 12 start web-1: ok in 1.5 s\n",
        "",
    )
    cloud.answers["GET /jobs/12/events"] = {"items": [{"id": 1, "at": "then", "text": "submitted"}], "next": None}
    assert run("job", "logs", "12") == (0, "then  submitted\n", "")
    assert run("job", "logs", "12", "-f") == (0, "then  submitted\n", "")


def test_cancel_and_wait_is_a_success_when_it_is_cancelled(cloud: Cloud, run: Run) -> None:
    cloud.answers["POST /jobs/12/cancel"] = (202, job(cancel_requested=True))
    cloud.answers["GET /jobs/12"] = job(state="C", outcome="cancelled", version=3)
    code, out, err = run("job", "cancel", "12", "--wait")
    assert (code, out) == (0, "12\n") and "cancelled in 1.5 s" in err


def test_ctrl_c_leaves_the_job_and_says_so(cloud: Cloud) -> None:
    waiting = threading.Event()

    def slow(request: Request) -> Answer:
        if request.query.get("wait"):
            waiting.set()
            time.sleep(1.5)
        return 200, job()

    cloud.answers["POST /ves/web-1/start"] = (202, job())
    cloud.answers["GET /jobs/12"] = slow
    command = [sys.executable, "-m", "vmcloud.cli", "ve", "start", "web-1", "--wait"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert waiting.wait(20)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (130, "12\n")
    assert "job 12 goes on" in err and "vmcloud job cancel 12" in err and "Traceback" not in err


# ----------------------------------------------------------------------------------------------------------- lost requests


def test_a_lost_answer_is_asked_for_again_with_the_same_key(cloud: Cloud, run: Run) -> None:
    cloud.answers["POST /ves/web-1/start"] = [HANG_UP, (202, job())]
    assert run("ve", "start", "web-1")[:2] == (0, "12\n")
    first, second = (request.headers["Idempotency-Key"] for request in cloud.asked)
    assert first == second


def test_a_request_that_is_under_way_is_asked_for_again(cloud: Cloud, run: Run) -> None:
    busy = {"what": "the same request is being worked on", "where": "Idempotency-Key", "code": "conflict"}
    cloud.answers["POST /ves/web-1/start"] = [HANG_UP, (409, busy), (202, job())]
    assert run("ve", "start", "web-1")[:2] == (0, "12\n")


def test_a_password_is_sent_once_only(cloud: Cloud, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud.answers["GET /healthz"] = {"status": "ok"}
    cloud.answers["POST /tokens"] = HANG_UP
    monkeypatch.setattr("sys.stdin", open(os.devnull))  # noqa: PTH123, SIM115
    assert run("login", "--user", "ann", "--password-stdin")[0] == 1
    monkeypatch.setattr("sys.stdin", _Typed("secret\n"))
    assert run("login", "--user", "ann", "--password-stdin")[0] == 3
    assert [request.method for request in cloud.asked].count("POST") == 1


class _Typed:
    def __init__(self, text: str) -> None:
        self._text = text

    def readline(self) -> str:
        return self._text


# ------------------------------------------------------------------------------------------------------------------ access


def test_login_keeps_the_token_private_and_later_commands_use_it(
    cloud: Cloud, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cloud.answers["GET /healthz"] = {"status": "ok"}
    cloud.answers["POST /tokens"] = (201, {"token": "vmc_new"})
    cloud.answers["GET /whoami"] = {"username": "ann", "is_admin": False}
    monkeypatch.setattr("sys.stdin", _Typed("secret\n"))
    code, out, err = run("login", cloud.url, "--user", "ann", "--password-stdin")
    assert (code, out) == (0, "") and "secret" not in err and "vmc_new" not in err
    path = tmp_path / "config" / "vmcloud" / "login.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert cloud.asked[1].json["password"] == "secret" and "Authorization" not in cloud.asked[1].headers
    monkeypatch.delenv("VMCLOUD_URL")
    monkeypatch.delenv("VMCLOUD_TOKEN")
    assert run("whoami", "-o", "name")[:2] == (0, "ann\n")
    assert cloud.asked[-1].headers["Authorization"] == "Bearer vmc_new"


def test_a_token_is_not_sent_to_another_address(cloud: Cloud, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "config" / "vmcloud" / "login.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"url": "http://other.example.org", "token": "vmc_other"}))
    monkeypatch.delenv("VMCLOUD_TOKEN")
    cloud.answers["GET /whoami"] = (401, {"what": "a token is needed", "code": "unauthenticated"})
    code, _, err = run("whoami")
    assert code == 1 and "you are not logged in" in err and "vmcloud login" in err
    assert "Authorization" not in cloud.asked[0].headers


def test_root_uses_the_cloud_of_its_machine(cloud: Cloud, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("VMCLOUD_URL")
    monkeypatch.delenv("VMCLOUD_TOKEN")
    code, _, err = run("whoami")
    assert code == 3 and "no vmcloud is known here" in err and "vmcloud up" in err
    secrets = tmp_path / "nothing" / "secrets"
    secrets.mkdir(parents=True)
    (secrets / "admin-token").write_text("vmc_root\n")
    (secrets.parent / "config.toml").write_text(f'web_url = "{cloud.url}"\n')
    cloud.answers["GET /whoami"] = {"username": "admin", "is_admin": True}
    assert run("whoami", "-o", "name")[:2] == (0, "admin\n")
    assert cloud.asked[-1].headers["Authorization"] == "Bearer vmc_root"


def test_a_broken_login_file_is_explained(cloud: Cloud, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "config" / "vmcloud" / "login.json"
    path.parent.mkdir(parents=True)
    path.write_text("{")
    monkeypatch.delenv("VMCLOUD_TOKEN")
    code, _, err = run("ve", "list")
    assert code == 1 and "login.json cannot be used" in err and "vmcloud login" in err


def test_a_wrong_password_is_called_that(cloud: Cloud, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud.answers["GET /healthz"] = {"status": "ok"}
    cloud.answers["POST /tokens"] = (401, {"what": "no user with this name and password", "code": "unauthenticated"})
    monkeypatch.setattr("sys.stdin", _Typed("wrong\n"))
    code, _, err = run("login", "--user", "ann", "--password-stdin")
    assert code == 1 and "wrong user name or password" in err and "not logged in" not in err


def test_without_a_terminal_nobody_is_asked(cloud: Cloud, tmp_path: Path) -> None:
    cloud.answers["GET /healthz"] = {"status": "ok"}
    (tmp_path / "config.toml").write_text("")
    lines = [["login", "--user", "ann"], ["login"], ["passwd", "--data", str(tmp_path)]]
    for arguments in lines:
        command = [sys.executable, "-m", "vmcloud.cli", *arguments]
        done = subprocess.run(command, input="secret\n", capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 1 and "--password-stdin" in done.stderr and len(done.stderr.splitlines()) == 3


def test_passwd_refuses_in_few_words(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.toml").write_text("")
    here = ("--data", str(tmp_path))
    code, _, err = run("passwd", "vmcloud", "--create", "--generate", *here)
    assert code == 1 and "'vmcloud' can not be a user's name" in err
    assert run("passwd", "ann", "--admin", *here)[0] == 2
    assert run("passwd", "ann", "--generate", "--password-stdin", *here)[0] == 2
    monkeypatch.setattr("os.geteuid", lambda: tmp_path.stat().st_uid + 1)
    code, _, err = run("passwd", "--generate", *here)
    assert code == 1 and "sudo vmcloud passwd" in err and len(err.splitlines()) == 2


def test_doctor_is_for_root(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 65534)
    code, out, err = run("doctor", "--data", str(tmp_path))
    assert (code, out) == (1, "") and "Run doctor as root" in err


@pytest.mark.parametrize(("mode", "level"), [(0, "WARN"), (1, "OK"), (2, "WARN"), (None, "OK")])
def test_doctor_looks_at_overcommit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int | None, level: str) -> None:
    from vmcloud.local import checks

    monkeypatch.setattr(checks, "_number", lambda path: mode)
    [(_, found, _, fix)] = checks.overcommit(tmp_path, None)
    assert found == level and ("vm.overcommit_memory=1" in fix) == (level == "WARN")


def test_purge_without_an_answer_removes_nothing(cloud: Cloud, run: Run, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("")
    command = [sys.executable, "-m", "vmcloud.cli", "down", "--purge", "--data", str(tmp_path)]
    done = subprocess.run(command, input="", capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1 and "nothing was removed" in done.stderr and "--yes" in done.stderr
    code, _, err = run("down", "--purge", "--yes", "--data", str(tmp_path / "none"))
    assert code == 0 and "nothing to remove" in err
    code, _, err = run("status", "--data", str(tmp_path / "none"))
    assert code == 1 and f"vmcloud up --data {tmp_path}/none" in err


# ------------------------------------------------------------------------------------------------------------------ errors


def test_nobody_answers(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("VMCLOUD_URL", url)
    for arguments in (("ve", "list"), ("ve", "start", "a", "b"), ("job", "show", "1")):
        code, out, err = run(*arguments)
        assert (code, out) == (3, "")
        assert (
            err.splitlines()[0] == f"vmcloud: no vmcloud answers at {url}" and "vmcloud up" in err and len(err.splitlines()) == 3
        )


def test_where_another_machine_is_silent_nothing_is_started_here(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VMCLOUD_URL", "http://cloud.invalid:8470")
    code, _, err = run("ve", "list")
    assert code == 3 and "vmcloud up" not in err and "on that machine" in err


@pytest.mark.parametrize("answer", [(200, b"<html>"), (502, b"Bad gateway"), (200, []), (302, b"")])
def test_something_else_answers(cloud: Cloud, run: Run, answer: Answer) -> None:
    cloud.answers["GET /ves"] = answer
    code, out, err = run("ve", "list")
    assert (code, out) == (3, "") and "not as a vmcloud does" in err


@pytest.mark.parametrize("url", ["nonsense", "ftp://x", "http://", "http://x:port", "http://[::1"])
def test_an_address_that_is_none(run: Run, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("VMCLOUD_URL", url)
    code, _, err = run("ve", "list")
    assert code == 1 and "is no address of a vmcloud" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ("vee",),
        ("ve", "lst"),
        ("ve", "start"),
        ("ve", "create", "x"),
        ("ve", "create", "x", "-i", "busybox", "-m", "lots"),
        ("ve", "create", "x", "-i", "busybox", "-k", "vmware"),
        ("ve", "create", "x", "-i", "busybox", "--vcpus", "two"),
        ("ve", "resize", "x"),
        ("ve", "alter", "x"),
        ("ve", "list", "-o", "xml"),
        ("ve", "list", "--colour"),
        ("job", "show", "first"),
        ("ve", "show", ""),
        ("ve", "show", "a/b"),
        ("ve", "start", "../a;b"),
        ("ve", "start", "a" * 64),
        ("ve", "create", "x", "-i", "busybox", "-m", "9" * 400 + "T"),
        ("job", "list", "--verb", "foo"),
        ("job", "cancel", "-1"),
        ("job", "wait", "1", "--timeout", "soon"),
    ],
)
def test_a_wrong_command_line_is_exit_2_with_a_hint(cloud: Cloud, run: Run, arguments: tuple[str, ...]) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "") and err.startswith("vmcloud: ") and "--help`" in err and len(err.splitlines()) <= 4
    assert cloud.asked == []


def test_a_verb_without_its_group_is_guessed(run: Run) -> None:
    assert "Did you mean 've resize'?" in run("resize", "web")[2]
    assert all(f"'{group} show'" in run("show", "web")[2] for group in ("ve", "node", "job"))


@pytest.mark.parametrize("arguments", [("--vm", "web"), ("web",), ("web", "--"), ("web", "--tty", "sh")])
def test_exec_says_where_options_go(cloud: Cloud, run: Run, arguments: tuple[str, ...]) -> None:
    code, _, err = run("ve", "exec", *arguments)
    assert code == 2 and "vmcloud: " in err and cloud.asked == []


def test_a_defect_of_ours_is_no_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **kwargs: Any) -> Any:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(rest.Client, "request", broken)
    code, out, err = run("ve", "list")
    assert (code, out) == (1, "") and "internal error: ZeroDivisionError: oops" in err and "VMCLOUD_DEBUG=1" in err


def test_a_reader_who_has_seen_enough_is_no_error(cloud: Cloud) -> None:
    cloud.answers["GET /ves"] = {"items": [ve(f"ve-{number}") for number in range(5000)], "next": None}
    line = f"{sys.executable} -m vmcloud.cli ve list | head -1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {line}"], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("NAME")


# -------------------------------------------------------------------------------------------------------- help, completion


def _every_command() -> list[tuple[str, ...]]:
    import click

    from vmcloud.cli.main import COMMANDS, cli

    found: list[tuple[str, ...]] = []
    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None, name
        found.append((name,))
        if isinstance(command, click.Group):
            found += [(name, each) for each in command.commands]
    return found


@pytest.mark.parametrize("arguments", _every_command(), ids=" ".join)
def test_every_command_has_help_with_examples(run: Run, arguments: tuple[str, ...]) -> None:
    code, out, err = run(*arguments, "--help")
    assert (code, err) == (0, "") and out.startswith(f"Usage: vmcloud {' '.join(arguments)}")
    if len(arguments) == 2 or arguments[0] not in ("ve", "node", "kind", "image", "job"):
        assert "Examples:" in out


def test_names_complete_through_the_api(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud.answers["GET /ves"] = {"items": [ve("web-1"), ve("web-2"), ve("db-1")], "next": None}
    monkeypatch.setenv("_VMCLOUD_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "vmcloud ve start web-1 we")
    monkeypatch.setenv("COMP_CWORD", "4")
    with pytest.raises(SystemExit):
        main([])
    assert capsys.readouterr().out == "plain,web-2\n"
    monkeypatch.setenv("VMCLOUD_URL", "http://127.0.0.1:1")
    with pytest.raises(SystemExit):
        main([])
    out, err = capsys.readouterr()
    assert (out.strip(), err) == ("", "")


def test_completion_tells_the_line_to_add(run: Run) -> None:
    assert run("completion", "bash")[1] == 'eval "$(_VMCLOUD_COMPLETE=bash_source vmcloud)"\n'


def test_a_list_imports_neither_django_nor_anything_slow(cloud: Cloud) -> None:
    cloud.answers["GET /ves"] = {"items": [ve("a")], "next": None}
    code = (
        "import sys; from vmcloud.cli.main import main; main(['ve', 'list']);"
        "slow = {'django', 'yaml', 'asyncio', 'ldap', 'celery', 'cryptography', 'importlib.metadata'};"
        "print(sorted(slow & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stderr == "[]\n"


# ------------------------------------------------------------------------------------------------------------- when jobs run


def test_when_a_job_may_run_travels_with_the_request(cloud: Cloud, run: Run) -> None:
    cloud.answers["POST /ves/web-1/stop"] = cloud.answers["POST /ves"] = cloud.answers["DELETE /ves/web-1"] = job(12)
    options = ("--priority", "-5", "--depend", "afterok:3,on:2", "--walltime", "5m", "--retries", "2", "--hold")
    for command in (("ve", "stop", "web-1"), ("ve", "create", "web-1", "-i", "busybox"), ("ve", "delete", "web-1")):
        assert run(*command, *options)[0] == 0
        body = json.loads(cloud.asked[-1].body)
        assert body["job"] == {"priority": -5, "depend": "afterok:3,on:2", "walltime": 300.0, "retries": 2, "hold": True}
    assert run("ve", "stop", "web-1")[0] == 0 and "job" not in json.loads(cloud.asked[-1].body or b"{}")


@pytest.mark.parametrize("when", ["+2h", "18:00", "0:30", "2030-01-31T18:00", "2030-01-31T18:00:00+02:00"])
def test_times_to_come_are_told_with_their_offset(cloud: Cloud, run: Run, when: str) -> None:
    cloud.answers["POST /ves/web-1/stop"] = job(12)
    assert run("ve", "stop", "web-1", "--at", when)[0] == 0
    told = datetime.fromisoformat(json.loads(cloud.asked[-1].body)["job"]["not_before"])
    assert told.tzinfo is not None and told > datetime.now(UTC)


@pytest.mark.parametrize(
    "arguments",
    [
        ("ve", "stop", "web-1", "--at", "soon"),
        ("ve", "stop", "web-1", "--at", "25:00"),
        ("ve", "stop", "web-1", "--priority", "2000"),
        ("ve", "stop", "web-1", "--depend", "afterok"),
        ("ve", "stop", "web-1", "--retries", "-1"),
        ("job", "alter", "12"),
        ("job", "alter", "12", "--hold"),
        ("job", "hold", "12", "--who", "me"),
        ("job", "order", "12"),
    ],
)
def test_wrong_terms_are_refused_before_anything_is_asked(cloud: Cloud, run: Run, arguments: tuple[str, ...]) -> None:
    code, _, err = run(*arguments)
    assert code == 2 and err.startswith("vmcloud: ") and cloud.asked == []


def test_jobs_that_have_not_begun_are_changed(cloud: Cloud, run: Run) -> None:
    held = job(12, state="H", reason="held by its user")
    cloud.answers |= {f"POST /jobs/12/{verb}": held for verb in ("hold", "release", "run", "retry", "order")}
    cloud.answers["PATCH /jobs/12"] = held
    for arguments, method, body in (
        (("hold", "12", "--who", "o"), "POST", {"who": "o"}),
        (("release", "12"), "POST", {"who": "u"}),
        (("run", "12"), "POST", None),
        (("retry", "12"), "POST", None),
        (("alter", "12", "--priority", "3"), "PATCH", {"priority": 3}),
    ):
        code, out, err = run("job", *arguments)
        assert (code, out) == (0, "12\n") and "held by its user" in err
        assert (cloud.asked[-1].method, json.loads(cloud.asked[-1].body or b"null")) == (method, body)
    assert run("job", "order", "12", "13")[0] == 0 and json.loads(cloud.asked[-1].body) == {"job": 13}
    assert run("job", "hold", "12", "99")[0] == 1, "not every one worked"
