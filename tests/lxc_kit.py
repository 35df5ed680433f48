"""Real containers for tests: a node's home, its bridge and the image ``busybox``, all in the tests' own namespaces."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from uuid import uuid4

import pytest

from vmcloud.domain.names import native_name
from vmcloud.domain.spec import Spec
from vmcloud.domain.vocabulary import Kind
from workers.drivers.base import Guest
from workers.drivers.lxc import LxcDriver, LxcSettings
from workers.drivers.lxc.cgroups import ROOT as CGROUPS
from workers.drivers.lxc.config import host_veth
from workers.network import bridge
from workers.network.addresses import allocate, hardware_address, parse_subnet
from workers.storage.busybox import build_busybox
from workers.storage.images import ImageStore
from workers.storage.unpack import IdMap

SUBNET = "10.213.86.0/24"
BRIDGE = "vclxc0"
BASE, SIZE = 1000000, 65536
ROOT = Path(__file__).parent.parent


@dataclass
class Node:
    """One node with an LXC driver and the image ``busybox``."""

    home: Path
    driver: LxcDriver
    store: ImageStore
    sha256: str
    image: Path
    made: int = 0

    def guest(self, name: str = "web", *, driver: LxcDriver | None = None, **spec: object) -> Guest:
        """A guest that is not made yet, with a free address."""
        ve = uuid4()
        self.made += 1
        used = [f"10.213.86.{number}" for number in range(2, 2 + self.made)]
        wanted = Spec.parse({"kind": Kind.LXC, "image": "busybox", "memory_mib": 64, **spec})
        address = allocate(parse_subnet(SUBNET), used)
        return Guest(ve, native_name(name, ve), wanted, self.image, address, "10.213.86.1", hardware_address(ve))

    def folder(self, guest: Guest) -> Path:
        """Where the guest lives."""
        return self.driver.guests / guest.native


def inside(node: Node, native: str, *argv: str) -> str:
    """What a command says that is run in a guest."""
    program = ["lxc-attach", "-P", str(node.driver.guests), "-n", native, "--clear-env", "-v", "PATH=/bin:/sbin", "--", *argv]
    return subprocess.run(program, check=True, capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL).stdout


def eventually(condition: Callable[[], object], seconds: float = 15.0) -> bool:
    """Whether it becomes true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def groups_of(guest: Guest) -> list[Path]:
    """The guest's control groups."""
    return [path for path in CGROUPS.glob(f"**/lxc.*.{guest.native}*") if path.is_dir()]


def left_of(node: Node, guest: Guest) -> list[str]:
    """Everything on the node that has to do with a guest."""
    left = [str(path) for path in node.driver.guests.glob(f"**/*{guest.native}*")]
    left += [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if guest.native in line]
    left += [str(path) for path in groups_of(guest)]
    veth = Path("/sys/class/net") / host_veth(guest)
    return [*left, *([str(veth)] if veth.exists() else [])]


def killed_at(point: str, node: Node, call: str, faults: Path, guest: Guest) -> None:
    """Run ``call`` on a driver in a process of its own that is killed at a fault point."""
    faults.mkdir(exist_ok=True)
    (faults / point).touch()
    code = f"""
from pathlib import Path
from uuid import UUID
from vmcloud.domain.messages import Snapshot
from vmcloud.domain.spec import Spec
from vmcloud.domain.vocabulary import Desired
from workers.drivers.base import Guest, GuestRef
from workers.drivers.lxc import LxcDriver, LxcSettings
driver = LxcDriver(LxcSettings(Path({str(node.home)!r}), {BRIDGE!r}, {BASE}, {SIZE}))
guest = Guest(UUID({str(guest.ve)!r}), {guest.native!r}, Spec.parse({guest.spec.to_json()!r}), Path({str(guest.image)!r}),
              {guest.address!r}, {guest.gateway!r}, {guest.mac!r})
ref = GuestRef(guest.ve, guest.native)
driver.{call}
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "VMCLOUD_FAULTS": str(faults), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == -9, f"the process was not killed at {point}: {done.returncode} {done.stderr}"


def make_node() -> Iterator[Node]:
    """A node in the namespaces of this process; fails, with the reason, where real containers cannot run."""
    if not os.environ.get("VMCLOUD_TEST_NAMESPACE"):
        pytest.fail("real containers are tested in namespaces of their own: run ./runtests")
    home = Path(mkdtemp(prefix="lxc"))
    home.chmod(0o711)
    try:
        bridge.ensure(BRIDGE, SUBNET)
        store = ImageStore(home, IdMap(BASE, SIZE))
        build_busybox(home / "busybox.tar")
        sha256 = hashlib.sha256((home / "busybox.tar").read_bytes()).hexdigest()
        driver = LxcDriver(LxcSettings(home, BRIDGE, BASE, SIZE))
        lacking = [f"{check.detail} ({check.fix})" for check in driver.preflight() if not check.ok and check.name != "inotify"]
        if lacking:
            pytest.fail("real containers cannot run here: " + "; ".join(lacking))
        node = Node(home, driver, store, sha256, store.unpack(home / "busybox.tar", sha256))
        yield node
        for seen in node.driver.list():
            if seen.ve is not None:
                node.driver.delete(seen.native)
    finally:
        bridge.remove(BRIDGE)
        shutil.rmtree(home, ignore_errors=True)
