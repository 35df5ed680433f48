"""Small disks: file systems in memory of a few MB, to be filled up and emptied again."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PIECE = 4096


class Disk:
    """A file system of its own at ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    def fill(self) -> None:
        """Nothing more can be written."""
        with self._filler.open("ab", buffering=0) as stream:
            while True:
                try:
                    stream.write(b"x" * PIECE)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    return

    def free(self) -> None:
        """There is room again."""
        self._filler.unlink(missing_ok=True)

    @contextmanager
    def full(self) -> Iterator[None]:
        """There is no room inside."""
        self.fill()
        try:
            yield
        finally:
            self.free()


@contextmanager
def disk(folder: Path, size: str) -> Iterator[Disk]:
    """A file system of ``size`` (such as ``24m``) at ``folder``, which is made; gone at the end, whoever still uses it."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "small", str(folder)], check=True, timeout=20)
    try:
        yield Disk(folder)
    finally:
        if folder.is_mount():  # `down --purge` has taken it away otherwise
            subprocess.run(["umount", "-l", str(folder)], check=True, timeout=20)
