"""The LXC driver with real containers."""

from __future__ import annotations

import queue
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from tests.lxc_kit import BASE, BRIDGE, SIZE, Node, eventually, groups_of, inside, killed_at, left_of, make_node
from vmcloud.domain.errors import Invalid
from vmcloud.domain.messages import Seen
from vmcloud.domain.vocabulary import Observed
from workers.companions import Companions, lxcfs
from workers.drivers.base import BadRequest, CannotLook, Guest, NoSuchGuest, ToolFailed
from workers.drivers.lxc import LxcDriver, LxcSettings, process
from workers.drivers.lxc import driver as driver_module
from workers.drivers.lxc.cgroups import Groups
from workers.storage.images import ImageStore
from workers.storage.unpack import IdMap

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    yield from make_node()


@pytest.fixture
def guest(node: Node) -> Iterator[Guest]:
    """A stopped guest."""
    guest = node.guest()
    node.driver.define(guest)
    yield guest
    node.driver.delete(guest.native)


@pytest.fixture
def running(node: Node, guest: Guest) -> Guest:
    """A running guest that has booted."""
    node.driver.start(guest.native)
    assert eventually(lambda: "ready" in console(node, guest)), console(node, guest)
    return guest


def console(node: Node, guest: Guest) -> str:
    path = node.folder(guest) / "console.log"
    return path.read_text() if path.exists() else ""


def seen(node: Node, guest: Guest) -> Seen:
    found = node.driver.inspect(guest.native)
    assert found is not None
    return found


def init(node: Node, guest: Guest) -> int:
    return process.look(node.driver.guests, guest.native).init


# ---------------------------------------------------------------------------------------------------------- life of a guest


def test_a_guest_is_made_booted_and_reachable(node: Node, running: Guest):
    found = seen(node, running)
    assert found.state is Observed.RUNNING
    assert (found.ve, found.vcpus, found.memory_mib) == (running.ve, 1, 64)
    assert found.addresses == (running.address.partition("/")[0],)
    assert console(node, running).splitlines()[0] == "vmcloud: web ready"
    assert "0% packet loss" in inside(node, running.native, "ping", "-c", "1", "-W", "2", running.gateway)
    assert inside(node, running.native, "hostname").strip() == "web"
    assert running.mac in inside(node, running.native, "ip", "link", "show", "eth0")
    assert "default via 10.213.86.1" in inside(node, running.native, "ip", "route")


def test_a_guests_root_is_nobody_on_the_node(node: Node, running: Guest):
    status = Path(f"/proc/{init(node, running)}/status").read_text()
    assert f"Uid:\t{BASE}" in status
    assert "Seccomp:\t2" in status
    inside(node, running.native, "touch", "/root/mine")
    assert (node.folder(running) / "upper/root/mine").stat().st_uid == BASE


def test_other_users_of_the_node_cannot_reach_a_guests_files(node: Node, running: Guest):
    inside(node, running.native, "sh", "-c", "cp /bin/busybox /tmp/su; chmod 4755 /tmp/su")
    program = node.folder(running) / "upper/tmp/su"
    assert program.exists()
    for path in (program, node.image / "bin/busybox"):
        done = subprocess.run(
            ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups", "ls", str(path)], capture_output=True, check=False
        )
        assert b"Permission denied" in done.stderr


def test_two_guests_of_one_image_do_not_see_each_others_changes(node: Node, running: Guest):
    other = node.guest("db")
    node.driver.define(other)
    node.driver.start(other.native)
    inside(node, running.native, "sh", "-c", "echo mine > /etc/mine; rm -r /var/log; mkdir /var/log")
    assert "mine" not in inside(node, other.native, "ls", "/etc")
    assert "0% packet loss" in inside(node, other.native, "ping", "-c", "1", "-W", "2", running.address.partition("/")[0])
    node.driver.delete(other.native)
    assert inside(node, running.native, "cat", "/etc/mine").strip() == "mine"


def test_starting_twice_is_one_start(node: Node, running: Guest):
    first = init(node, running)
    node.driver.start(running.native)
    assert init(node, running) == first


def test_a_graceful_stop_runs_the_guests_own_shutdown_in_under_a_second(node: Node, running: Guest):
    begin = time.monotonic()
    node.driver.stop(running.native)
    assert time.monotonic() - begin < 1.0
    assert "vmcloud: web halts" in console(node, running)
    assert seen(node, running).state is Observed.STOPPED
    assert eventually(lambda: not groups_of(running))
    node.driver.stop(running.native)


