"""A running guest's control groups, version 1 and 2: read and write sizes, freeze and thaw.

Written directly because liblxc polls with whole seconds: its freeze takes 4 ms or 1005 ms at random (lxc 5.0.2 freezer.c), ours
takes as long as the kernel does.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from workers.drivers.base import BadRequest, CannotLook, TimedOut

from .config import CPU_PERIOD, Host

ROOT = Path("/sys/fs/cgroup")

_PAYLOAD = "/lxc.payload."

LEAVE_SECONDS = 0.5
"""How long a group that should be empty may stay busy."""


def version(root: Path = ROOT) -> int:
    """2 where the machine has one unified hierarchy with the memory controller, else 1."""
    try:
        return 2 if "memory" in (root / "cgroup.controllers").read_text().split() else 1
    except OSError:
        return 1


def look_at_host(root: Path = ROOT, *, overlay: bool = True) -> Host:
    """This machine's :class:`Host` facts."""
    found = version(root)
    # The files exist only below the root group in version 2, and only with the kernel's swap accounting in version 1.
    swap = Path("/proc/swaps").exists() if found == 2 else (root / "memory" / "memory.memsw.limit_in_bytes").exists()
    return Host(found, swap=swap, apparmor=Path("/sys/kernel/security/apparmor").is_dir(), overlay=overlay)


