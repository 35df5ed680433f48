"""Guests that somebody else made become ours whole, or stay what they were."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from vmcloud.domain.messages import Seen, Snapshot
from vmcloud.domain.vocabulary import Observed, Power
from workers.drivers.base import BadRequest, Guest, NoSuchGuest

from .bench import Bench
from .talk import boot, found, shell, state

pytestmark = [pytest.mark.contract, pytest.mark.power(Power.ADOPT)]

THEIRS = "Their_Own.1"
"""No name that one of ours could have."""


def wanted(bench: Bench, *, vcpus: int = 0, memory_mib: int = 0) -> Guest:
    """The guest that is to become of it; sizes of 0: those it has."""
    guest = bench.guest("mine")
    return replace(
        guest, image=None, address="", gateway="", mac="", spec=replace(guest.spec, vcpus=vcpus, memory_mib=memory_mib)
    )


def listed(bench: Bench, native: str) -> Seen | None:
    return next((seen for seen in bench.driver.list() if seen.native == native), None)


def test_an_orphan_is_ours_after_its_adoption_with_its_shape_and_its_files(bench: Bench) -> None:
    with bench.foreign(THEIRS, memory_mib=48):
        before = listed(bench, THEIRS)
        assert before is not None and (before.ve, before.memory_mib, before.vcpus) == (None, 48, 1)
        guest = wanted(bench)
        became = bench.driver.adopt(THEIRS, guest)
        assert (became.ve, became.native, became.spec.memory_mib, became.spec.vcpus) == (guest.ve, guest.native, 48, 1)
        assert listed(bench, THEIRS) is None
        seen = found(bench, guest)
        assert (seen.ve, seen.state, seen.memory_mib, seen.vcpus) == (guest.ve, Observed.STOPPED, 48, 1)
        assert (seen.addresses, seen.mac) == (before.addresses, before.mac)
        bench.driver.start(guest.native)
        assert state(bench, guest) is Observed.RUNNING
        assert shell(bench, guest, "cat /root/theirs") == b"kept\n"
        bench.driver.stop(guest.native, force=True)
        bench.driver.delete(guest.native)
        assert not bench.left_of(guest)


def test_the_sizes_asked_for_are_those_it_gets(bench: Bench) -> None:
    with bench.foreign(THEIRS):
        guest = wanted(bench, vcpus=2, memory_mib=96)
        spec = bench.driver.adopt(THEIRS, guest).spec
        assert (spec.vcpus, spec.memory_mib) == (2, 96)
        bench.driver.start(guest.native)
        seen = found(bench, guest)
        assert (seen.vcpus, seen.memory_mib) == (2, 96)


def test_a_guest_without_a_limit_of_memory_is_refused_until_one_is_asked_for(bench: Bench) -> None:
    with bench.foreign(THEIRS, memory_mib=0):
        with pytest.raises(BadRequest, match="no limit"):
            bench.driver.adopt(THEIRS, wanted(bench))
        seen = listed(bench, THEIRS)
        assert seen is not None and seen.ve is None
        assert bench.driver.adopt(THEIRS, wanted(bench, memory_mib=64)).spec.memory_mib == 64


def test_what_runs_is_refused_and_runs_on(bench: Bench) -> None:
    with bench.foreign(THEIRS):
        bench.start_foreign(THEIRS)
        with pytest.raises(BadRequest, match="stopped") as caught:
            bench.driver.adopt(THEIRS, wanted(bench))
        assert caught.value.todo
        seen = listed(bench, THEIRS)
        assert seen is not None and (seen.ve, seen.state) == (None, Observed.RUNNING)


def test_what_is_not_there_or_ours_already_is_refused(bench: Bench, made: Guest) -> None:
    before = bench.look(made.native)
    for name in ("nobody", "", "..", ".making", "a/b", "a\0b"):
        with pytest.raises((NoSuchGuest, BadRequest)):
            bench.driver.adopt(name, wanted(bench))
    with pytest.raises(BadRequest):
        bench.driver.adopt(made.native, wanted(bench))
    with bench.foreign(THEIRS), pytest.raises(BadRequest):
        bench.driver.adopt(THEIRS, replace(wanted(bench), native=made.native))
    assert bench.look(made.native) == before


def test_to_adopt_twice_is_to_adopt_once(bench: Bench) -> None:
    with bench.foreign(THEIRS):
        guest = wanted(bench)
        first = bench.driver.adopt(THEIRS, guest)
        before = bench.look(guest.native)
        assert bench.driver.adopt(THEIRS, guest) == first
        assert bench.look(guest.native) == before
        with pytest.raises(NoSuchGuest):
            bench.driver.adopt(THEIRS, wanted(bench))


@pytest.mark.power(Power.RESIZE, Power.SNAPSHOT, Power.EXEC)
def test_an_adopted_guest_can_do_all_that_others_can(bench: Bench) -> None:
    with bench.foreign(THEIRS):
        guest = wanted(bench)
        became = bench.driver.adopt(THEIRS, guest)
        bench.driver.snapshot(guest.native, Snapshot("first", 1, 1000.0))
        bench.driver.apply(replace(became, spec=replace(became.spec, memory_mib=80)))
        bench.driver.start(guest.native)
        assert found(bench, guest).memory_mib == 80
        shell(bench, guest, "echo new > /root/theirs; sync")
        bench.driver.stop(guest.native, force=True)
        bench.driver.revert(guest.native, "first")
        bench.driver.start(guest.native)
        assert shell(bench, guest, "cat /root/theirs") == b"kept\n"


def test_disowned_it_is_what_it_was(bench: Bench) -> None:
    with bench.foreign(THEIRS):
        before, seen = bench.look(THEIRS), listed(bench, THEIRS)
        guest = wanted(bench, memory_mib=96)
        bench.driver.adopt(THEIRS, guest)
        with pytest.raises(BadRequest):
            bench.driver.disown(guest.native, "other")
        for _ in range(2):
            bench.driver.disown(guest.native, THEIRS)
            after = listed(bench, THEIRS)
            assert after is not None and seen is not None
            assert replace(after, since=seen.since) == seen
        assert not bench.left_of(guest)
        if bench.driver.kind != "simulated":  # whose looking counts what was done
            assert bench.look(THEIRS) == before
        bench.start_foreign(THEIRS)
        assert (after := listed(bench, THEIRS)) is not None and after.state is Observed.RUNNING


def test_one_that_runs_is_not_disowned(bench: Bench) -> None:
    with bench.foreign(THEIRS):
        guest = wanted(bench)
        bench.driver.adopt(THEIRS, guest)
        bench.driver.start(guest.native)
        with pytest.raises(BadRequest, match="runs"):
            bench.driver.disown(guest.native, THEIRS)
        assert state(bench, guest) is Observed.RUNNING


def test_a_killed_adoption_leaves_an_orphan_or_a_guest_of_ours(bench: Bench, folder: Path) -> None:
    points = bench.points("adopt")
    assert points
    for point in points:
        with bench.foreign(THEIRS):
            guest = replace(bench.guest("mine"), image=None, address="", gateway="", mac="")
            bench.killed(point, f"adopt({THEIRS!r}, guest)", guest, folder)
            orphan, ours = listed(bench, THEIRS), listed(bench, guest.native)
            assert (orphan is None) is not (ours is None), point
            assert orphan is None or orphan.ve is None
            assert ours is None or ours.ve == guest.ve
            if orphan is not None:
                bench.start_foreign(THEIRS)  # as if nobody had touched it
                assert (seen := listed(bench, THEIRS)) is not None and seen.state is Observed.RUNNING
                continue
            bench.driver.start(guest.native)
            assert shell(bench, guest, "cat /root/theirs") == b"kept\n"


@pytest.mark.parametrize("then", ["again", "undone"])
def test_a_killed_adoption_is_made_good_or_taken_back(bench: Bench, folder: Path, then: str) -> None:
    for point in bench.points("adopt"):
        with bench.foreign(THEIRS):
            before = bench.look(THEIRS)
            guest = replace(bench.guest("mine"), image=None, address="", gateway="", mac="")
            bench.killed(point, f"adopt({THEIRS!r}, guest)", guest, folder)
            if then == "again":
                bench.driver.adopt(THEIRS, guest)
                assert listed(bench, THEIRS) is None
                boot(bench, guest) if bench.driver.kind == "simulated" else bench.driver.start(guest.native)
                assert shell(bench, guest, "cat /root/theirs") == b"kept\n"
            else:
                bench.driver.disown(guest.native, THEIRS)
                assert listed(bench, THEIRS) is not None and not bench.left_of(guest)
                if bench.driver.kind != "simulated":
                    assert bench.look(THEIRS) == before


def test_a_killed_way_back_is_made_good(bench: Bench, folder: Path) -> None:
    points = bench.points("disown")
    assert points
    for point in points:
        with bench.foreign(THEIRS):
            guest = replace(bench.guest("mine"), image=None, address="", gateway="", mac="")
            bench.driver.adopt(THEIRS, guest)
            bench.killed(point, f"disown(guest.native, {THEIRS!r})", guest, folder)
            bench.driver.disown(guest.native, THEIRS)
            assert (seen := listed(bench, THEIRS)) is not None and seen.ve is None
            assert not bench.left_of(guest)
            bench.start_foreign(THEIRS)
