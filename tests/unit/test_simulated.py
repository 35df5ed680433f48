"""What only simulated guests have: faults on command and on a seed, a shell of few words, thousands of guests."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from vmcloud.config import Config, NodeSettings
from vmcloud.domain.names import native_name
from vmcloud.domain.spec import Spec
from vmcloud.domain.vocabulary import Kind, Observed
from workers.drivers.base import BadRequest, CannotLook, DriverError, Guest, Interrupted, TimedOut, ToolFailed
from workers.drivers.registry import make_driver
from workers.drivers.session import read
from workers.drivers.simulated import SimulatedDriver, effects, outside, plan_fault
from workers.drivers.simulated.store import CHANGES_KEPT, Record, Store

pytestmark = pytest.mark.unit

MANY = 5000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "n1" / "simulated.sqlite3"


def guest(name: str = "web") -> Guest:
    ve = uuid4()
    return Guest(ve, native_name(name, ve), Spec.parse({"kind": "simulated", "image": "x"}), None, "10.0.0.2/24")


def said(driver: SimulatedDriver, native: str, *argv: str, stdin: bytes = b"") -> tuple[int, bytes, bytes]:
    session = driver.exec(native, argv, environment={}, tty=False)
    os.write(session.stdin, stdin)
    session.close_stdin()
    out, err = b"", b""
    while data := read(session.stdout):
        out += data
    assert session.stderr is not None
    while data := read(session.stderr):
        err += data
    code = session.wait()
    session.close()
    return code, out, err


@pytest.fixture
def running(path: Path) -> tuple[SimulatedDriver, str]:
    driver, made = SimulatedDriver(path), guest()
    driver.define(made)
    driver.start(made.native)
    return driver, made.native


# --------------------------------------------------------------------------------------------------------------- failures


def outcomes(path: Path, seed: str) -> list[str]:
    """How sixty calls end, and what they did."""
    driver = SimulatedDriver(path, fail=0.4, seed=seed)
    ends = []
    for number in range(20):
        made = guest(f"g{number}")
        for call in (lambda made=made: driver.define(made), lambda made=made: driver.start(made.native)):
            try:
                call()
                ends.append("ok")
            except DriverError as error:
                ends.append(type(error).__name__)
        seen = driver.inspect(made.native)
        ends.append(str(seen.state) if seen else "absent")
    return ends


def test_the_same_seed_brings_the_same_failures(tmp_path: Path) -> None:
    first = outcomes(tmp_path / "a", "winter")
    assert first == outcomes(tmp_path / "b", "winter")
    assert first != outcomes(tmp_path / "c", "summer")
    assert first.count("ToolFailed") > 5 and first.count("ok") > 5
    # Some fail although they have done it.
    assert ("ToolFailed", "running") in pairwise(first)


def test_failures_go_on_after_a_restart_and_do_not_begin_anew(path: Path) -> None:
    ends = []
    for _ in range(30):  # a new driver for each call
        try:
            SimulatedDriver(path, fail=0.5, seed="x").define(guest())
            ends.append(True)
        except ToolFailed:
            ends.append(False)
    assert True in ends and False in ends


def test_every_call_gets_through_in_the_end(path: Path) -> None:
    driver, made = SimulatedDriver(path, fail=0.5, seed="7"), guest()

    def insist(call: object) -> None:
        for _ in range(50):
            try:
                return call()  # type: ignore[operator, no-any-return]
            except ToolFailed as error:
                assert error.retryable
        raise AssertionError("it never got through")

    for _ in range(5):
        insist(lambda: driver.define(made))
        insist(lambda: driver.start(made.native))
        insist(lambda: driver.stop(made.native))
        insist(lambda: driver.delete(made.native))
    assert effects(path) == {(made.native, operation): 5 for operation in ("define", "start", "stop", "delete")}


def test_delays_differ_with_a_seed_and_are_exact_without(path: Path) -> None:
    def times(seed: str) -> list[float]:
        driver, found = SimulatedDriver(path, delay=0.02, seed=seed), []
        for _ in range(6):
            made, begin = guest(), time.monotonic()
            driver.define(made)
            found.append(time.monotonic() - begin)
        return found

    assert min(times("")) >= 0.02
    assert min(times("y")) < 0.02


def test_settings_reach_the_driver_and_each_node_has_a_chance_of_its_own(tmp_path: Path) -> None:
    def ends(node: str) -> list[bool]:
        config = Config(data=tmp_path, node=NodeSettings(name="s", simulate=2, simulate_fail=0.5, simulate_seed="1"))
        driver, found = make_driver(Kind.SIMULATED, config, node), []
        for _ in range(20):
            try:
                driver.define(guest())
                found.append(True)
            except ToolFailed:
                found.append(False)
        return found

    assert ends("s-001") != ends("s-002")


def test_planned_faults_are_of_four_sorts_and_happen_as_often_as_planned(path: Path) -> None:
    driver, made = SimulatedDriver(path), guest()
    for what, error in (("error", ToolFailed), ("look", CannotLook), ("stuck", TimedOut)):
        plan_fault(path, "define", what, 2)
        for _ in range(2):
            with pytest.raises(error):
                driver.define(made)
    plan_fault(path, "define", "hang")
    with pytest.raises(Interrupted), driver.interruptible(threading.Event(), time.monotonic() + 0.05):
        driver.define(made)
    driver.define(made)
    assert effects(path) == {(made.native, "define"): 1}


# ------------------------------------------------------------------------------------------------------------ the one file


def test_thousands_of_guests_are_listed_in_milliseconds(path: Path) -> None:
    driver = SimulatedDriver(path)
    guests = [guest(f"g{number}") for number in range(MANY)]
    for made in guests:
        driver.define(made)
    begin = time.monotonic()
    for _ in range(10):
        assert len(driver.list()) == MANY
    assert time.monotonic() - begin < 1.0  # measured: 0.7 ms each
    outside(path, guests[0].native, None)
    begin = time.monotonic()
    assert len(driver.list()) == MANY - 1
    assert time.monotonic() - begin < 2.0  # measured: 30 ms, as the file is read anew


def test_two_drivers_see_each_others_changes_and_do_each_once(path: Path) -> None:
    one, two = SimulatedDriver(path), SimulatedDriver(path)
    guests = [guest(f"g{number}") for number in range(20)]

    def work(driver: SimulatedDriver) -> None:
        for made in guests:
            driver.define(made)
            driver.start(made.native)

    threads = [threading.Thread(target=work, args=(driver,)) for driver in (one, two, one, two)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {seen.state for seen in one.list()} == {Observed.RUNNING}
    assert set(effects(path).values()) == {1}
    assert sorted(one.list(), key=lambda seen: seen.native) == sorted(two.list(), key=lambda seen: seen.native)


def test_a_file_of_the_first_release_is_read_and_grows(path: Path) -> None:
    path.parent.mkdir()
    ve = UUID(int=5)
    old = sqlite3.connect(path)
    old.executescript("""
        CREATE TABLE guests (native TEXT PRIMARY KEY, ve TEXT, state TEXT NOT NULL, since REAL NOT NULL,
            vcpus INTEGER NOT NULL, memory_mib INTEGER NOT NULL, address TEXT NOT NULL, mac TEXT NOT NULL) WITHOUT ROWID;
        CREATE TABLE effects (native TEXT, operation TEXT, times INTEGER, PRIMARY KEY (native, operation)) WITHOUT ROWID;
        CREATE TABLE faults (operation TEXT PRIMARY KEY, what TEXT NOT NULL, times INTEGER NOT NULL) WITHOUT ROWID;
    """)
    row = ("old-00000000", str(ve), "running", 1.0, 2, 512, '["10.0.0.9"]', "02:00:00:00:00:05")
    old.execute("INSERT INTO guests VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
    old.commit()
    old.close()
    for _ in range(2):
        driver = SimulatedDriver(path)
        (seen,) = driver.list()
        assert (seen.ve, seen.state, seen.vcpus, seen.addresses) == (ve, Observed.RUNNING, 2, ("10.0.0.9",))
    assert said(driver, "old-00000000", "sh", "-c", "echo a > f; cat f")[1] == b"a\n"


def test_a_file_that_cannot_be_read_is_no_empty_list(path: Path) -> None:
    driver, made = SimulatedDriver(path), guest()
    driver.define(made)
    other = sqlite3.connect(path)
    other.execute("ALTER TABLE guests RENAME TO elsewhere")
    for call in (driver.list, lambda: driver.inspect(made.native), lambda: driver.start(made.native)):
        for _ in range(2):
            with pytest.raises(CannotLook):
                call()
    other.execute("ALTER TABLE elsewhere RENAME TO guests")
    other.close()
    assert [seen.native for seen in driver.list()] == [made.native]


def test_events_that_are_kept_no_more_are_a_lost_source(path: Path) -> None:
    driver, made = SimulatedDriver(path), guest()
    driver.define(made)
    store = Store(path)
    with store.change():
        record = store.get(made.native)
        assert isinstance(record, Record)
        for _ in range(CHANGES_KEPT + 1000):
            store.put(record, event=True)
    with pytest.raises(CannotLook):
        next(iter(driver.events()))
    driver.start(made.native)
    assert next(iter(driver.events())).state is Observed.RUNNING


def test_what_happens_to_a_guest_that_nobody_asks_about_is_not_said(path: Path) -> None:
    driver, told, untold = SimulatedDriver(path), guest(), guest()
    events = driver.events(lambda native: native != untold.native)
    for each in (untold, told):
        driver.define(each)
        driver.start(each.native)
    assert next(events).native == told.native


# ---------------------------------------------------------------------------------------------------------------- inside


def test_it_says_that_it_is_simulated_wherever_it_shows(running: tuple[SimulatedDriver, str]) -> None:
    driver, native = running
    console = driver.console(native)
    greeting = read(console.stdout)
    console.hang_up()
    console.close()
    assert b"simulated" in greeting
    assert "simulated" in driver.fingerprint().detail
    assert b"simulated" in driver.boot_log(native)
    assert b"simulated" in said(driver, native, "apt-get")[2]
    assert b"simulated" in said(driver, native, "ps")[1]


@pytest.mark.parametrize(
    ("line", "code", "out"),
    [
        ("echo a; echo b > f; cat f; rm f; cat f", 1, b"a\nb\n"),
        ("echo 'a;b' \"c  d\"", 0, b"a;b c  d\n"),
        ("false", 1, b""),
        ("exit 7; echo never", 7, b""),
        ("echo 'open", 2, b""),
        ("", 0, b""),
        (";;", 2, b""),
        ("echo a;", 0, b"a\n"),
        ("echo x > /etc/motd; ls", 0, b"/etc/hostname\n/etc/motd\n"),
        ("rm nothing", 1, b""),
    ],
)
def test_the_shell_knows_its_few_words(running: tuple[SimulatedDriver, str], line: str, code: int, out: bytes) -> None:
    assert said(*running, "sh", "-c", line)[:2] == (code, out)


def test_a_shutdown_from_inside_is_seen_and_ends_what_runs(running: tuple[SimulatedDriver, str]) -> None:
    driver, native = running
    sleeping = driver.exec(native, ["sleep", "100"], environment={}, tty=False)
    assert said(driver, native, "poweroff")[0] != 0
    seen = driver.inspect(native)
    assert seen is not None and seen.state is Observed.STOPPED
    assert sleeping.wait() != 0
    sleeping.close()


def test_a_crash_from_outside_ends_the_shell_at_its_next_word(path: Path, running: tuple[SimulatedDriver, str]) -> None:
    driver, native = running
    console = driver.console(native)
    outside(path, native, Observed.CRASHED)
    os.write(console.stdin, b"hostname\n")
    assert console.wait() == 0
    console.close()


def test_somebody_who_does_not_read_can_still_hang_up(running: tuple[SimulatedDriver, str]) -> None:
    driver, native = running
    session = driver.exec(native, ["cat"], environment={}, tty=False)
    os.set_blocking(session.stdin, False)
    end = time.monotonic() + 2
    while time.monotonic() < end:
        try:
            os.write(session.stdin, bytes(1 << 16))
        except BlockingIOError:
            break
    session.hang_up()
    session.close()


def test_nothing_of_the_node_is_reached_from_inside(running: tuple[SimulatedDriver, str], tmp_path: Path) -> None:
    driver, native = running
    (tmp_path / "secret").write_text("x")
    assert said(driver, native, "cat", str(tmp_path / "secret"))[0] == 1
    said(driver, native, "sh", "-c", f"echo y > {tmp_path}/made; rm {tmp_path}/secret")
    assert (tmp_path / "secret").exists() and not (tmp_path / "made").exists()


def test_sizes_out_of_range_are_refused_before_anything_is_made(path: Path) -> None:
    driver, made = SimulatedDriver(path), guest()
    with pytest.raises(BadRequest):
        driver.define(replace(made, spec=replace(made.spec, vcpus=0)))
    assert driver.list() == [] and effects(path) == {}