def test_a_guest_that_ignores_its_shutdown_is_killed_after_the_grace(node: Node, running: Guest):
    inside(node, running.native, "sh", "-c", "printf '#!/bin/sh\\nsleep 60\\n' > /etc/init.d/rcK")
    begin = time.monotonic()
    node.driver.stop(running.native, grace=0.3)
    assert 0.3 <= time.monotonic() - begin < 3
    assert seen(node, running).state is Observed.STOPPED


def test_a_forced_stop_asks_nobody(node: Node, running: Guest):
    node.driver.stop(running.native, force=True)
    assert seen(node, running).state is Observed.STOPPED
    assert "halts" not in console(node, running)


def test_what_a_guest_wrote_is_there_after_a_restart(node: Node, running: Guest):
    inside(node, running.native, "sh", "-c", "echo kept > /root/file")
    node.driver.stop(running.native)
    node.driver.start(running.native)
    assert inside(node, running.native, "cat", "/root/file").strip() == "kept"


def test_suspended_processes_stand_still(node: Node, running: Guest):
    inside(
        node,
        running.native,
        "sh",
        "-c",
        "(n=0; while :; do n=$((n+1)); echo $n > /tmp/tick; sleep 0.01; done) >/dev/null 2>&1 </dev/null &",
    )
    tick = node.folder(running) / "upper/tmp/tick"
    assert eventually(tick.exists)
    begin = time.monotonic()
    node.driver.freeze(running.native)
    node.driver.freeze(running.native)
    assert time.monotonic() - begin < 0.5
    assert seen(node, running).state is Observed.SUSPENDED
    before = tick.read_text()
    time.sleep(0.1)
    assert tick.read_text() == before
    node.driver.thaw(running.native)
    assert seen(node, running).state is Observed.RUNNING
    assert eventually(lambda: tick.read_text() not in ("", before))
    node.driver.thaw(running.native)


@pytest.mark.parametrize("force", [False, True])
def test_a_suspended_guest_can_be_stopped(node: Node, running: Guest, force: bool):
    node.driver.freeze(running.native)
    node.driver.stop(running.native, force=force)
    assert seen(node, running).state is Observed.STOPPED


def test_starting_a_suspended_guest_thaws_it(node: Node, running: Guest):
    node.driver.freeze(running.native)
    node.driver.start(running.native)
    assert seen(node, running).state is Observed.RUNNING


# ----------------------------------------------------------------------------------------------------------------- sizes


def test_a_new_size_is_in_the_kernel_at_once_and_after_a_restart(node: Node, running: Guest):
    assert Groups(init(node, running)).sizes() == (1, 64)
    assert node.driver.apply(replace(running, spec=replace(running.spec, vcpus=2, memory_mib=96))) is False
    for _ in range(2):
        assert Groups(init(node, running)).sizes() == (2, 96)
        assert (seen(node, running).vcpus, seen(node, running).memory_mib) == (2, 96)
        node.driver.stop(running.native, force=True)
        node.driver.start(running.native)


def test_the_kernel_holds_a_guest_to_its_memory(node: Node):
    guest = node.guest("small", memory_mib=16)
    node.driver.define(guest)
    node.driver.start(guest.native)
    with pytest.raises(subprocess.CalledProcessError):
        inside(node, guest.native, "sh", "-c", "exec head -c 64m /dev/zero | tail -c 60m >/dev/null; exit $(( $? ? 1 : 0 ))")
    assert seen(node, guest).memory_mib == 16
    node.driver.delete(guest.native)


def test_a_size_that_the_kernel_refuses_changes_nothing(node: Node, running: Guest):
    inside(node, running.native, "sh", "-c", "(sleep 30 | head -c 40m /dev/zero | tail -c 38m) >/dev/null 2>&1 </dev/null &")
    group = Groups(init(node, running))
    if group.file("memory.usage_in_bytes").exists():
        assert eventually(lambda: int(group.read("memory.usage_in_bytes")) > 36 << 20)
        with pytest.raises(BadRequest, match=r"memory\.limit_in_bytes"):
            node.driver.apply(replace(running, spec=replace(running.spec, vcpus=2, memory_mib=16)))
        assert Groups(init(node, running)).sizes() == (1, 64)
        assert (seen(node, running).vcpus, seen(node, running).memory_mib) == (1, 64)


