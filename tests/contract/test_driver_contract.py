"""What every driver must do, whatever its kind; the same cases against each (:mod:`workers.drivers.base`)."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import pytest

from vmcloud.domain.messages import Seen
from vmcloud.domain.names import native_name
from vmcloud.domain.spec import Spec
from vmcloud.domain.vocabulary import Observed
from workers.drivers.base import Driver, Freezer, Guest, NoSuchGuest
from workers.drivers.simulated import SimulatedDriver, outside
from workers.network.addresses import hardware_address

pytestmark = pytest.mark.contract


@dataclass
class Bench:
    """One driver, a maker of guests for it, a second driver over the same guests, and a way to stop one behind its back."""

    driver: Driver
    guest: Callable[[str], Guest]
    again: Callable[[], Driver]
    crash: Callable[[str], None]


def _simulated(folder: Path) -> Iterator[Bench]:
    path = folder / "simulated.sqlite3"

    def guest(name: str) -> Guest:
        ve = uuid4()
        spec = Spec.parse({"kind": "simulated", "image": "x", "memory_mib": 64})
        return Guest(ve, native_name(name, ve), spec, None, "10.0.0.5/24", "10.0.0.1", hardware_address(ve))

    driver = SimulatedDriver(path)
    yield Bench(driver, guest, lambda: SimulatedDriver(path), lambda native: outside(path, native, Observed.CRASHED))
    driver.close()


def _lxc() -> Iterator[Bench]:
    from tests.lxc_kit import make_node
    from workers.drivers.lxc import LxcDriver, process

    for node in make_node():
        driver, guest = node.driver, node.guest

        def crash(native: str, driver: LxcDriver = driver) -> None:
            os.kill(process.look(driver.guests, native).init, signal.SIGKILL)

        yield Bench(driver, guest, lambda settings=driver.settings: LxcDriver(settings), crash)  # type: ignore[misc]
        for seen in driver.list():
            driver.delete(seen.native)


@pytest.fixture(params=["simulated", pytest.param("lxc", marks=pytest.mark.integration)], scope="module")
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    yield from _simulated(tmp_path_factory.mktemp("driver")) if request.param == "simulated" else _lxc()


@pytest.fixture
def made(bench: Bench) -> Iterator[Guest]:
    """A stopped guest."""
    guest = bench.guest("web")
    bench.driver.define(guest)
    yield guest
    bench.driver.delete(guest.native)


def state(bench: Bench, guest: Guest) -> Observed | None:
    seen = bench.driver.inspect(guest.native)
    return seen.state if seen is not None else None


def test_it_says_what_it_is(bench: Bench) -> None:
    found = bench.driver.fingerprint()
    assert found.healthy and found.kind is bench.driver.kind and found.version
    assert all(check.ok or check.fix for check in bench.driver.preflight())


def test_a_new_guest_is_stopped_and_listed_with_its_shape(bench: Bench, made: Guest) -> None:
    (seen,) = [each for each in bench.driver.list() if each.native == made.native]
    assert (seen.ve, seen.kind, seen.state) == (made.ve, bench.driver.kind, Observed.STOPPED)
    assert (seen.vcpus, seen.memory_mib) == (1, 64)
    assert seen.addresses == ((made.address.partition("/")[0],) if made.address else ())
    assert bench.driver.inspect(made.native) == seen


@pytest.mark.parametrize("times", [1, 2])
def test_every_call_may_be_repeated(bench: Bench, made: Guest, times: int) -> None:
    driver, native = bench.driver, made.native
    for _ in range(times):
        driver.define(made)
    for _ in range(times):
        driver.start(native)
    assert state(bench, made) is Observed.RUNNING
    if isinstance(driver, Freezer):
        for _ in range(times):
            driver.freeze(native)
        assert state(bench, made) is Observed.SUSPENDED
        for _ in range(times):
            driver.thaw(native)
        assert state(bench, made) is Observed.RUNNING
    for _ in range(times):
        driver.stop(native, force=True)
    assert state(bench, made) is Observed.STOPPED
    for _ in range(times):
        driver.delete(native)
    assert state(bench, made) is None


def test_delete_stops_a_running_guest_and_absent_is_success(bench: Bench, made: Guest) -> None:
    bench.driver.start(made.native)
    bench.driver.delete(made.native)
    assert state(bench, made) is None
    bench.driver.delete(made.native)


def test_a_graceful_stop_ends_within_its_grace(bench: Bench, made: Guest) -> None:
    bench.driver.start(made.native)
    bench.driver.stop(made.native, grace=10)
    assert state(bench, made) is Observed.STOPPED


@pytest.mark.parametrize("running", [False, True])
def test_new_sizes_are_applied(bench: Bench, made: Guest, running: bool) -> None:
    if running:
        bench.driver.start(made.native)
    wanted = replace(made, spec=replace(made.spec, vcpus=2, memory_mib=96))
    assert bench.driver.apply(wanted) is False
    assert bench.driver.apply(wanted) is False
    seen = bench.driver.inspect(made.native)
    assert seen is not None and (seen.vcpus, seen.memory_mib) == (2, 96)


def test_what_is_not_there_is_named(bench: Bench) -> None:
    absent = bench.guest("absent")
    assert bench.driver.inspect(absent.native) is None
    for call in (bench.driver.start, bench.driver.stop):
        with pytest.raises(NoSuchGuest):
            call(absent.native)
    with pytest.raises(NoSuchGuest):
        bench.driver.apply(absent)


def test_guests_survive_the_driver(bench: Bench, made: Guest) -> None:
    bench.driver.start(made.native)
    seen = bench.again().inspect(made.native)
    assert seen is not None and (seen.ve, seen.state) == (made.ve, Observed.RUNNING)


def test_a_change_from_outside_is_an_event(bench: Bench, made: Guest) -> None:
    bench.driver.start(made.native)
    found: list[Seen] = []
    seen_it, listening = threading.Event(), threading.Event()

    def watch() -> None:
        listening.set()
        for seen in bench.driver.events():
            found.append(seen)
            if seen.native == made.native and seen.state in (Observed.CRASHED, Observed.STOPPED):
                seen_it.set()
                return

    threading.Thread(target=watch, daemon=True).start()
    listening.wait()
    threading.Event().wait(0.3)  # the source itself takes a moment to be listening
    bench.crash(made.native)
    assert seen_it.wait(5), found
