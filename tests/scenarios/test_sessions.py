"""Console, exec and boot log: from the command line through the web part, the queue and the node into a guest and back."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.cloud import SOURCE, Cloud, cloud
from vmcloud.domain.session import Channel, Frame, Status

pytestmark = pytest.mark.scenario


@pytest.fixture(scope="module")
def running() -> Iterator[Cloud]:
    with cloud(simulate=2) as made:
        made.image()
        create(made, "web")
        yield made


def create(running: Cloud, name: str, *more: str) -> None:
    running.run("ve", "create", name, "--image", "busybox", "--kind", "simulated", "--wait", *more)


def sessions(running: Cloud) -> list[dict[str, Any]]:
    verbs = ("exec", "console", "logs")
    return [each for each in running.ask("GET", "/jobs?limit=1000")["items"] if each["verb"] in verbs]


def last(running: Cloud) -> dict[str, Any]:
    """The newest session's job once it is complete."""
    return running.wait(sessions(running)[0]["id"])


def bearer(running: Cloud) -> str:
    return f"Bearer {(running.data / 'secrets' / 'admin-token').read_text().strip()}"


def line(running: Cloud, number: int, **more: Any) -> ClientConnection:
    """The person's end of a session, as any program would open it."""
    url = f"ws{running.url.removeprefix('http')}/api/v1/sessions/{number}"
    return connect(url, additional_headers={"Authorization": bearer(running)}, open_timeout=10, **more)


def heard(end: ClientConnection, channel: Channel = Channel.STDOUT) -> bytes:
    """The next data on a channel."""
    while True:
        frame = Frame.decode(end.recv(timeout=10))
        if frame.channel is channel:
            return frame.data


def refused(running: Cloud, number: int, path: str = "", **headers: str) -> int:
    url = f"ws{running.url.removeprefix('http')}/api/v1/sessions/{number}{path}"
    with pytest.raises(InvalidStatus) as caught:
        connect(url, additional_headers=headers, open_timeout=10).close()
    body = json.loads(bytes(caught.value.response.body or b"null"))
    assert body["what"] and body["status"] == caught.value.response.status_code
    return caught.value.response.status_code


def test_output_input_and_exit_code_are_the_programs(running: Cloud) -> None:
    assert running.run("ve", "exec", "web", "--", "echo", "a;b", "-n", "$HOME").stdout == "a;b -n $HOME\n"
    assert running.run("ve", "exec", "web", "exit", "3", check=False).returncode == 3
    assert running.run("ve", "exec", "web", "cat", stdin="one\ntwo").stdout == "one\ntwo"
    missing = running.run("ve", "exec", "web", "nothing-like-it", check=False)
    assert (missing.returncode, missing.stdout) == (127, "") and "not found" in missing.stderr
    job = last(running)
    assert (job["verb"], job["outcome"], job["state"]) == ("exec", "ok", "C")
    assert job["args"]["argv"] == ["nothing-like-it"]


def test_megabytes_pass_whole_in_both_directions(running: Cloud) -> None:
    data = "".join(f"{number:07}\n" for number in range(500_000))
    assert running.run("ve", "exec", "web", "cat", stdin=data).stdout == data


def test_what_can_not_be_is_refused_at_once_and_makes_no_job(running: Cloud) -> None:
    create(running, "off", "--power", "stopped")
    before = len(sessions(running))
    for path, body, status in (
        ("/ves/web/exec", {}, 400),
        ("/ves/web/exec", {"argv": ["a\0b"]}, 400),
        ("/ves/web/console", {"x": 1}, 400),
        ("/ves/none/exec", {"argv": ["true"]}, 404),
        ("/ves/off/exec", {"argv": ["true"]}, 409),
        ("/ves/off/console", {}, 409),
    ):
        assert running.api("POST", path, body).status == status, path
    done = running.run("ve", "exec", "off", "true", check=False)
    assert done.returncode == 125 and "vmcloud ve start off" in done.stderr
    assert len(sessions(running)) == before
    assert running.run("ve", "logs", "off").stdout == "", "the boot log of a stopped VE can be read; this one never started"