# ---------------------------------------------------------------------------------------------------------- made and removed


def test_delete_leaves_nothing(node: Node):
    guest = node.guest()
    node.driver.define(guest)
    node.driver.define(guest)
    node.driver.start(guest.native)
    assert len(left_of(node, guest)) > 3
    node.driver.delete(guest.native)
    assert node.driver.inspect(guest.native) is None
    assert left_of(node, guest) == []
    node.driver.delete(guest.native)


def test_a_mount_below_a_guests_folder_is_not_followed_by_delete(node: Node, guest: Guest, place: Path):
    (place / "precious").write_text("data")
    subprocess.run(["mount", "--bind", str(place), str(node.folder(guest) / "upper" / "etc")], check=True)
    node.driver.delete(guest.native)
    assert (place / "precious").read_text() == "data"
    assert left_of(node, guest) == []


@pytest.mark.parametrize("point", ["driver.lxc.define.cloned", "driver.lxc.define.placed"])
def test_a_kill_while_a_guest_is_made_leaves_none_or_a_whole_one(node: Node, place: Path, point: str):
    guest = node.guest()
    killed_at(point, node, "define(guest)", place / "faults", guest)
    found = node.driver.inspect(guest.native)
    assert (found is not None) is (point == "driver.lxc.define.placed")
    node.driver.define(guest)
    node.driver.start(guest.native)
    assert seen(node, guest).state is Observed.RUNNING
    node.driver.delete(guest.native)
    assert left_of(node, guest) == []


def test_delete_after_a_kill_while_a_guest_is_made_leaves_nothing(node: Node, place: Path):
    guest = node.guest()
    killed_at("driver.lxc.define.cloned", node, "define(guest)", place / "faults", guest)
    assert left_of(node, guest)
    node.driver.delete(guest.native)
    assert left_of(node, guest) == []


@pytest.mark.parametrize("point", ["driver.lxc.delete.stopped", "driver.lxc.delete.trashed"])
def test_a_kill_while_a_guest_is_removed_is_made_good_by_the_next_delete(node: Node, place: Path, point: str):
    guest = node.guest()
    node.driver.define(guest)
    node.driver.start(guest.native)
    killed_at(point, node, "delete(guest.native)", place / "faults", guest)
    assert left_of(node, guest)
    node.driver.delete(guest.native)
    assert left_of(node, guest) == []


def test_a_kill_before_the_start_is_made_good_by_the_next_start(node: Node, guest: Guest, place: Path):
    killed_at("driver.lxc.start.ordered", node, "start(guest.native)", place / "faults", guest)
    assert seen(node, guest).state is Observed.CRASHED  # it should run, and nobody shut it down
    node.driver.start(guest.native)
    assert seen(node, guest).state is Observed.RUNNING


def test_a_guest_cannot_fill_the_disk_through_its_boot_log(node: Node, running: Guest):
    inside(node, running.native, "sh", "-c", "timeout 1 yes flood > /dev/console; true")
    logs = [path.stat().st_size for path in node.folder(running).glob("*.log*")]
    assert max(logs) > 1000
    assert sum(logs) < 2 << 20


def test_groups_left_by_a_killed_monitor_do_not_change_the_next_runs(node: Node, running: Guest):
    subprocess.run(["kill", "-9", str(process.look(node.driver.guests, running.native).monitor)], check=True)
    assert eventually(lambda: seen(node, running).state is Observed.CRASHED)
    node.driver.start(running.native)
    assert Groups(init(node, running)).file("pids.max").parent.name == f"lxc.payload.{running.native}"


def test_a_name_that_belongs_to_another_ve_is_refused(node: Node, guest: Guest):
    with pytest.raises(BadRequest, match=str(guest.ve)):
        node.driver.define(replace(guest, ve=uuid4()))


def test_calls_on_a_guest_that_is_not_there(node: Node):
    for call in (node.driver.start, node.driver.stop, node.driver.freeze, node.driver.thaw):
        with pytest.raises(NoSuchGuest):
            call("nobody-00000000")
    assert node.driver.inspect("nobody-00000000") is None
    for name in ("", "../x", "a/b", ".making", "-o"):
        with pytest.raises(BadRequest):
            node.driver.inspect(name)


