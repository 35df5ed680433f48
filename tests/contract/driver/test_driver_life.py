"""Guests are made, started, stopped and removed, and every call may come twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from vmcloud.domain.messages import Seen
from vmcloud.domain.vocabulary import Observed
from workers.drivers.base import BadRequest, Guest, NoSuchGuest, TimedOut

from .bench import Bench
from .talk import boot, check_runs, eventually, found, state

pytestmark = pytest.mark.contract


def test_it_says_what_it_is(bench: Bench) -> None:
    fingerprint = bench.driver.fingerprint()
    assert fingerprint.healthy and fingerprint.kind is bench.driver.kind and fingerprint.version
    assert all(check.ok or check.fix for check in bench.driver.preflight())


def test_a_new_guest_is_stopped_and_listed_with_its_shape(bench: Bench, made: Guest) -> None:
    (seen,) = [each for each in bench.driver.list() if each.native == made.native]
    assert (seen.ve, seen.kind, seen.state) == (made.ve, bench.driver.kind, Observed.STOPPED)
    assert (seen.vcpus, seen.memory_mib) == (1, 64)
    assert seen.addresses == ((made.address.partition("/")[0],) if made.address else ())
    assert bench.driver.inspect(made.native) == seen


def test_what_a_long_call_reports_is_a_name_and_percent(bench: Bench) -> None:
    told: list[tuple[str, int]] = []
    guest = bench.guest()
    bench.driver.define(guest, lambda name, percent: told.append((name, percent)))
    bench.driver.delete(guest.native, lambda name, percent: told.append((name, percent)))
    assert told and all(name and -1 <= percent <= 100 for name, percent in told)


def test_making_a_guest_twice_makes_one(bench: Bench, made: Guest) -> None:
    before = bench.look(made.native)
    bench.driver.define(made)
    assert bench.look(made.native) == before


def test_making_a_guest_that_runs_already_changes_nothing(bench: Bench, running: Guest) -> None:
    bench.driver.define(running)
    check_runs(bench, running)


def test_a_name_that_belongs_to_another_ve_is_refused(bench: Bench, made: Guest) -> None:
    before = bench.look(made.native)
    with pytest.raises(BadRequest, match=str(made.ve)):
        bench.driver.define(replace(made, ve=uuid4()))
    assert bench.look(made.native) == before


def test_a_half_made_guest_is_not_shown_and_is_finished_by_the_next_call(bench: Bench, folder: Path) -> None:
    guest = bench.guest()
    bench.killed(bench.points("define")[0], "define(guest)", guest, folder)
    assert bench.driver.inspect(guest.native) is None
    assert guest.native not in [seen.native for seen in bench.driver.list()]
    bench.driver.define(guest)
    assert found(bench, guest).ve == guest.ve
    boot(bench, guest)
    bench.driver.delete(guest.native)
    assert not bench.left_of(guest)


def test_a_half_made_guest_can_be_removed(bench: Bench, folder: Path) -> None:
    guest = bench.guest()
    bench.killed(bench.points("define")[0], "define(guest)", guest, folder)
    assert bench.left_of(guest)
    bench.driver.delete(guest.native)
    assert not bench.left_of(guest)


def test_a_started_guest_answers(bench: Bench, made: Guest) -> None:
    boot(bench, made)


def test_starting_twice_is_one_start(bench: Bench, running: Guest) -> None:
    before = found(bench, running)
    bench.driver.start(running.native)
    assert found(bench, running).since == before.since
    check_runs(bench, running)


def test_stopping_twice_is_one_stop(bench: Bench, running: Guest) -> None:
    bench.driver.stop(running.native, force=True)
    before = bench.look(running.native)
    bench.driver.stop(running.native, force=True)
    bench.driver.stop(running.native)
    assert bench.look(running.native) == before
    assert state(bench, running) is Observed.STOPPED


def test_a_graceful_stop_ends_within_its_grace(bench: Bench, running: Guest) -> None:
    bench.driver.stop(running.native, grace=10)
    assert state(bench, running) is Observed.STOPPED


def test_a_stopped_guest_can_be_started_again(bench: Bench, running: Guest) -> None:
    bench.driver.stop(running.native, force=True)
    boot(bench, running)


def test_a_crashed_guest_is_seen_crashed_and_can_be_started_again(bench: Bench, running: Guest) -> None:
    bench.crash(running.native)
    assert eventually(lambda: state(bench, running) is Observed.CRASHED)
    boot(bench, running)


def test_stopping_a_crashed_guest_makes_it_stopped(bench: Bench, running: Guest) -> None:
    bench.crash(running.native)
    assert eventually(lambda: state(bench, running) is Observed.CRASHED)
    bench.driver.stop(running.native)
    assert state(bench, running) is Observed.STOPPED


def test_delete_removes_a_running_guest_and_everything_that_was_its(bench: Bench) -> None:
    guest = bench.guest()
    bench.driver.define(guest)
    boot(bench, guest)
    assert bench.left_of(guest)
    bench.driver.delete(guest.native)
    assert state(bench, guest) is None
    assert not bench.left_of(guest)
    bench.driver.delete(guest.native)


def test_a_removed_guest_can_be_made_anew(bench: Bench, running: Guest) -> None:
    bench.driver.delete(running.native)
    bench.driver.define(running)
    assert state(bench, running) is Observed.STOPPED
    boot(bench, running)


def test_what_is_not_there_is_named(bench: Bench) -> None:
    absent = bench.guest("absent")
    assert bench.driver.inspect(absent.native) is None
    for call in (bench.driver.start, bench.driver.stop, bench.driver.console, bench.driver.boot_log):
        with pytest.raises(NoSuchGuest):
            call(absent.native)
    with pytest.raises(NoSuchGuest):
        bench.driver.apply(absent)
    bench.driver.delete(absent.native)
    assert not bench.left_of(absent)


def test_guests_survive_the_driver(bench: Bench, running: Guest) -> None:
    seen: Seen | None = bench.again().inspect(running.native)
    assert seen == found(bench, running)
    check_runs(bench, running)


def test_two_guests_are_two(bench: Bench, running: Guest) -> None:
    other = bench.guest("db")
    bench.driver.define(other)
    boot(bench, other)
    bench.driver.delete(other.native)
    check_runs(bench, running)


def test_a_start_that_hangs_is_given_up_and_can_be_repeated(bench: Bench, made: Guest) -> None:
    with bench.stuck(), pytest.raises(TimedOut) as caught:
        bench.driver.start(made.native)
    assert caught.value.retryable and caught.value.problem().what
    boot(bench, made)
