"""The LXC guest's configuration file, and the other pure parts of the driver."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from vmcloud.domain.names import native_name
from vmcloud.domain.spec import Spec
from vmcloud.domain.vocabulary import Kind
from workers.drivers.base import Guest
from workers.drivers.lxc import LxcSettings, exits, monitor
from workers.drivers.lxc.config import Host, host_veth, hostname, render_config
from workers.drivers.lxc.exits import End, errors, how
from workers.drivers.lxc.folder import Marker

pytestmark = pytest.mark.unit

VE = UUID("0123456789abcdef0123456789abcdef")
SETTINGS = LxcSettings(Path("/home"), "br7", 1000000, 65536)
GUEST = Guest(
    ve=VE,
    native=native_name("web-1", VE),
    spec=Spec(Kind.LXC, "busybox", vcpus=2, memory_mib=64),
    image=Path("/home/images/x/ids-1000000"),
    address="10.86.0.5/24",
    gateway="10.86.0.1",
    mac="02:01:23:45:67:89",
)


def lines(guest: Guest = GUEST, settings: LxcSettings = SETTINGS, **host: object) -> list[str]:
    facts = {"cgroup_version": 1, **host}
    return render_config(guest, settings, Host(**facts)).splitlines()  # type: ignore[arg-type]


def test_version_1_has_the_files_of_version_1_and_none_of_version_2():
    text = lines(swap=True)
    assert "lxc.cgroup.memory.limit_in_bytes = 67108864" in text
    assert text.index("lxc.cgroup.memory.limit_in_bytes = 67108864") < text.index(
        "lxc.cgroup.memory.memsw.limit_in_bytes = 67108864"
    )
    assert "lxc.cgroup.cpu.cfs_quota_us = 200000" in text
    assert "lxc.cgroup.pids.max = 4096" in text
    assert not [line for line in text if line.startswith("lxc.cgroup2")]


def test_version_2_has_the_files_of_version_2_and_none_of_version_1():
    text = lines(cgroup_version=2, swap=True)
    assert "lxc.cgroup2.memory.max = 67108864" in text
    assert "lxc.cgroup2.memory.swap.max = 0" in text
    assert "lxc.cgroup2.cpu.max = 200000 100000" in text
    assert "lxc.cgroup2.pids.max = 4096" in text
    assert not [line for line in text if line.startswith("lxc.cgroup.")]


def test_a_kernel_without_swap_accounting_gets_no_swap_limit():
    assert not [line for line in [*lines(), *lines(cgroup_version=2)] if "memsw" in line or "swap" in line]


def test_a_guest_is_id_mapped_and_its_layer_keeps_attributes_that_a_user_namespace_may_write():
    text = lines()
    assert "lxc.idmap = u 0 1000000 65536" in text
    assert "lxc.idmap = g 0 1000000 65536" in text
    assert "lxc.rootfs.options = userxattr" in text
    assert "lxc.rootfs.path = overlay:/home/images/x/ids-1000000:/home/lxc/web-1-01234567/upper" in text


def test_a_privileged_guest_has_no_id_map_and_a_list_of_devices():
    text = lines(replace(GUEST, spec=replace(GUEST.spec, privileged=True)))
    assert not [line for line in text if "idmap" in line or "userxattr" in line]
    assert "lxc.cgroup.devices.deny = a" in text
    assert "lxc.cgroup.devices.allow = c 1:3 rwm" in text


def test_a_copied_guest_has_a_plain_directory():
    for text in (lines(overlay=False), lines(settings=replace(SETTINGS, copy=True))):
        assert "lxc.rootfs.path = dir:/home/lxc/web-1-01234567/rootfs" in text
        assert not [line for line in text if "userxattr" in line]


def test_every_guest_is_confined():
    for privileged in (False, True):
        text = lines(replace(GUEST, spec=replace(GUEST.spec, privileged=privileged)))
        assert "lxc.seccomp.profile = /usr/share/lxc/config/common.seccomp" in text
        assert "lxc.cap.drop = mac_admin mac_override sys_time sys_module sys_rawio" in text


def test_apparmor_is_named_only_where_the_kernel_has_it():
    assert not [line for line in lines() if "apparmor" in line]
    assert "lxc.apparmor.profile = generated" in lines(apparmor=True)


def test_the_cable():
    text = lines()
    assert "lxc.net.0.link = br7" in text
    assert "lxc.net.0.veth.pair = vc0123456789ab" in text
    assert "lxc.net.0.ipv4.address = 10.86.0.5/24" in text
    assert "lxc.net.0.ipv4.gateway = 10.86.0.1" in text
    assert "lxc.net.0.hwaddr = 02:01:23:45:67:89" in text


def test_a_guest_without_address_has_no_cable():
    assert "lxc.net.0.type = empty" in lines(replace(GUEST, address=""))


def test_names_derived_from_the_guest():
    assert len(host_veth(GUEST)) <= 15
    assert hostname(GUEST) == "web-1"
    assert "lxc.environment = VMCLOUD_VE=01234567-89ab-cdef-0123-456789abcdef" in lines()


def test_control_groups_can_have_a_place_of_their_own():
    assert "lxc.cgroup.dir = tests" in lines(settings=replace(SETTINGS, cgroup_prefix="tests"))


def test_a_marker_survives_its_file():
    marker = Marker(GUEST, copied=True)
    assert Marker.from_json(marker.to_json()) == marker


def test_a_resize_changes_sizes_and_nothing_else():
    wanted = replace(GUEST, address="", spec=replace(GUEST.spec, vcpus=4, memory_mib=512, privileged=True))
    guest = Marker(GUEST).resized(wanted).guest
    assert (guest.spec.vcpus, guest.spec.memory_mib, guest.spec.privileged, guest.address) == (4, 512, False, GUEST.address)


# ---------------------------------------------------------------------------------------------------------- the end of a run

STARTED = (
    'lxc-start g 20261121105043.721 NOTICE   start - ../src/lxc/start.c:post_start:2205 - Started "/sbin/init" with pid "16"\n'
)


def line(text: str) -> str:
    return f"lxc-start g 20261121105044.932 INFO     error - ../src/lxc/error.c:lxc_error_set_and_log:34 - {text}\n"


@pytest.mark.parametrize(
    ("log", "end"),
    [
        ("", End.NONE),
        (STARTED, End.CUT),
        (STARTED + line("Child <16> ended on signal Interrupt(2)"), End.CLEAN),
        (STARTED + line("Child <16> ended on signal Hangup(1)"), End.REBOOT),
        (STARTED + line("Child <16> ended on signal Killed(9)"), End.CRASHED),
        (STARTED + line("Child <16> ended on error (3)"), End.CRASHED),
        (STARTED + line("Container init process 16 exited"), End.CLEAN),
        (STARTED + line("Child <16> ended on signal Killed(9)") + STARTED, End.CUT),
    ],
)
def test_the_end_of_the_last_run_is_read_from_the_log(log: str, end: End):
    assert how(log)[0] is end


@pytest.mark.parametrize(
    ("status", "end", "why"),
    [
        (9, End.CRASHED, "init was killed by signal 9"),
        (2, End.CLEAN, ""),
        (1, End.REBOOT, exits.NOT_BACK),
        (0, End.CLEAN, ""),
        (3 << 8, End.CRASHED, "init failed with exit code 3"),
    ],
)
def test_the_end_of_a_run_that_was_logged_elsewhere_is_read_as_liblxcs_own_words(status: int, end: End, why: str):
    log = STARTED + line("Container init process 16 exited")
    assert exits.tells_of(log, 16) and not exits.tells_of(log, 77)
    log += exits.words(77, status)
    assert how(log) == (end, why) and exits.tells_of(log, 77)


def test_only_messages_of_errors_are_shown():
    log = STARTED + "lxc-start g 2026.1 ERROR    conf - ../src/lxc/conf.c:lxc_map_ids:3708 - no such bridge\n"
    assert errors(log) == "no such bridge"


# ------------------------------------------------------------------------------------------------------------------- events


def test_an_event_is_a_structure_of_264_bytes():
    assert monitor.decode(struct.pack("=i256si", 0, b"web-1", 2)) == monitor.Event("web-1", "RUNNING")
    assert monitor.decode(struct.pack("=i256si", 2, b"web-1", 9)) == monitor.Exit("web-1", 9)
    assert monitor.decode(struct.pack("=i256si", 1, b"web-1", 9)) is None
    assert monitor.decode(struct.pack("=i256si", 0, b"web-1", 99)) is None


def test_the_monitors_address_is_liblxcs():
    address = monitor.socket_address("/var/lib/lxc")
    assert address.startswith(b"\0lxc/")
    assert address.endswith(b"//var/lib/lxc")
    assert len(monitor.socket_address("/" + "x" * 200)) == 107