def test_a_guest_without_image_says_what_to_do(node: Node):
    with pytest.raises(BadRequest, match="Fetch the image"):
        node.driver.define(replace(node.guest(), image=None))


def test_a_guest_that_cannot_start_says_why(node: Node, guest: Guest):
    config = node.folder(guest) / "config"
    config.write_text(config.read_text().replace(f"link = {BRIDGE}", "link = nosuchbridge"))
    with pytest.raises(ToolFailed, match="nosuchbridge"):
        node.driver.start(guest.native)
    assert seen(node, guest).state is Observed.STOPPED


def test_a_privileged_guest_has_the_images_own_owners(node: Node):
    guest = node.guest("priv", privileged=True)
    node.driver.define(guest)
    node.driver.start(guest.native)
    assert "Uid:\t0" in Path(f"/proc/{init(node, guest)}/status").read_text()
    assert inside(node, guest.native, "stat", "-c", "%u", "/bin/busybox").strip() == "0"
    assert inside(node, guest.native, "cat", "/proc/1/uid_map").split()[:2] == ["0", "0"]
    node.driver.delete(guest.native)
    assert left_of(node, guest) == []


def test_a_guest_sees_its_own_memory_where_lxcfs_runs(node: Node, place: Path):
    companion = lxcfs(place / "lxcfs")
    assert companion is not None, "lxcfs or /dev/fuse is missing: apt-get install lxcfs"
    companions = Companions(place / "companions")
    driver = LxcDriver(LxcSettings(node.home, BRIDGE, BASE, SIZE, lxcfs=place / "lxcfs"))
    guest = node.guest("fs")
    try:
        companions.ensure(companion)
        driver.define(guest)
        driver.start(guest.native)
        assert "MemTotal:          65536 kB" in inside(node, guest.native, "cat", "/proc/meminfo")
        driver.stop(guest.native)
        companions.stop("lxcfs")
        driver.start(guest.native)  # the guest does not depend on it
        assert "MemTotal:" in inside(node, guest.native, "cat", "/proc/meminfo")
    finally:
        driver.delete(guest.native)
        companions.stop("lxcfs")


def test_a_copied_guest_works_alike(node: Node):
    driver = LxcDriver(LxcSettings(node.home, BRIDGE, BASE, SIZE, copy=True))
    guest = node.guest("copy")
    driver.define(guest)
    driver.start(guest.native)
    assert inside(node, guest.native, "stat", "-c", "%u", "/bin/busybox").strip() == "0"
    driver.delete(guest.native)
    assert left_of(node, guest) == []


# ------------------------------------------------------------------------------------------------------- how a guest ended


def test_a_shutdown_from_inside_is_stopped(node: Node, running: Guest):
    inside(node, running.native, "poweroff")
    assert eventually(lambda: seen(node, running).state is Observed.STOPPED)
    assert seen(node, running).error == ""


def test_a_reboot_from_inside_keeps_it_running(node: Node, running: Guest):
    first = init(node, running)
    with suppress(subprocess.CalledProcessError):  # the reboot may end the command before it is done
        inside(node, running.native, "reboot", "-f")
    assert eventually(lambda: init(node, running) not in (0, first))
    assert eventually(lambda: seen(node, running).state is Observed.RUNNING)


def test_a_killed_init_is_crashed_with_the_reason(node: Node, running: Guest):
    subprocess.run(["kill", "-9", str(init(node, running))], check=True)
    assert eventually(lambda: seen(node, running).state is Observed.CRASHED)
    assert "signal 9" in seen(node, running).error
    node.driver.start(running.native)
    assert seen(node, running).state is Observed.RUNNING


@pytest.mark.parametrize(("inside_out", "state"), [(False, Observed.CRASHED), (True, Observed.STOPPED)])
def test_how_a_guest_ended_is_known_although_its_log_was_emptied(
    node: Node, running: Guest, monkeypatch: pytest.MonkeyPatch, inside_out: bool, state: Observed
):
    monkeypatch.setattr(driver_module, "LOG_MAX", 0)
    assert seen(node, running).state is Observed.RUNNING
    assert (node.folder(running) / "lxc.log").stat().st_size == 0
    monkeypatch.undo()
    if inside_out:
        inside(node, running.native, "poweroff")
    else:
        life = process.look(node.driver.guests, running.native)
        subprocess.run(["kill", "-9", str(life.monitor), str(life.init)], check=True)
    assert eventually(lambda: seen(node, running).state is state)


