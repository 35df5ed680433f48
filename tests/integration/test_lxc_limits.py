"""Limits of real containers, shown by load; and machines on which something is missing, full or stuck."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.lxc_kit import BASE, BRIDGE, SIZE, Node, eventually, inside, make_node
from vmcloud.domain.messages import Seen, Snapshot
from vmcloud.domain.vocabulary import Observed
from workers.drivers import tools
from workers.drivers.base import BadRequest, Driver, Guest, NoSpace, TimedOut
from workers.drivers.lxc import LxcDriver, LxcSettings, power, preflight, process
from workers.drivers.lxc.cgroups import Groups

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    yield from make_node()


@contextmanager
def running(node: Node, driver: Driver | None = None, **spec: object) -> Iterator[Guest]:
    driver = driver or node.driver
    guest = node.guest("load", **spec)
    driver.define(guest)
    try:
        driver.start(guest.native)
        yield guest
    finally:
        driver.delete(guest.native)


def groups(node: Node, guest: Guest) -> Groups:
    return Groups(process.look(node.driver.guests, guest.native).init)


def found(node: Node, guest: Guest) -> Seen:
    seen = node.driver.inspect(guest.native)
    assert seen is not None
    return seen


def resized(guest: Guest, **sizes: int) -> Guest:
    return replace(guest, spec=replace(guest.spec, **sizes))  # type: ignore[arg-type]


def hog(node: Node, guest: Guest, mebibytes: int) -> int:
    """The exit code of a program inside that needs so much memory: tail keeps what it may have to say."""
    script = f"head -c {mebibytes}m /dev/zero | tail -c {mebibytes}m >/dev/null"
    return node.driver.exec(guest.native, ["sh", "-c", script], environment={}, tty=False).wait()


# ---------------------------------------------------------------------------------------------------------------- memory


def test_a_program_that_needs_more_memory_than_the_guest_has_is_killed_and_the_guest_lives(node: Node) -> None:
    with running(node, memory_mib=32) as guest:
        assert hog(node, guest, 8) == 0
        assert hog(node, guest, 48) == 137
        assert node.driver.apply(resized(guest, memory_mib=96)) is False
        assert hog(node, guest, 48) == 0
        node.driver.apply(resized(guest, memory_mib=32))
        assert hog(node, guest, 48) == 137
        seen = node.driver.inspect(guest.native)
        assert seen is not None and seen.state is Observed.RUNNING and seen.memory_mib == 32


def test_the_smallest_guest_boots_and_halts(node: Node) -> None:
    with running(node, memory_mib=8) as guest:
        assert eventually(lambda: b"ready" in node.driver.boot_log(guest.native))
        node.driver.stop(guest.native, grace=5)
        assert found(node, guest).state is Observed.STOPPED


def test_the_smallest_guest_out_of_memory_lives_or_is_said_to_have_crashed(node: Node) -> None:
    with running(node, memory_mib=8) as guest:
        assert eventually(lambda: b"ready" in node.driver.boot_log(guest.native))
        assert hog(node, guest, 16) != 0
        time.sleep(0.2)
        now = found(node, guest)
        # Where everything is small the kernel may take init for the one that is too large.
        assert now.state is Observed.RUNNING or (now.state is Observed.CRASHED and "signal 9" in now.error)
        node.driver.start(guest.native)
        assert found(node, guest).state is Observed.RUNNING


def test_memory_in_use_is_not_taken_away(node: Node) -> None:
    with running(node, memory_mib=64) as guest:
        session = node.driver.exec(
            guest.native, ["sh", "-c", "head -c 40m /dev/zero | (tail -c 40m; sleep 60) | sleep 60"], environment={}, tty=False
        )
        kernel = groups(node, guest)
        name = "memory.current" if kernel.version == 2 else "memory.usage_in_bytes"
        assert eventually(lambda: int(kernel.read(name)) > 40 << 20)
        if kernel.version == 1:  # version 2 takes it, and kills
            with pytest.raises(BadRequest, match="stop it or choose a larger size"):
                node.driver.apply(resized(guest, memory_mib=16, vcpus=2))
            assert kernel.sizes() == (1, 64)
            config = (node.folder(guest) / "config").read_text()
            assert f"= {64 << 20}" in config and f"= {16 << 20}" not in config
        session.hang_up()


# ------------------------------------------------------------------------------------------------------------- processors


def share(kernel: Groups, seconds: float = 1.0) -> tuple[float, int]:
    """Processor seconds per second, and how often the kernel stopped the guest for its share."""

    def look() -> tuple[float, int]:
        stat = dict(line.split() for line in kernel.read("cpu.stat").splitlines())
        used = int(stat["usage_usec"]) / 1e6 if "usage_usec" in stat else int(kernel.read("cpuacct.usage")) / 1e9
        return used, int(stat["nr_throttled"])

    begin, (used, throttled) = time.monotonic(), look()
    time.sleep(seconds)
    took, (used_now, throttled_now) = time.monotonic() - begin, look()
    return (used_now - used) / took, throttled_now - throttled


@pytest.mark.skipif(os.cpu_count() == 1, reason="one processor is all that one processor has")
def test_a_guest_gets_its_share_of_the_processors_and_a_new_one_at_once(node: Node) -> None:
    with running(node, vcpus=1) as guest:
        loop = "while :; do :; done"
        sessions = [node.driver.exec(guest.native, ["sh", "-c", loop], environment={}, tty=False) for _ in range(3)]
        kernel = groups(node, guest)
        used, throttled = share(kernel)
        assert used < 1.15
        assert throttled > 0 or used < 0.95  # others may leave it less than its share
        node.driver.apply(resized(guest, vcpus=os.cpu_count() or 2))
        time.sleep(0.2)
        assert share(kernel)[1] <= 4  # of ten periods: how much it gets now depends on what else the machine does
        node.driver.apply(guest)
        time.sleep(0.2)
        assert share(kernel)[0] < 1.15
        for session in sessions:
            session.hang_up()


# --------------------------------------------------------------------------------------------------------------- processes


def test_a_guest_has_no_more_processes_than_it_may(node: Node) -> None:
    driver = LxcDriver(LxcSettings(node.home, BRIDGE, BASE, SIZE, pids_max=30))
    with running(node, driver) as guest:
        script = "n=0; while [ $n -lt 60 ]; do sleep 20 & n=$((n+1)); done"
        session = driver.exec(guest.native, ["sh", "-c", script], environment={}, tty=False)
        assert session.wait() != 0
        kernel = groups(node, guest)
        assert int(kernel.read("pids.current")) <= 30
        assert "max 0" not in kernel.read("pids.events")
        session.hang_up()


def test_what_a_guest_calls_is_filtered(node: Node) -> None:
    with running(node) as guest:
        assert "Seccomp:\t2" in inside(node, guest.native, "cat", "/proc/1/status")


# ------------------------------------------------------------------------------------------------- missing, full and stuck


def test_an_image_that_vanished_is_named_at_the_start(node: Node) -> None:
    guest = node.guest()
    node.driver.define(guest)
    away = node.image.with_name("away")
    node.image.rename(away)
    try:
        with pytest.raises(BadRequest, match="Fetch the image again"):
            node.driver.start(guest.native)
        seen = node.driver.inspect(guest.native)
        assert seen is not None and seen.state is Observed.STOPPED
    finally:
        away.rename(node.image)
    node.driver.start(guest.native)
    node.driver.delete(guest.native)


@pytest.fixture
def small(place: Path) -> Iterator[Path]:
    """A file system of four MiB."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=0711", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(folder: Path) -> Path:
    path = folder / "filler"
    with path.open("wb", buffering=0) as stream:
        try:
            while True:
                stream.write(b"x" * 4096)
        except OSError:
            pass
    return path


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_full_disk_stops_nothing_half_way(node: Node, small: Path) -> None:
    driver = LxcDriver(LxcSettings(small, BRIDGE, BASE, SIZE))
    guest = node.guest()
    driver.define(node.guest("first"))
    before = names(small)
    filler = fill(small)
    with pytest.raises(NoSpace, match="Delete guests"):
        driver.define(guest)
    filler.unlink()
    assert names(small) == before
    driver.define(guest)
    before = names(small / "lxc" / guest.native)
    config = (small / "lxc" / guest.native / "config").read_text()
    filler = fill(small)
    with pytest.raises(NoSpace):
        driver.apply(resized(guest, vcpus=2, memory_mib=128))
    with pytest.raises(NoSpace):
        driver.snapshot(guest.native, Snapshot("one", 1, 1.0))
    filler.unlink()
    left = names(small / "lxc" / guest.native)
    assert [name for name in left if name != "snapshots"] == before
    assert (small / "lxc" / guest.native / "config").read_text() == config
    seen = driver.inspect(guest.native)
    assert seen is not None and (seen.vcpus, seen.memory_mib, seen.snapshots) == (1, 64, ())
    for each in driver.list():
        driver.delete(each.native)


