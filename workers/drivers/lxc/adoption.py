"""Containers that somebody else made, taken over: their shape read from their configuration, their folder renamed.

The rename is the moment of truth. Before it the container is as its maker left it, with a few more files in its folder that mean
nothing there; after it, it is a guest of ours. Its configuration is kept beside ours, which is made from it: what we do not set
ourselves (mounts, hooks, capabilities) stays as it was.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from vmcloud import faults
from vmcloud.domain.kinds import KINDS
from vmcloud.domain.messages import Seen
from vmcloud.domain.vocabulary import Kind, Observed
from workers.drivers.base import BadRequest, Guest, NoSuchGuest, ToolFailed

from . import folder, process
from .config import CONSOLE_BYTES, CPU_PERIOD, Host, LxcSettings, host_veth, limits, render_config
from .folder import FORMER, MARKER, NEXT, POWER, Marker
from .guests import CONSOLE, LOG, Guests, read, translate

faults.declare(
    "worker",
    "driver.lxc.adopt.written",
    "driver.lxc.adopt.renamed",
    "driver.lxc.adopt.settled",
    "driver.lxc.disown.renamed",
)

INCLUDES_MAX = 8
"""How deep files may include others."""
OURS = re.compile(
    r"lxc\.(rootfs\.path|log\.|console\.|tty\.max|start\.|group$|cgroup2?\.(dir|relative|memory\.(limit_in_bytes|memsw\.limit_in_bytes"
    r"|max$|swap\.max)|cpu\.(cfs_quota_us|cfs_period_us|max$)|pids\.max)|net\.0\.veth\.pair)"
)
"""Settings that are ours in an adopted container: where its root is, its limits, its console and log, who starts it."""
_SIZE = re.compile(r"(\d+)([kmgtKMGT]?)")
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}

Settings = Mapping[str, list[str]]


@dataclass(frozen=True)
class Shape:
    """What a container's configuration says. 0 virtual CPUs or MiB: without a limit. ``lower`` is that of an overlay, whose upper
    layer is ``root``; ``base`` the id here of its root, None where it shares ours."""

    root: str
    lower: str = ""
    vcpus: int = 0
    memory_mib: int = 0
    base: int | None = None
    address: str = ""
    gateway: str = ""
    mac: str = ""
    cable: bool = False


def parse(text: str, include: Callable[[str], str], depth: int = 0) -> dict[str, list[str]]:
    """The settings of a configuration file in their order; ``include`` reads one that it includes. What comes later counts; an
    empty value forgets those before it (lxc.container.conf(5))."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        name, value = name.strip(), value.strip()
        if not equals or name.startswith("#"):
            continue
        if name == "lxc.include" and depth < INCLUDES_MAX:
            for key, values in parse(include(value), include, depth + 1).items():
                found.setdefault(key, []).extend(values)
        elif value:
            found.setdefault(name, []).append(value)
        else:
            found.pop(name, None)
    return found


def shape(settings: Settings) -> Shape:
    """What the settings mean. :class:`BadRequest` for a root file system of a sort that we do not keep."""
    path = _last(settings, "lxc.rootfs.path")
    sort, colon, rest = path.partition(":")
    if not colon or sort.startswith("/"):
        sort, rest = "dir", path
    lower = ""
    if sort in ("overlay", "overlayfs"):
        lower, _, rest = rest.rpartition(":")
    if sort not in ("dir", "overlay", "overlayfs") or not rest.startswith("/") or ":" in lower:
        raise BadRequest(
            "adopt",
            f"its root file system is {path or 'not set'}",
            todo="Only a folder of its own, or one layer over another, can be adopted; copy it into the folder rootfs first.",
        )
    return Shape(
        root=rest,
        lower=lower,
        vcpus=_vcpus(settings),
        memory_mib=_memory(settings),
        base=_base(settings),
        address=_last(settings, "lxc.net.0.ipv4.address").partition(" ")[0],
        gateway=_last(settings, "lxc.net.0.ipv4.gateway"),
        mac=_last(settings, "lxc.net.0.hwaddr").lower(),
        cable=_last(settings, "lxc.net.0.type") == "veth",
    )


