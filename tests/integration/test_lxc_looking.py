"""Looking at many real containers: without waking their monitor processes, and without believing what is over."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.lxc_kit import BASE, Node, eventually, inside, make_node
from vmcloud.domain.vocabulary import Observed
from workers.drivers.base import CannotLook, Guest
from workers.drivers.lxc import process
from workers.drivers.lxc.cgroups import ROOT as CGROUPS
from workers.drivers.lxc.power import LXC_PATH

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    yield from make_node()


@pytest.fixture
def guest(node: Node) -> Iterator[Guest]:
    guest = node.guest()
    node.driver.define(guest)
    node.driver.start(guest.native)
    yield guest
    node.driver.delete(guest.native)


def state(node: Node, guest: Guest) -> Observed:
    (found,) = [seen for seen in node.driver.list() if seen.native == guest.native]
    return found.state


def test_a_list_asks_liblxc_about_no_guest_that_still_runs(node: Node, guest: Guest, monkeypatch: pytest.MonkeyPatch):
    def asked(*_: object) -> process.Life:
        raise CannotLook("list", "liblxc was asked")

    with monkeypatch.context() as patch:
        patch.setattr(process, "look", asked)
        (before,) = node.driver.list()
        assert before.state is Observed.RUNNING and (before.vcpus, before.memory_mib) == (1, 64)
    node.driver.freeze(guest.native)
    with monkeypatch.context() as patch:
        patch.setattr(process, "look", asked)
        assert state(node, guest) is Observed.SUSPENDED
    node.driver.thaw(guest.native)
    assert node.driver.list() == [before]


def test_a_dead_init_is_not_believed(node: Node, guest: Guest):
    assert state(node, guest) is Observed.RUNNING
    os.kill(process.look(node.driver.guests, guest.native).init, 9)
    assert eventually(lambda: state(node, guest) is Observed.CRASHED)


def test_a_reboot_inside_is_seen(node: Node, guest: Guest):
    assert state(node, guest) is Observed.RUNNING
    before = process.look(node.driver.guests, guest.native)
    subprocess.run(["lxc-attach", "-P", str(node.driver.guests), "-n", guest.native, "--", "/bin/reboot", "-f"], check=False)
    assert eventually(lambda: process.look(node.driver.guests, guest.native).init not in (0, before.init))
    assert eventually(lambda: state(node, guest) is Observed.RUNNING)
    life = process.recall(node.driver.guests, guest.native)
    assert life is not None and life.init != before.init


def test_a_guest_that_reboots_itself_keeps_the_sizes_that_it_was_given(node: Node, guest: Guest):
    node.driver.apply(replace(guest, spec=replace(guest.spec, vcpus=2, memory_mib=96)))
    before = process.look(node.driver.guests, guest.native)
    subprocess.run(["lxc-attach", "-P", str(node.driver.guests), "-n", guest.native, "--", "/bin/reboot", "-f"], check=False)
    assert eventually(lambda: process.look(node.driver.guests, guest.native).init not in (0, before.init))
    seen = node.driver.inspect(guest.native)
    assert seen is not None and (seen.state, seen.vcpus, seen.memory_mib) == (Observed.RUNNING, 2, 96)


@pytest.mark.parametrize("text", ["", "x", "1 0", "1 0 0", "{pid} {parent} {began}", "999999 1 1"])
def test_what_is_remembered_of_another_process_is_not_believed(node: Node, guest: Guest, text: str):
    node.driver.stop(guest.native, force=True)
    fields = open("/proc/self/stat").read().rpartition(")")[2].split()  # noqa: PTH123, SIM115
    text = text.format(pid=os.getpid(), parent=fields[1], began=fields[19])
    (node.folder(guest) / "life").write_text(text)
    assert state(node, guest) is Observed.STOPPED
    node.driver.start(guest.native)
    assert state(node, guest) is Observed.RUNNING
    assert inside(node, guest.native, "hostname").strip() == "web"


def test_nothing_is_written_into_a_foreign_guests_folder(node: Node, guest: Guest):
    foreign = node.driver.guests / "theirs"
    foreign.mkdir()
    text = (node.folder(guest) / "config").read_text().replace(guest.native, "theirs").replace("lxc.net", "# lxc.net")
    (foreign / "config").write_text(text)
    for name in ("upper", "work"):
        (foreign / name).mkdir()
        os.chown(foreign / name, BASE, BASE)
    try:
        argv = ["/usr/bin/lxc-start", "-P", str(node.driver.guests), "-n", "theirs"]
        null = subprocess.DEVNULL
        subprocess.run(argv, check=True, stdin=null, stdout=null, stderr=null, env={"PATH": LXC_PATH})
        before = sorted(path.name for path in foreign.iterdir())
        assert [(seen.state, seen.ve) for seen in node.driver.list() if seen.native == "theirs"] == [(Observed.RUNNING, None)]
        assert sorted(path.name for path in foreign.iterdir()) == before
    finally:
        subprocess.run(["lxc-stop", "-k", "-P", str(node.driver.guests), "-n", "theirs"], check=False)
        subprocess.run(["rm", "-rf", str(foreign)], check=True)


def test_no_group_but_a_guests_own_is_written_while_guests_come_and_go(node: Node):
    quota = CGROUPS / "cpu/cpu.cfs_quota_us" if (CGROUPS / "cpu").is_dir() else CGROUPS / "cpu.max"
    before = quota.read_text() if quota.exists() else ""
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            node.driver.list()

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        for _ in range(10):
            guest = node.guest("brief")
            node.driver.define(guest)
            node.driver.start(guest.native)
            node.driver.delete(guest.native)
    finally:
        over.set()
        watching.join()
    assert (quota.read_text() if quota.exists() else "") == before
