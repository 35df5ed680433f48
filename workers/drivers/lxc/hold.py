"""Holding a running guest still for a moment, so that a kill of the holder does not leave it frozen.

The file ``hold`` in a guest's folder is locked (flock) by the process that froze it, and removed after the thaw. A file that
nobody has locked was left by a killed process: whoever looks next thaws the guest. A guest that was suspended before is not held
at all, so it stays suspended.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from workers.drivers.base import CannotLook

from .cgroups import Groups
from .process import Life

HOLD = "hold"


@contextlib.contextmanager
def still(folder: Path, life: Life) -> Iterator[None]:
    """Freeze the running guest while the context lasts."""
    descriptor = _lock(folder / HOLD)
    try:
        try:
            Groups(life.init).freeze(True)
            yield
        finally:
            # Where the thaw fails the file stays, so that whoever looks next tries again.
            _thaw(life)
            (folder / HOLD).unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def held(folder: Path) -> bool:
    """Whether there is a hold, of a living process or a killed one."""
    return (folder / HOLD).exists()


def mend(folder: Path, life: Life) -> bool:
    """Whether a snapshot holds, or held, the guest; a killed one's hold ends here."""
    try:
        descriptor = os.open(folder / HOLD, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        if not os.fstat(descriptor).st_nlink:
            return False
        _thaw(life)
        (folder / HOLD).unlink()
        return True
    finally:
        os.close(descriptor)


def _thaw(life: Life) -> None:
    with contextlib.suppress(CannotLook):  # it has ended
        Groups(life.init).freeze(False)


def _lock(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)  # it was removed while we waited for it
