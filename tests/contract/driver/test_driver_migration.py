"""A guest's way from one node to another: it is whole on exactly one of them, wherever a call is killed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from vmcloud.domain.messages import Snapshot
from vmcloud.domain.vocabulary import Desired, Observed, Power
from workers.drivers.base import BadRequest, Guest, GuestRef, NoSuchGuest

from .bench import Bench
from .talk import boot, check_runs, found, shell

pytestmark = [pytest.mark.contract, pytest.mark.power(Power.MIGRATE)]

KEPT = Snapshot("kept", 7, 1000.5)


@dataclass(frozen=True)
class Way:
    """From one node to another, and the guest that goes it."""

    source: Bench
    target: Bench
    guest: Guest

    @property
    def ref(self) -> GuestRef:
        """The guest, as both nodes know it."""
        return GuestRef(self.guest.ve, self.guest.native)

    def prepare(self, *, live: bool = False) -> None:
        self.target.driver.prepare(self.guest, live=live)

    def send(self, *, live: bool = False) -> dict[str, Any]:
        given: dict[str, Any] = self.source.driver.send(self.ref, live=live, grace=5.0)
        return given

    def arrive(self, given: dict[str, Any], power: Desired = Desired.RUNNING) -> None:
        self.target.driver.receive(self.guest, given)
        self.target.driver.activate(self.ref, power=power)
        self.source.driver.clean(self.ref)

    def places(self) -> tuple[Observed | None, Observed | None]:
        """The guest's state on the source and on the target, as their lists have it."""
        listed = [[seen for seen in bench.driver.list() if seen.ve == self.guest.ve] for bench in (self.source, self.target)]
        assert all(len(each) <= 1 for each in listed)
        one, other = (each[0].state if each else None for each in listed)
        return one, other


@pytest.fixture
def way(bench: Bench, running: Guest) -> Iterator[Way]:
    """A running guest that has a file on its disk, one in its memory, and a snapshot with an older file."""
    with bench.another() as other:
        shell(bench, running, "echo old > /root/file; sync")
        bench.driver.snapshot(running.native, KEPT)
        shell(bench, running, f"echo new > /root/file; echo there > {bench.memory}; sync")
        yield Way(bench, other, running)
        other.driver.discard(GuestRef(running.ve, running.native))
        other.driver.delete(running.native)


def whole(way: Way) -> None:
    """Disk, snapshot and what is known of the guest have come along."""
    seen = found(way.target, way.guest)
    assert (seen.ve, seen.vcpus, seen.memory_mib) == (way.guest.ve, 1, 64)
    assert seen.mac in ("", way.guest.mac) and seen.snapshots == (KEPT,)
    assert shell(way.target, way.guest, "cat /root/file") == b"new\n"
    way.target.driver.stop(way.guest.native, force=True)
    way.target.driver.revert(way.guest.native, "kept")
    boot(way.target, way.guest)
    assert shell(way.target, way.guest, "cat /root/file") == b"old\n"


def test_a_guest_moves_offline_and_starts_anew(way: Way) -> None:
    way.prepare()
    assert way.places() == (Observed.RUNNING, None)
    given = way.send()
    assert way.places() == (Observed.STOPPED, None)
    way.arrive(given)
    assert way.places() == (None, Observed.RUNNING)
    assert shell(way.target, way.guest, f"cat {way.target.memory}; true") == b"", "its memory stayed behind"
    whole(way)
    assert not way.source.left_of(way.guest)


def test_a_guest_moves_live_and_goes_on(way: Way) -> None:
    way.prepare(live=True)
    given = way.send(live=True)
    assert way.places() == (Observed.SUSPENDED, None)
    way.arrive(given)
    assert way.places() == (None, Observed.RUNNING)
    assert shell(way.target, way.guest, f"cat {way.target.memory}") == b"there\n"
    whole(way)


@pytest.mark.parametrize("live", [False, True], ids=["offline", "live"])
def test_a_stopped_guest_moves_and_stays_stopped(way: Way, live: bool) -> None:
    way.source.driver.stop(way.guest.native)
    way.prepare(live=live)
    way.arrive(way.send(live=live), Desired.STOPPED)
    assert way.places() == (None, Observed.STOPPED)
    boot(way.target, way.guest)
    whole(way)


@pytest.mark.power(Power.FREEZE)
def test_a_suspended_guest_moves_live_with_its_memory_and_not_without(way: Way) -> None:
    way.source.driver.freeze(way.guest.native)
    with pytest.raises(BadRequest, match="memory"):
        way.send()
    assert way.places() == (Observed.SUSPENDED, None)
    way.prepare(live=True)
    way.arrive(way.send(live=True), Desired.SUSPENDED)
    assert way.places() == (None, Observed.SUSPENDED)
    way.target.driver.thaw(way.guest.native)
    assert shell(way.target, way.guest, f"cat {way.target.memory}") == b"there\n"