def test_a_guest_whose_monitor_process_was_killed_is_crashed_and_can_be_started(node: Node, running: Guest):
    monitor = process.look(node.driver.guests, running.native).monitor
    subprocess.run(["kill", "-9", str(monitor)], check=True)
    assert eventually(lambda: seen(node, running).state is Observed.CRASHED)
    node.driver.start(running.native)
    assert seen(node, running).state is Observed.RUNNING


# -------------------------------------------------------------------------------------------------------- foreign and events


def test_foreign_guests_are_listed_and_left_alone(node: Node, guest: Guest):
    foreign = node.driver.guests / "theirs"
    foreign.mkdir()
    (foreign / "config").write_text("lxc.uts.name = theirs\n")
    try:
        listed = {found.native: found.ve for found in node.driver.list()}
        assert listed["theirs"] is None
        assert listed[guest.native] == guest.ve
        for call in (node.driver.start, node.driver.stop, node.driver.delete):
            with pytest.raises(BadRequest, match="not made by vmcloud"):
                call("theirs")
        assert (foreign / "config").read_text() == "lxc.uts.name = theirs\n"
    finally:
        shutil.rmtree(foreign)


def test_a_folder_that_cannot_be_read_is_not_an_empty_one(node: Node, guest: Guest):
    marker = node.folder(guest) / "vmcloud.json"
    good = marker.read_text()
    marker.write_text("{")
    with pytest.raises(CannotLook, match="damaged"):
        node.driver.list()
    marker.write_text(good)


def test_events_come_in_order_and_survive_the_loss_of_their_source(node: Node, guest: Guest):
    got: queue.Queue[Seen] = queue.Queue()

    def listen() -> None:
        for event in node.driver.events():
            if event.native == guest.native:
                got.put(event)

    def until(state: Observed) -> list[Observed]:
        states = []
        while not states or states[-1] is not state:
            states.append(got.get(timeout=10).state)
        return states

    threading.Thread(target=listen, daemon=True).start()
    assert until(Observed.STOPPED) == [Observed.STOPPED]
    node.driver.start(guest.native)
    assert until(Observed.RUNNING) == [Observed.STARTING, Observed.RUNNING]
    node.driver.stop(guest.native, force=True)
    assert until(Observed.STOPPED) == [Observed.STOPPING, Observed.STOPPED]
    pids = subprocess.run(
        ["pgrep", "-f", f"lxc-monitord {node.driver.guests}"], capture_output=True, text=True, check=False
    ).stdout.split()
    assert pids
    subprocess.run(["kill", "-9", *pids], check=True)
    assert until(Observed.STOPPED)  # everything is said again after the loss
    node.driver.start(guest.native)
    assert until(Observed.RUNNING)
    subprocess.run(["kill", "-9", str(init(node, guest))], check=True)
    assert until(Observed.CRASHED)


# ---------------------------------------------------------------------------------------------------------------- images


def test_an_image_in_use_is_not_removed(node: Node, guest: Guest):
    assert node.store.list_images() == (node.sha256,)
    assert node.store.path(node.sha256) == node.image
    with pytest.raises(BadRequest, match="in use"):
        node.store.remove(node.sha256, used=node.driver.layers)


def test_a_store_unpacks_once_and_removes_whole(node: Node, place: Path):
    store = ImageStore(place, IdMap(BASE, SIZE))
    tree = store.unpack(node.home / "busybox.tar", node.sha256)
    assert store.unpack(Path("/nonexistent"), node.sha256) == tree
    assert (tree / "bin/busybox").stat().st_uid == BASE
    (place / "images" / f".new-{node.sha256}").mkdir()
    store.remove(node.sha256)
    store.remove(node.sha256)
    assert store.list_images() == ()
    assert [path.name for path in (place / "images").iterdir()] == ["lock"]


def test_an_archive_that_is_not_what_was_promised_is_refused(node: Node, place: Path):
    with pytest.raises(Invalid, match="promised"):
        ImageStore(place, None).unpack(node.home / "busybox.tar", "0" * 64)
