"""Guests made, resized and removed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from vmcloud import faults
from vmcloud.domain.kinds import KINDS
from vmcloud.domain.vocabulary import Kind, Observed
from workers.drivers import tools
from workers.drivers.base import BadRequest, DriverError, Guest, GuestRef, NoImage, Report
from workers.storage.images import with_owners
from workers.storage.unpack import IdMap, sync_filesystem

from . import adoption, cgroups, folder, power, snapshots
from .config import host_veth, hostname, limits
from .folder import MAKING, MARKER, POWER, Marker
from .guests import Guests, copy_tree, read, translate

faults.declare(
    "worker",
    "driver.lxc.define.cloned",
    "driver.lxc.define.placed",
    "driver.lxc.copy.cloned",
    "driver.lxc.copy.placed",
    "driver.lxc.delete.stopped",
    "driver.lxc.delete.trashed",
)


def define(guests: Guests, guest: Guest, report: Report) -> None:
    """Make the guest.

    1. A whole guest of the same UUID: done. Another one's name: :class:`BadRequest`.
    2. Sweep what a killed call left, make the new folder beside LXCPATH: layer (or copy), configuration, marker.
    3. Rename it into place and make that durable: only now does the guest exist.
    """
    settings = guests.settings
    if _is_there(guests, guest, "create"):
        return
    _check_sizes(guest, "create")
    if guest.image is None or not guest.image.is_dir():
        raise NoImage("create", f"the image {guest.spec.image} is not unpacked on this node", todo="Fetch the image first.")
    idmap = None if guest.spec.privileged else IdMap(settings.idmap_base, settings.idmap_size)
    guest = replace(guest, image=with_owners(guest.image, idmap, report))
    assert guest.image is not None
    overlay = guests.host.overlay and not settings.copy
    with _new(guests, Marker(guest, copied=not overlay), "define") as new:
        report("clone", -1)
        if overlay:
            _layer(new, guest, guest.image, idmap.base if idmap else 0)
        else:
            copy_tree(guest.image, new / "rootfs", "create")


def copy(guests: Guests, source: GuestRef, guest: Guest, snapshot: str, report: Report) -> None:
    """Make the guest from another one's layer (or tree), or from what a snapshot kept of it: as :func:`define` does, over the
    same image. A guest whose files may change meanwhile is copied from a snapshot only."""
    if _is_there(guests, guest, "copy"):
        return
    _check_sizes(guest, "copy")
    marker = guests.marker(source.native, "copy")
    if marker.guest.ve != source.ve:
        raise BadRequest("copy", f"the name {source.native} belongs to VE {marker.guest.ve} on this node")
    if marker.adopted or marker.guest.spec.privileged != guest.spec.privileged:
        todo = "Copy it by hand, and adopt the copy." if marker.adopted else "Ask for a copy with the same rights."
        raise BadRequest(
            "copy", f"{source.native} has owners or a configuration of its own, which the copy would lack", todo=todo
        )
    tree = guests.path / source.native
    if snapshot:
        tree = snapshots.kept(tree, snapshot, "copy")
    elif (state := guests.settled(source.native).state) is not Observed.STOPPED:
        raise BadRequest(
            "copy", f"{source.native} is {state}, and its files may change", todo="Stop it, or copy a snapshot of it."
        )
    layer = snapshots.layer(copied=marker.copied)
    guest = replace(guest, image=marker.guest.image)
    with _new(guests, Marker(guest, copied=marker.copied), "copy") as new:
        report("copy", -1)
        copy_tree(tree / layer, new / layer, "copy")
        if not marker.copied:
            (new / "work").mkdir(mode=0o755)
            owner = (new / layer).stat()
            os.chown(new / "work", owner.st_uid, owner.st_gid)
        report("write", -1)
        sync_filesystem(new)


def _is_there(guests: Guests, guest: Guest, operation: str) -> bool:
    """Whether the guest is whole. :class:`BadRequest` where another one has its name."""
    if not guests.folder(guest.native).exists():
        return False
    marker = guests.marker(guest.native, operation)
    if marker.guest.ve != guest.ve:
        raise BadRequest(operation, f"the name {guest.native} belongs to VE {marker.guest.ve} on this node")
    return True


@contextmanager
def _new(guests: Guests, marker: Marker, operation: str) -> Iterator[Path]:
    """A new folder beside LXCPATH, in which the root file system is made; at the end it is renamed into place. What fails leaves
    nothing."""
    guest = marker.guest
    new = guests.path / MAKING / guest.native
    try:
        folder.prepare(guests.path, guests.settings.idmap_base)
        folder.sweep(guests.path, guest.native)
        new.mkdir(mode=0o711)
        yield new
        faults.point(f"driver.lxc.{operation}.cloned")
        files = {"config": adoption.configuration(guests, marker), POWER: Observed.STOPPED, MARKER: marker.text()}
        folder.replace_durably({new / name: text for name, text in files.items()})
        new.rename(guests.path / guest.native)
        faults.point(f"driver.lxc.{operation}.placed")
        folder.sync_directory(guests.path)
    except OSError as error:
        shutil.rmtree(new, ignore_errors=True)
        raise translate("create" if operation == "define" else operation, error) from error
    except DriverError:
        shutil.rmtree(new, ignore_errors=True)
        raise


def _layer(new: Path, guest: Guest, image: Path, base: int) -> None:
    """An empty writable layer, owned by the guest's root, with the guest's name in it."""
    for name in ("upper", "work"):
        (new / name).mkdir(mode=0o755)
        os.chown(new / name, base, base)
    etc = image / "etc"
    if etc.is_dir() and not etc.is_symlink():
        mine = new / "upper" / "etc"
        mine.mkdir()
        mine.chmod(etc.stat().st_mode & 0o7777)
        (mine / "hostname").write_text(f"{hostname(guest)}\n")
        for path in (mine, mine / "hostname"):
            os.chown(path, base, base)


def delete(guests: Guests, native: str, report: Report) -> None:
    """Remove the guest: 1. stop it by force, 2. rename its folder away (from here on it does not exist), 3. remove what is left
    of it: folder with its snapshots, groups, cable."""
    path = guests.folder(native)
    veth = ""
    try:
        if path.exists():
            veth = host_veth(guests.marker(native, "delete").guest)
            report("stop", -1)
            power.stop(guests, native, force=True)
            faults.point("driver.lxc.delete.stopped")
            _unmount(path)
            report("remove", -1)
            folder.retire(guests.path, path)
            faults.point("driver.lxc.delete.trashed")
        folder.sweep(guests.path, native)
    except OSError as error:
        raise translate("delete", error) from error
    guests.remove_groups(native)
    guests.unplug(veth)


def _check_sizes(guest: Guest, operation: str) -> None:
    for name, value, (low, high) in (
        ("virtual CPUs", guest.spec.vcpus, KINDS[Kind.LXC].vcpus),
        ("MiB of memory", guest.spec.memory_mib, KINDS[Kind.LXC].memory_mib),
    ):
        if not low <= value <= high:
            raise BadRequest(operation, f"a container cannot have {value} {name}", todo=f"Choose {low} to {high}.")


def _unmount(path: Path) -> None:
    """Detach what somebody mounted below the guest's folder, so that removing the tree never reaches into it."""
    below = [line.split()[4] for line in read(Path("/proc/self/mountinfo")).splitlines()]
    for point in reversed([point for point in below if point.startswith(f"{path}/")]):
        tools.run([tools.require("umount", operation="delete"), "-l", "--", point], operation="delete", timeout=30)


def apply(guests: Guests, guest: Guest) -> bool:
    """New sizes, first in the kernel (which may refuse), then in the configuration, then in the marker. Never needs a restart.
    The size of the disk is not enforced (no project quotas on overlay layers)."""
    marker = guests.marker(guest.native, "resize")
    if marker.guest.ve != guest.ve:
        raise BadRequest("resize", f"{guest.native} belongs to VE {marker.guest.ve}")
    _check_sizes(guest, "resize")
    path = guests.path / guest.native
    old, marker = marker, marker.resized(guest)
    life = guests.settled(guest.native)
    groups = cgroups.Groups(life.init) if life.init else None
    if groups is not None:
        groups.set(limits(marker.guest, guests.settings, guests.host))
    try:
        adoption.settle(path)
        folder.replace_durably({path / "config": adoption.configuration(guests, marker), path / MARKER: marker.text()})
    except OSError as error:
        if groups is not None:
            groups.set(limits(old.guest, guests.settings, guests.host))
        raise translate("resize", error) from error
    return False
