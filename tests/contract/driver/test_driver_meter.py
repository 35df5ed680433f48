"""What guests use."""

from __future__ import annotations

import pytest

from vmcloud.domain.messages import Usage
from vmcloud.domain.vocabulary import Power
from workers.drivers.base import Guest

from .bench import Bench
from .talk import eventually, run

pytestmark = [pytest.mark.contract, pytest.mark.power(Power.METER)]


def usage(bench: Bench, guest: Guest) -> Usage | None:
    found = [each for each in bench.driver.usage() if each.ve == guest.ve]
    assert len(found) <= 1
    return found[0] if found else None


@pytest.mark.power(Power.EXEC)
def test_the_use_of_a_busy_guest_grows(bench: Bench, running: Guest) -> None:
    first = usage(bench, running)
    assert first is not None

    def grown() -> bool:
        assert run(bench, running, *bench.busy).code == 0
        now = usage(bench, running)
        assert now is not None and now.cpu_seconds >= first.cpu_seconds
        return now.cpu_seconds > first.cpu_seconds

    assert eventually(grown)


def test_a_running_guest_uses_what_is_plausible(bench: Bench, running: Guest) -> None:
    assert eventually(lambda: (now := usage(bench, running)) is not None and now.memory_bytes > 0)
    used = usage(bench, running)
    assert used is not None
    assert used.memory_bytes <= 64 << 20
    assert used.processes >= 1
    assert all(value >= 0 for name, value in vars(used).items() if name != "ve")
    assert Usage.from_json(used.to_json()) == used


def test_only_running_guests_of_ours_are_metered(bench: Bench, running: Guest) -> None:
    other = bench.guest("db")
    bench.driver.define(other)
    try:
        assert usage(bench, other) is None
        with bench.disown(running.native):
            assert usage(bench, running) is None
        bench.driver.stop(running.native, force=True)
        assert usage(bench, running) is None
    finally:
        bench.driver.delete(other.native)