def _last(settings: Settings, name: str) -> str:
    return settings.get(name, [""])[-1]


def _memory(settings: Settings) -> int:
    text = _last(settings, "lxc.cgroup2.memory.max") or _last(settings, "lxc.cgroup.memory.limit_in_bytes")
    found = _SIZE.fullmatch(text)
    return -(-int(found[1]) * _UNITS[found[2].lower()] >> 20) if found else 0  # rounded up


def _vcpus(settings: Settings) -> int:
    """The smaller of the quota, rounded up, and the processors that it may use."""
    quota, _, period = _last(settings, "lxc.cgroup2.cpu.max").partition(" ")
    if not quota:
        quota, period = _last(settings, "lxc.cgroup.cpu.cfs_quota_us"), _last(settings, "lxc.cgroup.cpu.cfs_period_us")
    share = -(-int(quota) // int(period or CPU_PERIOD)) if quota.isdigit() and (period or "1").isdigit() else 0
    cpus = _last(settings, "lxc.cgroup2.cpuset.cpus") or _last(settings, "lxc.cgroup.cpuset.cpus")
    count = 0
    for part in filter(None, cpus.split(",")):
        first, _, last = part.strip().partition("-")
        if first.isdigit() and (last or first).isdigit():
            count += max(0, int(last or first) - int(first) + 1)
    return min(share, count) if share and count else share or count


def _base(settings: Settings) -> int | None:
    for line in settings.get("lxc.idmap", []):
        words = line.split()
        if len(words) == 4 and words[0] in "ub" and words[1] == "0" and words[2].isdigit():
            return int(words[2])
    return 0 if settings.get("lxc.idmap") else None


def render(former: str, marker: Marker, settings: LxcSettings, host: Host) -> str:
    """The configuration of an adopted container: what it was, at its new place, with what is ours set anew."""
    guest, home = marker.guest, settings.guests / marker.guest.native
    old = re.compile(re.escape(f"{settings.guests}/{marker.adopted}") + r"(?=[/\s:]|$)")
    kept = [line for line in former.splitlines() if not _is_ours(line)]
    root = f"overlay:{guest.image}:{home}/upper" if guest.image else f"dir:{home}/rootfs"
    lines = [
        "# Adopted by vmcloud. What it was before is in config.former; what follows its last line is overwritten.",
        *(old.sub(str(home), line) for line in kept),
        f"lxc.rootfs.path = {root}",
        f"lxc.environment = VMCLOUD_VE={guest.ve}",
        "lxc.tty.max = 1",
        f"lxc.console.logfile = {home}/{CONSOLE}",
        f"lxc.console.size = {CONSOLE_BYTES}",
    ]
    if settings.cgroup_prefix:
        lines.append(f"lxc.cgroup.dir = {settings.cgroup_prefix}")
    if marker.cable:
        lines.append(f"lxc.net.0.veth.pair = {host_veth(guest)}")
    key = "lxc.cgroup2" if host.cgroup_version == 2 else "lxc.cgroup"
    lines += [f"{key}.{name} = {value}" for name, value in limits(guest, settings, host)]
    return "\n".join(lines) + "\n"


def _is_ours(line: str) -> bool:
    name, _, value = line.partition("=")
    return bool(OURS.match(name.strip())) or value.strip().startswith("VMCLOUD_VE=")


def adopt(guests: Guests, orphan: str, guest: Guest) -> Guest:
    """Take a container over.

    1. It is ours by now: finish what a killed call left.
    2. Look: it is stopped and whole, and its root is in its own folder.
    3. Write our files beside its own. None of them means anything while the folder has its old name.
    4. Rename the folder; make that durable. 5. Put the new configuration in the place of the old one.
    """
    path = guests.folder(guest.native)
    if path.exists():
        marker = guests.marker(guest.native, "adopt")
        if marker.guest.ve != guest.ve:
            raise BadRequest("adopt", f"the name {guest.native} belongs to VE {marker.guest.ve} on this node")
        settle(path)
        return marker.guest
    with _alone(_former_folder(guests, orphan)) as old:
        marker = _look(guests, old, guest)
        former = read(old / "config")
        try:
            files = {FORMER: former, NEXT: render(former, marker, guests.settings, guests.host), POWER: Observed.STOPPED}
            folder.replace_durably({old / name: text for name, text in {**files, MARKER: marker.text()}.items()})
            faults.point("driver.lxc.adopt.written")
            old.rename(path)
            faults.point("driver.lxc.adopt.renamed")
            folder.sync_directory(guests.path)
            settle(path)
            faults.point("driver.lxc.adopt.settled")
        except OSError as error:
            raise translate("adopt", error) from error
    return marker.guest


def settle(path: Path) -> None:
    """Put an adopted guest's configuration into place, where a killed call has not."""
    try:
        (path / NEXT).replace(path / "config")
        folder.sync_directory(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise translate("adopt", error) from error


def disown(guests: Guests, native: str, orphan: str) -> None:
    """The way back: rename, then the old configuration, then our files go."""
    path, old = guests.folder(native), guests.path / _checked(orphan)
    try:
        if path.exists():
            marker = guests.marker(native, "disown")
            if marker.adopted != orphan:
                raise BadRequest("disown", f"{native} was not adopted from {orphan}")
            if process.look(guests.path, native).state is not Observed.STOPPED:
                raise BadRequest("disown", f"{native} runs", todo="Stop it first.")
            if old.exists():
                raise BadRequest("disown", f"there is another container called {orphan} by now")
            path.rename(old)
            faults.point("driver.lxc.disown.renamed")
            folder.sync_directory(guests.path)
        if _names(old / MARKER) != native:
            return
        if (old / FORMER).exists():
            (old / FORMER).replace(old / "config")
        for name in (NEXT, POWER, process.LIFE, LOG, CONSOLE, MARKER):  # the marker last: it says that there is something to do
            (old / name).unlink(missing_ok=True)
        folder.sync_directory(old)
    except OSError as error:
        raise translate("disown", error) from error


def seen(path: Path, state: Observed) -> Seen:
    """A container that is not ours, with the sizes (0: no limit) and the address that its configuration says."""
    settings = parse(read(path / "config"), _include)
    address = _last(settings, "lxc.net.0.ipv4.address").partition("/")[0]
    return Seen(
        native=folder.printable(path.name),
        kind=Kind.LXC,
        state=state,
        addresses=(address,) if address else (),
        mac=_last(settings, "lxc.net.0.hwaddr").lower(),
        vcpus=_vcpus(settings),
        memory_mib=_memory(settings),
    )


def configuration(guests: Guests, marker: Marker) -> str:
    """The configuration file of a guest, as it was made, whatever the settings say of new guests."""
    if marker.adopted:
        return render(read(guests.path / marker.guest.native / FORMER), marker, guests.settings, guests.host)
    settings, host = replace(guests.settings, copy=marker.copied), replace(guests.host, overlay=not marker.copied)
    return render_config(marker.guest, settings, host)


def _look(guests: Guests, old: Path, guest: Guest) -> Marker:
    """The marker that the container gets. :class:`BadRequest` where it can not be adopted as it is."""
    orphan = old.name
    state = process.look(guests.path, orphan).state
    if state is not Observed.STOPPED:
        raise BadRequest(
            "adopt",
            f"{orphan} is {state}, and only what is stopped can be given another name",
            todo=f"Stop it: lxc-stop -P {guests.path} -n {orphan}. Then adopt it, and start it with `vmcloud ve start`.",
        )
    if (old / "partial").exists():
        raise BadRequest("adopt", f"{orphan} is being made just now, or was left half made", todo="Let lxc-create finish.")
    if read(old / "lxc_snapshots").strip() not in ("", "0"):
        todo = "Copy the clones, or delete them, first."
        raise BadRequest("adopt", f"other containers are layers over {orphan} and would lose it", todo=todo)
    settings = parse(read(old / "config"), _include)
    if _last(settings, "lxc.ephemeral") == "1":
        raise BadRequest("adopt", f"{orphan} is ephemeral: it is erased when it stops", todo="Set lxc.ephemeral = 0.")
    found = shape(settings)
    inside = old / ("upper" if found.lower else "rootfs")
    if Path(found.root).resolve() != inside.resolve() or inside.is_symlink() or not inside.is_dir():
        raise BadRequest(
            "adopt",
            f"the root file system of {orphan} is {found.root}, not {inside}",
            todo=f"Move it to {inside} and set lxc.rootfs.path accordingly.",
        )
    if found.lower and not Path(found.lower).is_dir():
        raise BadRequest("adopt", f"{found.lower}, over which {orphan} is a layer, is not there")
    vcpus, memory = _sizes(orphan, guest, found)
    return Marker(
        replace(
            guest,
            spec=replace(guest.spec, privileged=found.base is None, vcpus=vcpus, memory_mib=memory),
            image=Path(found.lower) if found.lower else None,
            address=found.address,
            gateway=found.gateway,
            mac=found.mac,
        ),
        copied=not found.lower,
        adopted=orphan,
        cable=found.cable,
        base=found.base,
    )


def _sizes(orphan: str, guest: Guest, found: Shape) -> tuple[int, int]:
    """Those asked for, else those that it has. Without a limit on processors it has all of the node's."""
    vcpus = guest.spec.vcpus or found.vcpus or os.cpu_count() or 1
    memory = guest.spec.memory_mib or found.memory_mib
    if not memory:
        raise BadRequest("adopt", f"{orphan} has no limit of memory", todo="Say which one it is to have (--memory).")
    limit = KINDS[Kind.LXC]
    for name, value, (low, high) in (("virtual CPUs", vcpus, limit.vcpus), ("MiB of memory", memory, limit.memory_mib)):
        if not low <= value <= high:
            raise BadRequest("adopt", f"a container cannot have {value} {name}", todo=f"Choose {low} to {high}.")
    return vcpus, memory


def _checked(orphan: str) -> str:
    """A name that is one folder's in LXCPATH."""
    if not orphan or orphan.startswith(".") or "/" in orphan or "\0" in orphan:
        raise BadRequest("adopt", f"{orphan[:100]!r} cannot be a container's name")
    return orphan


def _former_folder(guests: Guests, orphan: str) -> Path:
    path = guests.path / _checked(orphan)
    if path.is_symlink() or not (path / "config").is_file():
        raise NoSuchGuest("adopt", f"no container is called {orphan} on this node")
    if folder.read_marker(path) is not None:
        raise BadRequest("adopt", f"{orphan} is vmcloud's already")
    return path


@contextmanager
def _alone(path: Path) -> Iterator[Path]:
    """Two may not adopt the same container under two names at once."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield path
    except BlockingIOError as error:
        raise ToolFailed("adopt", f"{path.name} is being adopted just now") from error
    finally:
        os.close(handle)


def _names(marker: Path) -> str:
    """The guest that a marker is about, wherever it lies."""
    try:
        return str(json.loads(marker.read_bytes())["native"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _include(name: str) -> str:
    """A file, or those of a folder that end in .conf, as liblxc reads them."""
    path = Path(name)
    if path.is_dir():
        return "\n".join(read(each) for each in sorted(path.glob("*.conf")))
    return read(path)
