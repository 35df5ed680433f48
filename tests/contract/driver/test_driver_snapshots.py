"""States of a guest's root file system, kept under names."""

from __future__ import annotations

import pytest

from vmcloud.domain.messages import Snapshot
from vmcloud.domain.vocabulary import Observed, Power
from workers.drivers.base import BadRequest, Guest, NoSuchGuest

from .bench import Bench
from .talk import boot, check_runs, found, shell, state

pytestmark = [pytest.mark.contract, pytest.mark.power(Power.SNAPSHOT)]

FIRST, SECOND = Snapshot("first", 7, 1000.5), Snapshot("second", 8, 2000.0)


def write(bench: Bench, guest: Guest, text: str) -> None:
    shell(bench, guest, f"echo {text} > /root/file; sync")


def content(bench: Bench, guest: Guest) -> bytes:
    return shell(bench, guest, "cat /root/file").strip()


def test_a_snapshot_is_listed_with_name_job_and_time(bench: Bench, made: Guest) -> None:
    bench.driver.snapshot(made.native, FIRST)
    bench.driver.snapshot(made.native, SECOND)
    assert set(found(bench, made).snapshots) == {FIRST, SECOND}
    (listed,) = [seen for seen in bench.driver.list() if seen.native == made.native]
    assert set(listed.snapshots) == {FIRST, SECOND}
    again = bench.again().inspect(made.native)
    assert again is not None and set(again.snapshots) == {FIRST, SECOND}


@pytest.mark.power(Power.EXEC)
@pytest.mark.parametrize("runs", [False, True], ids=["stopped", "running"])
def test_what_was_in_a_file_comes_back(bench: Bench, running: Guest, runs: bool) -> None:
    write(bench, running, "old")
    if not runs:
        bench.driver.stop(running.native)
    bench.driver.snapshot(running.native, FIRST)
    if not runs:
        boot(bench, running)
    write(bench, running, "new")
    shell(bench, running, "echo more > /root/other")
    assert content(bench, running) == b"new"
    bench.driver.stop(running.native, force=True)
    bench.driver.revert(running.native, "first")
    assert found(bench, running).snapshots == (FIRST,)
    boot(bench, running)
    assert content(bench, running) == b"old"
    assert shell(bench, running, "cat /root/other; true") == b""


@pytest.mark.power(Power.EXEC)
def test_what_was_removed_comes_back(bench: Bench, running: Guest) -> None:
    write(bench, running, "old")
    bench.driver.snapshot(running.native, FIRST)
    shell(bench, running, "rm /root/file")
    bench.driver.stop(running.native, force=True)
    bench.driver.revert(running.native, "first")
    boot(bench, running)
    assert content(bench, running) == b"old"


@pytest.mark.power(Power.EXEC)
def test_one_can_go_back_to_any_of_several_and_again(bench: Bench, running: Guest) -> None:
    for text, snapshot in (("one", FIRST), ("two", SECOND)):
        write(bench, running, text)
        bench.driver.snapshot(running.native, snapshot)
    for name, text in (("first", b"one"), ("second", b"two"), ("first", b"one"), ("first", b"one")):
        bench.driver.stop(running.native, force=True)
        bench.driver.revert(running.native, name)
        boot(bench, running)
        assert content(bench, running) == text
        write(bench, running, "three")
    assert set(found(bench, running).snapshots) == {FIRST, SECOND}


@pytest.mark.power(Power.EXEC)
def test_a_snapshot_is_not_changed_by_removing_another(bench: Bench, running: Guest) -> None:
    write(bench, running, "one")
    bench.driver.snapshot(running.native, FIRST)
    write(bench, running, "two")
    bench.driver.snapshot(running.native, SECOND)
    bench.driver.delete_snapshot(running.native, "first")
    assert found(bench, running).snapshots == (SECOND,)
    write(bench, running, "three")
    bench.driver.stop(running.native, force=True)
    bench.driver.revert(running.native, "second")
    boot(bench, running)
    assert content(bench, running) == b"two"


def test_taking_one_leaves_a_running_guest_running(bench: Bench, running: Guest) -> None:
    before = found(bench, running)
    bench.driver.snapshot(running.native, FIRST)
    assert found(bench, running).since == before.since
    check_runs(bench, running)


@pytest.mark.power(Power.FREEZE)
def test_taking_one_leaves_a_frozen_guest_frozen(bench: Bench, running: Guest) -> None:
    bench.driver.freeze(running.native)
    bench.driver.snapshot(running.native, FIRST)
    assert state(bench, running) is Observed.SUSPENDED
    with pytest.raises(BadRequest):
        bench.driver.revert(running.native, "first")
    assert state(bench, running) is Observed.SUSPENDED
    bench.driver.thaw(running.native)
    check_runs(bench, running)


def test_the_same_snapshot_again_is_the_first_one(bench: Bench, made: Guest) -> None:
    bench.driver.snapshot(made.native, FIRST)
    before = bench.look(made.native)
    bench.driver.snapshot(made.native, FIRST)
    bench.driver.snapshot(made.native, Snapshot("first", 7, 3000.0))  # the same job, told again later
    assert bench.look(made.native) == before


def test_another_jobs_snapshot_of_that_name_is_refused(bench: Bench, made: Guest) -> None:
    bench.driver.snapshot(made.native, FIRST)
    with pytest.raises(BadRequest):
        bench.driver.snapshot(made.native, Snapshot("first", 9, 1000.5))
    assert found(bench, made).snapshots == (FIRST,)


def test_going_back_while_the_guest_runs_is_refused(bench: Bench, running: Guest) -> None:
    bench.driver.snapshot(running.native, FIRST)
    with pytest.raises(BadRequest):
        bench.driver.revert(running.native, "first")
    check_runs(bench, running)


def test_an_unknown_snapshot_is_refused(bench: Bench, made: Guest) -> None:
    before = bench.look(made.native)
    with pytest.raises(BadRequest):
        bench.driver.revert(made.native, "never")
    bench.driver.delete_snapshot(made.native, "never")
    assert bench.look(made.native) == before


def test_one_that_was_removed_is_gone_and_its_name_is_free(bench: Bench, made: Guest) -> None:
    bench.driver.snapshot(made.native, FIRST)
    for _ in range(2):
        bench.driver.delete_snapshot(made.native, "first")
        assert found(bench, made).snapshots == ()
    with pytest.raises(BadRequest):
        bench.driver.revert(made.native, "first")
    other = Snapshot("first", 9, 4000.0)
    bench.driver.snapshot(made.native, other)
    assert found(bench, made).snapshots == (other,)


def test_snapshots_go_with_their_guest(bench: Bench, made: Guest) -> None:
    bench.driver.snapshot(made.native, FIRST)
    bench.driver.delete(made.native)
    assert not bench.left_of(made)
    bench.driver.define(made)
    assert found(bench, made).snapshots == ()


def test_an_absent_guest_has_none(bench: Bench) -> None:
    absent = bench.guest("absent").native
    for call in (
        lambda: bench.driver.snapshot(absent, FIRST),
        lambda: bench.driver.revert(absent, "first"),
        lambda: bench.driver.delete_snapshot(absent, "first"),
    ):
        with pytest.raises(NoSuchGuest):
            call()
