"""Companions and the bridge, with real daemons in the tests' own namespaces."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lxc_kit import BRIDGE, ROOT, SUBNET, eventually
from vmcloud.domain.errors import Unavailable
from workers.companions import Companion, Companions, Host, dhcp, lxcfs, write_host
from workers.drivers.base import BadRequest
from workers.network import bridge

pytestmark = pytest.mark.integration

SLEEPER = Companion("sleeper", ("/bin/sleep", "1000"), lambda: True)


@pytest.fixture
def companions(place: Path) -> Iterator[Companions]:
    found = Companions(place / "companions")
    yield found
    for record in found.running():
        found.stop(record.name)


@pytest.fixture
def link() -> Iterator[str]:
    bridge.ensure(BRIDGE, SUBNET)
    yield BRIDGE
    bridge.remove(BRIDGE)


def test_a_running_companion_is_adopted_and_never_doubled(companions: Companions):
    first = companions.ensure(SLEEPER)
    assert Companions(companions.folder).ensure(SLEEPER) == first
    assert companions.running() == (first,)


def test_a_dead_companion_is_started_again(companions: Companions):
    first = companions.ensure(SLEEPER)
    os.kill(first.pid, signal.SIGKILL)
    assert eventually(lambda: not first.alive)
    assert companions.running() == ()
    assert companions.ensure(SLEEPER).pid != first.pid


def test_a_reused_process_id_is_not_taken_for_the_companion(companions: Companions):
    companions.ensure(SLEEPER)
    path = companions.folder / "sleeper.json"
    companions.stop("sleeper")
    path.write_text(f'{{"pid": {os.getpid()}, "started": 1, "argv": ["/bin/sleep", "1000"]}}')
    assert companions.running() == ()
    companions.stop("sleeper")  # and this process is still alive


def test_one_with_other_arguments_is_started_anew(companions: Companions):
    first = companions.ensure(SLEEPER)
    second = companions.ensure(Companion("sleeper", ("/bin/sleep", "2000"), lambda: True))
    assert not first.alive
    assert companions.running() == (second,)


def test_one_that_does_not_come_to_serve_says_why(companions: Companions):
    broken = Companion("broken", ("/bin/ls", "/nonexistent"), lambda: False)
    with pytest.raises(Unavailable, match=r"No such file"):
        companions.ensure(broken)
    assert companions.running() == ()


def test_a_companion_outlives_the_process_that_started_it(companions: Companions):
    code = (
        "import sys; from pathlib import Path; from workers.companions import *;"
        "Companions(Path(sys.argv[1])).ensure(Companion('sleeper', ('/bin/sleep', '1000'), lambda: True))"
    )
    subprocess.run([sys.executable, "-c", code, str(companions.folder)], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    record = companions.running()[0]
    assert companions.ensure(SLEEPER) == record


def test_the_dhcp_server_gives_a_guest_its_own_address_and_strangers_none(companions: Companions, link: str, place: Path):
    write_host(place / "dhcp", "web-01234567", Host("02:00:00:00:00:09", "10.213.86.9/24", "web"))
    companion = dhcp(link, SUBNET, place / "dhcp")
    assert companion is not None, "dnsmasq is not installed: apt-get install dnsmasq-base"
    record = companions.ensure(companion)
    assert companions.ensure(companion) == record
    assert _lease(link, "02:00:00:00:00:09") == "10.213.86.9"
    assert _lease(link, "02:00:00:00:00:0a") == ""
    write_host(place / "dhcp", "db-01234567", Host("02:00:00:00:00:0a", "10.213.86.10", "db"))
    assert eventually(lambda: _lease(link, "02:00:00:00:00:0a") == "10.213.86.10")
    os.kill(record.pid, signal.SIGKILL)
    assert eventually(lambda: not record.alive)
    assert companions.ensure(companion).alive
    assert _lease(link, "02:00:00:00:00:09") == "10.213.86.9"


def _lease(link: str, mac: str) -> str:
    """What a DHCP client with that address is given; a cable's other end stands for the guest."""
    script = f"""
ip link add vcdhcp0 type veth peer name vcdhcp1 && ip link set vcdhcp0 master {link} up
ip link set vcdhcp1 address {mac} up
busybox udhcpc -f -q -n -t 3 -T 1 -i vcdhcp1 -s /bin/true 2>&1
ip link del vcdhcp0"""
    text = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=30, check=False).stdout
    found = [line for line in text.splitlines() if "lease of" in line]
    return found[0].split("lease of ")[1].split()[0] if found else ""


def test_lxcfs_serves_where_fuse_works(companions: Companions, place: Path):
    companion = lxcfs(place / "lxcfs")
    assert companion is not None, "lxcfs or /dev/fuse is missing: apt-get install lxcfs"
    record = companions.ensure(companion)
    assert "MemTotal" in (place / "lxcfs/proc/meminfo").read_text()
    os.kill(record.pid, signal.SIGKILL)
    assert eventually(lambda: not record.alive)
    companions.ensure(companion)
    assert "MemTotal" in (place / "lxcfs/proc/meminfo").read_text()
    companions.stop("lxcfs")
    assert list((place / "lxcfs").iterdir()) == []


# ---------------------------------------------------------------------------------------------------------------- the bridge


def test_a_bridge_is_made_once_with_translation(link: str):
    again = bridge.ensure(link, SUBNET)
    assert again.nat, again.detail
    assert again.address == "10.213.86.1/24"
    rules = subprocess.run(["nft", "list", "table", "ip", "vmcloud"], capture_output=True, text=True, check=True).stdout
    assert rules.count("masquerade") == 1
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text().strip() == "1"


def test_removing_takes_bridge_and_rules(link: str):
    bridge.remove(link)
    bridge.remove(link)
    assert not Path(f"/sys/class/net/{link}").exists()
    rules = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
    assert "vmcloud" not in rules


def test_a_subnet_in_use_elsewhere_is_refused(link: str):
    with pytest.raises(BadRequest, match=link):
        bridge.ensure("vcother0", "10.213.86.128/25")


def test_a_device_that_is_no_bridge_is_left_alone():
    with pytest.raises(BadRequest, match="no bridge"):
        bridge.ensure("lo", SUBNET)
