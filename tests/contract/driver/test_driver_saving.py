"""Guests written to disk with their memory."""

from __future__ import annotations

import pytest

from vmcloud.domain.messages import Snapshot
from vmcloud.domain.vocabulary import Observed, Power
from workers.drivers.base import BadRequest, Guest, NoSuchGuest

from .bench import Bench
from .talk import boot, check_runs, shell, state

pytestmark = [pytest.mark.contract, pytest.mark.power(Power.SAVE)]


def test_the_driver_says_what_it_tried(bench: Bench) -> None:
    check = bench.driver.can_save()
    assert check.ok and check.name and check.detail


@pytest.mark.power(Power.SAVE, Power.EXEC)
def test_a_saved_guest_is_stopped_and_goes_on_where_it_was(bench: Bench, running: Guest) -> None:
    shell(bench, running, f"echo kept > {bench.memory}")
    for _ in range(2):
        bench.driver.save(running.native)
        assert state(bench, running) is Observed.STOPPED
        assert bench.driver.saved(running.native)
    boot(bench, running)
    assert not bench.driver.saved(running.native)
    assert shell(bench, running, f"cat {bench.memory}") == b"kept\n"


@pytest.mark.power(Power.SAVE, Power.EXEC)
def test_memory_that_was_not_saved_is_gone(bench: Bench, running: Guest) -> None:
    shell(bench, running, f"echo lost > {bench.memory}")
    bench.driver.stop(running.native)
    assert not bench.driver.saved(running.native)
    boot(bench, running)
    assert shell(bench, running, f"cat {bench.memory}; true") == b""


def test_a_saved_guest_survives_the_driver(bench: Bench, running: Guest) -> None:
    bench.driver.save(running.native)
    assert bench.again().saved(running.native)  # type: ignore[attr-defined]
    boot(bench, running)


def test_a_stopped_guest_cannot_be_saved(bench: Bench, made: Guest) -> None:
    with pytest.raises(BadRequest):
        bench.driver.save(made.native)
    assert not bench.driver.saved(made.native)


def test_an_absent_guest_cannot_be_saved(bench: Bench) -> None:
    with pytest.raises(NoSuchGuest):
        bench.driver.save(bench.guest("absent").native)


@pytest.mark.power(Power.SAVE, Power.SNAPSHOT)
def test_going_back_forgets_a_saved_state(bench: Bench, running: Guest) -> None:
    bench.driver.snapshot(running.native, Snapshot("before", 1, 1000.0))
    bench.driver.save(running.native)
    bench.driver.revert(running.native, "before")
    assert not bench.driver.saved(running.native)
    boot(bench, running)


def test_a_saved_state_goes_with_its_guest(bench: Bench, running: Guest) -> None:
    bench.driver.save(running.native)
    bench.driver.delete(running.native)
    assert not bench.left_of(running)
    bench.driver.define(running)
    assert not bench.driver.saved(running.native)
    boot(bench, running)
    check_runs(bench, running)
