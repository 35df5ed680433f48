"""What the machine itself must offer. Each check yields (name, OK | WARN | FAIL, detail, fix)."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from vmcloud.config import Config

from . import broker, report

Found = Iterator[tuple[str, str, str, str]]

SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NAMESPACES = ("mnt", "net", "pid", "ipc", "uts", "user")
CONTROLLERS = ("cpu", "memory", "pids")
INOTIFY_INSTANCES, INOTIFY_WATCHES = 512, 65536
GIB = 1 << 30


def programs(data: Path, config: Config | None) -> Found:
    """External programs, with the Debian package that has each."""
    found = broker.program()
    yield _program("broker program", found, "redis-server")
    for name, package in (("slapd", "slapd"), ("slapadd", "slapd"), ("ldapsearch", "ldap-utils")):
        yield _program(name, shutil.which(name, path=SEARCH), package)


def _program(name: str, found: str | None, package: str) -> tuple[str, str, str, str]:
    if found:
        return name, "OK", found, ""
    return name, "FAIL", "not installed", f"apt-get install --no-install-recommends {package}"


def kernel(data: Path, config: Config | None) -> Found:
    """Namespaces and the overlay file system."""
    missing = [name for name in NAMESPACES if not Path(f"/proc/self/ns/{name}").exists()]
    if missing:
        yield (
            "namespaces",
            "FAIL",
            f"the kernel lacks: {', '.join(missing)}",
            "boot a kernel with CONFIG_NAMESPACES and its kinds",
        )
    else:
        yield "namespaces", "OK", " ".join(NAMESPACES), ""
    limit = _number("/proc/sys/user/max_user_namespaces")
    if limit == 0:
        yield "user namespaces", "FAIL", "none are allowed", "sysctl -w user.max_user_namespaces=10000"
    else:
        yield "user namespaces", "OK", f"up to {limit}" if limit else "allowed", ""
    if "overlay" in Path("/proc/filesystems").read_text().split():
        yield "overlayfs", "OK", "in the kernel", ""
    elif shutil.which("modprobe", path=SEARCH) and _runs(["modprobe", "--dry-run", "overlay"]):
        yield (
            "overlayfs",
            "WARN",
            "a module that is not loaded",
            "modprobe overlay; echo overlay > /etc/modules-load.d/overlay.conf",
        )
    else:
        yield "overlayfs", "FAIL", "the kernel has none", "boot a kernel with CONFIG_OVERLAY_FS"


def cgroups(data: Path, config: Config | None) -> Found:
    """Controllers that limit guests, in version 2 or in mounts of version 1."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    available: set[str] = set()
    for mount in mounts:
        if mount[2] == "cgroup":
            available |= set(mount[3].split(","))
        elif mount[2] == "cgroup2":
            try:
                available |= set((Path(mount[1]) / "cgroup.controllers").read_text().split())
            except OSError:
                pass
    missing = [name for name in CONTROLLERS if name not in available]
    if not missing:
        yield "cgroup controllers", "OK", " ".join(CONTROLLERS), ""
    elif not any(mount[2] in ("cgroup", "cgroup2") for mount in mounts):
        yield "cgroup controllers", "FAIL", "no cgroup file system is mounted", "mount -t cgroup2 cgroup2 /sys/fs/cgroup"
    else:
        fix = (
            "add cgroup_enable=memory to the kernel's command line, and reboot" if "memory" in missing else "boot another kernel"
        )
        yield "cgroup controllers", "FAIL", f"missing: {', '.join(missing)}", fix


def limits(data: Path, config: Config | None) -> Found:
    """Limits that many guests reach: each guest's init takes inotify instances."""
    for name, wanted in (("max_user_instances", INOTIFY_INSTANCES), ("max_user_watches", INOTIFY_WATCHES)):
        value = _number(f"/proc/sys/fs/inotify/{name}")
        if value is None or value >= wanted:
            yield f"inotify {name}", "OK", str(value), ""
        else:
            key = f"fs.inotify.{name}"
            fix = f"echo '{key} = {wanted}' > /etc/sysctl.d/60-vmcloud-{name}.conf && sysctl -w {key}={wanted}"
            yield f"inotify {name}", "WARN", f"{value}: too few for dozens of guests, {wanted} wanted", fix
    files = os.sysconf("SC_OPEN_MAX")
    if files >= 1024:
        yield "open files", "OK", str(files), ""
    else:
        yield "open files", "WARN", f"{files} for each process", "ulimit -n 4096"


