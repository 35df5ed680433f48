"""Snapshots of real containers: kept, reverted to, removed, and killed in the middle of all three."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lxc_kit import BASE, BRIDGE, SIZE, Node, eventually, inside, killed_at, make_node
from vmcloud.domain.messages import Snapshot
from vmcloud.domain.vocabulary import Observed
from workers.drivers.base import BadRequest, Guest, NoSpace, NoSuchGuest
from workers.drivers.lxc import LxcDriver, LxcSettings

pytestmark = pytest.mark.integration

ONE = Snapshot("one", 7, 1000.5)
TWO = Snapshot("two", 8, 2000.0)


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    yield from make_node()


@pytest.fixture(params=["layer", "copy", "privileged"])
def shape(request: pytest.FixtureRequest, node: Node) -> Iterator[tuple[LxcDriver, Guest]]:
    """A running guest of each shape with its driver."""
    driver = LxcDriver(LxcSettings(node.home, BRIDGE, BASE, SIZE, copy=request.param == "copy"))
    guest = node.guest(request.param, privileged=request.param == "privileged")
    driver.define(guest)
    driver.start(guest.native)
    yield driver, guest
    driver.delete(guest.native)


@pytest.fixture
def guest(node: Node) -> Iterator[Guest]:
    """A running guest that counts in a file, and has another one."""
    guest = node.guest()
    node.driver.define(guest)
    node.driver.start(guest.native)
    inside(
        node,
        guest.native,
        "sh",
        "-c",
        "echo old > /root/file; (while :; do echo x; sleep 0.02; done >/root/ticks) </dev/null >/dev/null 2>&1 &",
    )
    assert eventually((node.folder(guest) / "upper/root/ticks").exists)
    yield guest
    node.driver.delete(guest.native)


def state(node: Node, guest: Guest) -> Observed:
    seen = node.driver.inspect(guest.native)
    assert seen is not None
    return seen.state


def names(node: Node, guest: Guest) -> tuple[Snapshot, ...]:
    seen = node.driver.inspect(guest.native)
    assert seen is not None
    return seen.snapshots


def moves(node: Node, guest: Guest) -> bool:
    """Whether the guest's processes run."""
    ticks = node.folder(guest) / "upper/root/ticks"
    before = ticks.stat().st_size
    return eventually(lambda: ticks.stat().st_size > before, 1.0)


def left(node: Node, guest: Guest) -> set[str]:
    """What is in a guest's folder that a snapshot or a revert may leave there."""
    folder = node.folder(guest)
    hidden = {path.name for path in folder.iterdir() if path.name.startswith(".") or path.name == "hold"}
    return hidden | ({path.name for path in (folder / "snapshots").iterdir()} if (folder / "snapshots").exists() else set())


# --------------------------------------------------------------------------------------------------- kept and reverted to


def test_a_reverted_guest_is_what_it_was(node: Node, shape: tuple[LxcDriver, Guest]):
    driver, guest = shape
    script = """
        cd /root; echo old > file; ln file second; ln -s file link; mkfifo pipe; chmod 4751 second; chown 12:34 link pipe
        rm -r /var/log; mkdir /var/log; echo new > /var/log/mine; rm /etc/hosts; mkdir -m 700 secret
        printf x | dd of=sparse bs=1 seek=9999999 2>/dev/null; touch -d 2001-02-03 file
    """
    inside(node, guest.native, "sh", "-c", script)
    look = 'cd /; for f in root/* var/log/* etc/*; do stat -c "%n %F %a %u %g %h %s %b %Y" "$f"; done; cat root/file var/log/mine'
    before = inside(node, guest.native, "sh", "-c", look)
    told: list[str] = []
    driver.snapshot(guest.native, ONE, lambda name, percent: told.append(name))
    assert told == ["copy", "write"]
    inside(node, guest.native, "sh", "-c", "rm -rf /root/* /var/log /usr; echo broken > /etc/passwd; echo back > /etc/hosts")
    driver.stop(guest.native, force=True)
    for _ in range(2):
        driver.revert(guest.native, "one")
    driver.start(guest.native)
    assert inside(node, guest.native, "sh", "-c", look) == before
    assert "old" in before
    inside(
        node, guest.native, "sh", "-c", "rmdir /root/secret; mkdir /root/secret; echo x > /root/secret/y; rm -r /mnt; mkdir /mnt"
    )
    driver.delete_snapshot(guest.native, "one")
    assert inside(node, guest.native, "cat", "/root/secret/y").strip() == "x"