class Groups:
    """The control groups of the guest that has the process ``init``; ``listed`` is the file that names them.

    A process that is only on its way into them still has some of its parent's, which are the worker's or the whole node's: those
    are never read or written here. Raises :class:`CannotLook` where it has none of a guest's.
    """

    def __init__(self, init: int, root: Path = ROOT, listed: Path | None = None) -> None:
        self._root = str(root)
        self._paths: dict[str, str] = {}
        try:
            text = _read(str(listed or f"/proc/{init}/cgroup"))
        except OSError as error:
            raise CannotLook("cgroup", f"the groups of process {init} cannot be read: {error.strerror}") from error
        for line in text.splitlines():
            _, controllers, path = line.split(":", 2)
            # An init that made groups of its own (systemd) sits below the guest's group.
            path = _payload(path)
            if _PAYLOAD in path:
                for controller in controllers.removeprefix("name=").split(","):
                    self._paths[controller] = path
        if not self._paths:
            raise CannotLook("cgroup", f"process {init} is in no guest's control group")

    @property
    def version(self) -> int:
        """Which version's files there are."""
        return 1 if "memory" in self._paths else 2

    def file(self, name: str) -> Path:
        """The file ``name`` (such as ``memory.max``) of the guest's group."""
        return Path(self._place(name))

    def _place(self, name: str) -> str:
        controller = name.partition(".")[0]
        if controller not in self._paths:
            controller = ""
        if controller not in self._paths:
            raise CannotLook("cgroup", f"the guest is in no control group that has {name}")
        return f"{self._root}/{controller}{self._paths[controller]}/{name}"

    def read(self, name: str) -> str:
        """The file's content, or empty if there is none."""
        try:
            return _read(self._place(name)).strip()
        except (OSError, CannotLook):
            return ""

    def write(self, name: str, value: str) -> None:
        """Set one limit. Raises :class:`BadRequest` with the kernel's reason where it refuses."""
        try:
            self.file(name).write_text(value)
        except OSError as error:
            raise BadRequest(
                "resize",
                f"the kernel refuses {name} = {value}",
                stderr=error.strerror or str(error),
                todo="The guest uses more than that now; stop it or choose a larger size." if "memory" in name else "",
            ) from error

    def sizes(self) -> tuple[int, int]:
        """Virtual CPUs and MiB of memory that the kernel enforces; 0 where it enforces none."""
        if self.version == 2:
            memory, quota = self.read("memory.max"), self.read("cpu.max").partition(" ")[0]
        else:
            memory, quota = self.read("memory.limit_in_bytes"), self.read("cpu.cfs_quota_us")
        vcpus = -(-int(quota) // CPU_PERIOD) if quota.isdigit() else 0
        mib = int(memory) >> 20 if memory.isdigit() else 0
        return vcpus, mib if mib < 1 << 40 else 0

    def set(self, wanted: list[tuple[str, str]]) -> None:
        """Write limits; on a refusal those already written are put back and :class:`BadRequest` is raised."""
        done: list[tuple[str, str]] = []
        try:
            for name, value in _ordered(wanted, self.read):
                old = self.read(name)
                if old != value:
                    self.write(name, value)
                    done.append((name, old))
        except (BadRequest, CannotLook):
            for name, old in reversed(done):
                try:
                    self.write(name, old)
                except (BadRequest, CannotLook):
                    pass
            raise

    def of(self, native: str) -> bool:
        """Whether these are the groups that liblxc made for that guest."""
        group = f"/lxc.payload.{native}"
        return any(path.endswith(group) for path in self._paths.values())

    def count_disk(self, path: Path) -> None:
        """Have version 1 count the bytes that the guest moves on the disk of ``path``: newer kernels (measured: 6.18) do so only
        once a limit was written for that disk, and 0 writes none. Where the disk is of another kind, nothing is counted."""
        with suppress(OSError):
            self.file("blkio.throttle.write_bps_device").write_text(f"{_disk(path.stat().st_dev)} 0")

    @property
    def frozen(self) -> bool:
        """Whether the kernel has stopped every process of the guest."""
        if "freezer" in self._paths:
            return self.read("freezer.state") == "FROZEN"
        return "frozen 1" in self.read("cgroup.events").splitlines()

    def freeze(self, wanted: bool, timeout: float = 10.0) -> None:
        """Freeze or thaw and wait until the kernel has done so. Raises :class:`TimedOut` after putting it back."""
        first = "freezer" in self._paths
        name, on, off = ("freezer.state", "FROZEN", "THAWED") if first else ("cgroup.freeze", "1", "0")
        value = on if wanted else off
        end = time.monotonic() + timeout
        self.write(name, value)
        while self.frozen is not wanted:
            if time.monotonic() > end:
                self.write(name, off)
                raise TimedOut("suspend" if wanted else "resume", f"the guest did not change within {timeout:g} s")
            time.sleep(0.001)
            if first:
                # Version 1 moves on only when asked: a second write finishes a freeze that some task escaped.
                self.write(name, value)


@lru_cache(maxsize=8)
def _disk(device: int) -> str:
    """The numbers of the disk that a block device is, or is a part of."""
    numbers = f"{os.major(device)}:{os.minor(device)}"
    folder = Path("/sys/dev/block", numbers)
    return (folder.resolve().parent / "dev").read_text().strip() if (folder / "partition").exists() else numbers


def _payload(path: str) -> str:
    """The guest's own group, in which ``path`` lies."""
    above, found, below = path.partition(_PAYLOAD)
    return f"{above}{found}{below.partition('/')[0]}"


def _read(path: str) -> str:
    """A small file at the least price: hundreds are read for each list of a node's guests."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 1 << 16).decode(errors="replace")
    finally:
        os.close(descriptor)


def _ordered(wanted: list[tuple[str, str]], read: Callable[[str], str]) -> list[tuple[str, str]]:
    """Version 1 wants memory+swap never below memory: raise the sum first, lower it last."""
    names = [name for name, _ in wanted]
    sum_name, memory_name = "memory.memsw.limit_in_bytes", "memory.limit_in_bytes"
    if sum_name not in names:
        return wanted
    old = read(memory_name)
    growing = old.isdigit() and int(dict(wanted)[memory_name]) > int(old)
    first, second = (sum_name, memory_name) if growing else (memory_name, sum_name)
    rest = [(name, value) for name, value in wanted if name not in (sum_name, memory_name)]
    return [(first, dict(wanted)[first]), (second, dict(wanted)[second]), *rest]


def remove_leftovers(native: str, prefix: str = "", root: Path = ROOT) -> None:
    """Remove the empty groups that a killed liblxc left behind; with them there it would choose other names. Only groups of this
    guest are looked at, below the group of process 1, as liblxc does for root."""
    try:
        own = _read("/proc/1/cgroup")
    except OSError:
        return
    for above in _above_guests(own, prefix, root):
        for kind in ("payload", "monitor"):
            group = f"{above}/lxc.{kind}.{native}"
            if os.access(group, os.F_OK):
                _remove_tree(Path(group))


@lru_cache(maxsize=1)
def _above_guests(own: str, prefix: str, root: Path) -> tuple[str, ...]:
    """The folders in which liblxc makes guests' groups, one or two dozen; ``own`` are process 1's. Each start asks."""
    found: list[Path] = []
    for line in own.splitlines():
        _, controllers, path = line.split(":", 2)
        below = Path(path.removesuffix("/init.scope").lstrip("/")) / prefix
        name = controllers.removeprefix("name=")
        found += [mount / below for mount in ((root / name,) if name else (root, root / "unified"))]
    return tuple(map(str, found))


def _remove_tree(group: Path) -> None:
    """Remove an empty group with those below it. Processes that are just dying keep one busy for a moment."""
    end = time.monotonic() + LEAVE_SECONDS
    for child in group.iterdir():
        if child.is_dir():
            _remove_tree(child)
    while True:
        try:
            group.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            if time.monotonic() > end:
                return
            time.sleep(0.002)
