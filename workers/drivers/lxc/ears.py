"""Everything that tells of changes in one LXCPATH, heard in one place and without polling.

============================  =====================================================================================
what happens                  who tells
============================  =====================================================================================
liblxc changes a state        ``lxc-monitord`` (:mod:`.monitor`)
liblxc's process is killed    the kernel: a process descriptor (pidfd) of each monitor process that holds a guest; the
                              guest dies with it, and liblxc says nothing
a guest's folder comes, goes  the kernel: inotify on LXCPATH (``lxc-create`` and ``lxc-destroy`` say nothing)
============================  =====================================================================================

What nobody tells: a freeze that was written into the control group by hand (version 1 has no word for it). The next list does.
"""

from __future__ import annotations

import logging
import os
import resource
import select
import socket
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from workers.drivers.base import CannotLook

from . import inotify, monitor
from .inotify import Inotify, Note

log = logging.getLogger(__name__)

IN_LXCPATH = inotify.CREATE | inotify.MOVED_TO | inotify.DELETE | inotify.MOVED_FROM
IN_NEW_FOLDER = inotify.CLOSE_WRITE | inotify.MOVED_TO


@dataclass(frozen=True)
class Ended:
    """The process that held a guest has ended."""

    native: str


@dataclass(frozen=True)
class Came:
    """A guest's folder is there that was not, with a configuration in it."""

    native: str


@dataclass(frozen=True)
class Left:
    """A guest's folder is there no more."""

    native: str


@dataclass(frozen=True)
class Lost:
    """Something was not heard; look at everything. ``source`` says whose word is missing."""

    source: str


Heard = monitor.Event | monitor.Exit | Ended | Came | Left | Lost


class Ears:
    """Those of one LXCPATH, which must be there. Use as a context manager. Raises :class:`CannotLook`."""

    def __init__(self, guests: Path) -> None:
        self._guests = guests
        self._poll = select.epoll()
        self._client: socket.socket | None = None
        self._rest = b""
        self._held: dict[int, str] = {}
        self._holders: dict[str, tuple[int, int]] = {}
        self._folders: Inotify | None = None
        self._new: dict[int, str] = {}
        self._root = -1
        self._full = False
        self._raise_limit()
        self._watch_folders()

    def __enter__(self) -> Ears:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._disconnect()
        for fd in self._held:
            os.close(fd)
        if self._folders is not None:
            self._folders.close()
        self._poll.close()

    def connect(self) -> None:
        """Listen to lxc-monitord from now on, which is started if it does not run."""
        self._disconnect()
        self._client = monitor.connect(self._guests)
        self._client.setblocking(False)
        self._rest = b""
        self._poll.register(self._client, select.EPOLLIN)

    def hold(self, native: str, process: int) -> None:
        """Hear of the end of the process that holds a guest (0: none does)."""
        fd, known = self._holders.get(native, (-1, 0))
        if known == process:
            return
        if fd >= 0:
            self._release(fd)
        if not process:
            return
        try:
            fd = os.pidfd_open(process)
        except ProcessLookupError:
            return
        except OSError as error:
            if not self._full:
                log.warning("that the monitor process of %s is killed would be seen by the next list only: %s", native, error)
            self._full = True
            return
        self._held[fd], self._holders[native] = native, (fd, process)
        self._poll.register(fd, select.EPOLLIN)

    def hear(self) -> Iterator[Heard]:
        """For ever, in the order in which it happened as far as that can be known: what liblxc says comes before the end of the
        process that said it. Ends with :class:`Lost` where lxc-monitord is gone."""
        while True:
            ready = {fd for fd, _ in self._poll.poll()}
            client = self._client
            if client is not None and client.fileno() in ready:
                yield from self._said(client)
                if self._client is None:
                    yield Lost("lxc-monitord")
                    return
            for fd in ready & self._held.keys():
                native = self._held[fd]
                self._release(fd)
                yield Ended(native)
            if self._folders is not None and self._folders.fd in ready:
                yield from self._noted(self._folders)

    def _said(self, client: socket.socket) -> Iterator[Heard]:
        size = monitor.MESSAGE_BYTES
        while True:
            try:
                data = client.recv(256 * size)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._disconnect()
                return
            self._rest += data
            while len(self._rest) >= size:
                message, self._rest = self._rest[:size], self._rest[size:]
                event = monitor.decode(message)
                if event is not None:
                    yield event

    def _noted(self, folders: Inotify) -> Iterator[Heard]:
        notes = deque(folders.notes())
        while notes:
            note = notes.popleft()
            if note.mask & inotify.OVERFLOW:
                yield Lost("inotify")
            elif note.number == self._root:
                yield from self._in_lxcpath(folders, note)
            elif note.mask & inotify.IGNORED:
                self._new.pop(note.number, None)
            elif note.name == "config" and (native := self._new.pop(note.number, None)) is not None:
                folders.forget(note.number)
                yield Came(native)

    def _in_lxcpath(self, folders: Inotify, note: Note) -> Iterator[Heard]:
        if note.mask & inotify.IGNORED:
            raise CannotLook("events", f"{self._guests} is gone")
        if not note.mask & inotify.IS_FOLDER or note.name.startswith("."):
            return
        if note.mask & (inotify.DELETE | inotify.MOVED_FROM):
            yield Left(note.name)
            return
        path = self._guests / note.name
        try:
            number = folders.watch(path, IN_NEW_FOLDER)
        except OSError:
            return  # gone again, or no more watches: the next list tells
        # Written whole before it was watched; else its writer closes it, which is heard.
        if (path / "config").exists() and note.mask & inotify.MOVED_TO:
            folders.forget(number)
            yield Came(note.name)
            return
        self._new[number] = note.name
        if (path / "config").exists():
            yield Came(note.name)

    def _watch_folders(self) -> None:
        try:
            folders = Inotify()
        except OSError as error:
            log.warning("guests that others make or remove are seen by the next list only: %s", error)
            return
        try:
            self._root = folders.watch(self._guests, IN_LXCPATH)
        except OSError as error:
            folders.close()
            raise CannotLook("events", f"{self._guests} cannot be watched: {error.strerror}") from error
        self._folders = folders
        self._poll.register(folders.fd, select.EPOLLIN)

    def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with suppress(OSError):
                self._poll.unregister(client)
            client.close()

    def _release(self, fd: int) -> None:
        native = self._held.pop(fd)
        if self._holders.get(native, (-1, 0))[0] == fd:
            del self._holders[native]
        self._poll.unregister(fd)
        os.close(fd)

    @staticmethod
    def _raise_limit() -> None:
        """A descriptor for each running guest: the soft limit is for programs that use select(2), which this one does not."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != hard:
            with suppress(OSError, ValueError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
