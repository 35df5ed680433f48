"""The voice of a node: what keeps it from falling silent."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vmcloud.domain.errors import Unavailable
from vmcloud.domain.messages import Accepted, Message
from workers import reporter as reporter_module
from workers.journal import Journal
from workers.reporter import Reporter

pytestmark = pytest.mark.unit


class Broker:
    """Keeps what it hears, unless it is away or has a dislike."""

    def __init__(self) -> None:
        self.heard: list[int] = []
        self.away = False
        self.disliked = 0

    def report(self, message: Message) -> None:
        if self.away:
            raise Unavailable("away")
        assert isinstance(message, Accepted)
        if message.job == self.disliked:
            raise TypeError("no such message")
        self.heard.append(message.job)

    def close(self) -> None:
        pass

    def hears(self, *jobs: int, seconds: float = 5.0) -> bool:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.heard == list(jobs):
                return True
            time.sleep(0.01)
        raise AssertionError(self.heard)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path / "j")
    yield made
    made.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporter_module, "RETRY_MAX", 0.05)


def said(job: int) -> Accepted:
    return Accepted("n1", job, 1, 1, 1.0)


def test_a_report_that_can_not_be_read_is_dropped_and_the_others_are_said(journal: Journal) -> None:
    for job in range(1, 4):
        journal.spool(said(job))
    journal._db.execute("UPDATE outbox SET message = '{}' WHERE id = 1")
    journal._db.execute("UPDATE outbox SET message = 'torn' WHERE id = 2")
    broker = Broker()
    voice = Reporter("n1", journal, broker)
    voice.start()
    assert broker.hears(3)
    voice.stop(1.0)
    assert journal.spooled() == []


def test_a_journal_that_fails_for_a_moment_does_not_silence_the_node(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    unspool, failures = journal.unspool, iter(range(2))

    def full(up_to: int) -> None:
        if next(failures, None) is not None:
            raise sqlite3.OperationalError("database or disk is full")
        unspool(up_to)

    monkeypatch.setattr(journal, "unspool", full)
    journal.spool(said(1))
    broker = Broker()
    voice = Reporter("n1", journal, broker)
    voice.start()
    assert broker.hears(1, 1, 1)  # said again until it is struck out; the server knows it by its number
    voice.say(said(2))
    assert broker.hears(1, 1, 1, 2)
    voice.stop(1.0)


def test_a_kept_report_that_can_not_be_sent_does_not_hold_up_the_others(journal: Journal) -> None:
    for job in (1, 2):
        journal.spool(said(job))
    broker = Broker()
    broker.disliked = 1
    voice = Reporter("n1", journal, broker)
    voice.start()
    assert broker.hears(2)
    voice.stop(1.0)


def test_whatever_goes_wrong_in_between_the_next_report_is_said(journal: Journal) -> None:
    broker = Broker()
    broker.away = True
    voice = Reporter("n1", journal, broker)

    def fails() -> None:
        raise RuntimeError

    voice.on_return = fails
    voice.start()
    voice.say(said(1))
    time.sleep(0.1)
    broker.away = False
    assert broker.hears(1)
    voice.say(said(2))
    assert broker.hears(1, 2)
    voice.stop(1.0)
