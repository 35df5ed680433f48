"""What the LXC driver needs of this machine, each with its exact fix."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from vmcloud.domain.vocabulary import Kind
from workers.drivers import tools
from workers.drivers.base import Check, Fingerprint

from .config import SECCOMP, LxcSettings
from .monitor import find_monitord

INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")
INOTIFY_INSTANCES = 1024
"""Below this many, systemd inside guests dies silently (measured: 40 guests need more than the kernel's default of 128)."""

_ADVICE = ("inotify", "bridge")
"""Checks without which guests still run: the first is a matter of scale, the second the worker sees to itself."""

KNOWN_VERSIONS = range(4, 7)
"""Major versions of liblxc; 4.0 is the oldest with the keys of the configuration used here, 7 does not exist yet."""

_BINDING = "apt-get install lxc-dev pkg-config gcc, then pip install lxc==3.0.4.0"

_PROGRAMS = (
    *((name, "lxc") for name in ("lxc-start", "lxc-attach", "lxc-console")),
    *(("bash", "bash"), ("cp", "coreutils"), ("ip", "iproute2"), ("setsid", "util-linux"), ("umount", "mount")),
)

_CONTROLLERS = ("cpu", "memory", "pids", "freezer", "devices")


def overlay_usable(home: Path) -> bool:
    """Whether guests can be layers: overlayfs inside a user namespace needs Linux 5.11, and layers cannot lie on an overlay."""
    try:
        mount = home.stat().st_dev
    except OSError:
        mount = 0  # it is not made yet, and lies in one of its parents
    return _kernel() >= (5, 11) and _overlay_usable(home, mount)


@lru_cache(maxsize=8)
def _overlay_usable(home: Path, mount: int) -> bool:
    """Asked for by each new driver; another file system mounted at ``home`` has another number."""
    return "overlay" in _filesystems() and _filesystem_of(home) != "overlay"


def fingerprint(settings: LxcSettings) -> Fingerprint:
    """liblxc's version, and the first missing requirement."""
    try:
        import lxc

        version = str(lxc.version)
    except Exception as error:
        return Fingerprint(Kind.LXC, "", False, f"the Python binding of liblxc does not load: {error}. {_BINDING}")
    failed = [check for check in checks(settings) if not check.ok and check.name not in _ADVICE]
    return Fingerprint(Kind.LXC, f"lxc {version}", not failed, f"{failed[0].detail}. {failed[0].fix}" if failed else "")


def checks(settings: LxcSettings) -> Sequence[Check]:
    """Every requirement, fulfilled or not."""
    return [
        Check("root", os.geteuid() == 0, "the LXC driver runs as root", "Start the worker as root."),
        *_programs(),
        _binding(),
        _version(),
        *_groups(),
        _user_namespaces(),
        _overlay(settings.home),
        _reachable(settings.home),
        _ids(settings),
        _inotify(),
        _bridge(settings.bridge),
    ]


def _programs() -> list[Check]:
    found = [
        Check(name, tools.find(name) is not None, f"the program {name}", f"apt-get install {package}")
        for name, package in _PROGRAMS
    ]
    found.append(Check("lxc-monitord", find_monitord() is not None, "the program lxc-monitord", "apt-get install lxc"))
    found.append(Check("seccomp", Path(SECCOMP).exists(), f"the filter {SECCOMP}", "apt-get install lxc"))
    return found


def _binding() -> Check:
    try:
        import lxc  # noqa: F401
    except Exception as error:
        return Check("binding", False, f"the Python module lxc does not load: {error}", _BINDING)
    return Check("binding", True, "the Python module lxc", _BINDING)


def _version() -> Check:
    """liblxc's words in its log and on its sockets are read, so only versions that speak known ones will do."""
    try:
        import lxc

        version = str(lxc.version)
    except Exception:
        return Check("liblxc", False, "the version of liblxc is not known", _BINDING)
    return check_version(version)


def check_version(version: str) -> Check:
    """Whether the driver knows this version of liblxc."""
    match = re.match(r"(\d+)\.", version)
    ok = match is not None and int(match[1]) in KNOWN_VERSIONS
    low, high = KNOWN_VERSIONS.start, KNOWN_VERSIONS.stop - 1
    return Check(
        "liblxc", ok, f"liblxc {version}; versions {low} to {high} are known to work", f"Install lxc {low}.0 to {high}.x."
    )


def _groups(root: Path = Path("/sys/fs/cgroup")) -> list[Check]:
    try:
        unified = (root / "cgroup.controllers").read_text().split()
    except OSError:
        unified = []
    if "memory" in unified:
        needed = {name: name in unified for name in ("cpu", "memory", "pids")}
        fix = "Boot with the controller enabled (see cgroup_disable= on the kernel's command line)."
    else:
        needed = {name: (root / name / "tasks").exists() for name in _CONTROLLERS}
        fix = "mount -t cgroup -o {0} cgroup /sys/fs/cgroup/{0}"
    return [Check(f"cgroup {name}", ok, f"the control group controller {name}", fix.format(name)) for name, ok in needed.items()]


def _user_namespaces() -> Check:
    detail = "user namespaces"
    try:
        allowed = int(Path("/proc/sys/user/max_user_namespaces").read_text())
    except (OSError, ValueError):
        return Check(detail, False, "the kernel has no user namespaces", "Boot a kernel with CONFIG_USER_NS.")
    return Check(detail, allowed > 0, f"user.max_user_namespaces is {allowed}", "sysctl -w user.max_user_namespaces=65536")


def _overlay(home: Path) -> Check:
    # Not a failure: without it guests are full copies of their image, which is slower and larger.
    kind = "layers over the image" if overlay_usable(home) else "full copies of the image (no overlayfs for user namespaces here)"
    return Check("overlay", True, f"guests are {kind}")


def _reachable(home: Path) -> Check:
    """The guest's root, nobody special on the node, must be able to walk to its layers."""
    closed = [path for path in (home, *home.parents) if path.exists() and not path.stat().st_mode & 0o001]
    fix = f"chmod o+x {' '.join(map(str, closed))}" if closed else ""
    return Check("reachable", not closed, f"guests' ids can pass through to {home}", fix)


def _ids(settings: LxcSettings) -> Check:
    """Root needs no entry in /etc/subuid, but nobody else may own ids of the range."""
    low, high = settings.idmap_base, settings.idmap_base + settings.idmap_size
    for name in ("/etc/subuid", "/etc/subgid"):
        for line in _lines(Path(name)):
            owner, _, numbers = line.partition(":")
            if match := re.fullmatch(r"(\d+):(\d+)", numbers.strip()):
                first, count = int(match[1]), int(match[2])
                if owner not in ("root", "0") and first < high and low < first + count:
                    todo = f"Set idmap_base in config.toml to a range outside {first} to {first + count - 1}."
                    return Check("ids", False, f"{name} gives ids of the guests' range {low} to {high - 1} to {owner}", todo)
    return Check("ids", True, f"ids {low} to {high - 1} are the guests' own")


def _inotify() -> Check:
    value = int((_lines(INOTIFY) or ["0"])[0])
    fix = f"sysctl -w fs.inotify.max_user_instances={INOTIFY_INSTANCES}"
    return Check("inotify", value >= INOTIFY_INSTANCES, f"fs.inotify.max_user_instances is {value}", fix)


def _bridge(name: str) -> Check:
    ok = Path(f"/sys/class/net/{name}/bridge").is_dir()
    return Check("bridge", ok, f"the bridge {name}", f"The worker makes it at its start; by hand: ip link add {name} type bridge")


def _kernel() -> tuple[int, ...]:
    match = re.match(r"(\d+)\.(\d+)", platform.release())
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _filesystems() -> set[str]:
    return {line.split()[-1] for line in _lines(Path("/proc/filesystems")) if line.strip()}


def _filesystem_of(path: Path) -> str:
    """The type of the file system that holds ``path``: the longest mount point above it, the last one where several match."""
    best, kind = -1, ""
    text = str(path.resolve())
    for line in _lines(Path("/proc/self/mountinfo")):
        fields = line.split()
        point = fields[4].rstrip("/")
        if (text == point or text.startswith(f"{point}/")) and len(point) >= best:
            best, kind = len(point), fields[fields.index("-") + 1]
    return kind


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
