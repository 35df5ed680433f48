"""Kept states of a guest's root file system: copies of its layer (or of its whole tree) in ``snapshots/<name>`` of its folder.

A snapshot is copied aside and renamed into place whole, with a small file that says which job took it and when. A revert copies
it aside too and exchanges it with the layer in one step of the kernel (renameat2(2)), so a kill at any point leaves the old
layer or the new one.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import os
import shutil
from pathlib import Path

from vmcloud import faults
from vmcloud.domain.errors import Invalid
from vmcloud.domain.messages import Snapshot
from vmcloud.domain.names import check_label
from vmcloud.domain.vocabulary import Observed
from workers.drivers.base import BadRequest, DriverError, Report, Unsupported, check_name
from workers.storage.unpack import sync_filesystem

from . import checkpoint, folder, hold
from .guests import Guests, copy_tree, translate

faults.declare(
    "worker",
    "driver.lxc.snapshot.frozen",
    "driver.lxc.snapshot.copied",
    "driver.lxc.snapshot.placed",
    "driver.lxc.revert.copied",
    "driver.lxc.revert.exchanged",
    "driver.lxc.delete-snapshot.retired",
)

log = logging.getLogger(__name__)

FOLDER = "snapshots"
ABOUT = "snapshot.json"
NEW = ".new"
OLD = ".old"
REVERT = ".revert"

_RENAME_EXCHANGE = 2


def listed(path: Path) -> tuple[Snapshot, ...]:
    """The snapshots of the guest whose folder this is."""
    try:
        names = sorted(entry.name for entry in os.scandir(path / FOLDER) if not entry.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return ()
    return tuple(found for name in names if (found := _about(path / FOLDER / name)) is not None)


def take(guests: Guests, native: str, snapshot: Snapshot, report: Report) -> None:
    """Keep the present state.

    1. The same snapshot is there: done. Another one of its name: :class:`BadRequest`.
    2. Sweep what a killed call left; copy the layer aside, a running guest held still meanwhile.
    3. Write it out to the disk, with the guest running again; rename it into place.
    """
    marker = guests.marker(native, "snapshot")
    check_name(snapshot.name, "snapshot")
    path = guests.path / native
    place = path / FOLDER / snapshot.name
    life = guests.settled(native)
    if place.exists():
        found = _about(place)
        if found is None or found.job != snapshot.job:
            raise BadRequest("snapshot", f"{native} has a snapshot called {snapshot.name} already", todo="Choose another name.")
        return
    new = path / FOLDER / NEW
    try:
        sweep(path)
        (path / FOLDER).mkdir(mode=0o700, exist_ok=True)
        new.mkdir(mode=0o711)
        layer_name = layer(copied=marker.copied)
        running = life.state is Observed.RUNNING
        with hold.still(path, life) if running else contextlib.nullcontext():
            faults.point("driver.lxc.snapshot.frozen")
            report("copy", -1)
            copy_tree(path / layer_name, new / layer_name, "snapshot")
        report("write", -1)
        folder.replace_durably({new / ABOUT: json.dumps(snapshot.to_json())})
        sync_filesystem(new)
        faults.point("driver.lxc.snapshot.copied")
        new.rename(place)
        faults.point("driver.lxc.snapshot.placed")
        folder.sync_directory(path / FOLDER)
        folder.sync_directory(path)
    except OSError as error:
        shutil.rmtree(new, ignore_errors=True)
        raise translate("snapshot", error) from error
    except DriverError:
        shutil.rmtree(new, ignore_errors=True)
        raise


def revert(guests: Guests, native: str, name: str, report: Report) -> None:
    """Make the layer what it was: copy the snapshot aside, exchange the two, remove the old one."""
    marker = guests.marker(native, "revert")
    check_name(name, "revert")
    path = guests.path / native
    life = guests.settled(native)
    if life.state is not Observed.STOPPED:
        raise BadRequest("revert", f"{native} is {life.state}", todo="Stop it first.")
    place = kept(path, name, "revert")
    layer_name = layer(copied=marker.copied)
    new = path / REVERT
    try:
        sweep(path)
        report("copy", -1)
        copy_tree(place / layer_name, new, "revert")
        report("write", -1)
        sync_filesystem(new)
        faults.point("driver.lxc.revert.copied")
        checkpoint.forget(path)
        _exchange(new, path / layer_name)
        faults.point("driver.lxc.revert.exchanged")
        folder.sync_directory(path)
        report("remove", -1)
        shutil.rmtree(new)
    except OSError as error:
        shutil.rmtree(new, ignore_errors=True)
        raise translate("revert", error) from error
    except DriverError:
        shutil.rmtree(new, ignore_errors=True)
        raise


def delete(guests: Guests, native: str, name: str) -> None:
    """Rename it away, and so for good, then remove its tree."""
    guests.marker(native, "delete-snapshot")
    check_name(name, "delete-snapshot")
    path = guests.path / native
    place = path / FOLDER / name
    try:
        sweep(path)
        if not place.is_dir():
            return
        place.rename(path / FOLDER / OLD)
        faults.point("driver.lxc.delete-snapshot.retired")
        folder.sync_directory(path / FOLDER)
        sweep(path)
    except OSError as error:
        raise translate("delete-snapshot", error) from error


def sweep(path: Path) -> None:
    """Remove what killed calls left in a guest's folder."""
    for leftover in (path / FOLDER / NEW, path / FOLDER / OLD, path / REVERT):
        if leftover.exists():
            shutil.rmtree(leftover)


def _about(place: Path) -> Snapshot | None:
    """The snapshot in a folder. Where what is written about it is damaged, it is of no job, but can be named and so removed."""
    try:
        return Snapshot.from_json(json.loads((place / ABOUT).read_bytes()))
    except NotADirectoryError:
        return None
    except Exception as error:
        log.warning("%s cannot be read: %s", place / ABOUT, error)
    with contextlib.suppress(OSError, Invalid):
        return Snapshot(check_label(place.name, where="snapshot"), 0, place.stat().st_mtime)
    return None


def kept(path: Path, name: str, operation: str) -> Path:
    """The folder of a snapshot of the guest whose folder this is. :class:`BadRequest` where there is none of that name."""
    check_name(name, operation)
    place = path / FOLDER / name
    if not place.is_dir():
        known = ", ".join(each.name for each in listed(path))
        raise BadRequest(operation, f"{path.name} has no snapshot called {name}", todo=f"It has: {known}." if known else "")
    return place


def layer(*, copied: bool) -> str:
    """Where in a guest's folder, and in a snapshot's, its root file system is."""
    return "rootfs" if copied else "upper"


def _exchange(one: Path, other: Path) -> None:
    """Exchange the names of two directories."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(-100, os.fsencode(one), -100, os.fsencode(other), _RENAME_EXCHANGE) == 0:  # -100: AT_FDCWD
        return
    error = ctypes.get_errno()
    if error in (22, 38):  # EINVAL, ENOSYS
        todo = "Keep the node's home on ext4, xfs or btrfs."
        raise Unsupported("revert", f"the file system of {other.parent} cannot exchange two folders", todo=todo)
    raise OSError(error, os.strerror(error), str(other))
