"""The shape of an LXC guest as liblxc's configuration file: pure functions of the guest, the settings and the host's facts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from workers.drivers.base import Guest

CPU_PERIOD = 100_000
"""Microseconds over which the kernel counts a guest's share of the processors."""

GUEST_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

CONSOLE_BYTES = 131072
"""Upper limit of a guest's boot log; liblxc wants a power of two."""

DROPPED_CAPABILITIES = "mac_admin mac_override sys_time sys_module sys_rawio"

SECCOMP = "/usr/share/lxc/config/common.seccomp"

DEVICES = (
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",  # null
    "c 1:5 rwm",  # zero
    "c 1:7 rwm",  # full
    "c 1:8 rwm",  # random
    "c 1:9 rwm",  # urandom
    "c 5:0 rwm",  # tty
    "c 5:1 rwm",  # console
    "c 5:2 rwm",  # ptmx
    "c 136:* rwm",  # pts
)

LXCFS_FILES = ("cpuinfo", "diskstats", "loadavg", "meminfo", "stat", "swaps", "uptime")


@dataclass(frozen=True)
class LxcSettings:
    """One node's LXC driver. Guests live in ``home/lxc``; ids 0 to ``idmap_size`` of a guest are ``idmap_base`` and up here.

    ``cgroup_prefix`` puts the guests' control groups below a group of that name. ``lxcfs`` is the mount point of lxcfs, or
    None: then guests see the node's memory and processors. ``pids_max`` bounds the processes of one guest. ``copy`` makes
    guests by copying the image even where an overlay would do.
    """

    home: Path
    bridge: str
    idmap_base: int
    idmap_size: int
    cgroup_prefix: str = ""
    lxcfs: Path | None = None
    pids_max: int = 4096
    copy: bool = False

    @property
    def guests(self) -> Path:
        """LXCPATH: one folder per guest."""
        return self.home / "lxc"


@dataclass(frozen=True)
class Host:
    """What of this machine shapes a configuration. ``swap``: the kernel can limit a group's swap."""

    cgroup_version: int
    swap: bool = False
    apparmor: bool = False
    overlay: bool = True


def host_veth(guest: Guest) -> str:
    """The host's end of the guest's cable: 15 characters are all that the kernel allows."""
    return f"vc{guest.ve.hex[:12]}"


def hostname(guest: Guest) -> str:
    """The VE's own name: the native name without the part of the UUID."""
    return guest.native.removesuffix(f"-{guest.ve.hex[:8]}")


def limits(guest: Guest, settings: LxcSettings, host: Host) -> list[tuple[str, str]]:
    """Control-group files and their values, in the order in which they can be written to a group without limits."""
    memory = guest.spec.memory_mib << 20
    quota = guest.spec.vcpus * CPU_PERIOD
    if host.cgroup_version == 2:
        swap = [("memory.swap.max", "0")] if host.swap else []
        sizes = [("memory.max", str(memory)), *swap, ("cpu.max", f"{quota} {CPU_PERIOD}")]
    else:
        swap = [("memory.memsw.limit_in_bytes", str(memory))] if host.swap else []
        cpu = [("cpu.cfs_period_us", str(CPU_PERIOD)), ("cpu.cfs_quota_us", str(quota))]
        sizes = [("memory.limit_in_bytes", str(memory)), *swap, *cpu]
    return [*sizes, ("pids.max", str(settings.pids_max))]


def render_config(guest: Guest, settings: LxcSettings, host: Host) -> str:
    """The whole configuration file of ``guest``. ``guest.image`` is the image's tree with owners as the guest needs them."""
    folder = settings.guests / guest.native
    if guest.image is None:
        raise ValueError("a guest needs an image")
    overlay = host.overlay and not settings.copy
    lines = [
        "# Written by vmcloud from the VE's spec; changes made here are overwritten.",
        f"lxc.uts.name = {hostname(guest)}",
        f"lxc.rootfs.path = overlay:{guest.image}:{folder}/upper" if overlay else f"lxc.rootfs.path = dir:{folder}/rootfs",
        "lxc.init.cmd = /sbin/init",
        f"lxc.environment = PATH={GUEST_PATH}",
        f"lxc.environment = VMCLOUD_VE={guest.ve}",
        "lxc.tty.max = 1",
        "lxc.pty.max = 256",
        f"lxc.console.logfile = {folder}/console.log",
        f"lxc.console.size = {CONSOLE_BYTES}",
        "lxc.mount.auto = cgroup:mixed proc:mixed sys:mixed",
        f"lxc.cap.drop = {DROPPED_CAPABILITIES}",
        f"lxc.seccomp.profile = {SECCOMP}",
    ]
    if host.apparmor:
        lines.append("lxc.apparmor.profile = generated")
    if not guest.spec.privileged:
        lines += [f"lxc.idmap = {kind} 0 {settings.idmap_base} {settings.idmap_size}" for kind in ("u", "g")]
        if overlay:
            # A user namespace cannot write trusted.* attributes; without this an emptied and remade directory fails with EIO.
            lines.append("lxc.rootfs.options = userxattr")
    if settings.cgroup_prefix:
        lines.append(f"lxc.cgroup.dir = {settings.cgroup_prefix}")
    key = "lxc.cgroup2" if host.cgroup_version == 2 else "lxc.cgroup"
    if guest.spec.privileged:
        lines += [f"{key}.devices.deny = a", *(f"{key}.devices.allow = {rule}" for rule in DEVICES)]
    lines += [f"{key}.{name} = {value}" for name, value in limits(guest, settings, host)]
    if settings.lxcfs is not None:
        lines += [f"lxc.mount.entry = {settings.lxcfs}/proc/{name} proc/{name} none bind,optional 0 0" for name in LXCFS_FILES]
    return "\n".join([*lines, *_network(guest, settings)]) + "\n"


def _network(guest: Guest, settings: LxcSettings) -> list[str]:
    if not guest.address:
        return ["lxc.net.0.type = empty"]
    lines = [
        "lxc.net.0.type = veth",
        f"lxc.net.0.link = {settings.bridge}",
        "lxc.net.0.flags = up",
        "lxc.net.0.name = eth0",
        f"lxc.net.0.veth.pair = {host_veth(guest)}",
        f"lxc.net.0.ipv4.address = {guest.address}",
    ]
    if guest.gateway:
        lines.append(f"lxc.net.0.ipv4.gateway = {guest.gateway}")
    if guest.mac:
        lines.append(f"lxc.net.0.hwaddr = {guest.mac}")
    return lines
