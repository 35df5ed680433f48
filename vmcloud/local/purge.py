"""``vmcloud down --purge``: remove what was made, guests first. Also ends companions that nobody needs any more."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from vmcloud.config import DEFAULT_DATA, Config
from vmcloud.domain.errors import Forbidden, Unavailable
from vmcloud.domain.vocabulary import Kind
from workers.companions import Companions
from workers.drivers.base import Driver, DriverError
from workers.drivers.registry import make_driver
from workers.network import bridge

from . import process

Tell = Callable[[str], None]
UNIT = Path("/etc/systemd/system/vmcloud.service")


def announcement(config: Config) -> str:
    """What will be gone."""
    count = sum(1 for _ in _guests(config))
    guests = f"{count} guest{'' if count == 1 else 's'} of this machine with their disks"
    left = " The job database is elsewhere and stays." if config.database_url else ""
    return f"This removes {config.data}: jobs, directory, images, secrets; and {guests}.{left}"


def purge(config: Config, tell: Tell) -> None:
    """Remove, in this order: guests, companions, bridge, the data directory. Call it once the parts have ended.

    Nothing of the data is removed while a guest is left: :class:`Unavailable` says which, and the command may be repeated.
    """
    if os.geteuid() != config.data.stat().st_uid:
        raise Forbidden(f"{config.data} is another user's", todo="Run it as root: sudo vmcloud down --purge.")
    for driver, native in list(_guests(config)):
        try:
            driver.delete(native)
        except DriverError as error:
            raise Unavailable(
                f"guest {native} could not be removed", why=str(error), todo="Put that right and repeat."
            ) from error
        tell(f"removed guest {native}")
    if left := [native for _, native in _guests(config)]:
        raise Unavailable(f"guests are left: {', '.join(left)}", todo="Stop the worker (`vmcloud down`) and repeat.")
    _stop_companions(config, tell)
    _end_monitors(config.data)
    if not config.node.simulate and _unused(config.node.bridge):
        bridge.remove(config.node.bridge)
        tell(f"removed bridge {config.node.bridge}")
    _unmount_below(config.data)
    if UNIT.exists() and config.data == DEFAULT_DATA and Path("/run/systemd/system").exists():
        subprocess.run(["systemctl", "disable", "--quiet", "vmcloud"], timeout=30, check=False)
        tell("the service vmcloud does not start at boot any more")
    shutil.rmtree(config.data)
    tell(f"removed {config.data}")


def stop_idle_companions(config: Config, tell: Tell) -> None:
    """Stop what guests need, where no guest is left. Where that can not be seen, they stay."""
    if not _folders(config):
        return
    try:
        if any(True for _ in _guests(config)):
            return
    except Unavailable as error:
        tell(str(error))
        return
    _stop_companions(config, tell)


def _homes(config: Config) -> list[Path]:
    """The folders of all nodes that this machine was ever: a node's name may have been changed, or its mode."""
    folder = config.node_home("-").parent
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _folders(config: Config) -> list[Path]:
    """The folders with records of companions."""
    found = [home / "companions" for home in _homes(config)]
    return [folder for folder in found if folder.is_dir()]


def _stop_companions(config: Config, tell: Tell) -> None:
    for folder in _folders(config):
        companions = Companions(folder)
        for record in companions.running():
            companions.stop(record.name)
            tell(f"{record.name} has stopped")


def _guests(config: Config) -> Iterator[tuple[Driver, str]]:
    """Every guest below the data directory, of every driver, whatever the configuration says now. :class:`Unavailable` where a
    driver could not look: that is not "none"."""
    for home in _homes(config):
        for kind in Kind:
            # A driver keeps its guests in a folder called as their kind; simulated ones are rows of a file.
            folder = home / kind.value
            if kind is Kind.SIMULATED or not folder.is_dir() or not any(folder.iterdir()):
                continue
            try:
                driver = make_driver(kind, config, home.name)
                found = [(driver, seen.native) for seen in driver.list()]
            except (DriverError, ImportError, LookupError) as error:
                raise Unavailable(f"the {kind} guests of {home.name} can not be listed", why=str(error)) from error
            yield from found


def _end_monitors(data: Path) -> None:
    """End liblxc's event daemons for folders of ours; they would see for themselves, half a minute later."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        ours = len(words) > 1 and words[0].endswith(b"/lxc-monitord") and words[1].startswith(f"{data}/".encode())
        if ours and (known := process.ident(int(entry.name))) is not None:
            found.append(known)
    process.end(found, grace=2.0)


def _unused(name: str) -> bool:
    """Whether the bridge is there and nothing is plugged in: one with a cable that is not a guest's is somebody's own."""
    ports = Path("/sys/class/net") / name / "brif"
    return ports.is_dir() and not any(ports.iterdir())


def mounts_below(folder: Path, mountinfo: str) -> list[str]:
    """Mount points inside ``folder``, deepest first (proc_pid_mountinfo(5); blanks are written as ``\\040``)."""
    points = [line.split()[4].replace("\\040", " ") for line in mountinfo.splitlines() if line]
    return sorted((point for point in points if point.startswith(f"{folder}/")), key=len, reverse=True)


def _unmount_below(folder: Path) -> None:
    """Take away every mount, so that removing the folder removes nothing behind one."""
    own = Path("/proc/self/mountinfo")
    for point in mounts_below(folder, own.read_text()):
        subprocess.run(["umount", "-l", "--", point], capture_output=True, timeout=30, check=False)
    left = mounts_below(folder, own.read_text())
    if left:
        raise Unavailable(f"{left[0]} is still mounted", todo=f"umount {left[0]}; then repeat.")