def test_a_copy_that_does_not_fit_leaves_nothing(node: Node, small: Path) -> None:
    driver = LxcDriver(LxcSettings(small, BRIDGE, BASE, SIZE, copy=True))
    first, second, third = node.guest("a"), node.guest("b"), node.guest("c")
    driver.define(first)
    with pytest.raises(NoSpace):
        driver.define(second)
        driver.define(third)
    assert [path.name for path in (small / "lxc" / ".making").iterdir()] == []
    for each in driver.list():
        driver.delete(each.native)


def test_a_start_that_does_not_end_is_given_up_with_all_that_it_left(
    node: Node, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = node.guest()
    node.driver.define(guest)
    program = place / "lxc-start"
    # It leaves a process in the background, in a session of its own, as the real one does.
    program.write_text(f'#!/bin/sh\nsetsid {place}/kept/lxc-start "$@" &\nexec /bin/sleep 61\n')
    (place / "kept").mkdir()
    (place / "kept/lxc-start").write_text("#!/bin/sh\n/bin/sleep 62\n")
    for path in (program, place / "kept/lxc-start"):
        path.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setattr(tools, "SYSTEM_PATH", f"{place}:{tools.SYSTEM_PATH}")
        patch.setattr(power, "START_TIMEOUT", 0.5)
        with pytest.raises(TimedOut, match="lxc-start"):
            node.driver.start(guest.native)
    left = subprocess.run(["pgrep", "-f", f"lxc-start.*{guest.native}"], capture_output=True, text=True, check=False).stdout
    assert left == ""
    seen = node.driver.inspect(guest.native)
    assert seen is not None and seen.state is Observed.STOPPED
    node.driver.start(guest.native)
    node.driver.delete(guest.native)


@pytest.mark.parametrize("program", ["lxc-attach", "lxc-console", "lxc-start", "bash"])
def test_a_missing_program_makes_the_driver_unhealthy_and_says_the_fix(
    node: Node, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    assert node.driver.fingerprint().healthy
    find = tools.find
    monkeypatch.setattr(tools, "find", lambda name: None if name == program else find(name))
    found = node.driver.fingerprint()
    assert not found.healthy and program in found.detail and "apt-get install" in found.detail


@pytest.mark.parametrize(
    ("version", "ok"), [("4.0.12", True), ("5.0.2", True), ("6.0.4", True), ("3.1.0", False), ("7.0", False)]
)
def test_only_versions_known_to_work_are_healthy(version: str, ok: bool) -> None:
    assert preflight.check_version(version).ok is ok
    assert not preflight.check_version("devel").ok


# ----------------------------------------------------------------------------------------------------------------- foreign


def test_foreign_guests_of_any_name_are_said_and_not_touched(node: Node) -> None:
    odd = ["Upper_Case", "two words", "-n", "ü", "new\nline", "a.b"]
    raw = [os.fsencode(node.driver.guests / name) for name in odd] + [os.fsencode(node.driver.guests) + b"/\xff"]
    for path in raw:
        os.mkdir(path)  # noqa: PTH102
        with open(path + b"/config", "w") as stream:  # noqa: PTH123
            stream.write("lxc.uts.name = theirs\n")
    own = node.guest()
    node.driver.define(own)
    copy = node.driver.guests / "copied-by-hand"
    try:
        subprocess.run(["cp", "-a", str(node.folder(own)), str(copy)], check=True)
        found = {seen.native: seen.ve for seen in node.driver.list()}
        foreign = {name for name, ve in found.items() if ve is None}
        assert foreign == {"Upper_Case", "two words", "-n", "ü", "new\\nline", "a.b", "\\udcff", "copied-by-hand"}
        assert all(name.isprintable() for name in found) and found[own.native] == own.ve
        for name in [*odd, "copied-by-hand", "\udcff"]:
            for call in (node.driver.start, node.driver.stop, node.driver.freeze, node.driver.delete, node.driver.boot_log):
                with pytest.raises(BadRequest):
                    call(name)
        assert all(os.path.exists(path + b"/config") for path in raw) and (copy / "config").exists()  # noqa: PTH110
        assert [usage.ve for usage in node.driver.usage()] == []
    finally:
        for path in [*raw, os.fsencode(copy)]:
            subprocess.run([b"rm", b"-rf", b"--", path], check=True)
        node.driver.delete(own.native)
