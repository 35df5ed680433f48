"""What a foreign container's configuration says, and what becomes of it: pure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from vmcloud.domain.spec import Spec
from vmcloud.domain.vocabulary import Kind
from workers.drivers.base import BadRequest, Guest
from workers.drivers.lxc.adoption import parse, render, shape
from workers.drivers.lxc.config import Host, LxcSettings
from workers.drivers.lxc.folder import Marker

pytestmark = pytest.mark.unit

VE = UUID("0b5dc6a4-7f4e-4e0e-9f0e-0a8a4a3b2c1d")
NATIVE = f"web-{VE.hex[:8]}"
HOME = Path("/srv/node")
SETTINGS = LxcSettings(HOME, "vmcloud0", 1000000, 65536)
GUEST = Guest(VE, NATIVE, Spec(Kind.LXC, "adopted", vcpus=2, memory_mib=96))
FORMER = f"""# by somebody
lxc.include = /usr/share/lxc/config/common.conf
lxc.uts.name = theirs
lxc.rootfs.path = dir:{HOME}/lxc/theirs/rootfs
lxc.mount.entry = {HOME}/lxc/theirs/data srv none bind 0 0
lxc.mount.entry = {HOME}/lxc/theirs2/data srv none bind 0 0
lxc.hook.pre-start = {HOME}/lxc/theirs/hook
lxc.cgroup.memory.limit_in_bytes = 1G
lxc.cgroup2.memory.max = 1G
lxc.cgroup.cpuset.cpus = 0
lxc.cgroup.devices.deny = a
lxc.start.auto = 1
lxc.group = onboot
lxc.log.level = TRACE
lxc.net.0.type = veth
lxc.net.0.veth.pair = theirs0
lxc.net.0.hwaddr = 02:00:00:00:00:01"""


def read(text: str, **files: str) -> dict[str, list[str]]:
    return parse(text, lambda name: files.get(name, ""))


def settings(*lines: str) -> dict[str, list[str]]:
    return read("\n".join(["lxc.rootfs.path = /x/rootfs", *lines]))


def test_what_comes_later_counts_and_what_is_empty_forgets() -> None:
    found = read("a.b=1\n# a.b = 7\n  a.b =  2 \nno setting\nc.d = 1\nc.d =\n")
    assert found == {"a.b": ["1", "2"]}


def test_included_files_count_where_they_stand() -> None:
    found = read("k = 1\nlxc.include = one\nk = 3", one="k = 2\nlxc.include = two", two="j = 1")
    assert found == {"k": ["1", "2", "3"], "j": ["1"]}


def test_files_that_include_each_other_for_ever_come_to_an_end() -> None:
    assert read("k = 1\nlxc.include = me", me="lxc.include = me\nj = 1")["k"] == ["1"]


@pytest.mark.parametrize(
    ("text", "mib"),
    [
        ("64M", 64),
        ("67108864", 64),
        ("67108865", 65),
        ("1g", 1024),
        ("512K", 1),
        ("2T", 2 << 20),
        ("max", 0),
        ("-1", 0),
        ("much", 0),
    ],
)
@pytest.mark.parametrize("key", ["lxc.cgroup.memory.limit_in_bytes", "lxc.cgroup2.memory.max"])
def test_memory_is_read_in_the_kernels_words_and_rounded_up(key: str, text: str, mib: int) -> None:
    assert shape(settings(f"{key} = {text}")).memory_mib == mib


@pytest.mark.parametrize(
    ("lines", "vcpus"),
    [
        ([], 0),
        (["lxc.cgroup.cpu.cfs_quota_us = 150000"], 2),
        (["lxc.cgroup.cpu.cfs_quota_us = 50000", "lxc.cgroup.cpu.cfs_period_us = 25000"], 2),
        (["lxc.cgroup.cpu.cfs_quota_us = -1"], 0),
        (["lxc.cgroup2.cpu.max = 400000 100000"], 4),
        (["lxc.cgroup2.cpu.max = max 100000"], 0),
        (["lxc.cgroup.cpuset.cpus = 0-2,5"], 4),
        (["lxc.cgroup2.cpuset.cpus = 1", "lxc.cgroup2.cpu.max = 400000"], 1),
        (["lxc.cgroup.cpuset.cpus = all"], 0),
    ],
)
def test_processors_are_the_smaller_of_quota_and_set(lines: list[str], vcpus: int) -> None:
    assert shape(settings(*lines)).vcpus == vcpus


def test_the_network_and_the_ids_are_read() -> None:
    found = shape(
        settings(
            "lxc.net.0.type = veth",
            "lxc.net.0.hwaddr = 02:AA:00:00:00:01",
            "lxc.net.0.ipv4.address = 10.0.3.5/24 10.0.3.255",
            "lxc.net.0.ipv4.gateway = 10.0.3.1",
            "lxc.idmap = g 0 200000 65536",
            "lxc.idmap = u 0 100000 65536",
        )
    )
    assert (found.cable, found.mac, found.address, found.gateway) == (True, "02:aa:00:00:00:01", "10.0.3.5/24", "10.0.3.1")
    assert found.base == 100000
    assert shape(settings()).base is None, "it shares the node's ids"


@pytest.mark.parametrize(
    ("path", "root", "lower"),
    [
        ("/x/rootfs", "/x/rootfs", ""),
        ("dir:/x/rootfs", "/x/rootfs", ""),
        ("overlay:/images/a:/x/upper", "/x/upper", "/images/a"),
        ("overlayfs:/images/a:/x/upper", "/x/upper", "/images/a"),
    ],
)
def test_a_root_of_its_own_is_a_folder_or_a_layer(path: str, root: str, lower: str) -> None:
    found = shape(read(f"lxc.rootfs.path = {path}"))
    assert (found.root, found.lower) == (root, lower)


@pytest.mark.parametrize(
    "path", ["", "lvm:/dev/vg/x", "zfs:tank/x", "nbd:/x.qcow2", "overlay:/a:/b:/c", "dir:rootfs", "loop:/x.img"]
)
def test_other_roots_are_refused_in_words(path: str) -> None:
    with pytest.raises(BadRequest, match="its root file system is") as caught:
        shape(read(f"lxc.rootfs.path = {path}"))
    assert caught.value.todo


def test_what_is_not_ours_to_set_stays_and_moves_with_the_folder() -> None:
    text = render(FORMER, Marker(GUEST, copied=True, adopted="theirs"), SETTINGS, Host(1))
    lines = text.splitlines()
    home = f"{HOME}/lxc/{NATIVE}"
    for line in (
        "lxc.include = /usr/share/lxc/config/common.conf",
        "lxc.uts.name = theirs",
        f"lxc.mount.entry = {home}/data srv none bind 0 0",
        f"lxc.mount.entry = {HOME}/lxc/theirs2/data srv none bind 0 0",
        f"lxc.hook.pre-start = {home}/hook",
        "lxc.cgroup.cpuset.cpus = 0",
        "lxc.cgroup.devices.deny = a",
        "lxc.net.0.hwaddr = 02:00:00:00:00:01",
        f"lxc.rootfs.path = dir:{home}/rootfs",
        f"lxc.environment = VMCLOUD_VE={VE}",
        f"lxc.net.0.veth.pair = vc{VE.hex[:12]}",
        "lxc.cgroup.memory.limit_in_bytes = 100663296",
        "lxc.cgroup.cpu.cfs_quota_us = 200000",
    ):
        assert lines.count(line) == 1, line
    for word in ("start.auto", "lxc.group", "log.level", "theirs0", "1G", f"{HOME}/lxc/theirs/"):
        assert word not in text


def test_what_was_rendered_says_of_itself_what_it_is() -> None:
    for host in (Host(1), Host(2)):
        found = shape(read(render(FORMER, Marker(GUEST, copied=True, adopted="theirs"), SETTINGS, host)))
        assert (found.vcpus, found.memory_mib, found.root) == (1, 96, f"{HOME}/lxc/{NATIVE}/rootfs"), "pinned to one processor"


def test_a_layer_stays_one_over_the_same_tree() -> None:
    guest = replace(GUEST, image=Path("/images/a"))
    text = render("lxc.rootfs.path = overlay:/images/a:/x/upper", Marker(guest, adopted="x", cable=False), SETTINGS, Host(1))
    assert f"lxc.rootfs.path = overlay:/images/a:{HOME}/lxc/{NATIVE}/upper" in text
    assert "veth" not in text


def test_a_marker_is_the_same_after_it_was_written() -> None:
    for marker in (Marker(GUEST, copied=True, adopted="theirs", cable=False, base=100000), Marker(GUEST)):
        assert Marker.from_json(marker.to_json()) == marker
    old = {name: value for name, value in Marker(GUEST).to_json().items() if name not in ("adopted", "cable", "base")}
    assert Marker.from_json(old) == Marker(GUEST), "one that an earlier release wrote"
