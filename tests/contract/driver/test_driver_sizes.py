"""New sizes, for a stopped and a running guest."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vmcloud.domain.vocabulary import Observed, Power
from workers.drivers.base import BadRequest, Guest

from .bench import Bench
from .talk import boot, check_runs, found, run, shell, state

pytestmark = pytest.mark.contract


def resized(guest: Guest, **sizes: int) -> Guest:
    return replace(guest, spec=replace(guest.spec, **sizes))


def sizes(bench: Bench, guest: Guest) -> tuple[int, int]:
    seen = found(bench, guest)
    return seen.vcpus, seen.memory_mib


@pytest.mark.power(Power.RESIZE)
def test_a_stopped_guest_has_its_new_sizes_from_the_next_start_on(bench: Bench, made: Guest) -> None:
    wanted = resized(made, vcpus=2, memory_mib=96)
    for _ in range(2):
        assert bench.driver.apply(wanted) is False
        assert sizes(bench, made) == (2, 96)
    boot(bench, made)
    assert sizes(bench, made) == (2, 96)


@pytest.mark.power(Power.LIVE_RESIZE)
@pytest.mark.parametrize("memory", [48, 96], ids=["less", "more"])
def test_a_running_guest_has_its_new_sizes_at_once_and_keeps_them(bench: Bench, running: Guest, memory: int) -> None:
    wanted = resized(running, vcpus=2, memory_mib=memory)
    for _ in range(2):
        assert bench.driver.apply(wanted) is False
        assert sizes(bench, running) == (2, memory)
    check_runs(bench, running)
    bench.driver.stop(running.native, force=True)
    boot(bench, running)
    assert sizes(bench, running) == (2, memory)


@pytest.mark.power(Power.RESIZE)
def test_sizes_that_no_guest_can_have_leave_a_stopped_one_as_it_is(bench: Bench, made: Guest) -> None:
    before = bench.look(made.native)
    for wrong in ({"vcpus": 0, "memory_mib": 96}, {"vcpus": 2, "memory_mib": 0}):
        with pytest.raises(BadRequest):
            bench.driver.apply(resized(made, **wrong))
        assert bench.look(made.native) == before
    boot(bench, made)
    assert sizes(bench, made) == (1, 64)


@pytest.mark.power(Power.LIVE_RESIZE)
def test_sizes_that_no_guest_can_have_leave_a_running_one_as_it_is(bench: Bench, running: Guest) -> None:
    for wrong in ({"vcpus": 0, "memory_mib": 96}, {"vcpus": 2, "memory_mib": 0}):
        with pytest.raises(BadRequest):
            bench.driver.apply(resized(running, **wrong))
        assert sizes(bench, running) == (1, 64)
    check_runs(bench, running)


@pytest.mark.power(Power.RESIZE)
def test_another_ves_guest_is_not_resized(bench: Bench, made: Guest) -> None:
    with pytest.raises(BadRequest):
        bench.driver.apply(replace(resized(made, vcpus=2), ve=bench.guest().ve))
    assert sizes(bench, made) == (1, 64)
    assert state(bench, made) is Observed.STOPPED


@pytest.mark.power(Power.DISK_LIMIT, Power.EXEC)
def test_a_guest_cannot_write_more_than_its_disk_holds(bench: Bench) -> None:
    guest = bench.guest("small", disk_mib=1)
    bench.driver.define(guest)
    try:
        boot(bench, guest)
        said = run(bench, guest, "sh", "-c", "cat > /root/big", stdin=bytes(2 << 20))
        assert said.code != 0 and b"space" in said.err
        assert bench.driver.apply(resized(guest, disk_mib=4)) is False
        shell(bench, guest, "cat > /root/big", stdin=bytes(2 << 20))
    finally:
        bench.driver.delete(guest.native)
