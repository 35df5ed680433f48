"""What the cases need of each kind: a driver, guests for it, and ways to do it harm."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock
from uuid import uuid4

from tests import lxc_kit
from vmcloud import faults
from vmcloud.domain.messages import Seen
from vmcloud.domain.names import native_name
from vmcloud.domain.spec import Spec
from vmcloud.domain.vocabulary import Kind, Observed
from workers.drivers import tools
from workers.drivers.base import Driver, Guest
from workers.drivers.lxc import LxcDriver, folder, process
from workers.drivers.lxc import power as lxc_module
from workers.drivers.lxc.folder import read_marker
from workers.drivers.lxc.guests import copy_tree
from workers.drivers.simulated import SimulatedDriver, appear, effects, outside, plan_fault
from workers.drivers.simulated.store import Store
from workers.network.addresses import hardware_address

ROOT = Path(__file__).parents[3]


class Bench(ABC):
    """One kind's driver, whose calls may be typed :class:`~typing.Any`: which powers it has is what the cases are to find out."""

    driver: Any
    busy: Sequence[str]
    """A program that uses some processor time in a guest."""
    memory: str
    """A file in a guest's memory, not on its disk."""

    @abstractmethod
    def guest(self, name: str = "web", **spec: object) -> Guest:
        """A guest of 1 virtual CPU and 64 MiB, unless ``spec`` says otherwise. Not made yet."""

    @abstractmethod
    def again(self) -> Driver:
        """Another driver over the same guests, as after a restart of the worker."""

    @abstractmethod
    def another(self) -> AbstractContextManager[Bench]:
        """While this lasts, there is another node of this kind, without guests."""

    @abstractmethod
    def crash(self, native: str) -> None:
        """End a running guest as nobody ordered it."""

    @abstractmethod
    def disown(self, native: str) -> AbstractContextManager[None]:
        """While this lasts, the guest is one that vmcloud did not make."""

    @abstractmethod
    def foreign(self, name: str, *, memory_mib: int = 48) -> AbstractContextManager[None]:
        """While this lasts, there is a stopped guest that somebody else made with other means, with a file ``/root/theirs``, and
        what becomes of it is removed at the end."""

    @abstractmethod
    def start_foreign(self, name: str) -> None:
        """Start it as its maker would."""

    @abstractmethod
    def look(self, native: str) -> object:
        """Everything about a guest that an acting call could change, past the driver."""

    @abstractmethod
    def left_of(self, guest: Guest) -> Sequence[object]:
        """Everything on the node that has to do with a guest."""

    @abstractmethod
    def blind(self, guest: Guest) -> AbstractContextManager[None]:
        """While this lasts, the driver cannot look, at ``guest`` at least."""

    @abstractmethod
    def stuck(self) -> AbstractContextManager[None]:
        """While this lasts, what starts guests does not end."""

    @abstractmethod
    def killed(self, point: str, call: str, guest: Guest, folder: Path) -> None:
        """Make a call (an expression of ``driver``, ``guest``, ``ref``, its :class:`GuestRef`, and classes such as ``Snapshot``)
        in a process that is killed at a fault point."""

    def points(self, operation: str) -> list[str]:
        """The fault points of one operation of this driver."""
        return sorted(name for name in faults.POINTS if name.startswith(f"driver.{self.driver.kind}.{operation}."))