def test_a_console_answers_and_holds_up_nothing(running: Cloud) -> None:
    create(running, "held")
    job = running.ask("POST", "/ves/held/console", {})
    with line(running, job["id"]) as end:
        greeting = heard(end)
        assert b"simulated" in greeting
        end.send(Frame(Channel.STDIN, b"echo here\n").encode())
        text = b""
        while b"here\r\n" not in text:
            text += heard(end)
        # Another person's console and every other action go on beside it.
        assert running.run("ve", "exec", "held", "echo", "beside").stdout == "beside\n"
        shown = running.run("ve", "show", "held", "-o", "json").stdout
        assert json.loads(shown)["status"] == "running"
        running.run("ve", "resize", "held", "--memory", "256", "--timeout", "10")
        assert running.job(job["id"])["state"] == "R"
        assert refused(running, job["id"], Authorization=bearer(running)) == 409
    assert running.wait(job)["outcome"] == "ok", "a person who leaves ends the session"


def test_a_session_is_cancelled_like_any_job(running: Cloud) -> None:
    job = running.ask("POST", "/ves/web/console", {})
    with line(running, job["id"]) as end:
        heard(end)
        running.run("job", "cancel", str(job["id"]))
        status = Status.decode(heard(end, Channel.STATUS))
        assert status.problem is not None
    assert running.wait(job)["outcome"] == "cancelled"


def test_strangers_are_kept_out(running: Cloud) -> None:
    job = running.ask("POST", "/ves/web/console", {})
    number = job["id"]
    assert refused(running, number) == 401
    assert refused(running, number, Authorization="Bearer nonsense") == 401
    assert refused(running, number, "/node", Authorization="Ticket nonsense") == 403
    assert refused(running, number, "/node", Authorization="Bearer x") == 401
    assert refused(running, 10**9, Authorization=bearer(running)) == 404
    user = """
from django.contrib.auth.models import User
from vmcloud.fleet.services import accounts
print(accounts.issue(User.objects.create_user("eve", password="x-y-z-9-1"), "test"))
"""
    token = manage(running, user).splitlines()[-1]
    assert refused(running, number, Authorization=f"Bearer {token}") == 404, "another person's session is none"
    running.run("job", "cancel", str(number))
    running.wait(number)
    assert refused(running, number, Authorization=bearer(running)) == 409


def manage(running: Cloud, code: str) -> str:
    env = {**os.environ, "VMCLOUD_DATA": str(running.data), "PYTHONPATH": str(SOURCE), "VMCLOUD_PART": "web"}
    env["DJANGO_SETTINGS_MODULE"] = "vmcloud.site.settings"
    argv = [sys.executable, "-m", "vmcloud.site", "shell", "-v", "0", "-c", code]
    return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, check=True).stdout


def test_nobody_comes_and_nothing_is_run(running: Cloud) -> None:
    before = running.ask("POST", "/ves/web/exec", {"argv": ["echo", "x"]})
    job = running.wait(before, 60.0)
    assert job["outcome"] == "failed" and "nobody came" in job["error"]["what"]


def test_a_waiting_person_is_told_why(running: Cloud) -> None:
    with running.frozen("worker"):
        job = running.ask("POST", "/ves/web/exec", {"argv": ["echo", "late"]})
        with line(running, job["id"]) as end:
            status = Status.decode(heard(end, Channel.STATUS))
            while "accepted" not in status.waiting and "down" not in status.waiting:
                status = Status.decode(heard(end, Channel.STATUS))
            running.signal("worker", signal.SIGCONT)
            assert heard(end) == b"late\n"
            assert Status.decode(heard(end, Channel.STATUS)).exit_code == 0
    running.until(lambda: running.job(job["id"])["state"] == "C", 10, "the session to be over")


