"""The journal: what survives, what is refused, what is forgotten."""

from __future__ import annotations

import sqlite3
import time
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from tests.worker_kit import VE, order
from vmcloud.config import Keep
from vmcloud.domain.messages import Mark, Progress, Result, Sighting
from vmcloud.domain.vocabulary import Outcome
from workers.journal import Journal, JournalDamaged, Presence, State, VERow

pytestmark = pytest.mark.unit


def test_each_start_is_a_new_epoch_and_finds_what_was_unfinished(tmp_path: Path) -> None:
    first = Journal(tmp_path / "j")
    first.accept(order(1), 1.0)
    second = first.accept(order(2, generation=2), 2.0)
    assert first.begin(second.key, second.sequence - 1) is None  # that was another order's
    begun = first.begin(second.key, second.sequence)
    assert begun == replace(second, state=State.RUNNING, starts=1)
    first.close()
    later = Journal(tmp_path / "j")
    assert later.epoch == first.epoch + 1
    assert [(row.job, row.state, row.starts) for row in later.unfinished()] == [(1, State.ACCEPTED, 0), (2, State.RUNNING, 1)]
    known = later.ve(VE)
    assert known is not None and known.generation_high == 2
    later.close()


def test_a_new_journal_speaks_later_than_one_that_was_lost(tmp_path: Path) -> None:
    lost = Journal(tmp_path / "j")
    for _ in range(3):
        lost.close()
        lost = Journal(tmp_path / "j")
    lost.close()
    before = time.time()
    time.sleep(max(lost.epoch - before, 0) + 1)
    (tmp_path / "j").unlink()
    new = Journal(tmp_path / "j")
    assert new.epoch > lost.epoch and new.epoch >= int(before)
    new.close()


def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    Journal(tmp_path / "j").close()
    assert (tmp_path / "j").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("damage", ["torn", "text", "header"])
def test_a_damaged_file_stops_the_worker(tmp_path: Path, damage: str) -> None:
    journal = Journal(tmp_path / "j")
    for number in range(200):
        journal.accept(order(number), 1.0)
    journal._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    journal.close()
    content = (tmp_path / "j").read_bytes()
    broken = {"torn": content[: len(content) // 2], "text": b"hello" * 1000, "header": b"\0" * 100 + content[100:]}[damage]
    (tmp_path / "j").write_bytes(broken)
    with pytest.raises(JournalDamaged, match="can not be used"):
        Journal(tmp_path / "j")


def test_a_journal_of_a_later_release_is_left_alone(tmp_path: Path) -> None:
    Journal(tmp_path / "j").close()
    db = sqlite3.connect(tmp_path / "j")
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(JournalDamaged, match="later"):
        Journal(tmp_path / "j")


def test_a_transaction_that_fails_leaves_no_trace_in_file_or_memory(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    with pytest.raises(RuntimeError), journal.transaction():
        journal.accept(order(), 1.0)
        raise RuntimeError
    assert journal.step((1, 1)) is None and journal.ve(VE) is None
    journal.close()


def test_no_two_ves_have_one_address_and_neither_is_lost_over_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    journal.put_ve(VERow(VE, address="10.0.0.2/24"))
    with pytest.raises(sqlite3.IntegrityError):
        journal.put_ve(VERow(uuid4(), address="10.0.0.2/24"))
    assert [row.ve for row in journal.ves()] == [VE]
    journal.close()


def test_of_many_steps_the_oldest_are_forgotten_after_a_day(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", Keep(journal_steps=6))
    for number in range(10):
        journal.accept(order(number), 1.0)
        journal.finish(Result("n1", number, 1, 1, 1000.0 * number, Outcome.OK, Mark(1, 1)))
    journal.prune(86400.0 + 2500, steps=4)
    assert [number for number in range(10) if not journal.step((number, 1))] == [0, 1, 2], "the fourth ended less than a day ago"
    journal.prune(86400.0 + 9500, steps=4)
    assert [number for number in range(10) if not journal.step((number, 1))] == [0, 1, 2, 3]
    journal.close()


def test_what_a_step_gives_is_kept_with_its_result(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    journal.accept(order(), 1.0)
    result = Result("n1", 1, 1, 1, 1.0, Outcome.OK, Mark(1, 1), output={"state": {"power": "running"}})
    journal.finish(result)
    journal.close()
    again = Journal(tmp_path / "j")
    row = again.step((1, 1))
    assert row is not None and row.result == result and again.results_since(0.0) == [result]
    again.close()


def test_the_spool_is_bounded(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", Keep(spool_messages=3))
    for number in range(5):
        journal.spool(Result("n1", number, 1, 1, 1.0, Outcome.OK, Mark(1, 1)))
    assert [message.job for _, message in journal.spooled()] == [2, 3, 4]  # type: ignore[attr-defined]
    journal.close()


def test_old_steps_are_forgotten_save_the_last_and_the_unfinished(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    for number in range(10):
        journal.accept(order(number), 1.0)
        if number:
            journal.finish(Result("n1", number, 1, 1, float(number), Outcome.OK, Mark(1, 1)))
    journal.prune(86400.0 * 20, steps=4)
    assert [number for number in range(10) if journal.step((number, 1))] == [0, 6, 7, 8, 9]
    journal.put_ve(VERow(VE, presence=Presence.DELETED))
    journal.prune(1e12)
    assert journal.ve(VE) is None
    journal.close()


def test_the_spool_keeps_order_and_only_the_last_full_list(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    full = Sighting("n1", Mark(1, 1), 1.0, full=True)
    part = Sighting("n1", Mark(1, 2), 1.0, full=False)
    for message in (full, part, replace(full, mark=Mark(1, 3)), Progress("n1", 1, 1, 1, 1.0, "x")):
        journal.spool(message)
    kept = [message for _, message in journal.spooled()]
    assert [getattr(message, "mark", None) for message in kept] == [Mark(1, 2), Mark(1, 3), None]
    journal.unspool(journal.spooled()[0][0])
    assert len(journal.spooled()) == 2
    journal.close()


@pytest.mark.parametrize("torn", [1, 24, 4096, 5000])
def test_a_spool_torn_at_its_end_is_taken_for_what_is_whole(tmp_path: Path, torn: int) -> None:
    journal = Journal(tmp_path / "j")
    for number in range(20):
        journal.spool(Result("n1", number, 1, 1, 1.0, Outcome.OK, Mark(1, 1)))
    # As after a power cut: what had been written last reached the disk in part.
    for name in ("j", "j-wal"):
        (tmp_path / f"torn-{name}").write_bytes((tmp_path / name).read_bytes())
    with (tmp_path / "torn-j-wal").open("r+b") as log:
        log.truncate((tmp_path / "torn-j-wal").stat().st_size - torn)
    journal.close()
    found = Journal(tmp_path / "torn-j")
    kept = [message.job for _, message in found.spooled()]  # type: ignore[attr-defined]
    assert kept == list(range(len(kept))) and 17 <= len(kept) < 20
    found.spool(Result("n1", 99, 1, 1, 1.0, Outcome.OK, Mark(1, 1)))
    assert [message.job for _, message in found.spooled()] == [*kept, 99]  # type: ignore[attr-defined]
    found.close()