class SimulatedBench(Bench):
    """Rows of a file."""

    busy = ("true",)
    memory = "/run/kept"

    def __init__(self, folder: Path) -> None:
        self.path = folder / "simulated.sqlite3"
        self.driver = SimulatedDriver(self.path)

    def guest(self, name: str = "web", **spec: object) -> Guest:
        ve = uuid4()
        wanted = Spec.parse({"kind": Kind.SIMULATED, "image": "x", "memory_mib": 64, **spec})
        return Guest(ve, native_name(name, ve), wanted, None, "10.0.0.5/24", "10.0.0.1", hardware_address(ve))

    def again(self) -> Driver:
        return SimulatedDriver(self.path)

    @contextmanager
    def another(self) -> Iterator[Bench]:
        other = SimulatedBench(self.path.parent / "other")
        yield other
        shutil.rmtree(other.path.parent)

    def crash(self, native: str) -> None:
        outside(self.path, native, Observed.CRASHED)

    @contextmanager
    def disown(self, native: str) -> Iterator[None]:
        ve = self._row("guests", native)[0][1]
        self._owner(native, None)
        try:
            yield
        finally:
            self._owner(native, ve)

    @contextmanager
    def foreign(self, name: str, *, memory_mib: int = 48) -> Iterator[None]:
        appear(self.path, Seen(name, Kind.SIMULATED, Observed.STOPPED, vcpus=1, memory_mib=memory_mib))
        store = Store(self.path)
        store.write_file(name, "/root/theirs", b"kept\n")
        try:
            yield
        finally:
            with store.change():
                for record in store.records():
                    if record.seen.native == name or store.adopted(record.seen.native):
                        store.remove(record.seen.native)
            store.close()

    def start_foreign(self, name: str) -> None:
        outside(self.path, name, Observed.RUNNING)

    def _owner(self, native: str, ve: str | None) -> None:
        store = Store(self.path)
        with store.change():
            store._db.execute("UPDATE guests SET ve = ? WHERE native = ?", (ve, native))
        store.close()

    def _row(self, table: str, native: str) -> list[Any]:
        store = Store(self.path)
        rows = store._db.execute(f"SELECT * FROM {table} WHERE native = ?", (native,)).fetchall()
        store.close()
        return rows

    def look(self, native: str) -> object:
        done = {operation: times for (name, operation), times in effects(self.path).items() if name == native}
        return [self._row(table, native) for table in ("guests", "files", "snapshots")], done

    def left_of(self, guest: Guest) -> Sequence[object]:
        return [
            row
            for table in ("guests", "files", "snapshots", "kept", "outgoing", "incoming")
            for row in self._row(table, guest.native)
        ]

    @contextmanager
    def blind(self, guest: Guest) -> Iterator[None]:
        plan_fault(self.path, "list", "look", 1000)
        plan_fault(self.path, "inspect", "look", 1000)
        try:
            yield
        finally:
            plan_fault(self.path, "list", "", 0)
            plan_fault(self.path, "inspect", "", 0)

    @contextmanager
    def stuck(self) -> Iterator[None]:
        plan_fault(self.path, "start", "stuck", 1000)
        try:
            yield
        finally:
            plan_fault(self.path, "start", "", 0)

    def killed(self, point: str, call: str, guest: Guest, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        (folder / point).touch()
        code = f"""
from pathlib import Path
from uuid import UUID
from vmcloud.domain.messages import Snapshot
from vmcloud.domain.spec import Spec
from vmcloud.domain.vocabulary import Desired
from workers.drivers.base import Guest, GuestRef
from workers.drivers.simulated import SimulatedDriver
driver = SimulatedDriver(Path({str(self.path)!r}))
guest = Guest(UUID({str(guest.ve)!r}), {guest.native!r}, Spec.parse({guest.spec.to_json()!r}), None, {guest.address!r},
              {guest.gateway!r}, {guest.mac!r})
ref = GuestRef(guest.ve, guest.native)
driver.{call}
"""
        environment = {**os.environ, "VMCLOUD_FAULTS": str(folder), "PYTHONPATH": str(ROOT)}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=False, timeout=60)
        assert done.returncode == -9, f"not killed at {point}: {done.returncode} {done.stderr.decode()}"


