"""What real containers use."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lxc_kit import Node, inside, make_node
from vmcloud.domain.messages import Usage
from workers.drivers.base import Guest

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    yield from make_node()


@pytest.fixture(scope="module")
def guest(node: Node) -> Guest:
    guest = node.guest()
    node.driver.define(guest)
    node.driver.start(guest.native)
    return guest


def used(node: Node, guest: Guest) -> Usage:
    (found,) = [usage for usage in node.driver.usage() if usage.ve == guest.ve]
    return found


def test_work_is_counted(node: Node, guest: Guest):
    before = used(node, guest)
    inside(node, guest.native, "sh", "-c", "timeout 0.5 sh -c 'while :; do :; done'; true")
    after = used(node, guest)
    assert 0.2 < after.cpu_seconds - before.cpu_seconds < 1.5
    assert after.processes >= 2


def test_memory_has_a_peak(node: Node, guest: Guest):
    inside(node, guest.native, "sh", "-c", "head -c 30m /dev/zero | tail -c 28m >/dev/null")
    found = used(node, guest)
    assert found.memory_peak_bytes > 28 << 20
    assert 0 < found.memory_bytes < found.memory_peak_bytes <= 64 << 20


def test_what_a_guest_writes_to_the_disk_is_counted(node: Node, guest: Guest):
    before = used(node, guest)
    inside(node, guest.native, "sh", "-c", "dd if=/dev/zero of=/root/big bs=1M count=8 conv=fsync 2>/dev/null")
    after = used(node, guest)
    assert after.disk_written_bytes - before.disk_written_bytes >= 8 << 20


def test_what_the_host_receives_is_what_the_guest_sent(node: Node, guest: Guest):
    before = used(node, guest)
    mute = Path("/proc/sys/net/ipv4/icmp_echo_ignore_all")
    mute.write_text("1")
    try:
        inside(node, guest.native, "sh", "-c", f"ping -c 2 -s 30000 -w 2 {guest.gateway} >/dev/null; true")
    finally:
        mute.write_text("0")
    after = used(node, guest)
    assert after.sent_bytes - before.sent_bytes > 20_000
    assert after.received_bytes - before.received_bytes < 5_000


def test_only_running_guests_of_ours_are_said_and_that_is_cheap(node: Node, guest: Guest):
    stopped = node.guest("off")
    node.driver.define(stopped)
    foreign = node.driver.guests / "theirs"
    foreign.mkdir()
    (foreign / "config").write_text("lxc.uts.name = theirs\n")
    try:
        begin = time.monotonic()
        assert [usage.ve for usage in node.driver.usage()] == [guest.ve]
        assert time.monotonic() - begin < 0.1
    finally:
        (foreign / "config").unlink()
        foreign.rmdir()


def test_a_suspended_guest_uses_memory_and_no_processor(node: Node, guest: Guest):
    node.driver.freeze(guest.native)
    before = used(node, guest)
    time.sleep(0.1)
    after = used(node, guest)
    node.driver.thaw(guest.native)
    assert after.memory_bytes > 0 and after.cpu_seconds - before.cpu_seconds < 0.01
