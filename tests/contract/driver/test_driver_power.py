"""Guests frozen in memory and thawed."""

from __future__ import annotations

import pytest

from vmcloud.domain.vocabulary import Observed, Power
from workers.drivers.base import BadRequest, Guest, NoSuchGuest

from .bench import Bench
from .talk import boot, check_runs, state

pytestmark = [pytest.mark.contract, pytest.mark.power(Power.FREEZE)]


def test_a_frozen_guest_is_suspended_and_goes_on_when_thawed(bench: Bench, running: Guest) -> None:
    bench.driver.freeze(running.native)
    assert state(bench, running) is Observed.SUSPENDED
    bench.driver.thaw(running.native)
    check_runs(bench, running)


def test_freezing_and_thawing_twice_is_once(bench: Bench, running: Guest) -> None:
    for _ in range(2):
        bench.driver.freeze(running.native)
        assert state(bench, running) is Observed.SUSPENDED
    for _ in range(2):
        bench.driver.thaw(running.native)
        assert state(bench, running) is Observed.RUNNING


def test_a_stopped_guest_cannot_be_frozen_or_thawed(bench: Bench, made: Guest) -> None:
    before = bench.look(made.native)
    for call in (bench.driver.freeze, bench.driver.thaw):
        with pytest.raises(BadRequest):
            call(made.native)
    assert bench.look(made.native) == before


def test_an_absent_guest_cannot_be_frozen_or_thawed(bench: Bench) -> None:
    for call in (bench.driver.freeze, bench.driver.thaw):
        with pytest.raises(NoSuchGuest):
            call(bench.guest("absent").native)


@pytest.mark.parametrize("force", [False, True], ids=["asked", "forced"])
def test_a_frozen_guest_can_be_stopped(bench: Bench, running: Guest, force: bool) -> None:
    bench.driver.freeze(running.native)
    bench.driver.stop(running.native, force=force)
    assert state(bench, running) is Observed.STOPPED
    boot(bench, running)


def test_starting_a_frozen_guest_thaws_it(bench: Bench, running: Guest) -> None:
    bench.driver.freeze(running.native)
    boot(bench, running)


def test_a_frozen_guest_can_be_removed(bench: Bench, running: Guest) -> None:
    bench.driver.freeze(running.native)
    bench.driver.delete(running.native)
    assert not bench.left_of(running)


def test_a_frozen_guest_survives_the_driver(bench: Bench, running: Guest) -> None:
    bench.driver.freeze(running.native)
    again = bench.again()
    seen = again.inspect(running.native)
    assert seen is not None and seen.state is Observed.SUSPENDED
    again.thaw(running.native)  # type: ignore[attr-defined]
    check_runs(bench, running)