def room(data: Path, config: Config | None) -> Found:
    """Disk and memory."""
    place = next(folder for folder in (data, *data.parents) if folder.exists())
    usage = shutil.disk_usage(place)
    text = f"{usage.free / GIB:.1f} GiB free at {place}"
    if usage.free < GIB:
        yield "disk", "FAIL", text, f"free at least 1 GiB: du -xsh {place}/* | sort -h; or use another folder (--data)"
    elif usage.free < 5 * GIB:
        yield "disk", "WARN", text + ": enough for small guests only", f"du -xsh {place}/* | sort -h"
    else:
        yield "disk", "OK", text, ""
    table = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    available = int(table["MemAvailable"].split()[0]) * 1024
    if available < GIB // 2:
        yield (
            "memory",
            "WARN",
            f"{available / GIB:.1f} GiB available; the parts alone take 0.4",
            "stop what else runs: ps aux --sort -rss",
        )
    else:
        yield "memory", "OK", f"{available / GIB:.1f} GiB available", ""


def overcommit(data: Path, config: Config | None) -> Found:
    """The kernel gives memory that is reserved and not used: the broker saves from a copy of itself, and asks for that."""
    mode = _number("/proc/sys/vm/overcommit_memory")
    if mode is None or mode == 1:
        yield "memory overcommit", "OK", "always" if mode else "not known here", ""
        return
    key = "vm.overcommit_memory"
    fix = f"echo '{key} = 1' > /etc/sysctl.d/60-vmcloud-overcommit.conf && sysctl -w {key}=1"
    often = "at any time" if mode == 2 else "when memory is short"
    yield "memory overcommit", "WARN", f"{mode}: saving of the broker may fail {often}, 1 wanted", fix


def clock(data: Path, config: Config | None) -> Found:
    """The clock agrees with the file system's, has not gone back since the last start, and is kept right by somebody."""
    place = next((folder for folder in (data / "run", Path("/tmp")) if os.access(folder, os.W_OK)), Path("/tmp"))
    with tempfile.NamedTemporaryFile(dir=place) as file:
        file.write(b".")
        file.flush()
        skew = abs(os.stat(file.fileno()).st_mtime - time.time())  # noqa: PTH116 - by descriptor
    if skew > 1.0:
        yield "clock and files", "FAIL", f"{place} and this machine differ by {skew:.0f} s", "set the clock of the file server"
    else:
        yield "clock and files", "OK", "agree", ""
    status = data / "run" / "status.json"
    ahead = status.stat().st_mtime - time.time() if status.exists() else 0.0
    if ahead > 5.0:
        yield (
            "clock",
            "FAIL",
            f"it was set back by {report.duration(ahead)} or more: orders will seem not yet valid",
            "chronyc makestep",
        )
    else:
        yield "clock", "OK", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()), ""
    if shutil.which("timedatectl", path=SEARCH) and Path("/run/systemd/system").exists():
        argv = ["timedatectl", "show", "--property", "NTPSynchronized", "--value"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=False)
        if done.stdout.strip() == "yes":
            yield "clock synchronised", "OK", "yes", ""
        else:
            yield "clock synchronised", "WARN", "no: nodes with clocks of their own refuse orders", "timedatectl set-ntp true"


def _number(path: str) -> int | None:
    try:
        return int(Path(path).read_text())
    except (OSError, ValueError):
        return None


def _runs(argv: list[str]) -> bool:
    try:
        return subprocess.run(argv, capture_output=True, timeout=10, check=False).returncode == 0
    except OSError:
        return False
