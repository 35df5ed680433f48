"""The eyes of a node: what it says where it can not see, and what it takes over from guests that it finds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.worker_kit import NATIVE, VE, order
from vmcloud.domain.messages import Digest, Mark, Message, NodeFacts, Result, Seen, Sighting
from vmcloud.domain.vocabulary import Kind, Observed, Outcome, StepVerb
from workers import observer as observer_module
from workers.drivers.base import CannotLook
from workers.drivers.simulated import SimulatedDriver, appear, outside, plan_fault
from workers.guests import GuestBook
from workers.hands import Inline
from workers.images import SimulatedImages
from workers.journal import Journal, Presence, VERow
from workers.observer import Observer, Ticker

pytestmark = pytest.mark.unit


class Node:
    """An observer of simulated guests; what it says is kept."""

    def __init__(self, folder: Path) -> None:
        self.journal, self.guests = Journal(folder / "j"), folder / "simulated.sqlite3"
        self.driver = SimulatedDriver(self.guests)
        self.book = GuestBook(self.journal, lambda sha256: None, "10.86.0.0/24")
        self.said: list[Message] = []
        self.sequence = 0
        self.ticker = Ticker()
        hands: Any = {Kind.SIMULATED: Inline(self.driver, SimulatedImages(folder / "images"))}
        voice: Any = self
        self.observer = Observer(
            "n1", self.journal, hands, self.book, voice, self.ticker, facts=self.facts, images=lambda: ("ab",), interval=60.0
        )

    def facts(self, kinds: tuple[Kind, ...]) -> NodeFacts:
        return NodeFacts(kinds, 1, 1, 1, "x")

    def mark(self) -> Mark:
        self.sequence += 1
        return Mark(1, self.sequence)

    def say(self, message: Message) -> None:
        self.said.append(message)

    def until(self, matches: Callable[[Sighting], bool], seconds: float = 5.0) -> Sighting:
        """The first partial sighting that matches, said already or soon."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for each in list(self.said):
                if isinstance(each, Sighting) and not each.full and matches(each):
                    return each
            time.sleep(0.002)
        raise AssertionError(self.said)

    def digest(self) -> Digest:
        self.said.clear()
        self.observer.list_all()
        (digest,) = [each for each in self.said if isinstance(each, Digest)]
        return digest


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path)
    yield made
    made.driver.close()
    made.journal.close()


