"""The job database by URL, and what its errors mean."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.web import Web, web
from vmcloud.site.database import CONNECTIONS, UnknownDatabase, settings

pytestmark = pytest.mark.unit
__all__ = ["web"]
NOWHERE = Path("/nonexistent")


def test_sqlite_is_durable_and_its_writers_queue_up() -> None:
    made = settings("sqlite:////var/lib/vmcloud/sql/vmcloud.sqlite3", part="server", passfile=NOWHERE)
    assert (made["NAME"], made["OPTIONS"]["transaction_mode"]) == (Path("/var/lib/vmcloud/sql/vmcloud.sqlite3"), "IMMEDIATE")
    assert "synchronous=FULL" in made["OPTIONS"]["init_command"]


def test_postgresql_by_url() -> None:
    url = "postgres://cloud%40home:s%2Fecret@db.example.org:5433/jobs?sslmode=require&connect_timeout=9"
    made = settings(url, part="server", passfile=NOWHERE)
    where = {name: made[name] for name in ("NAME", "USER", "PASSWORD", "HOST", "PORT")}
    assert where == {"NAME": "jobs", "USER": "cloud@home", "PASSWORD": "s/ecret", "HOST": "db.example.org", "PORT": "5433"}
    options = made["OPTIONS"]
    assert (options["sslmode"], options["connect_timeout"], options["application_name"]) == ("require", "9", "vmcloud server")
    assert "idle_in_transaction_session_timeout=3s" in options["options"], "a frozen leader lets go of its locks"
    assert (made["CONN_MAX_AGE"], "pool" in options, "passfile" in options) == (None, False, False)


def test_postgresql_by_a_local_socket_with_a_file_of_passwords(tmp_path: Path) -> None:
    (tmp_path / "pgpass").touch()
    made = settings("postgresql:///jobs?host=/run/postgresql", part="web", passfile=tmp_path / "pgpass")
    assert (made["HOST"], made["PORT"], made["USER"]) == ("/run/postgresql", "", "")
    options = made["OPTIONS"]
    assert (options["passfile"], options["pool"], "host" in options) == (str(tmp_path / "pgpass"), CONNECTIONS, False)
    assert made["CONN_MAX_AGE"] == 0, "a request gives its connection back to the pool"


def test_another_database_is_refused_in_words() -> None:
    with pytest.raises(UnknownDatabase, match="known: sqlite, postgresql"):
        settings("mysql://localhost/jobs", part="web", passfile=NOWHERE)


class Cause(Exception):
    """A driver's error with PostgreSQL's code."""

    def __init__(self, sqlstate: str) -> None:
        self.sqlstate = sqlstate


def fails(error: Exception, cause: Exception | None = None) -> Exception:
    error.__cause__ = cause
    return error


def raising(error: Exception) -> Any:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize("kind", ["InterfaceError", "InternalError", "OperationalError"])
def test_a_database_that_is_away_is_503_and_worth_another_try(web: Web, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    from django import db

    from vmcloud.fleet.services import queries

    monkeypatch.setattr(queries, "jobs", raising(getattr(db, kind)("server closed the connection unexpectedly")))
    answer = web.call("GET", "/jobs")
    assert (answer.status_code, answer.json()["code"], answer["Retry-After"]) == (503, "unavailable", "1")


@pytest.mark.parametrize("cause", [None, Cause("53100")], ids=["sqlite", "postgresql"])
def test_a_full_disk_is_named(web: Web, monkeypatch: pytest.MonkeyPatch, cause: Exception | None) -> None:
    from django.db import OperationalError

    from vmcloud.fleet.services import queries

    error = OperationalError("database or disk is full" if cause is None else "could not extend file")
    monkeypatch.setattr(queries, "jobs", raising(fails(error, cause)))
    answer = web.call("GET", "/jobs")
    assert (answer.status_code, answer.json()["code"]) == (507, "no-room")
    assert "no room on its disk" in answer.json()["what"] and "Retry-After" in answer


def test_a_page_says_that_the_database_is_away(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    from django.contrib.auth.models import User
    from django.db import OperationalError

    from vmcloud.fleet.services import feed

    monkeypatch.setattr(feed, "cursor", raising(OperationalError("connection refused")))
    web.client.force_login(User.objects.get(username="admin"))
    answer = web.client.get("/admin/")
    assert answer.status_code == 503 and b"does not answer" in answer.content and answer["Retry-After"]


def test_what_was_undone_for_the_sake_of_others_is_done_again(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    from django.db import OperationalError, connection

    from vmcloud.fleet import database

    errors = [fails(OperationalError("deadlock detected"), Cause("40P01")), fails(OperationalError("x"), Cause("40001"))]

    @database.again
    def work() -> str:
        if errors:
            raise errors.pop()
        return "done"

    connection.in_atomic_block, before = False, connection.in_atomic_block
    try:
        with caplog.at_level(logging.INFO):
            assert work() == "done"
    finally:
        connection.in_atomic_block = before
    assert caplog.text.count("is done again") == 2
    errors.append(fails(OperationalError("deadlock detected"), Cause("40P01")))
    with pytest.raises(OperationalError):
        work()  # within somebody's transaction, which is undone as a whole


def test_texts_of_others_are_cut_to_what_a_column_holds() -> None:
    from tests.web import _setup

    _setup()
    from vmcloud.fleet import database
    from vmcloud.fleet.models import VE

    row = VE(uuid=uuid4(), name="n" * 99, mac="0" * 20, error="one\0two", owner="ann")
    database.fit(row)
    assert (len(row.name), len(row.mac), row.error, row.owner) == (63, 17, "one\ufffdtwo", "ann")