@pytest.mark.parametrize("live", [False, True], ids=["offline", "live"])
def test_a_guest_that_is_kept_runs_as_before(way: Way, live: bool) -> None:
    way.prepare(live=live)
    way.send(live=live)
    for _ in range(2):
        way.target.driver.discard(way.ref)
        way.source.driver.keep(way.ref)
    assert way.places() == (Observed.RUNNING, None)
    assert not way.target.left_of(way.guest)
    check_runs(way.source, way.guest)
    assert shell(way.source, way.guest, f"cat {way.source.memory}; true") == (b"there\n" if live else b"")
    assert shell(way.source, way.guest, "cat /root/file") == b"new\n"
    way.prepare()
    way.arrive(way.send())
    whole(way)


def test_a_stopped_guest_that_is_kept_stays_stopped(way: Way) -> None:
    way.source.driver.stop(way.guest.native)
    way.send()
    way.source.driver.keep(way.ref)
    assert way.places() == (Observed.STOPPED, None)


@pytest.mark.parametrize("live", [False, True], ids=["offline", "live"])
def test_an_outgoing_guest_is_changed_by_nothing_but_its_migration(way: Way, live: bool) -> None:
    way.send(live=live)
    before, driver, native = way.source.look(way.guest.native), way.source.driver, way.guest.native
    for again in (driver, way.source.again()):
        calls: Any = again
        for call in (
            lambda calls=calls: calls.start(native),
            lambda calls=calls: calls.stop(native, force=True),
            lambda calls=calls: calls.thaw(native),
            lambda calls=calls: calls.freeze(native),
            lambda calls=calls: calls.apply(replace(way.guest, spec=replace(way.guest.spec, vcpus=2))),
            lambda calls=calls: calls.snapshot(native, Snapshot("more", 9, 1.0)),
            lambda calls=calls: calls.revert(native, "kept"),
            lambda calls=calls: calls.delete_snapshot(native, "kept"),
            lambda calls=calls: calls.rename(way.ref, "other-0000"),
        ):
            with pytest.raises(BadRequest, match="another node"):
                call()
    assert way.source.look(native) == before


def test_an_incoming_guest_is_listed_by_nothing_and_started_by_nothing(way: Way) -> None:
    driver, native = way.target.driver, way.guest.native
    way.prepare()
    driver.receive(way.guest, way.send())
    assert list(driver.list()) == [] and driver.inspect(native) is None
    for call in (lambda: driver.start(native), lambda: driver.stop(native), lambda: driver.snapshot(native, KEPT)):
        with pytest.raises(NoSuchGuest):
            call()
    driver.delete(native)
    driver.activate(way.ref, power=Desired.RUNNING)
    assert way.places()[1] is Observed.RUNNING


@pytest.mark.parametrize("live", [False, True], ids=["offline", "live"])
def test_each_part_may_be_repeated(way: Way, live: bool) -> None:
    for _ in range(2):
        way.prepare(live=live)
    given = way.send(live=live)
    assert way.send(live=live) == given
    for _ in range(2):
        way.target.driver.receive(way.guest, given)
    for _ in range(2):
        way.target.driver.activate(way.ref, power=Desired.RUNNING)
    way.target.driver.receive(way.guest, given)
    check_runs(way.target, way.guest)
    for _ in range(2):
        way.source.driver.clean(way.ref)
    assert way.places() == (None, Observed.RUNNING)
    whole(way)


def test_a_guest_comes_back(way: Way) -> None:
    way.prepare()
    way.arrive(way.send())
    back = Way(way.target, way.source, way.guest)
    back.prepare(live=True)
    back.arrive(back.send(live=True))
    assert way.places() == (Observed.RUNNING, None)
    whole(back)


def test_a_new_migration_finds_nothing_of_an_earlier_one(way: Way) -> None:
    way.prepare()
    way.target.driver.receive(way.guest, way.send())
    way.source.driver.keep(way.ref)
    way.prepare()
    with pytest.raises(BadRequest, match="arrived"):
        way.target.driver.activate(way.ref, power=Desired.RUNNING)
    assert way.places() == (Observed.RUNNING, None)


def test_an_ordinary_guest_is_neither_discarded_nor_cleaned_nor_expected(way: Way) -> None:
    driver = way.source.driver
    driver.discard(way.ref)
    with pytest.raises(BadRequest, match="not sent"):
        driver.clean(way.ref)
    with pytest.raises(BadRequest, match="already"):
        driver.prepare(way.guest, live=False)
    driver.keep(way.ref)
    check_runs(way.source, way.guest)


