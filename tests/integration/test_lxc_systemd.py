"""A whole distribution, with systemd as init, in real containers. Slow: makes Debian's image first, for which it needs a network
(``VMCLOUD_TEST_UPLINK``, which runtests --slow sets, names a network namespace with a way out). Where the folder that
``VMCLOUD_TEST_IMAGES`` names has ``debian-systemd.tar``, that is taken."""

from __future__ import annotations

import hashlib
import os
import select
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.lxc_kit import Node, eventually, make_node
from vmcloud.domain.messages import Snapshot
from vmcloud.domain.vocabulary import Observed
from workers.drivers.base import Guest
from workers.drivers.session import read

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(900)]

PACKAGES = "systemd-sysv,dbus,iproute2,netbase"


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    yield from make_node()


@pytest.fixture(scope="module")
def tree(node: Node) -> Path:
    """Debian's image, unpacked."""
    kept = Path(os.environ.get("VMCLOUD_TEST_IMAGES", "/nonexistent"), "debian-systemd.tar")
    archive = kept if kept.exists() else node.home / "debian-systemd.tar"
    if not archive.exists():
        uplink = os.environ.get("VMCLOUD_TEST_UPLINK")
        argv = ["mmdebstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(archive)]
        enter = ["nsenter", f"--net={uplink}"] if uplink else []
        done = subprocess.run([*enter, *argv], capture_output=True, text=True, check=False, timeout=600)
        if done.returncode:
            pytest.fail(f"the image can not be made (it takes mmdebstrap and a network):\n{done.stderr[-1500:]}", pytrace=False)
    return node.store.unpack(archive, hashlib.sha256(archive.read_bytes()).hexdigest())


@pytest.fixture(params=[False, True], ids=["unprivileged", "privileged"])
def guest(request: pytest.FixtureRequest, node: Node, tree: Path) -> Iterator[Guest]:
    """A guest that has booted."""
    guest = replace(node.guest("debian", memory_mib=256, privileged=request.param), image=tree)
    node.driver.define(guest)
    node.driver.start(guest.native)
    assert eventually(lambda: ran(node, guest, "systemctl", "is-system-running") == "running", 30), problems(node, guest)
    yield guest
    node.driver.delete(guest.native)


def ran(node: Node, guest: Guest, *argv: str) -> str:
    session = node.driver.exec(guest.native, argv, environment={}, tty=False)
    session.close_stdin()
    said = b""
    while data := read(session.stdout):
        said += data
    session.wait()
    session.close()
    return said.decode().strip()


def problems(node: Node, guest: Guest) -> str:
    return ran(node, guest, "systemctl", "--failed", "--no-pager") + node.driver.boot_log(guest.native).decode()[-3000:]


def state(node: Node, guest: Guest) -> Observed:
    seen = node.driver.inspect(guest.native)
    assert seen is not None
    return seen.state


def test_it_boots_whole_and_halts_by_its_own_shutdown(node: Node, guest: Guest) -> None:
    assert ran(node, guest, "systemctl", "list-units", "--failed", "--plain", "--no-legend") == ""
    assert ran(node, guest, "hostname") == "debian"
    assert ran(node, guest, "systemd-run", "--wait", "--quiet", "--pipe", "echo", "a unit") == "a unit"
    begin = time.monotonic()
    node.driver.stop(guest.native, grace=30)
    assert time.monotonic() - begin < 10
    assert state(node, guest) is Observed.STOPPED
    assert b"Reached target shutdown.target" in node.driver.boot_log(guest.native)


def test_its_console_asks_who_is_there(node: Node, guest: Guest) -> None:
    session = node.driver.console(guest.native)
    os.write(session.stdin, b"\n")
    said, end = b"", time.monotonic() + 10
    while b"debian login:" not in said and time.monotonic() < end:
        if select.select([session.stdout], [], [], 0.5)[0]:
            said += read(session.stdout)
    session.hang_up()
    session.close()
    assert b"debian login:" in said


def test_it_is_what_it_was_after_a_revert(node: Node, guest: Guest) -> None:
    before = ran(node, guest, "sh", "-c", "cat /etc/machine-id; dpkg -l | wc -l")
    node.driver.snapshot(guest.native, Snapshot("one", 1, 1.0))
    ran(node, guest, "sh", "-c", "rm -rf /var/lib/dpkg /etc/systemd; echo 0 > /etc/machine-id; sync")
    node.driver.stop(guest.native, force=True)
    node.driver.revert(guest.native, "one")
    node.driver.start(guest.native)
    assert eventually(lambda: ran(node, guest, "systemctl", "is-system-running") == "running", 30), problems(node, guest)
    assert ran(node, guest, "sh", "-c", "cat /etc/machine-id; dpkg -l | wc -l") == before


def test_its_own_reboot_and_poweroff_are_seen(node: Node, guest: Guest) -> None:
    node.driver.apply(replace(guest, spec=replace(guest.spec, vcpus=2, memory_mib=320)))
    ran(node, guest, "touch", "/run/before")
    ran(node, guest, "systemctl", "reboot")
    assert eventually(lambda: state(node, guest) is Observed.RUNNING and ran(node, guest, "ls", "/run/before") == "", 20)
    seen = node.driver.inspect(guest.native)
    assert seen is not None and (seen.vcpus, seen.memory_mib) == (2, 320)
    assert eventually(lambda: ran(node, guest, "systemctl", "is-system-running") == "running", 30), problems(node, guest)
    ran(node, guest, "systemctl", "poweroff")
    assert eventually(lambda: state(node, guest) is Observed.STOPPED, 20)
    seen = node.driver.inspect(guest.native)
    assert seen is not None and seen.error == ""


def test_its_use_is_that_of_all_its_units(node: Node, guest: Guest) -> None:
    ran(node, guest, "systemd-run", "--wait", "sh", "-c", "head -c 60m /dev/zero | tail -c 60m >/dev/null")
    (found,) = [usage for usage in node.driver.usage() if usage.ve == guest.ve]
    assert found.memory_peak_bytes > 60 << 20 and found.processes > 4 and found.cpu_seconds > 0.05
