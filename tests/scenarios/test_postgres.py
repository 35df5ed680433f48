"""Jobs in PostgreSQL, which is stopped, killed and started again under the running cloud: refused in words, nothing lost."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.cloud import DATABASE, Answer, Cloud, cloud
from tests.postgres import Postgres
from vmcloud.site import database

pytestmark = [
    pytest.mark.scenario,
    pytest.mark.engine,
    pytest.mark.timeout(180),
    pytest.mark.skipif(os.environ.get(DATABASE) != "postgres", reason="needs --database postgres"),
]
ANSWERED = 5.0
"""Seconds within which a request is answered while there is no database."""


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with tempfile.TemporaryDirectory(prefix="pg") as folder:
        Path(folder).chmod(0o711)
        made = Postgres(Path(folder) / "c")
        try:
            made.start()
            yield made
        finally:
            made.remove()


@pytest.fixture(scope="module")
def running(postgres: Postgres) -> Iterator[Cloud]:
    with postgres.database() as url, cloud(simulate=2, database=url) as made:
        made.image()
        for name in ("one", "two", "three"):
            made.wait(made.ask("POST", "/ves", {"name": name, "image": "busybox", "kind": "simulated", "memory_mib": 64}))
        yield made


class Asking:
    """Somebody who asks for work all the time, in a thread; what was answered."""

    def __init__(self, running: Cloud) -> None:
        self.taken: list[int] = []
        self.others: list[tuple[Answer, float]] = []
        self._running = running
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def _ask(self) -> None:
        number = 0
        while not self._over.wait(0.1):
            number += 1
            began = time.monotonic()
            answer = self._running.api("POST", f"/ves/{('one', 'two', 'three')[number % 3]}/restart", {"force": True})
            if answer.status in (200, 202):
                self.taken.append(answer.body["id"])
            else:
                self.others.append((answer, time.monotonic() - began))

    def end(self) -> None:
        self._over.set()
        self._thread.join(30)


@contextmanager
def asking(running: Cloud) -> Iterator[Asking]:
    made = Asking(running)
    try:
        yield made
    finally:
        made.end()


def pids(running: Cloud) -> dict[str, int]:
    return {name: part["pid"] for name, part in running.parts().items() if part["state"] == "ready"}


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["stopped", "crashed"])
def test_a_restart_of_the_database_loses_nothing(running: Cloud, postgres: Postgres, how: signal.Signals) -> None:
    before = pids(running)
    with asking(running) as people:
        running.until(lambda: len(people.taken) >= 5, 20, "work to be under way")
        postgres.stop(how)
        running.until(lambda: len(people.others) >= 2, 20, "requests to be refused")
        postgres.start()
        taken = len(people.taken)
        running.until(lambda: len(people.taken) > taken, 20, "requests to be taken again")
    for answer, seconds in people.others:
        assert (answer.status, answer.body["code"]) == (503, "unavailable"), answer
        assert "job database" in answer.body["what"] and seconds < ANSWERED
    assert {running.wait(number, 60)["outcome"] for number in people.taken} == {"ok"}
    assert pids(running) == before, "no part had to be started again"
    running.check_truths()


def test_pages_and_long_polls_are_told_too(running: Cloud, postgres: Postgres) -> None:
    held: dict[str, Any] = running.ask("POST", "/ves/one/restart", {"job": {"hold": True}})
    told: list[Answer] = []
    version = held["version"]
    waiting = threading.Thread(target=lambda: told.append(running.api("GET", f"/jobs/{held['id']}?wait=30&version={version}")))
    waiting.start()
    postgres.stop(signal.SIGQUIT)
    try:
        waiting.join(ANSWERED)
        assert told and told[0].status == 503
        assert running.api("GET", "/healthz").status == 503
        assert running.page("/admin/") == 503
    finally:
        waiting.join(30)
        postgres.start()
    running.until(lambda: running.api("GET", "/healthz").status == 200, 10, "the web part to find the database again")
    running.ask("POST", f"/jobs/{held['id']}/cancel")
    running.wait(held)


@pytest.mark.slow
def test_everything_is_copied_from_sqlite_and_goes_on_there(postgres: Postgres) -> None:
    with postgres.database() as url, cloud(simulate=1, database="") as made:
        made.image()
        job = made.wait(made.ask("POST", "/ves", {"name": "one", "image": "busybox", "kind": "simulated"}))
        held = made.ask("POST", "/ves/one/stop", {"job": {"hold": True}})
        refused = made.run("database", "copy", url, check=False)
        assert refused.returncode == 1 and "the cloud runs" in refused.stderr
        made.down()
        assert "rows are copied" in made.run("database", "copy", url).stdout
        again = made.run("database", "copy", url, check=False)
        assert again.returncode == 1 and "not empty" in again.stderr
        settings = made.data / "config.toml"
        settings.write_text(settings.read_text().replace('database_url = ""', f'database_url = "{url}"'))
        made.up()
        assert made.job(job["id"]) == job and made.job(held["id"])["state"] == "H"
        made.nodes_up()
        made.ask("POST", f"/jobs/{held['id']}/release")
        assert made.wait(held)["outcome"] == "ok"
        new = made.wait(made.ask("POST", "/ves/one/start"))
        assert (new["outcome"], new["id"]) == ("ok", held["id"] + 1), "numbers go on where they were"
        assert "job database" in made.run("doctor", check=False).stdout
        made.check_truths()


def test_a_process_that_stands_still_in_a_transaction_holds_up_nobody_for_long(running: Cloud, postgres: Postgres) -> None:
    url = running.database
    options = database.settings(url, part="server", passfile=Path("/nonexistent"))["OPTIONS"]["options"]
    holder = running.sql("SELECT holder FROM fleet_lease")
    with psycopg.connect(url, options=options) as frozen:
        frozen.execute("UPDATE fleet_lease SET expires = expires")
        began = time.monotonic()
        job = running.ask("POST", "/ves/two/restart", {"force": True})
        assert running.wait(job, 20)["outcome"] == "ok"
        assert time.monotonic() - began < database.FROZEN + 5
        with pytest.raises((psycopg.OperationalError, psycopg.InternalError)):
            frozen.execute("SELECT 1")
    assert running.sql("SELECT holder FROM fleet_lease") == holder
