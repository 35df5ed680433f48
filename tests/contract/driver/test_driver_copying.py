"""Guests under another name, and copied."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from vmcloud.domain.messages import Snapshot
from vmcloud.domain.names import native_name
from vmcloud.domain.vocabulary import Observed, Power
from workers.drivers.base import BadRequest, Guest, GuestRef, NoSuchGuest

from .bench import Bench
from .talk import boot, check_runs, found, shell, state

pytestmark = pytest.mark.contract

renames = pytest.mark.power(Power.RENAME)
copies = pytest.mark.power(Power.COPY)
KEPT = Snapshot("kept", 7, 1000.5)


def ref(guest: Guest) -> GuestRef:
    return GuestRef(guest.ve, guest.native)


def renamed(guest: Guest, name: str = "blog") -> Guest:
    """The guest under its new name."""
    return replace(guest, native=native_name(name, guest.ve))


@pytest.fixture
def written(bench: Bench, running: Guest) -> Iterator[Guest]:
    """A stopped guest with a file and, with older content, a snapshot of it."""
    shell(bench, running, "echo old > /root/file; sync")
    bench.driver.snapshot(running.native, KEPT)
    shell(bench, running, "echo new > /root/file; sync")
    bench.driver.stop(running.native)
    yield running
    bench.driver.delete(renamed(running).native)


@renames
def test_a_guest_keeps_all_but_its_name(bench: Bench, written: Guest) -> None:
    before, new = found(bench, written), renamed(written)
    for _ in range(2):
        bench.driver.rename(ref(written), new.native)
        assert state(bench, written) is None
        assert found(bench, new) == replace(before, native=new.native)
    boot(bench, new)
    assert shell(bench, new, "cat /root/file") == b"new\n"
    bench.driver.stop(new.native, force=True)
    bench.driver.revert(new.native, "kept")
    boot(bench, new)
    assert shell(bench, new, "cat /root/file; hostname") == b"old\nblog\n"
    bench.driver.delete(new.native)
    assert not bench.left_of(written) and not bench.left_of(new)


@renames
def test_a_guest_gets_its_old_name_back(bench: Bench, written: Guest) -> None:
    before, new = found(bench, written), renamed(written)
    bench.driver.rename(ref(written), new.native)
    for _ in range(2):
        bench.driver.rename(ref(new), written.native)
    assert found(bench, written) == before and not bench.left_of(new)


@renames
def test_no_guest_takes_the_name_of_another(bench: Bench, made: Guest) -> None:
    other = bench.guest("other")
    bench.driver.define(other)
    try:
        before = bench.look(made.native), bench.look(other.native)
        with pytest.raises(BadRequest):
            bench.driver.rename(ref(made), other.native)
        with pytest.raises(BadRequest):
            bench.driver.rename(GuestRef(uuid4(), made.native), "free-0000")
        with pytest.raises(BadRequest):
            bench.driver.rename(ref(made), "../no")
        assert (bench.look(made.native), bench.look(other.native)) == before
    finally:
        bench.driver.delete(other.native)
    with pytest.raises(NoSuchGuest):
        bench.driver.rename(ref(other), renamed(other).native)


@renames
def test_a_running_guest_is_renamed_or_refused_and_runs_on(bench: Bench, running: Guest) -> None:
    new = renamed(running)
    try:
        bench.driver.rename(ref(running), new.native)
    except BadRequest as error:
        assert error.todo == "Stop it first."
        check_runs(bench, running)
    else:
        check_runs(bench, new)
        bench.driver.rename(ref(new), running.native)


@renames
def test_a_killed_rename_is_made_good_by_the_next(bench: Bench, written: Guest, folder: Path) -> None:
    new = renamed(written)
    points = bench.points("rename")
    assert points
    for point in points:
        bench.killed(point, f"rename(ref, {new.native!r})", written, folder)
        (called,) = [seen.native for seen in bench.driver.list() if seen.ve == written.ve]
        assert called in (written.native, new.native), point
        boot(bench, replace(written, native=called))
        bench.driver.stop(called, force=True)
        bench.driver.rename(ref(written), new.native)
        assert state(bench, written) is None and state(bench, new) is Observed.STOPPED, point
        bench.driver.rename(ref(new), written.native)


@pytest.fixture
def copy(bench: Bench) -> Iterator[Guest]:
    """A guest that is to become a copy. Not made yet."""
    guest = replace(bench.guest("copy", memory_mib=96), address="", gateway="")
    yield guest
    bench.driver.delete(guest.native)


@copies
@pytest.mark.parametrize("snapshot", ["", "kept"], ids=["now", "snapshot"])
def test_a_copy_has_the_files_and_a_life_of_its_own(bench: Bench, written: Guest, copy: Guest, snapshot: str) -> None:
    before = found(bench, written)
    for _ in range(2):
        bench.driver.copy(ref(written), copy, snapshot=snapshot)
    seen = found(bench, copy)
    assert (seen.ve, seen.state, seen.memory_mib, seen.snapshots) == (copy.ve, Observed.STOPPED, 96, ())
    assert found(bench, written) == before
    boot(bench, copy)
    assert shell(bench, copy, "cat /root/file; hostname") == (b"old\ncopy\n" if snapshot else b"new\ncopy\n")
    shell(bench, copy, "echo mine > /root/file; sync")
    boot(bench, written)
    assert shell(bench, written, "cat /root/file") == b"new\n"
    bench.driver.delete(written.native)
    assert shell(bench, copy, "cat /root/file") == b"mine\n", "it needs nothing of what it was made from"


@copies
def test_a_copy_of_a_running_guest_is_made_from_a_snapshot(bench: Bench, written: Guest, copy: Guest) -> None:
    boot(bench, written)
    bench.driver.copy(ref(written), copy, snapshot="kept")
    boot(bench, copy)
    assert shell(bench, copy, "cat /root/file") == b"old\n"


@copies
def test_what_can_not_be_copied_is_refused_and_leaves_nothing(bench: Bench, made: Guest, copy: Guest) -> None:
    absent = bench.guest("absent")
    with pytest.raises(NoSuchGuest):
        bench.driver.copy(ref(absent), copy)
    with pytest.raises(BadRequest):
        bench.driver.copy(GuestRef(uuid4(), made.native), copy)
    with pytest.raises(BadRequest):
        bench.driver.copy(ref(made), copy, snapshot="never")
    before = bench.look(made.native)
    with pytest.raises(BadRequest):
        bench.driver.copy(ref(made), replace(copy, native=made.native))
    assert bench.look(made.native) == before and not bench.left_of(copy)


@copies
def test_a_killed_copy_is_made_good_by_the_next(bench: Bench, written: Guest, copy: Guest, folder: Path) -> None:
    points = bench.points("copy")
    assert points
    for point in points:
        source = f"GuestRef(UUID({str(written.ve)!r}), {written.native!r})"
        bench.killed(point, f"copy({source}, guest)", copy, folder)
        assert state(bench, copy) in (None, Observed.STOPPED)
        bench.driver.copy(ref(written), copy)
        boot(bench, copy)
        assert shell(bench, copy, "cat /root/file") == b"new\n", point
        bench.driver.delete(copy.native)
        assert not bench.left_of(copy), point
