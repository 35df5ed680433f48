"""The process that makes a call is killed anywhere in it; the same call again ends as if nothing had been."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from vmcloud.domain.messages import Snapshot
from vmcloud.domain.vocabulary import Observed, Power
from workers.drivers.base import Guest

from .bench import Bench
from .talk import boot, check_runs, found, shell, state

pytestmark = pytest.mark.contract

KEPT = Snapshot("kept", 1, 1000.0)


@dataclass(frozen=True)
class Call:
    """A call, the power it needs, whether the guest is there and runs before it, and how it ends (None: not there)."""

    text: str
    power: Power | None
    runs: bool | None
    ends: Observed | None


CALLS = {
    "define": Call("define(guest)", None, None, Observed.STOPPED),
    "start": Call("start(guest.native)", None, False, Observed.RUNNING),
    "stop": Call("stop(guest.native)", None, True, Observed.STOPPED),
    "delete": Call("delete(guest.native)", None, True, None),
    "snapshot": Call("snapshot(guest.native, Snapshot('kept', 1, 1000.0))", Power.SNAPSHOT, True, Observed.RUNNING),
    "revert": Call("revert(guest.native, 'kept')", Power.SNAPSHOT, False, Observed.STOPPED),
    "delete-snapshot": Call("delete_snapshot(guest.native, 'kept')", Power.SNAPSHOT, False, Observed.STOPPED),
}


def _marked() -> list[Any]:
    return [
        pytest.param(name, marks=[pytest.mark.power(call.power, Power.EXEC)] if call.power else [])
        for name, call in CALLS.items()
    ]


def again(bench: Bench, guest: Guest, operation: str) -> None:
    """The same call here."""
    driver = bench.driver
    match operation:
        case "define":
            driver.define(guest)
        case "snapshot":
            driver.snapshot(guest.native, KEPT)
        case "revert":
            driver.revert(guest.native, "kept")
        case "delete-snapshot":
            driver.delete_snapshot(guest.native, "kept")
        case _:
            getattr(driver, operation)(guest.native)


@pytest.mark.parametrize("operation", _marked())
def test_a_killed_call_is_made_good_by_the_next(bench: Bench, folder: Path, operation: str) -> None:
    call, points = CALLS[operation], bench.points(operation)
    assert points, f"the driver has no fault point driver.{bench.driver.kind}.{operation}.…"
    for point in points:
        guest = bench.guest()
        try:
            prepare(bench, guest, operation)
            bench.killed(point, call.text, guest, folder)
            listed = [seen for seen in bench.driver.list() if seen.native == guest.native]
            assert all(seen.ve == guest.ve for seen in listed)
            if operation not in ("define", "delete"):
                assert listed
            again(bench, guest, operation)
            assert state(bench, guest) is call.ends, point
            check(bench, guest, operation)
        finally:
            bench.driver.delete(guest.native)
        assert not bench.left_of(guest), point


def prepare(bench: Bench, guest: Guest, operation: str) -> None:
    """What the call finds."""
    runs = CALLS[operation].runs
    if runs is None:
        return
    bench.driver.define(guest)
    if CALLS[operation].power:
        boot(bench, guest)
        shell(bench, guest, "echo old > /root/file; sync")
        if operation in ("revert", "delete-snapshot"):
            bench.driver.snapshot(guest.native, KEPT)
            shell(bench, guest, "echo new > /root/file; sync")
            bench.driver.stop(guest.native, force=True)
    elif runs:
        boot(bench, guest)


def check(bench: Bench, guest: Guest, operation: str) -> None:
    """What it left is whole."""
    match operation:
        case "define":
            boot(bench, guest)
        case "start":
            check_runs(bench, guest)
        case "stop":
            boot(bench, guest)
        case "snapshot":
            assert found(bench, guest).snapshots == (KEPT,)
            check_runs(bench, guest)
            shell(bench, guest, "echo new > /root/file; sync")
            bench.driver.stop(guest.native, force=True)
            bench.driver.revert(guest.native, "kept")
            boot(bench, guest)
            assert shell(bench, guest, "cat /root/file") == b"old\n"
        case "revert":
            assert found(bench, guest).snapshots == (KEPT,)
            boot(bench, guest)
            assert shell(bench, guest, "cat /root/file") == b"old\n"
        case "delete-snapshot":
            assert found(bench, guest).snapshots == ()
            boot(bench, guest)
            assert shell(bench, guest, "cat /root/file") == b"new\n"


@pytest.mark.power(Power.RESIZE)
def test_a_killed_resize_is_made_good_by_the_next(bench: Bench, made: Guest, folder: Path) -> None:
    wanted = replace(made, spec=replace(made.spec, vcpus=2, memory_mib=96))
    for point in bench.points("resize"):
        bench.killed(point, "apply(guest)", wanted, folder)
        seen = found(bench, made)
        assert (seen.vcpus, seen.memory_mib) in [(1, 64), (2, 96)]
        assert bench.driver.apply(wanted) is False
        seen = found(bench, made)
        assert (seen.vcpus, seen.memory_mib) == (2, 96)
        bench.driver.apply(made)
