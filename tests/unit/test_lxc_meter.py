"""What a guest uses, read from files as both versions of control groups have them."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from vmcloud.domain.messages import Usage
from vmcloud.domain.spec import Spec
from vmcloud.domain.vocabulary import Kind
from workers.drivers.base import CannotLook, Guest
from workers.drivers.lxc import meter
from workers.drivers.lxc.cgroups import Groups
from workers.drivers.lxc.config import host_veth
from workers.drivers.lxc.folder import Marker

pytestmark = pytest.mark.unit

VE = UUID("0123456789abcdef0123456789abcdef")
GUEST = Guest(VE, "web-01234567", Spec(Kind.LXC, "busybox"), Path("/x"), "10.86.0.5/24")

V2 = {
    "cpu.stat": "usage_usec 1500000\nuser_usec 1000000\nsystem_usec 500000\n",
    "memory.current": "1000\n",
    "memory.peak": "5000\n",
    "io.stat": "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n8:16 rbytes=1 wbytes=2 rios=1 wios=1 dbytes=0 dios=0\n",
    "pids.current": "3\n",
}
V1 = {
    "cpuacct/cpuacct.usage": "1500000000\n",
    "memory/memory.usage_in_bytes": "1000\n",
    "memory/memory.max_usage_in_bytes": "5000\n",
    "blkio/blkio.throttle.io_service_bytes": "8:0 Read 10\n8:0 Write 20\n8:0 Total 30\n8:16 Read 1\n8:16 Write 2\nTotal 33\n",
    "pids/pids.current": "3\n",
}
EXPECTED = Usage(VE, 1.5, 1000, 5000, 11, 22, 700, 300, 3)


def groups(tmp_path: Path, version: int, files: dict[str, str], lines: str | None = None) -> Groups:
    payload = "lxc.payload.web-01234567"
    for name, text in files.items():
        controller, _, leaf = name.rpartition("/")
        path = tmp_path / "cgroup" / controller / payload / leaf
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    if lines is None:
        hierarchies = (
            "1:cpu,cpuacct:{0}\n2:memory:{0}\n3:blkio:{0}\n4:pids:{0}\n0::/\n" if version == 1 else "0::{0}/init.scope\n"
        )
        lines = hierarchies.format(f"/{payload}")
    (tmp_path / "proc").write_text(lines)
    return Groups(1, tmp_path / "cgroup", tmp_path / "proc")


@pytest.fixture
def network(tmp_path: Path) -> Path:
    statistics = tmp_path / "net" / host_veth(GUEST) / "statistics"
    statistics.mkdir(parents=True)
    (statistics / "rx_bytes").write_text("300\n")
    (statistics / "tx_bytes").write_text("700\n")
    return tmp_path / "net"


@pytest.mark.parametrize(("version", "files"), [(1, V1), (2, V2)])
def test_both_versions_say_the_same(tmp_path: Path, network: Path, version: int, files: dict[str, str]) -> None:
    assert meter.measure(Marker(GUEST), groups(tmp_path, version, files), network) == EXPECTED


def test_a_kernel_that_keeps_no_peak_has_none_below_the_use(tmp_path: Path, network: Path) -> None:
    files = {name: text for name, text in V2.items() if name not in ("memory.peak", "io.stat")}
    found = meter.measure(Marker(GUEST), groups(tmp_path, 2, files), network)
    assert (found.memory_peak_bytes, found.disk_read_bytes, found.disk_written_bytes) == (1000, 0, 0)


def test_a_guest_without_cable_has_moved_nothing(tmp_path: Path) -> None:
    found = meter.measure(Marker(GUEST), groups(tmp_path, 2, V2), tmp_path / "nowhere")
    assert (found.received_bytes, found.sent_bytes) == (0, 0)


def test_a_guest_that_has_ended_is_not_measured(tmp_path: Path, network: Path) -> None:
    with pytest.raises(CannotLook):
        meter.measure(Marker(GUEST), groups(tmp_path, 2, {**V2, "pids.current": "0\n"}), network)


@pytest.mark.parametrize(
    "lines",
    [
        "4:memory:/\n3:cpu:/\n0::/\n",
        "0::/system.slice/vmcloud-worker.service\n",
        "4:memory:/user.slice\n3:cpu:/vmcloud-tests.7\n0::/init.scope\n",
    ],
)
def test_a_process_on_its_way_into_a_guest_is_not_taken_for_one(tmp_path: Path, lines: str) -> None:
    with pytest.raises(CannotLook, match="no guest's control group"):
        groups(tmp_path, 1, {}, lines)


def test_a_group_that_is_not_the_guests_is_neither_read_nor_written(tmp_path: Path) -> None:
    (tmp_path / "cgroup/cpu").mkdir(parents=True)
    quota = tmp_path / "cgroup/cpu/cpu.cfs_quota_us"
    quota.write_text("-1")
    half = groups(tmp_path, 1, V1, "4:memory:/lxc.payload.web-01234567\n3:cpu:/\n0::/\n")
    assert half.read("cpu.cfs_quota_us") == ""
    with pytest.raises(CannotLook):
        half.write("cpu.cfs_quota_us", "100000")
    with pytest.raises(CannotLook):
        half.set([("memory.limit_in_bytes", "1"), ("cpu.cfs_quota_us", "100000")])
    assert quota.read_text() == "-1"
