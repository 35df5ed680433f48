"""How often each process of a cloud asks its servers for something: SQL statements, commits, LDAP operations, broker round trips.

Installed like the trace (:mod:`benchmarks.trace`), where the environment names a folder. It counts at the doors of the libraries
that talk to those servers, which no change of the program moves. Each process counts in a small file of its own, mapped into
memory; counting costs less than a microsecond. A worker's own SQLite files are not seen: it uses them without Django.
"""

from __future__ import annotations

import functools
import mmap
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

VARIABLE = "VMCLOUD_TEST_COUNTS"
FOLDER = "counts"
"""Beside the data directory."""

DOORS = {
    "statements": ("django.db.backends.utils", ("CursorWrapper._execute", "CursorWrapper._executemany")),
    "commits": ("django.db.backends.base.base", ("BaseDatabaseWrapper._commit",)),
    "LDAP": ("ldap.ldapobject", tuple(f"SimpleLDAPObject.{name}_ext" for name in ("add", "modify", "delete", "search"))),
    "broker": ("redis.connection", ("AbstractConnection.send_packed_command",)),
}
"""What is counted: the module, and the functions each call of which is one. An Array of commands is one round trip."""
SIZE = 8 * len(DOORS)


class Counter:
    """The counts of one process, made at its first count; a child that was forked makes its own."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._pid, self._map = folder, 0, memoryview(bytearray(SIZE)).cast("Q")

    def add(self, number: int) -> None:
        """One more. Threads may lose one to each other now and then, which does no harm."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            opened = os.open(self._folder / str(self._pid), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            os.ftruncate(opened, SIZE)
            self._map = memoryview(mmap.mmap(opened, SIZE)).cast("Q")
            os.close(opened)
        self._map[number] += 1


def wrapper(counter: Counter, number: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Counts each call of a function."""

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def counted(*arguments: Any, **named: Any) -> Any:
            counter.add(number)
            return function(*arguments, **named)

        return counted

    return wrap


def read(folder: Path, pid: int) -> dict[str, int]:
    """What a process has counted so far, by name; nothing where it never did."""
    try:
        content = (folder / str(pid)).read_bytes()
    except FileNotFoundError:
        return {}
    return dict(zip(DOORS, struct.unpack(f"{len(DOORS)}Q", content), strict=True)) if len(content) == SIZE else {}