def test_a_guest_is_known_by_its_uuid(way: Way) -> None:
    """Another VE's guest that has the name is left alone, and what is of another VE is not received."""
    driver, stranger = way.source.driver, GuestRef(uuid4(), way.guest.native)
    before = way.source.look(way.guest.native)
    for call in (
        lambda: driver.prepare(replace(way.guest, ve=stranger.ve), live=False),
        lambda: driver.send(stranger, live=False, grace=1.0),
        lambda: driver.keep(stranger),
    ):
        with pytest.raises(BadRequest, match="belongs"):
            call()
    driver.clean(stranger)
    driver.discard(stranger)
    assert way.source.look(way.guest.native) == before
    way.prepare()
    given = way.send()
    other = way.target.guest("other")
    way.target.driver.prepare(other, live=False)
    with pytest.raises(BadRequest):
        way.target.driver.receive(other, given)
    with pytest.raises(BadRequest, match="kept for"):
        way.target.driver.prepare(replace(other, native=way.guest.native), live=False)
    with pytest.raises(BadRequest, match="kept for"):
        way.target.driver.define(replace(other, native=way.guest.native))
    way.target.driver.discard(GuestRef(other.ve, other.native))


def test_what_is_not_there_is_said_to_be_missing(bench: Bench) -> None:
    absent = bench.guest("absent")
    ref = GuestRef(absent.ve, absent.native)
    for call in (
        lambda: bench.driver.send(ref, live=False, grace=1.0),
        lambda: bench.driver.keep(ref),
        lambda: bench.driver.receive(absent, {}),
        lambda: bench.driver.activate(ref, power=Desired.RUNNING),
    ):
        with pytest.raises((NoSuchGuest, BadRequest)):
            call()
    bench.driver.discard(ref)
    bench.driver.clean(ref)
    assert not bench.left_of(absent)


@pytest.mark.parametrize("damage", ["nothing", "cut", "number", "text"])
def test_what_arrives_damaged_is_refused_and_the_place_stays(way: Way, damage: str) -> None:
    way.prepare()
    given = way.send()
    name, value = next((name, value) for name, value in sorted(given.items()) if isinstance(value, str) and len(value) > 40)
    bad: dict[str, Any] = {
        "nothing": {},
        "cut": given | {name: value[: len(value) // 2]},
        "number": given | {name: 7},
        "text": given | {name: "x" * 100},
    }[damage]
    with pytest.raises(BadRequest):
        way.target.driver.receive(way.guest, bad)
    way.arrive(given)
    whole(way)


@pytest.mark.parametrize("live", [False, True], ids=["offline", "live"])
def test_a_killed_part_is_made_good_by_the_next_call(way: Way, folder: Path, live: bool) -> None:
    """Killed at each fault point, then asked again: the guest moves. The other node is never changed by it."""
    source, target = way.source, way.target
    for point in target.points("migrate-prepare"):
        target.killed(point, f"prepare(guest, live={live})", way.guest, folder)
        assert way.places() == (Observed.RUNNING, None), point
    way.prepare(live=live)
    left = Observed.SUSPENDED if live else Observed.STOPPED
    for point in source.points("migrate-send"):
        source.killed(point, f"send(ref, live={live}, grace=1.0)", way.guest, folder)
        assert way.places() == (left if point.endswith("done") else Observed.RUNNING, None), point
        source.driver.keep(way.ref)
        check_runs(source, way.guest)
    given = way.send(live=live)
    for point in target.points("migrate-receive"):
        target.killed(point, f"receive(guest, {given!r})", way.guest, folder)
        assert way.places() == (left, None), point
    target.driver.receive(way.guest, given)
    for point in sorted(target.points("migrate-activate"), key=lambda name: name.endswith("done")):
        target.killed(point, "activate(ref, power=Desired.RUNNING)", way.guest, folder)
        assert way.places() == (left, Observed.RUNNING if point.endswith("done") else None), point
    target.driver.activate(way.ref, power=Desired.RUNNING)
    for point in sorted(source.points("migrate-clean"), key=lambda name: name.endswith("done")):
        source.killed(point, "clean(ref)", way.guest, folder)
        assert way.places() == (None if point.endswith("done") else left, Observed.RUNNING), point
    source.driver.clean(way.ref)
    assert not source.left_of(way.guest)
    check_runs(target, way.guest)
    whole(way)


@pytest.mark.parametrize("live", [False, True], ids=["offline", "live"])
def test_a_killed_undo_is_made_good_by_the_next_call(way: Way, folder: Path, live: bool) -> None:
    source, target = way.source, way.target
    points = source.points("migrate-keep")
    assert len(points) >= 2 and len(target.points("migrate-discard")) >= 2
    for point in points:
        way.send(live=live)
        source.killed(point, "keep(ref)", way.guest, folder)
        source.driver.keep(way.ref)
        assert way.places() == (Observed.RUNNING, None), point
        check_runs(source, way.guest)
    for point in target.points("migrate-discard"):
        way.prepare(live=live)
        target.driver.receive(way.guest, way.send(live=live))
        target.killed(point, "discard(ref)", way.guest, folder)
        target.driver.discard(way.ref)
        assert not target.left_of(way.guest), point
        source.driver.keep(way.ref)
