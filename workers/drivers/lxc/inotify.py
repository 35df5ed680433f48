"""The kernel's word that names come and go in folders (inotify(7)). The standard library has no call for it; of the C library's,
three are needed."""

from __future__ import annotations

import ctypes
import os
import struct
from dataclasses import dataclass
from functools import cache
from pathlib import Path

CREATE, MOVED_TO, DELETE, MOVED_FROM, CLOSE_WRITE = 0x100, 0x80, 0x200, 0x40, 0x8
ONLY_FOLDER, IS_FOLDER = 0x01000000, 0x40000000
OVERFLOW, IGNORED = 0x4000, 0x8000

_HEAD = struct.Struct("=iIII")


@dataclass(frozen=True)
class Note:
    """Something happened to ``name`` in the folder of the watch ``number`` (-1 with :data:`OVERFLOW`: some notes are lost)."""

    number: int
    mask: int
    name: str


@cache
def _library() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


class Inotify:
    """One instance. OSError where the kernel gives no more of them (``fs.inotify.max_user_instances``)."""

    def __init__(self) -> None:
        self.fd = _checked(_library().inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), "inotify")

    def watch(self, folder: Path, mask: int) -> int:
        """The number of a new watch on a folder. OSError where it is none."""
        found = _library().inotify_add_watch(self.fd, os.fsencode(folder), ctypes.c_uint32(mask | ONLY_FOLDER))
        return _checked(found, str(folder))

    def forget(self, number: int) -> None:
        """End a watch; one that has ended is no error."""
        _library().inotify_rm_watch(self.fd, number)

    def notes(self) -> list[Note]:
        """What has happened since the last call; empty if nothing has."""
        found: list[Note] = []
        while True:
            try:
                data = os.read(self.fd, 1 << 16)
            except BlockingIOError:
                return found
            while data:
                number, mask, _, length = _HEAD.unpack_from(data)
                name = data[_HEAD.size : _HEAD.size + length].split(b"\0", 1)[0]
                found.append(Note(number, mask, os.fsdecode(name)))
                data = data[_HEAD.size + length :]

    def close(self) -> None:
        """End it with all its watches."""
        os.close(self.fd)


def _checked(result: int, name: str) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), name)
    return result
