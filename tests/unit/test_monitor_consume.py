"""The monitor's core over a directory in memory: what is believed, what is dropped, what waits, what is decided anew."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from monitor.consume import Intake, Stopping, Turns
from monitor.publish import Publisher
from vmcloud.directory.errors import Denied, Unavailable
from vmcloud.directory.fake import FakeDirectory
from vmcloud.domain.messages import Mark, NodeFacts, Seen, Sighting, Wake
from vmcloud.domain.names import native_name
from vmcloud.domain.records import NodeRecord, Observation, VERecord
from vmcloud.domain.spec import Spec
from vmcloud.domain.vocabulary import Desired, Kind, Observed

pytestmark = pytest.mark.unit
FACTS = NodeFacts(kinds=(Kind.LXC,), cpus=4, memory_mib=4096, disk_mib=9000, version="0.1.0")


class World:
    """A directory with two nodes and a VE on the first, and a monitor on it."""

    def __init__(self) -> None:
        self.store = FakeDirectory()
        for name in ("n1", "n2"):
            self.store.add_node(NodeRecord(name=name))
        spec = Spec(kind=Kind.LXC, image="busybox")
        claimed = self.store.claim(VERecord(uuid4(), "web-1", "main", "alice", spec, Desired.RUNNING, generation=1, job=1))
        self.ve = self.store.change_ve(claimed, node="n1")
        self.woken = 0
        self.slept: list[float] = []
        self.stopping = False
        self.intake = Intake(Publisher(self.store), self._wake, lambda: self.stopping, self.slept.append)

    def _wake(self) -> None:
        self.woken += 1

    def guest(self, **changes: Any) -> Seen:
        native = native_name(self.ve.name, self.ve.ve)
        return replace(Seen(native, Kind.LXC, Observed.RUNNING, ve=self.ve.ve, generation=1, since=50.0), **changes)

    def say(self, *guests: Seen, node: str = "n1", speaker: str = "", **changes: Any) -> None:
        message = replace(Sighting(node=node, mark=Mark(1, 1), at=100.0, full=False, guests=guests), **changes)
        self.intake.take(speaker or node, message.to_json())

    def observed(self) -> Observation | None:
        stored = self.store.ve(self.ve.ve)
        assert stored is not None
        return stored.observed


@pytest.fixture
def world() -> World:
    return World()


def test_a_sighting_reaches_its_entries(world: World) -> None:
    foreign = Seen("odd", Kind.LXC, Observed.STOPPED, since=1.0)
    world.say(world.guest(), foreign, full=True, facts=FACTS)
    seen = world.observed()
    assert seen is not None
    assert (seen.state, seen.node, seen.mark) == (Observed.RUNNING, "n1", Mark(1, 1))
    node = world.store.node("n1")
    assert node is not None
    assert (node.facts, node.mark) == (FACTS, Mark(1, 1))
    assert [stray.seen for stray in world.store.strays("n1")] == [foreign]


def test_the_same_message_twice_and_an_unchanged_list_write_nothing(world: World) -> None:
    world.say(world.guest(), facts=FACTS)
    changes: list[object] = []
    world.store.subscribe(changes.append)
    changes.clear()
    world.say(world.guest(), facts=FACTS)
    world.say(world.guest(), facts=FACTS, full=True, mark=Mark(1, 2))
    assert changes == []


def test_out_of_order_the_latest_wins(world: World) -> None:
    world.say(world.guest(state=Observed.STOPPED), mark=Mark(1, 3))
    world.say(world.guest(state=Observed.RUNNING), mark=Mark(1, 2))
    seen = world.observed()
    assert seen is not None
    assert seen.state is Observed.STOPPED


def test_a_migrated_ve_is_a_stray_on_its_old_node(world: World) -> None:
    world.say(world.guest())
    current = world.store.ve(world.ve.ve)
    assert current is not None
    world.store.change_ve(current, node="n2")
    world.say(world.guest(), mark=Mark(1, 2))
    assert [stray.node for stray in world.store.strays()] == ["n1"]
    world.say(world.guest(), node="n2", mark=Mark(1, 1))
    seen = world.observed()
    assert seen is not None
    assert seen.node == "n2"
    world.say(full=True, mark=Mark(1, 3))
    assert world.store.strays() == []


def test_a_placement_that_changes_while_we_decide_is_decided_anew(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    observe = world.store.observe_ve

    def meanwhile(record: VERecord, seen: Observation) -> bool:
        monkeypatch.setattr(world.store, "observe_ve", observe)
        world.store.change_ve(record, node="n2")
        return observe(record, seen)

    monkeypatch.setattr(world.store, "observe_ve", meanwhile)
    world.say(world.guest())
    assert world.observed() is None
    assert [stray.node for stray in world.store.strays()] == ["n1"]


def test_a_ve_removed_while_we_decide_becomes_a_stray(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    observe = world.store.observe_ve

    def meanwhile(record: VERecord, seen: Observation) -> bool:
        monkeypatch.setattr(world.store, "observe_ve", observe)
        world.store.remove_ve(record)
        return observe(record, seen)

    monkeypatch.setattr(world.store, "observe_ve", meanwhile)
    world.say(world.guest())
    assert [stray.seen.ve for stray in world.store.strays("n1")] == [world.ve.ve]


def test_a_node_speaks_only_for_itself(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.say(world.guest(), node="n1", speaker="n2")
    assert world.observed() is None
    assert "says it is of node n1 and came on the list of n2" in caplog.text


@pytest.mark.parametrize("data", [None, [], "x", {"v": 1}, {"v": 2, "type": "sighting"}, {"v": 1, "type": "sighting", "mark": 5}])
def test_what_is_no_message_is_dropped_loudly(world: World, data: object, caplog: pytest.LogCaptureFixture) -> None:
    world.intake.take("n1", data)
    assert "dropped" in caplog.text


def test_a_node_that_is_not_recorded_is_dropped(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.say(world.guest(), node="n9")
    assert "knows no node n9" in caplog.text


def test_wake_ups_count_only_on_their_list(world: World) -> None:
    world.intake.take("", Wake(topic="nodes").to_json())
    world.intake.take("n1", Wake(topic="nodes").to_json())
    assert world.woken == 1


def test_a_message_waits_until_the_directory_is_back(world: World) -> None:
    for _ in range(7):
        world.store.fail(Unavailable("down"))
    world.say(world.guest())
    assert world.observed() is not None
    assert world.slept == [0.1, 0.2, 0.4, 0.8, 1.6, 3.0, 3.0]


def test_a_message_goes_back_when_the_monitor_ends_without_a_directory(world: World) -> None:
    world.store.fail(Unavailable("down"))
    world.stopping = True
    with pytest.raises(Stopping):
        world.say(world.guest())


def test_what_the_directory_denies_is_dropped_loudly(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.store.fail(Denied("no"))
    world.say(world.guest())
    assert "dropped a sighting" in caplog.text


def test_changes_of_guests_go_side_by_side_and_a_whole_list_alone() -> None:
    turns, lock = Turns(), threading.Lock()
    log: list[str] = []
    release = {name: threading.Event() for name in ("a", "b", "list", "c")}

    def say(word: str) -> None:
        with lock:
            log.append(word)

    def work(name: str, alone: bool) -> None:
        with turns.turn(alone=alone):
            say(f"> {name}")
            assert release[name].wait(5)
            say(f"< {name}")

    def begin(name: str, *, alone: bool = False) -> threading.Thread:
        thread = threading.Thread(target=work, args=(name, alone))
        thread.start()
        time.sleep(0.05)
        return thread

    threads = [begin("a"), begin("b"), begin("list", alone=True), begin("c")]
    assert log == ["> a", "> b"], "the list waits, and who comes after it too"
    release["b"].set()
    time.sleep(0.05)
    assert log == ["> a", "> b", "< b"]
    release["a"].set()
    time.sleep(0.05)
    assert log == ["> a", "> b", "< b", "< a", "> list"]
    release["list"].set()
    time.sleep(0.05)
    assert log[-2:] == ["< list", "> c"]
    release["c"].set()
    for thread in threads:
        thread.join(5)


def test_a_turn_that_fails_holds_up_nobody() -> None:
    turns = Turns()
    with pytest.raises(ValueError), turns.turn(alone=True):
        raise ValueError
    with turns.turn(alone=False):
        pass
