"""A guest's memory on disk, by CRIU through liblxc's lxc-checkpoint: in ``saved`` of its folder, once it is whole.

It is only ever used once, and taken away before: memory that goes on over files that have changed since would destroy them. A
kill in the middle of a start from it loses it, as a power cut loses memory.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from vmcloud import faults
from workers.drivers import tools
from workers.drivers.base import ToolFailed

from .folder import sync_directory
from .guests import Guests, translate

faults.declare("worker", "driver.lxc.save.dumped", "driver.lxc.save.resuming")

SAVED = "saved"
SAVING = ".saving"
RESUMING = ".resuming"
LAST = "inventory.img"
"""What CRIU writes last of all."""

TIMEOUT = 600.0
PACKAGE = "criu"


def saved(path: Path) -> bool:
    """Whether the guest whose folder this is goes on from saved memory at its next start."""
    return (path / SAVED).is_dir()


def dump(guests: Guests, native: str) -> None:
    """Write a running guest's memory aside and end the guest, in one step of CRIU; where that fails the guest runs on."""
    path = guests.path / native
    sweep(path)
    try:
        (path / SAVING).mkdir(mode=0o700)
    except OSError as error:
        raise translate("save", error) from error
    _run(guests, native, "-s", path / SAVING, daemonizes=False)
    faults.point("driver.lxc.save.dumped")
    settle(path)


def settle(path: Path) -> bool:
    """Whether there is whole memory, which from now on is the guest's. Only for a guest that does not run."""
    if (path / SAVING / LAST).exists():
        (path / SAVING).rename(path / SAVED)
        sync_directory(path)
    return saved(path)


def resume(guests: Guests, native: str) -> None:
    """Go on from saved memory. Where that fails it stays saved."""
    path = guests.path / native
    (path / SAVED).rename(path / RESUMING)
    sync_directory(path)
    faults.point("driver.lxc.save.resuming")
    try:
        _run(guests, native, "-r", path / RESUMING, daemonizes=True)
    except ToolFailed:
        (path / RESUMING).rename(path / SAVED)
        raise
    sweep(path)


def forget(path: Path) -> None:
    """Saved memory belongs to other files now."""
    if saved(path):
        (path / SAVED).rename(path / RESUMING)
    sweep(path)


def sweep(path: Path) -> None:
    """Remove what killed calls left."""
    for leftover in (path / SAVING, path / RESUMING):
        if leftover.exists():
            shutil.rmtree(leftover)


def _run(guests: Guests, native: str, what: str, images: Path, *, daemonizes: bool) -> None:
    program = tools.require("lxc-checkpoint", operation="save", package="lxc")
    argv = [program, "-P", str(guests.path), "-n", native, what, "-D", str(images), "-o", str(images / "lxc.log"), "-l", "ERROR"]
    operation = "start" if daemonizes else "save"
    done = tools.run(argv, operation=operation, timeout=TIMEOUT, daemonizes=daemonizes, check=False, path=tools.SYSTEM_PATH)
    if done.code:
        said = [line for name in ("dump.log", "restore.log") for line in _lines(images / name) if "Error" in line]
        why = "; ".join(line.partition("Error ")[2] for line in said[-4:]) or done.stderr
        todo = "A forced stop forgets what was saved; the next start then boots anew." if daemonizes else ""
        raise ToolFailed(operation, f"CRIU could not {operation} {native}", exit_code=done.code, stderr=why, todo=todo)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []
