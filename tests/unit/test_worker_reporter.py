"""The voice of a node: what keeps it from falling silent."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vmcloud.domain.errors import Unavailable
from vmcloud.domain.messages import Accepted, Mark, Message, Progress, Result
from vmcloud.domain.vocabulary import Outcome
from workers import reporter as reporter_module
from workers.journal import Journal
from workers.reporter import Reporter

pytestmark = pytest.mark.unit


class Broker:
    """Keeps what it hears, unless it is away or has a dislike."""

    def __init__(self) -> None:
        self.heard: list[int] = []
        self.calls: list[tuple[Message, ...]] = []
        self.away = False
        self.disliked = -1

    def report(self, *messages: Message) -> None:
        if self.away:
            raise Unavailable("away")
        for message in messages:
            if getattr(message, "job", 0) == self.disliked:
                raise TypeError("no such message")
        self.calls.append(messages)
        self.heard += [message.job for message in messages if isinstance(message, Accepted)]

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


def said(job: int, attempt: int = 1) -> Accepted:
    return Accepted("n1", job, 1, attempt, 1.0)


def ended(job: int, attempt: int = 1) -> Result:
    return Result("n1", job, 1, attempt, 2.0, Outcome.OK, Mark(1, 1))


def far(job: int, percent: int) -> Progress:
    return Progress("n1", job, 1, 1, 1.5, "copy", percent)


def all_said(journal: Journal, broker: Broker, *messages: Message) -> list[Message]:
    """What became of messages that waited together when the node's voice was started, and then ended."""
    voice = Reporter("n1", journal, broker)
    for message in messages:
        voice.say(message)
    voice.start()
    voice.stop(5.0)
    return [message for call in broker.calls for message in call]


def test_what_waits_together_is_said_at_once_in_its_order(journal: Journal) -> None:
    broker = Broker()
    assert all_said(journal, broker, ended(1), ended(2), ended(3)) == [ended(1), ended(2), ended(3)]
    assert len(broker.calls) == 1


def test_of_a_step_that_ends_at_once_only_its_result_is_said(journal: Journal) -> None:
    assert set(all_said(journal, Broker(), said(1), far(1, 5), said(2), ended(1))) == {said(2), ended(1)}


def test_a_result_of_an_earlier_attempt_says_nothing_of_the_later(journal: Journal) -> None:
    assert said(1, attempt=2) in all_said(journal, Broker(), said(1, attempt=2), ended(1, attempt=1))


def test_of_a_step_that_takes_longer_it_is_said_that_it_was_accepted_and_how_far_it_is(journal: Journal) -> None:
    broker = Broker()
    voice = Reporter("n1", journal, broker)
    voice.start()
    for message in (said(1), far(1, 5), far(1, 50)):
        voice.say(message)
    assert broker.hears(1)
    voice.stop(5.0)
    assert [message for call in broker.calls for message in call] == [said(1), far(1, 50)]


def test_one_report_that_can_not_be_sent_does_not_take_those_with_it_that_waited_with_it(journal: Journal) -> None:
    broker = Broker()
    broker.disliked = 2
    assert all_said(journal, broker, ended(1), ended(2), ended(3)) == [ended(1), ended(3)]


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