class LxcBench(Bench):
    """Real containers."""

    busy = ("sh", "-c", "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done")
    memory = "/dev/kept"

    def __init__(self, node: lxc_kit.Node) -> None:
        self.node, self.driver = node, node.driver

    def guest(self, name: str = "web", **spec: object) -> Guest:
        return self.node.guest(name, **spec)  # type: ignore[arg-type]

    def again(self) -> Driver:
        return LxcDriver(self.node.driver.settings)

    def another(self) -> AbstractContextManager[Bench]:
        raise NotImplementedError("containers can not be migrated yet")

    def crash(self, native: str) -> None:
        os.kill(process.look(self.node.driver.guests, native).init, signal.SIGKILL)

    @contextmanager
    def disown(self, native: str) -> Iterator[None]:
        marker = self.node.driver.guests / native / "vmcloud.json"
        content = marker.read_bytes()
        marker.unlink()
        try:
            yield
        finally:
            marker.write_bytes(content)

    @contextmanager
    def foreign(self, name: str, *, memory_mib: int = 48) -> Iterator[None]:
        home = self.node.driver.guests
        folder.prepare(home, lxc_kit.BASE)
        (home / name).mkdir()
        copy_tree(self.node.image, home / name / "rootfs", "test")
        theirs = home / name / "rootfs" / "root" / "theirs"
        theirs.write_bytes(b"kept\n")
        os.chown(theirs, lxc_kit.BASE, lxc_kit.BASE)
        limit = f"lxc.cgroup.memory.limit_in_bytes = {memory_mib}M" if memory_mib else ""
        (home / name / "config").write_text(
            f"""# Theirs
lxc.uts.name = {name}
lxc.rootfs.path = dir:{home}/{name}/rootfs
lxc.init.cmd = /sbin/init
lxc.mount.auto = proc sys cgroup:mixed
lxc.environment = THEIRS=yes
lxc.idmap = u 0 {lxc_kit.BASE} {lxc_kit.SIZE}
lxc.idmap = g 0 {lxc_kit.BASE} {lxc_kit.SIZE}
lxc.net.0.type = veth
lxc.net.0.link = {lxc_kit.BRIDGE}
lxc.net.0.flags = up
lxc.net.0.name = eth0
lxc.net.0.hwaddr = 02:11:22:33:44:55
lxc.net.0.ipv4.address = 10.213.86.200/24
lxc.cgroup.cpuset.cpus = 0
lxc.cgroup.cpu.cfs_quota_us = 50000
{limit}
"""
        )
        try:
            yield
        finally:
            self._stop_foreign(name)
            for seen in self.driver.list():
                if seen.ve is not None and (marker := read_marker(home / seen.native)) is not None and marker.adopted == name:
                    self.driver.delete(seen.native)
            shutil.rmtree(home / name, ignore_errors=True)

    def _stop_foreign(self, name: str) -> None:
        argv = ["lxc-stop", "-P", str(self.node.driver.guests), "-n", name, "-k"]
        subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=30)

    def start_foreign(self, name: str) -> None:
        argv = ["/usr/bin/lxc-start", "-P", str(self.node.driver.guests), "-n", name]
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run(argv, check=True, timeout=30, env={"PATH": lxc_module.LXC_PATH}, **quiet)  # type: ignore[call-overload]

    def look(self, native: str) -> object:
        home = self.node.driver.guests / native
        files = {str(path): path.read_bytes() for path in home.glob("*") if path.is_file() and not path.name.endswith(".log")}
        return files, sorted(home.glob("*/*")), process.look(self.node.driver.guests, native)

    def left_of(self, guest: Guest) -> Sequence[object]:
        return lxc_kit.left_of(self.node, guest)

    @contextmanager
    def blind(self, guest: Guest) -> Iterator[None]:
        marker = self.node.driver.guests / guest.native / "vmcloud.json"
        content = marker.read_bytes()
        marker.write_bytes(b"{")
        try:
            yield
        finally:
            marker.write_bytes(content)

    @contextmanager
    def stuck(self) -> Iterator[None]:
        folder = self.node.home / "stuck"
        folder.mkdir(exist_ok=True)
        (folder / "lxc-start").write_text("#!/bin/sh\nexec /bin/sleep 60\n")
        (folder / "lxc-start").chmod(0o755)
        path = f"{folder}:{tools.SYSTEM_PATH}"
        with mock.patch.object(tools, "SYSTEM_PATH", path), mock.patch.object(lxc_module, "START_TIMEOUT", 0.3):
            yield

    def killed(self, point: str, call: str, guest: Guest, folder: Path) -> None:
        lxc_kit.killed_at(point, self.node, call, folder, guest)


def _simulated(folder: Path) -> Iterator[Bench]:
    bench = SimulatedBench(folder)
    yield bench
    bench.driver.close()


def _lxc(_folder: Path) -> Iterator[Bench]:
    for node in lxc_kit.make_node():
        yield LxcBench(node)


BENCHES: dict[Kind, Callable[[Path], Iterator[Bench]]] = {Kind.SIMULATED: _simulated, Kind.LXC: _lxc}
"""Every kind with a driver. It ends with whatever its guests need."""
