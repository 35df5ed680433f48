"""Guests that vmcloud did not make are shown and never touched."""

from __future__ import annotations

import pytest

from vmcloud.domain.messages import Snapshot
from vmcloud.domain.vocabulary import Observed
from workers.drivers.base import BadRequest, Guest, NoSuchGuest

from .bench import Bench
from .talk import boot, check_runs, found
from .test_driver_names import CALLS, marked

pytestmark = pytest.mark.contract


@pytest.mark.parametrize("runs", [False, True], ids=["stopped", "running"])
def test_a_foreign_guest_is_shown_with_its_state_and_no_ve(bench: Bench, made: Guest, runs: bool) -> None:
    if runs:
        boot(bench, made)
    with bench.disown(made.native):
        (seen,) = [each for each in bench.driver.list() if each.native == made.native]
        assert seen.ve is None
        assert seen.state is (Observed.RUNNING if runs else Observed.STOPPED)
        assert bench.driver.inspect(made.native) == seen


@pytest.mark.parametrize("call", marked(list(CALLS)))
def test_no_call_touches_a_foreign_guest(bench: Bench, running: Guest, call: str) -> None:
    if call in ("revert", "delete-snapshot"):
        bench.driver.snapshot(running.native, Snapshot("before", 1, 1000.0))
    if call == "revert":
        bench.driver.stop(running.native, force=True)
    with bench.disown(running.native):
        before = bench.look(running.native)
        with pytest.raises((BadRequest, NoSuchGuest)):
            CALLS[call][1](bench.driver, running.native)
        assert bench.look(running.native) == before
    if call != "revert":
        check_runs(bench, running)


def test_a_foreign_guests_name_and_sizes_are_its_own(bench: Bench, made: Guest) -> None:
    with bench.disown(made.native):
        before = bench.look(made.native)
        for call in (bench.driver.define, bench.driver.apply):
            with pytest.raises((BadRequest, NoSuchGuest)):
                call(made)
        assert bench.look(made.native) == before
    assert found(bench, made).ve == made.ve
