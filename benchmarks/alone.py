"""Each stage of a job alone: what a disk and the servers need at the least, on the disk and with the servers of a cloud.

Beside them stands what the whole costs, so that it can be said which share of a job's time could be saved at all.
"""

from __future__ import annotations

import http.client
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from tests.cloud import SOURCE, free_ports
from vmcloud.config import Config

from .measure import Report
from .raw import RoundTrip
from .scene import PATIENCE, Scene

STAGES = (
    "raw: fsync of 500 bytes",
    "raw: a commit of SQLite",
    "raw: a broker's round trip, there and back",
    "raw: an LDAP modify, committed",
    "raw: a request to a bare uvicorn",
)


def measure(report: Report, made: Scene, times: int) -> None:
    """Samples of every stage, in turn, so that all meet the same machine."""
    path = made.cloud.data / "raw"
    with (
        closing(sqlite3.connect(path.with_suffix(".sqlite3"), isolation_level=None)) as database,
        path.open("wb", buffering=0) as file,
        RoundTrip(Config.load(made.cloud.data)) as trip,
        _bare() as web,
    ):
        database.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE raw (text TEXT);")
        directory = made.cloud.directory()
        node = directory.nodes()[0]

        def sync() -> None:
            file.write(b"x" * 500)
            os.fsync(file.fileno())

        def modify() -> None:
            nonlocal node
            node = directory.change_node(node, description=f"at {time.monotonic()}")

        def ask() -> None:
            web.request("GET", "/")
            web.getresponse().read()

        acts: tuple[Callable[[], object], ...] = (
            sync,
            lambda: database.execute("INSERT INTO raw VALUES (?)", ("x" * 500,)),
            trip.once,
            modify,
            ask,
        )
        for number in range(-1, times):
            for name, act in zip(STAGES, acts, strict=True):
                began = time.monotonic()
                act()
                if number >= 0:
                    report.add(name, time.monotonic() - began)


@contextmanager
def _bare() -> Iterator[http.client.HTTPConnection]:
    """A connection to a uvicorn, started as the web part is, with nothing behind it."""
    (port,) = free_ports(1)
    argv = [sys.executable, "-m", "uvicorn", "benchmarks.alone:nothing", "--port", str(port), "--no-access-log"]
    running = subprocess.Popen([*argv, "--log-level", "warning"], cwd=SOURCE)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                connection.connect()
                break
            except OSError:
                assert time.monotonic() < deadline and running.poll() is None, "the bare uvicorn does not answer"
                time.sleep(0.05)
        yield connection
    finally:
        connection.close()
        running.terminate()
        running.wait(PATIENCE)


async def nothing(scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
    """An ASGI application that answers and does nothing else."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"{}"})