def test_snapshots_are_listed_with_job_and_time(node: Node, guest: Guest):
    assert names(node, guest) == ()
    node.driver.snapshot(guest.native, TWO)
    node.driver.snapshot(guest.native, ONE)
    node.driver.snapshot(guest.native, ONE)
    assert names(node, guest) == (ONE, TWO)
    assert next(seen for seen in node.driver.list() if seen.native == guest.native).snapshots == (ONE, TWO)
    node.driver.delete_snapshot(guest.native, "one")
    node.driver.delete_snapshot(guest.native, "one")
    assert names(node, guest) == (TWO,)
    assert left(node, guest) == {"two"}


def test_a_second_snapshot_of_one_name_is_refused(node: Node, guest: Guest):
    node.driver.snapshot(guest.native, ONE)
    with pytest.raises(BadRequest, match="called one already"):
        node.driver.snapshot(guest.native, Snapshot("one", 9, 1000.5))
    assert names(node, guest) == (ONE,)


def test_what_cannot_be_is_refused(node: Node, guest: Guest):
    driver, native = node.driver, guest.native
    driver.snapshot(native, ONE)
    with pytest.raises(BadRequest, match="Stop it first"):
        driver.revert(native, "one")
    for name in ("", "..", "a/b", ".new", "A", "-x", "x" * 64):
        for call in (driver.revert, driver.delete_snapshot):
            with pytest.raises(BadRequest):
                call(native, name)
        with pytest.raises(BadRequest):
            driver.snapshot(native, Snapshot(name, 1, 1.0))
    driver.stop(native, force=True)
    with pytest.raises(BadRequest, match=r"no snapshot called two.*It has: one"):
        driver.revert(native, "two")
    for missing in (lambda: driver.snapshot("nobody-00000000", ONE), lambda: driver.delete_snapshot("nobody-00000000", "one")):
        with pytest.raises(NoSuchGuest):
            missing()


def test_a_guest_removed_takes_its_snapshots_along(node: Node):
    guest = node.guest("gone")
    node.driver.define(guest)
    node.driver.snapshot(guest.native, ONE)
    node.driver.delete(guest.native)
    assert not list(node.driver.guests.glob(f"**/*{guest.native}*"))


def test_a_damaged_description_hides_no_snapshot(node: Node, guest: Guest):
    node.driver.snapshot(guest.native, ONE)
    (node.folder(guest) / "snapshots/one/snapshot.json").write_text("{")
    ((damaged),) = names(node, guest)
    assert (damaged.name, damaged.job) == ("one", 0)
    node.driver.delete_snapshot(guest.native, "one")
    assert names(node, guest) == ()


# ------------------------------------------------------------------------------------------------------------ held still


def test_a_running_guest_is_held_still_meanwhile_and_is_still_seen_as_running(node: Node, guest: Guest):
    inside(node, guest.native, "sh", "-c", "dd if=/dev/zero of=/root/big bs=1M count=40 2>/dev/null; echo end >> /root/big")
    during: list[tuple[Observed, bool]] = []

    def report(name: str, percent: int) -> None:
        if name == "copy":
            ticks = node.folder(guest) / "upper/root/ticks"
            before = ticks.stat().st_size
            time.sleep(0.1)
            during.append((state(node, guest), ticks.stat().st_size == before))

    node.driver.snapshot(guest.native, ONE, report)
    assert during == [(Observed.RUNNING, True)]
    assert moves(node, guest)
    assert left(node, guest) == {"one"}


def test_a_suspended_guest_stays_suspended(node: Node, guest: Guest):
    node.driver.freeze(guest.native)
    node.driver.snapshot(guest.native, ONE)
    assert state(node, guest) is Observed.SUSPENDED
    node.driver.thaw(guest.native)
    assert moves(node, guest)


@pytest.mark.parametrize("mender", ["list", "start", "snapshot", "freeze", "stop", "exec", "delete"])
def test_a_killed_snapshot_leaves_no_frozen_guest(node: Node, guest: Guest, place: Path, mender: str):
    killed_at("driver.lxc.snapshot.frozen", node, "snapshot(guest.native, Snapshot('one', 7, 1000.5))", place / "faults", guest)
    assert (node.folder(guest) / "hold").exists()
    driver = node.driver
    if mender == "list":
        assert [seen.state for seen in driver.list() if seen.native == guest.native] == [Observed.RUNNING]
    elif mender == "snapshot":
        driver.snapshot(guest.native, ONE)
    elif mender == "freeze":
        driver.freeze(guest.native)
        assert state(node, guest) is Observed.SUSPENDED
        assert state(node, guest) is Observed.SUSPENDED  # no look mistakes that for what was killed
        driver.thaw(guest.native)
    elif mender == "exec":
        assert driver.exec(guest.native, ["true"], environment={}, tty=False).wait() == 0
    elif mender == "stop":
        driver.stop(guest.native)
        assert state(node, guest) is Observed.STOPPED
        driver.start(guest.native)
        driver.freeze(guest.native)
        assert state(node, guest) is Observed.SUSPENDED
        driver.thaw(guest.native)
    elif mender == "delete":
        driver.delete(guest.native)
        return
    else:
        driver.start(guest.native)
    assert state(node, guest) is Observed.RUNNING
    if mender != "stop":
        assert moves(node, guest)
    assert not (node.folder(guest) / "hold").exists()


