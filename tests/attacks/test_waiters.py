"""One user holds as many long polls and streams as they can: the others are answered as before."""

from __future__ import annotations

import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.cloud import SOURCE, Cloud, cloud

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(240)]
ANSWERED = 1.0
"""Seconds within which somebody else is answered."""


@pytest.fixture(scope="module")
def running() -> Iterator[Cloud]:
    with cloud(simulate=1) as made:
        made.image()
        yield made


def tokens(running: Cloud, *names: str) -> list[str]:
    """Of users who are no administrators, made for this."""
    code = "\n".join(
        [
            "from django.contrib.auth.models import User",
            "from vmcloud.fleet.services import accounts",
            f"for name in {names!r}: print(accounts.issue(User.objects.create_user(name), 'attack'))",
        ]
    )
    environment = {**os.environ, "VMCLOUD_DATA": str(running.data), "PYTHONPATH": str(SOURCE)}
    argv = [sys.executable, "-m", "vmcloud.site", "shell", "-c", code]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.split()[-len(names) :]


@contextmanager
def held(running: Cloud, count: int, path: str, who: str) -> Iterator[list[socket.socket]]:
    """So many connections of one user on which the same was asked for, all at once."""
    address = urlsplit(running.url)
    request = f"GET /api/v1{path} HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: Bearer {who}\r\n\r\n".encode()
    with ExitStack() as last:
        found = []
        for _ in range(count):
            each = last.enter_context(socket.create_connection((address.hostname or "", address.port or 0), timeout=30))
            each.sendall(request)
            found.append(each)
        yield found


def refusals(running: Cloud, connections: list[socket.socket], status: int, count: int) -> list[dict[str, Any]]:
    """The problems with which at least so many of these connections were answered by now, with this status and Retry-After."""
    found: list[dict[str, Any]] = []
    seen: Counter[int] = Counter()

    def look() -> bool:
        for each in list(connections):
            each.setblocking(False)
            try:
                head = each.recv(1 << 16, socket.MSG_PEEK)
            except BlockingIOError:
                continue
            finally:
                each.setblocking(True)
            connections.remove(each)
            answer = http.client.HTTPResponse(each)
            answer.begin()
            seen[answer.status] += 1
            if answer.status == status:
                assert answer.headers["Content-Type"] == "application/problem+json" and int(answer.headers["Retry-After"]) > 0, (
                    head
                )
                found.append(json.loads(answer.read()))
        return len(found) >= count

    try:
        running.until(look, 60, f"{count} answers of {status}")
    except AssertionError as error:
        raise AssertionError(f"{error}\nanswers: {seen}") from None
    return found


def whoami(running: Cloud, who: str) -> float:
    """Seconds until the other user was answered."""
    begun = time.monotonic()
    assert running.api("GET", "/whoami", Authorization=f"Bearer {who}").status == 200
    return time.monotonic() - begun


def threads(running: Cloud) -> int:
    """How many the web part has."""
    return len(list(Path(f"/proc/{running.parts()['web']['pid']}/task").iterdir()))


def test_three_hundred_long_polls_of_one_user_keep_nobody_waiting(running: Cloud) -> None:
    ann, bob = tokens(running, "ann", "bob")
    asked = {"name": "hers", "image": "busybox", "kind": "simulated", "memory_mib": 32, "job": {"hold": True}}
    job = running.ask("POST", "/ves", asked, Authorization=f"Bearer {ann}")
    job = running.until(lambda: _steady(running, job["id"]), 30, "the leader to have looked at it")
    before = threads(running)
    with held(running, 300, f"/jobs/{job['id']}?wait=60&version={job['version']}", ann) as connections:
        told = refusals(running, connections, 429, 100)
        assert len(told) == 100 and {each["code"] for each in told} == {"too-many"} and "200 long polls" in told[0]["what"]
        seconds = [whoami(running, bob) for _ in range(20)]
        assert max(seconds) < ANSWERED and statistics.median(seconds) < 0.2, seconds
        assert threads(running) - before < 40, "who waits holds no thread"
        assert len(connections) == 200
        running.ask("POST", f"/jobs/{job['id']}/release", Authorization=f"Bearer {ann}")
        refusals(running, connections, 200, 0)
        running.until(lambda: not _silent(connections), 30, "all to be told of the change")
    assert running.wait(job)["outcome"] == "ok"


def _steady(running: Cloud, number: int) -> dict[str, Any] | None:
    """The job, if it does not change for a second."""
    version = running.job(number)["version"]
    job: dict[str, Any] = running.ask("GET", f"/jobs/{number}?wait=1&version={version}")
    return job if job["version"] == version else None


def _silent(connections: list[socket.socket]) -> bool:
    """Whether one of them was answered nothing yet."""
    for each in connections:
        each.settimeout(0.05)
        try:
            each.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            return True
    return False


def test_one_user_does_not_take_all_streams(running: Cloud) -> None:
    eve, dan = tokens(running, "eve", "dan")
    with held(running, 2100, "/watch", eve) as connections:
        told = refusals(running, connections, 429, 2000)
        assert len(told) == 2000 and "100 streams" in told[0]["what"] and told[0]["todo"]
        assert whoami(running, dan) < ANSWERED
        for who in (dan, (running.data / "secrets" / "admin-token").read_text().strip()):
            with held(running, 1, "/watch", who) as (connection,):
                answer = http.client.HTTPResponse(connection)
                answer.begin()
                assert answer.status == 200 and answer.readline() == b"event: ready\n"


def test_all_streams_together_leave_some_to_administrators(running: Cloud) -> None:
    *users, late = tokens(running, *(f"user-{number}" for number in range(19)))
    with ExitStack() as last:
        for who in users:
            last.enter_context(held(running, 100, "/watch", who))

        def refused() -> bool:
            with held(running, 1, "/watch", late) as (connection,):
                answer = http.client.HTTPResponse(connection)
                answer.begin()
                return answer.status == 503 and int(answer.headers["Retry-After"]) > 0

        running.until(refused, 60, "all places of users to be taken")
        with held(running, 1, "/watch", (running.data / "secrets" / "admin-token").read_text().strip()) as (connection,):
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            assert answer.status == 200
