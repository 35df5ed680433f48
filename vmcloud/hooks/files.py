"""Which hooks a folder has, and whether they may be run. A folder without any costs one ``stat``."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Collection
from pathlib import Path

SUBMIT, ALL = "submit", "all"
"""The submit filter's name; the folder of those that are called for every type of event."""
FRESH = 2.0
"""Seconds after its last change in which a folder is listed each time: two changes within one tick of the clock show one time."""
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class Folder:
    """A folder of hooks. What begins with a dot, ends with ``~`` or is a folder is none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._names: tuple[str, ...] = ()
        self._folders: tuple[str, ...] = ()
        self._changed = -1

    def names(self) -> tuple[str, ...]:
        """The names of its hooks, sorted; none where there is no folder."""
        return self._names if self._look() else ()

    def folders(self) -> tuple[str, ...]:
        """The names of the folders in it, sorted."""
        return self._folders if self._look() else ()

    def _look(self) -> bool:
        """List it where it has changed; False where it is not there."""
        try:
            changed = os.stat(self.path).st_mtime_ns  # noqa: PTH116 - on the way of every step
        except OSError:
            return False
        if changed != self._changed:
            self._list()
            fresh = time.time_ns() - changed < FRESH * 1e9
            self._changed = -1 if fresh else changed
        return True

    def find(self, name: str) -> Path | None:
        """The hook of this name, if there is one."""
        return self.path / name if name in self.names() else None

    def all(self) -> list[Path]:
        """All hooks in the order of their names."""
        return [self.path / name for name in self.names()]

    def _list(self) -> None:
        try:
            with os.scandir(self.path) as entries:
                found = [(entry.name, entry.is_dir()) for entry in entries if _counts(entry.name)]
        except OSError:
            found = []
        self._names = tuple(sorted(name for name, folder in found if not folder))
        self._folders = tuple(sorted(name for name, folder in found if folder))


def _counts(name: str) -> bool:
    return not name.startswith(".") and not name.endswith("~")


def refusal(path: Path) -> str:
    """Why a hook may not be run by this process, in words; empty if it may."""
    why, fix = trouble(path, (0, os.geteuid()))
    return f"{why}; `{fix}`" if fix else why


def trouble(path: Path, owners: Collection[int]) -> tuple[str, str]:
    """Why a hook may not be run, and the command that mends it; both empty if it may: it and its folder belong to one of
    ``owners``, and nobody else may write to them. What a link names counts."""
    for each, what in ((path.parent, "the folder of hooks"), (path, "the hook")):
        try:
            found = each.stat()
        except OSError as error:
            return f"{what} {each} can not be looked at: {error.strerror}", ""
        if found.st_uid not in owners:
            return f"{what} {each} belongs to user {found.st_uid} and not to root", f"chown root {each}"
        if found.st_mode & OTHERS_WRITE:
            return f"{what} {each} may be written by others than its owner", f"chmod go-w {each}"
    if not stat.S_ISREG(found.st_mode):
        return f"the hook {path} is no file", ""
    if not os.access(path, os.X_OK):
        return f"the hook {path} may not be executed", f"chmod +x {path}"
    return "", ""
