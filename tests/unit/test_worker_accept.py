"""What an order leads to, given what the journal knows."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.worker_kit import NATIVE, VE, order
from vmcloud.dispatch.envelope import Order, new_keypair, private_key, public_key, seal
from vmcloud.domain.messages import Accepted, CancelOrder, Mark, Message, Refused, RelistOrder, Result, StepOrder
from vmcloud.domain.vocabulary import Outcome, StepVerb
from workers.accept import Acceptor
from workers.journal import Journal, Key, Presence, State, StepRow, VERow

pytestmark = pytest.mark.unit
PRIVATE, PUBLIC = new_keypair()
NOW = 1_763_700_000.0


class Node:
    """An acceptor with a journal, and what it said, offered and stopped."""

    def __init__(self, path: Path) -> None:
        self.journal = Journal(path)
        self.said: list[Message] = []
        self.offered: list[Key] = []
        self.stopped: list[Key] = []
        self.relists = 0
        self.now = NOW
        key = public_key(PUBLIC)
        self.acceptor = Acceptor("n1", key, self.journal, self, self, skew=60.0, clock=lambda: self.now)

    def say(self, message: Message) -> None:
        self.said.append(message)

    def relist(self) -> None:
        self.relists += 1

    def offer(self, row: StepRow) -> None:
        self.offered.append(row.key)

    def cancel(self, key: Key) -> None:
        self.stopped.append(key)

    def signal(self, key: Key) -> None:
        self.signalled.append(key)

    def take(self, *orders: Order, issued: float = NOW) -> Message | None:
        before = len(self.said)
        self.acceptor.take([seal(each, private_key(PRIVATE), now=issued, lifetime=600) for each in orders])
        return self.said[-1] if len(self.said) > before else None

    def begin(self) -> StepRow | None:
        row = self.journal.step((1, 1))
        assert row is not None
        return self.journal.begin(row.key, row.sequence)

    def end(self, each: StepOrder, outcome: Outcome = Outcome.OK) -> Result:
        result = Result("n1", each.job, each.step, each.attempt, self.now, outcome, Mark(1, 7))
        self.journal.finish(result)
        return result


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path / "journal.sqlite3")
    yield made
    made.journal.close()


def refused(answer: Message | None) -> str:
    assert isinstance(answer, Refused), answer
    return answer.code


def test_a_new_step_is_journalled_offered_and_accepted(node: Node) -> None:
    answer = node.take(order())
    assert answer == Accepted("n1", 1, 1, 1, NOW, running=False)
    assert node.offered == [(1, 1)]
    row = node.journal.step((1, 1))
    assert row is not None and row.state is State.ACCEPTED


def test_a_second_delivery_is_answered_and_not_offered_again(node: Node) -> None:
    node.take(order(), order())
    node.begin()
    answer = node.take(order())
    assert isinstance(answer, Accepted) and answer.running
    assert set(node.offered) == {(1, 1)}  # the executor knows whether it has it still


def test_a_step_that_ended_replays_its_result(node: Node) -> None:
    node.take(order())
    result = node.end(order())
    assert node.take(order()) == result
    assert node.offered == [(1, 1)] and node.relists == 1


def test_an_earlier_attempt_is_stale(node: Node) -> None:
    node.take(order(attempt=2))
    assert refused(node.take(order(attempt=1))) == "stale"


def test_a_later_attempt_of_a_step_that_ended_runs_anew(node: Node) -> None:
    node.take(order())
    node.end(order(), Outcome.FAILED)
    assert isinstance(node.take(order(attempt=2)), Accepted)
    assert node.offered == [(1, 1), (1, 1)]


def test_a_later_attempt_of_an_unfinished_step_goes_on_under_the_new_number(node: Node) -> None:
    node.take(order())
    node.begin()
    assert node.take(order(attempt=2)) == Accepted("n1", 1, 1, 2, NOW, running=True)
    row = node.journal.step((1, 1))
    assert row is not None and row.attempt == 2 and row.starts == 1


def test_a_generation_passed_by_is_stale_except_for_a_step_already_known(node: Node) -> None:
    node.take(order(1, generation=1), order(2, generation=2))
    assert refused(node.take(order(3, generation=1))) == "stale"
    assert isinstance(node.take(order(1, generation=1)), Accepted)
    node.end(order(1, generation=1))
    assert isinstance(node.take(order(1, generation=1)), Result)
    assert refused(node.take(order(1, attempt=2, generation=1))) == "stale"


def test_a_deleted_ve_takes_nothing_but_another_delete(node: Node) -> None:
    node.journal.put_ve(VERow(VE, "a", "simulated", generation_high=5, presence=Presence.DELETED))
    assert refused(node.take(order(1, generation=6))) == "gone"
    assert isinstance(node.take(order(2, verb=StepVerb.DELETE, generation=4)), Accepted)


def test_cancel_of_what_waits_is_certain_and_answered_at_once(node: Node) -> None:
    node.take(order())
    answer = node.take(CancelOrder(1, 1, 1, "n1"))
    assert isinstance(answer, Result) and answer.outcome is Outcome.CANCELLED
    assert node.begin() is None


def test_a_cancelled_step_that_comes_late_is_answered_by_the_cancel(node: Node) -> None:
    cancelled = node.take(CancelOrder(1, 1, 1, "n1"))
    assert node.take(order()) == cancelled
    assert node.offered == [] and node.journal.unfinished() == []


def test_cancel_of_what_runs_is_kept_and_stops_it(node: Node) -> None:
    node.take(order())
    node.begin()
    assert node.take(CancelOrder(1, 1, 1, "n1")) is None
    row = node.journal.step((1, 1))
    assert node.stopped == [(1, 1)] and row is not None and row.cancel
    assert node.offered == [(1, 1), (1, 1)]  # should the executor have lost it


def test_cancel_after_the_end_is_answered_by_the_result(node: Node) -> None:
    node.take(order())
    result = node.end(order())
    assert node.take(CancelOrder(1, 1, 1, "n1")) == result


def test_cancel_of_an_attempt_that_never_came_forbids_that_attempt(node: Node) -> None:
    node.take(order())
    node.end(order(), Outcome.FAILED)
    answer = node.take(CancelOrder(1, 1, 2, "n1"))
    assert isinstance(answer, Result) and (answer.attempt, answer.outcome) == (2, Outcome.CANCELLED)
    assert node.take(order(attempt=2)) == answer


def test_cancel_of_an_earlier_attempt_is_stale(node: Node) -> None:
    node.take(order(attempt=2))
    assert refused(node.take(CancelOrder(1, 1, 1, "n1"))) == "stale"


def other(each: StepOrder) -> StepOrder:
    """Another job's order that has the same number, as after a restore of the server's database."""
    return order(each.job, ve=uuid4())


@pytest.mark.parametrize(
    "changes",
    [
        {"verb": StepVerb.STOP},
        {"lane": "node:n1"},
        {"ve": uuid4()},
        {"generation": 2},
        *({"args": {name: "other", "ticket": "secret"}} for name in ("sha256", "snapshot", "native", "source")),
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_an_order_that_is_another_one_does_not_get_the_stored_result(node: Node, changes: dict[str, Any]) -> None:
    node.take(order())
    node.end(order())
    each = replace(order(), **changes)
    assert isinstance(node.take(each), Accepted)
    assert node.offered == [(1, 1), (1, 1)]
    row = node.journal.step((1, 1))
    assert row is not None and row.order == each and row.state is State.ACCEPTED and row.result is None


def test_an_order_that_is_another_one_takes_the_place_of_one_that_runs(node: Node) -> None:
    node.take(order(attempt=3))
    node.begin()
    assert isinstance(node.take(other(order())), Accepted)
    assert node.stopped == [(1, 1)]
    row = node.journal.step((1, 1))
    assert row is not None and (row.attempt, row.state, row.starts) == (1, State.ACCEPTED, 0)


def test_a_fetch_that_waits_begins_with_the_ticket_that_came_last(node: Node) -> None:
    fetch = replace(order(verb=StepVerb.FETCH, sha256="ab", url="http://a", ticket="old"), ve=None, generation=0)
    fresh = replace(fetch, args={**fetch.args, "url": "http://b", "ticket": "new"})
    node.take(fetch)
    assert node.take(fresh) == Accepted("n1", 1, 1, 1, NOW, running=False)
    row = node.begin()
    assert row is not None and row.order == fresh and row.attempt == 1


def test_a_delete_without_a_generation_is_never_stale(node: Node) -> None:
    node.journal.put_ve(VERow(VE, NATIVE, "simulated", generation_high=5, presence=Presence.PRESENT))
    assert refused(node.take(order(1, verb=StepVerb.DELETE, generation=4))) == "stale"
    assert isinstance(node.take(order(2, verb=StepVerb.DELETE, generation=0)), Accepted)
    known = node.journal.ve(VE)
    assert known is not None and known.generation_high == 5


def test_a_delete_names_the_guest_of_a_ve_that_is_not_here(node: Node) -> None:
    node.journal.put_ve(VERow(VE, "old-name", "simulated", presence=Presence.DELETED))
    node.take(order(1, verb=StepVerb.DELETE, generation=0))
    known = node.journal.ve(VE)
    assert known is not None and known.native == NATIVE


def test_relist_asks_for_a_full_list(node: Node) -> None:
    assert node.take(RelistOrder("n1")) is None
    assert node.relists == 1


def test_an_order_for_another_node_is_refused(node: Node) -> None:
    assert refused(node.take(replace(order(), node="n2"))) == "wrong-node"


@pytest.mark.parametrize(("shift", "code"), [(-100.0, "clock"), (700.0, "expired")])
def test_a_clock_that_is_off_is_named(node: Node, shift: float, code: str) -> None:
    node.now = NOW + shift
    assert refused(node.take(order())) == code
    assert node.journal.unfinished() == []


def test_a_forged_order_is_dropped_in_silence(node: Node) -> None:
    forged, _ = new_keypair()
    node.acceptor.take([seal(order(), private_key(forged), now=NOW, lifetime=600), "x", "", "ä.b", "a.b.c"])
    assert node.said == [] and node.offered == []


def test_an_order_in_a_strange_version_is_refused_by_name(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vmcloud.domain.messages.VERSION", 2)
    sealed = seal(order(7, attempt=3), private_key(PRIVATE), now=NOW, lifetime=600)
    monkeypatch.undo()
    node.acceptor.take([sealed])
    answer = node.said[-1]
    assert isinstance(answer, Refused) and (answer.job, answer.attempt, answer.code) == (7, 3, "version")


def test_one_bad_order_does_not_hold_up_the_others(node: Node) -> None:
    good = seal(order(ve=uuid4()), private_key(PRIVATE), now=NOW, lifetime=600)
    node.acceptor.take(["nonsense", good])
    assert node.offered == [(1, 1)]


def test_a_ticket_is_forgotten_when_its_step_ends(node: Node) -> None:
    node.take(order())
    node.end(order())
    row = node.journal.step((1, 1))
    assert row is not None and row.order is not None and "ticket" not in row.order.args
    assert "secret" not in json.dumps(row.order.to_json())


def test_a_journal_on_a_full_disk_refuses_in_words_and_keeps_nothing(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(node.journal, "put_ve", full)
        node.take(order(1), replace(order(2), lane="ve:other"), RelistOrder("n1"))
        refused = [each for each in node.said if isinstance(each, Refused)]
        assert [(each.job, each.code) for each in refused] == [(1, "no-room"), (2, "no-room")]
        assert "journal has no room" in refused[0].message
    assert node.offered == [] and node.journal.unfinished() == [] and node.relists == 1
    assert isinstance(node.take(order(1)), Accepted), "once there is room it is taken"