def test_where_a_driver_can_not_look_the_digest_is_said_and_says_so(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    node.journal.put_ve(VERow(VE, NATIVE, "simulated", presence=Presence.PRESENT))
    assert (node.digest().full, node.digest().missing) == (True, (VE,))
    plan_fault(node.guests, "list", "look", 1)
    node.journal.accept(order(1, generation=2), 1.0)
    digest = node.digest()
    assert (digest.full, digest.missing, digest.images, digest.working) == (False, (), ("ab",), ((1, 1, 1),))
    assert not any(isinstance(each, Sighting) for each in node.said)


def test_a_look_that_fails_in_an_unforeseen_way_is_no_look(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise OSError("Cannot allocate memory")

    monkeypatch.setattr(node.driver, "list", fails)
    assert not node.digest().full


def test_the_journal_forgets_also_while_the_worker_runs(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Journal.prune, "__kwdefaults__", {"steps": 0})
    node.journal.accept(order(), 1.0)
    node.journal.finish(Result("n1", 1, 1, 1, 1.0, Outcome.OK, Mark(1, 1)))
    node.digest()
    assert node.journal.step((1, 1)) is not None
    monkeypatch.setattr(observer_module, "PRUNE_SECONDS", 0.0)
    node.digest()
    assert node.journal.step((1, 1)) is None


def test_an_empty_journal_gives_nobody_the_address_of_a_guest_that_is_here(node: Node) -> None:
    guest = Seen(NATIVE, Kind.SIMULATED, Observed.STOPPED, VE, addresses=("10.86.0.2",), mac="02:aa:00:00:00:01")
    stranger = Seen("stranger", Kind.SIMULATED, Observed.RUNNING, addresses=("10.86.0.9",))
    double = Seen("double", Kind.SIMULATED, Observed.RUNNING, uuid4(), addresses=("10.86.0.2",))
    for each in (guest, stranger, double):
        appear(node.guests, each)
    assert node.digest().missing == ()
    row = node.journal.ve(VE)
    assert row is not None and row.mac == "02:aa:00:00:00:01"
    rows = {each.native: (each.address, each.presence) for each in node.journal.ves()}
    assert sorted(address for address, _ in rows.values()) == ["", "10.86.0.2/24"]
    assert {presence for _, presence in rows.values()} == {Presence.PRESENT} and "stranger" not in rows
    fresh, _ = node.book.guests(order(2, verb=StepVerb.CREATE, ve=uuid4()))
    assert fresh is not None and fresh.address == "10.86.0.3/24"


def test_a_guest_that_the_journal_knows_keeps_what_it_says(node: Node) -> None:
    known = VERow(VE, NATIVE, "simulated", address="10.86.0.7/24", mac="02:00:00:00:00:07", generation_done=4)
    for row in (known, VERow(VE, NATIVE, "simulated", presence=Presence.DELETED)):
        node.journal.put_ve(row)
        node.book.discover(Seen(NATIVE, Kind.SIMULATED, Observed.RUNNING, VE, addresses=("10.86.0.2",)))
        assert node.journal.ve(VE) == row


def test_a_guest_that_was_not_ours_is_said_to_have_left(node: Node) -> None:
    outside(node.guests, "stranger", Observed.STOPPED)
    node.observer.start()
    outside(node.guests, "stranger", Observed.RUNNING)
    node.until(lambda each: [seen.state for seen in each.guests] == [Observed.RUNNING])
    outside(node.guests, "stranger", None)
    node.until(lambda each: each.left == ("stranger",))


def test_a_guest_of_ours_that_was_removed_is_looked_for_twice_at_once(node: Node) -> None:
    appear(node.guests, Seen(NATIVE, Kind.SIMULATED, Observed.STOPPED, VE))
    node.ticker.start()
    node.observer.start()
    outside(node.guests, NATIVE, None)
    missing = lambda: [each.missing for each in node.said if isinstance(each, Digest)]  # noqa: E731
    end = time.monotonic() + 5
    while missing().count((VE,)) < 2 and time.monotonic() < end:
        time.sleep(0.01)
    assert missing()[-2:] == [(VE,), (VE,)]
    assert not any(each.left for each in node.said if isinstance(each, Sighting))


def test_a_burst_is_said_in_two_words(node: Node) -> None:
    outside(node.guests, "busy", Observed.STOPPED)
    node.observer.start()
    store = node.driver._store
    node.until(lambda each: bool(each.guests))
    time.sleep(0.05)
    node.said.clear()
    with store.change():
        for state in (Observed.STOPPING, Observed.STOPPED, Observed.STARTING, Observed.RUNNING):
            record = store.get("busy")
            assert record is not None
            store.arrive(record, state)
    node.until(lambda each: [seen.state for seen in each.guests] == [Observed.RUNNING])
    said = [each.guests[0].state for each in node.said if isinstance(each, Sighting) and not each.full]
    assert said == [Observed.STOPPING, Observed.RUNNING]


def test_a_change_right_after_a_step_that_bears_an_old_time_is_looked_at_once_more(
    node: Node,
) -> None:
    """As with a freeze: the guest's time is that of its start, so the word alone could be from before the step's look."""
    began = time.time() - 5
    frozen = Seen(NATIVE, Kind.SIMULATED, Observed.SUSPENDED, VE, since=began)
    node.observer.begin(NATIVE)
    node.observer.looking(NATIVE)
    node.observer.said(NATIVE, node.mark(), Observed.RUNNING)
    node.observer.end(NATIVE)
    appear(node.guests, frozen)
    node.observer._take(Seen(NATIVE, Kind.SIMULATED, Observed.RUNNING, VE, since=began))
    assert not node.said, "as the step saw it"
    time.sleep(0.03)
    node.observer._take(frozen)
    assert node.until(lambda each: bool(each.guests)).guests[0].state is Observed.SUSPENDED
    appear(node.guests, Seen(NATIVE, Kind.SIMULATED, Observed.RUNNING, VE, since=began))
    time.sleep(0.03)
    node.observer._take(Seen(NATIVE, Kind.SIMULATED, Observed.RUNNING, VE, since=began))
    node.until(lambda each: each.guests[0].state is Observed.RUNNING)


def test_nobody_looks_at_a_guest_for_what_a_step_does_to_it(node: Node) -> None:
    node.observer.begin(NATIVE)
    assert not node.observer._wanted(NATIVE) and node.observer._wanted("other")
    node.observer.looking(NATIVE)
    assert node.observer._wanted(NATIVE)


def test_a_source_that_is_lost_is_tried_again_at_once_then_less_and_less_often(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[float] = []

    class Lost:
        def events(self, wanted: object) -> Iterator[Seen]:
            tried.append(time.monotonic())
            if len(tried) >= 6:
                threading.Event().wait()
            raise CannotLook("events", "nobody there")

    monkeypatch.setattr(observer_module, "SOURCE_LOST", (0.02, 0.08))
    hands: Any = Lost()
    threading.Thread(target=node.observer._watch, args=(Kind.SIMULATED, hands), daemon=True).start()
    end = time.monotonic() + 5
    while len(tried) < 6 and time.monotonic() < end:
        time.sleep(0.01)
    pauses = [after - before for before, after in pairwise(tried)][:5]
    assert all(pause >= least for pause, least in zip(pauses, (0.02, 0.04, 0.08, 0.08, 0.08), strict=True)), pauses