def test_a_guest_that_ends_while_it_is_held_is_no_obstacle(node: Node, guest: Guest):
    def report(name: str, percent: int) -> None:
        if name == "copy":
            node.driver.stop(guest.native, force=True)

    node.driver.snapshot(guest.native, ONE, report)
    assert names(node, guest) == (ONE,)
    node.driver.start(guest.native)
    assert left(node, guest) == {"one"}


def test_a_session_waits_for_the_end_of_a_snapshot(node: Node, guest: Guest):
    started = threading.Event()

    def report(name: str, percent: int) -> None:
        started.set()
        if name == "copy":
            time.sleep(0.3)

    taking = threading.Thread(target=node.driver.snapshot, args=(guest.native, ONE, report))
    taking.start()
    started.wait()
    assert node.driver.exec(guest.native, ["true"], environment={}, tty=False).wait() == 0
    taking.join()


# ------------------------------------------------------------------------------------------------------- kills and disks


@pytest.mark.parametrize("point", ["frozen", "copied", "placed"])
def test_a_killed_snapshot_is_none_or_whole_and_can_be_repeated(node: Node, guest: Guest, place: Path, point: str):
    call = "snapshot(guest.native, Snapshot('one', 7, 1000.5))"
    killed_at(f"driver.lxc.snapshot.{point}", node, call, place / "faults", guest)
    assert names(node, guest) == ((ONE,) if point == "placed" else ())
    node.driver.snapshot(guest.native, ONE)
    assert names(node, guest) == (ONE,)
    assert left(node, guest) == {"one"}
    assert moves(node, guest)


@pytest.mark.parametrize("point", ["copied", "exchanged"])
@pytest.mark.parametrize("then", ["revert", "start", "snapshot"])
def test_a_killed_revert_leaves_the_old_layer_or_the_new_one(node: Node, guest: Guest, place: Path, point: str, then: str):
    node.driver.snapshot(guest.native, ONE)
    inside(node, guest.native, "sh", "-c", "echo new > /root/file")
    node.driver.stop(guest.native, force=True)
    killed_at(f"driver.lxc.revert.{point}", node, "revert(guest.native, 'one')", place / "faults", guest)
    expected = "old" if point == "exchanged" else "new"
    assert (node.folder(guest) / "upper/root/file").read_text().strip() == expected
    if then == "revert":
        node.driver.revert(guest.native, "one")
        expected = "old"
    elif then == "snapshot":
        node.driver.snapshot(guest.native, TWO)
    node.driver.start(guest.native)
    assert inside(node, guest.native, "cat", "/root/file").strip() == expected
    assert left(node, guest) == ({"one", "two"} if then == "snapshot" else {"one"})


def test_a_killed_removal_of_a_snapshot_is_made_good_by_the_next_call(node: Node, guest: Guest, place: Path):
    node.driver.snapshot(guest.native, ONE)
    point = "driver.lxc.delete-snapshot.retired"
    killed_at(point, node, "delete_snapshot(guest.native, 'one')", place / "faults", guest)
    assert names(node, guest) == ()
    node.driver.delete_snapshot(guest.native, "one")
    assert left(node, guest) == set()


def test_a_full_disk_leaves_nothing_and_no_frozen_guest(node: Node, guest: Guest, place: Path):
    snapshots = node.folder(guest) / "snapshots"
    snapshots.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", str(snapshots)], check=True)
    try:
        inside(node, guest.native, "sh", "-c", "dd if=/dev/urandom of=/root/big bs=1M count=3 2>/dev/null")
        with pytest.raises(NoSpace, match="Delete guests"):
            node.driver.snapshot(guest.native, ONE)
        assert list(snapshots.iterdir()) == []
        assert names(node, guest) == ()
        assert state(node, guest) is Observed.RUNNING and moves(node, guest)
    finally:
        subprocess.run(["umount", str(snapshots)], check=True)