@pytest.mark.parametrize("part", ["worker", "web"])
def test_what_breaks_is_said_and_nothing_is_run_twice(running: Cloud, part: str) -> None:
    job = running.ask("POST", "/ves/web/console", {})
    with line(running, job["id"]) as end:
        heard(end)
        running.signal(part, signal.SIGKILL)
        if part == "worker":
            assert Status.decode(heard(end, Channel.STATUS)).problem is not None
    running.until(lambda: running.job(job["id"])["state"] == "C", 30, "the session to be over")
    ended = running.job(job["id"])
    assert [step["attempt"] for step in ended["steps"]] == [1]
    assert ended["outcome"] == ("failed" if part == "worker" else "ok")
    running.nodes_up()
    assert running.run("ve", "exec", "web", "echo", "again").stdout == "again\n"


def test_a_terminal_is_raw_meanwhile_and_as_before_afterwards(running: Cloud) -> None:
    ours, theirs = pty.openpty()
    env = {**os.environ, "VMCLOUD_DATA": str(running.data), "PYTHONPATH": str(SOURCE), "NO_COLOR": "1"}
    before = subprocess.run(["stty", "-g"], stdin=theirs, capture_output=True, check=True).stdout
    process = subprocess.Popen(
        [sys.executable, "-m", "vmcloud.cli", "ve", "console", "web"], stdin=theirs, stdout=theirs, stderr=theirs, env=env
    )
    text = bytearray()

    def until(wanted: bytes) -> None:
        end = time.monotonic() + 15
        while wanted not in text:
            assert time.monotonic() < end, bytes(text)
            if select.select([ours], [], [], 0.2)[0]:
                text.extend(os.read(ours, 4096))

    until(b"simulated guest")
    os.write(ours, b"hostname\n")
    until(b"web\r\n")
    os.write(ours, b"\x1d")
    until(b"Left the console")
    assert process.wait(10) == 0
    assert subprocess.run(["stty", "-g"], stdin=theirs, capture_output=True, check=True).stdout == before
    os.close(ours)
    os.close(theirs)


def test_a_person_who_leaves_a_program_that_takes_no_input_ends_it(running: Cloud) -> None:
    job = running.ask("POST", "/ves/web/exec", {"argv": ["sleep", "600"]})
    with line(running, job["id"]) as end:
        running.until(lambda: running.job(job["id"])["state"] == "R", 20, "the program to run")

        def say() -> None:
            with contextlib.suppress(ConnectionClosed, OSError):
                while True:
                    end.send(Frame(Channel.STDIN, bytes(1 << 15)).encode())

        saying = threading.Thread(target=say, daemon=True)
        saying.start()
        time.sleep(3.0)  # by now nothing more is taken anywhere on the way
        end.socket.shutdown(socket.SHUT_RDWR)
        saying.join(10)
    running.until(lambda: running.job(job["id"])["state"] == "C", 60, "the session to be over")


@pytest.mark.slow
def test_a_person_who_pauses_misses_nothing(running: Cloud) -> None:
    size = 16 << 20
    job = running.ask("POST", "/ves/web/exec", {"argv": ["cat"]})
    with line(running, job["id"], ping_timeout=None) as end:

        def say() -> None:
            for _ in range(size >> 15):
                end.send(Frame(Channel.STDIN, bytes(1 << 15)).encode())
            end.send(Frame(Channel.CLOSE, bytes((Channel.STDIN,))).encode())

        saying = threading.Thread(target=say, daemon=True)
        saying.start()
        time.sleep(50.0)
        assert saying.is_alive(), "all that was said fitted somewhere, so nothing was held up"
        got = 0
        while got < size:
            got += len(heard(end))
        assert Status.decode(heard(end, Channel.STATUS)).exit_code == 0


def test_a_broken_pipe_ends_it_quietly(running: Cloud) -> None:
    env = {**os.environ, "VMCLOUD_DATA": str(running.data), "PYTHONPATH": str(SOURCE)}
    argv = [sys.executable, "-m", "vmcloud.cli", "ve", "exec", "web", "cat"]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
    assert process.stdin and process.stdout and process.stderr
    feeder = process.stdin

    def feed() -> None:
        try:
            while True:
                feeder.write(b"x" * 65536)
        except (BrokenPipeError, ValueError):
            pass

    threading.Thread(target=feed, daemon=True).start()
    process.stdout.read(10)
    process.stdout.close()
    assert process.wait(15) != 0
    assert b"Traceback" not in process.stderr.read()
