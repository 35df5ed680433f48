"""The executor: what it does where the machine fails it."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from tests.executor_kit import Node, eventually
from tests.worker_kit import NATIVE, VE, order
from vmcloud.domain.messages import Result, Sighting
from vmcloud.domain.vocabulary import Observed, Outcome, StepVerb
from workers import executor as executor_module
from workers.drivers.base import Guest, Report, ToolFailed
from workers.drivers.simulated import effects, outside, plan_fault
from workers.journal import Journal, Presence

pytestmark = pytest.mark.unit
SUM = "ab" * 32


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    monkeypatch.setattr(executor_module, "PAUSE", (0.02, 0.1))
    made = Node(tmp_path)
    yield made
    made.close()


def test_a_full_disk_delays_a_step_and_is_not_held_against_it(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    finish, failures = node.journal.finish, iter(range(5))

    def full(result: Result) -> None:
        if next(failures, None) is not None:
            raise sqlite3.OperationalError("database or disk is full")
        finish(result)

    monkeypatch.setattr(node.journal, "finish", full)
    node.take(order(1, verb=StepVerb.CREATE))
    assert node.result(1).outcome is Outcome.OK


def test_a_thread_that_can_not_be_had_leaves_the_lane_free(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    start, failures = threading.Thread.start, iter(range(1))

    def scarce(thread: threading.Thread) -> None:
        if thread.name.startswith("step-") and next(failures, None) is not None:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", scarce)
    node.take(order(1, verb=StepVerb.CREATE))
    row = node.journal.step((1, 1))
    assert row is not None
    node.executor.offer(row)  # the server asks again
    assert node.result(1).outcome is Outcome.OK


def test_a_row_that_is_offered_again_while_it_runs_runs_once(node: Node) -> None:
    plan_fault(node.guests, "define", "hang", 1)
    node.take(order(1, verb=StepVerb.CREATE))
    row = node.journal.step((1, 1))
    assert row is not None
    for _ in range(3):
        node.executor.offer(row)
    assert not node.executor._lanes.waits((1, 1, row.sequence))
    assert eventually(lambda: (found := node.journal.step((1, 1))) is not None and found.starts == 1)
    node.executor.cancel((1, 1))
    assert node.result(1).outcome is Outcome.CANCELLED


def test_what_another_order_took_the_place_of_is_undone_and_says_nothing(node: Node) -> None:
    plan_fault(node.guests, "start", "hang", 1)
    node.take(order(1, verb=StepVerb.CREATE))
    assert eventually(lambda: (NATIVE, "define") in effects(node.guests))
    other = uuid4()
    row = node.journal.accept(order(1, verb=StepVerb.CREATE, ve=other), 2.0)
    node.executor.cancel((1, 1))
    node.executor.offer(row)
    result = node.result(1)
    assert result.outcome is Outcome.OK and result.seen is not None and result.seen.ve == other
    assert eventually(lambda: (NATIVE, "delete") in effects(node.guests))
    assert eventually(lambda: not node.executor._running)
    known = node.journal.step((1, 1))
    assert known is not None and known.result == result
    assert [each for each in node.ears.heard if isinstance(each, Result)] == [result]


def test_the_delete_of_a_guest_that_strayed_here_leaves_the_ves_own(node: Node) -> None:
    node.take(order(1, verb=StepVerb.CREATE))
    node.result(1)
    outside(node.guests, "stray", Observed.RUNNING, ve=VE)
    node.take(replace(order(2, verb=StepVerb.DELETE, generation=0), native="stray"))
    assert node.result(2).outcome is Outcome.OK
    assert node.driver.inspect("stray") is None and node.driver.inspect(NATIVE) is not None
    known = node.journal.ve(VE)
    assert known is not None and (known.presence, known.address) == (Presence.PRESENT, "10.86.0.2/24")
    assert not any(VE in each.gone for each in node.ears.heard if isinstance(each, Sighting))


def test_a_create_whose_image_has_gone_says_so_by_its_code(node: Node) -> None:
    node.take(order(1, verb=StepVerb.CREATE, image_sha256=SUM))
    result = node.result(1)
    assert (result.outcome, result.undone, result.seen) == (Outcome.FAILED, True, None)
    assert result.error is not None and result.error.code == "no-image"
    fetch = replace(order(2, verb=StepVerb.FETCH, sha256=SUM, size=1, url="http://a", ticket="x"), ve=None, lane="image:1@n1")
    node.take(fetch)
    assert node.result(2).outcome is Outcome.OK
    node.take(order(3, verb=StepVerb.CREATE, image_sha256=SUM))
    assert node.result(3).outcome is Outcome.OK
    (node.images / SUM).unlink()
    node.take(order(4, verb=StepVerb.CREATE, image_sha256=SUM))  # it is made already
    assert node.result(4).outcome is Outcome.OK


def test_an_image_that_goes_while_its_guest_is_made_is_named(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.images.mkdir()
    (node.images / SUM).touch()

    def fails(guest: Guest, report: Report) -> None:
        (node.images / SUM).unlink()
        raise ToolFailed("image", "cp: no such file")

    monkeypatch.setattr(node.driver, "define", fails)
    node.take(order(1, verb=StepVerb.CREATE, image_sha256=SUM))
    error = node.result(1).error
    assert error is not None and error.code == "no-image"


def test_steps_with_which_the_worker_died_twice_are_begun_one_after_the_other(
    tmp_path: Path,
) -> None:
    journal, others = Journal(tmp_path / "journal.sqlite3"), [uuid4() for _ in range(3)]
    for number, ve in enumerate(others, 1):
        row = journal.accept(order(number, verb=StepVerb.CREATE, ve=ve), 1.0)
        for _ in range(2):
            journal.begin(row.key, row.sequence)
            journal.died(row.sequence, "its worker died with it")
    journal.close()
    made = Node(tmp_path, begun=False)
    plan_fault(made.guests, "define", "hang", 1)
    made.executor.start()
    made.take(order(9, verb=StepVerb.CREATE))
    assert made.result(9).outcome is Outcome.OK  # what never did any harm waits for none of them
    row = made.journal.step((2, 1))
    assert row is not None and (row.starts, row.deaths) == (2, ("its worker died with it",) * 2)
    made.executor.offer(row)  # the server asks again
    assert {ticket[0] for ticket in made.executor._running} == {1}
    made.executor.cancel((1, 1))
    assert [made.result(number).outcome for number in (1, 2, 3)] == [Outcome.CANCELLED, Outcome.OK, Outcome.OK]
    made.close()
