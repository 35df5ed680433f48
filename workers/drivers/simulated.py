"""Simulated guests: rows of a small SQLite file, so that, like real ones, they survive the worker.

For tests and demonstrations: thousands of guests on one machine, delays, failures on command, and changes "from outside" as an
operator at the hypervisor's own tools would make them (:func:`outside`, also from another process). The file counts every real
effect (:func:`effects`), so that a test can tell one start from two.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID

from vmcloud.domain.messages import Seen
from vmcloud.domain.vocabulary import Kind, Observed

from ..steps import Interrupted
from .base import (
    BadRequest,
    CannotLook,
    Check,
    Driver,
    Fingerprint,
    Freezer,
    Guest,
    NoSuchGuest,
    Report,
    Runner,
    ToolFailed,
    silent,
)
from .session import Session
from .simulated_shell import SimulatedSession

POLL = 1.0
"""Seconds between two looks for changes from outside."""
_TABLES = """
CREATE TABLE IF NOT EXISTS guests (native TEXT PRIMARY KEY, ve TEXT, state TEXT NOT NULL, since REAL NOT NULL,
    vcpus INTEGER NOT NULL, memory_mib INTEGER NOT NULL, address TEXT NOT NULL, mac TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS effects (native TEXT, operation TEXT, times INTEGER, PRIMARY KEY (native, operation)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS faults (operation TEXT PRIMARY KEY, what TEXT NOT NULL, times INTEGER NOT NULL) WITHOUT ROWID;
"""


class SimulatedDriver(Driver, Freezer, Runner):
    """See the module. ``delay``: seconds that each operation takes."""

    kind: ClassVar[Kind] = Kind.SIMULATED
    isolated: ClassVar[bool] = False

    def __init__(self, path: Path, *, delay: float = 0.0) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._delay = delay
        self._lock = threading.RLock()
        self._thread = threading.local()
        self._closed = threading.Event()
        self._events: list[Seen] = []
        self._db = _open(path)
        self._version = -1
        self._guests: dict[str, Seen] = {}
        self._faulty = False
        self._refresh()
        self._events.clear()

    # ------------------------------------------------------------------------------------------------------------ looking

    def fingerprint(self) -> Fingerprint:
        """Always healthy, and says what it is."""
        return Fingerprint(Kind.SIMULATED, "simulated", healthy=True, detail="guests are rows of a file")

    def preflight(self) -> Sequence[Check]:
        """Nothing is required."""
        return [Check("simulated", ok=True, detail="simulated guests need nothing")]

    def list(self) -> Sequence[Seen]:
        """See :class:`Driver`."""
        with self._lock:
            self._refresh()
            self._fault("list")
            return list(self._guests.values())

    def inspect(self, native: str) -> Seen | None:
        """See :class:`Driver`."""
        with self._lock:
            self._refresh()
            self._fault("inspect")
            return self._guests.get(native)

    def console(self, native: str) -> Session:
        """See :class:`Driver`."""
        return self._session("console", native, None, tty=True)

    def exec(self, native: str, argv: Sequence[str], *, environment: Mapping[str, str], tty: bool) -> Session:
        """See :class:`Runner`."""
        return self._session("exec", native, argv, tty=tty)

    def boot_log(self, native: str) -> bytes:
        """See :class:`Driver`."""
        if self._known(native) is None:
            raise NoSuchGuest("boot-log", f"there is no guest {native}")
        return b"a simulated guest boots in no time and says nothing\n"

    def events(self) -> Iterator[Seen]:
        """Changes from outside; those of our own calls are known to the caller."""
        while not self._closed.wait(POLL):
            with self._lock:
                self._refresh()
                fresh, self._events = self._events, []
            yield from fresh

    def close(self) -> None:
        """End :meth:`events`."""
        self._closed.set()

    # ------------------------------------------------------------------------------------------------------------- acting

    def define(self, guest: Guest, report: Report = silent) -> None:
        """See :class:`Driver`."""
        self._begin("define")
        with self._lock:
            known = self._guests.get(guest.native)
            if known is not None and known.ve == guest.ve:
                return
        report("root file system", 50)
        self._work()
        address = guest.address.partition("/")[0]
        self._put(
            Seen(
                native=guest.native,
                kind=Kind.SIMULATED,
                state=Observed.STOPPED,
                ve=guest.ve,
                addresses=(address,) if address else (),
                mac=guest.mac,
                since=time.time(),
                vcpus=guest.spec.vcpus,
                memory_mib=guest.spec.memory_mib,
            ),
            "define",
        )

    def delete(self, native: str, report: Report = silent) -> None:
        """See :class:`Driver`."""
        self._begin("delete")
        if self._known(native) is None:
            return
        self._work()
        with self._lock:
            self._guests.pop(native, None)
            self._write("DELETE FROM guests WHERE native = ?", (native,))
            self._count(native, "delete")

    def start(self, native: str) -> None:
        """See :class:`Driver`."""
        self._change("start", native, Observed.RUNNING)

    def stop(self, native: str, *, force: bool = False, grace: float = 30.0) -> None:
        """See :class:`Driver`."""
        self._change("stop", native, Observed.STOPPED)

    def freeze(self, native: str) -> None:
        """See :class:`Freezer`."""
        self._change("freeze", native, Observed.SUSPENDED)

    def thaw(self, native: str) -> None:
        """See :class:`Freezer`."""
        self._change("thaw", native, Observed.RUNNING)

    def apply(self, guest: Guest) -> bool:
        """See :class:`Driver`."""
        self._begin("apply")
        known = self._known(guest.native)
        if known is None:
            raise NoSuchGuest("apply", f"there is no guest {guest.native}")
        wanted = replace(known, vcpus=guest.spec.vcpus, memory_mib=guest.spec.memory_mib)
        if wanted != known:
            self._work()
            self._put(wanted, "apply")
        return False

    @contextmanager
    def interruptible(self, stopped: threading.Event, deadline: float) -> Iterator[None]:
        """Delays and hangs of this thread end with :class:`Interrupted` when ``stopped`` is set or ``deadline`` is past."""
        self._thread.stopped, self._thread.deadline = stopped, deadline
        try:
            yield
        finally:
            del self._thread.stopped, self._thread.deadline

    # ------------------------------------------------------------------------------------------------------------- within

    def _session(self, operation: str, native: str, argv: Sequence[str] | None, *, tty: bool) -> Session:
        self._begin(operation)
        known = self._known(native)
        if known is None:
            raise NoSuchGuest(operation, f"there is no guest {native}")
        if known.state is not Observed.RUNNING:
            raise BadRequest(operation, f"{native} does not run", todo="Start it first.")
        return SimulatedSession(native.rpartition("-")[0], argv, tty=tty)

    def _change(self, operation: str, native: str, state: Observed) -> None:
        self._begin(operation)
        known = self._known(native)
        if known is None:
            raise NoSuchGuest(operation, f"there is no guest {native}")
        if known.state is state:
            return
        self._work()
        known = self._known(native)
        if known is None:
            raise NoSuchGuest(operation, f"guest {native} vanished meanwhile")
        self._put(replace(known, state=state, since=time.time()), operation)

    def _known(self, native: str) -> Seen | None:
        with self._lock:
            self._refresh()
            return self._guests.get(native)

    def _begin(self, operation: str) -> None:
        with self._lock:
            self._refresh()
            self._fault(operation)

    def _work(self) -> None:
        if self._delay:
            self._wait(self._delay)

    def _wait(self, seconds: float) -> None:
        stopped = getattr(self._thread, "stopped", None)
        if stopped is None:
            time.sleep(seconds)
            return
        left = self._thread.deadline - time.monotonic()
        if stopped.wait(min(seconds, max(left, 0))) or left < seconds:
            raise Interrupted

    def _fault(self, operation: str) -> None:
        """Fail if a test asked for it (:func:`plan_fault`)."""
        if not self._faulty:
            return
        row = self._db.execute("SELECT what, times FROM faults WHERE operation = ? AND times > 0", (operation,)).fetchone()
        if row is None:
            return
        self._db.execute("UPDATE faults SET times = times - 1 WHERE operation = ?", (operation,))
        match row[0]:
            case "hang":
                self._lock.release()
                try:
                    self._wait(86400.0)
                finally:
                    self._lock.acquire()
            case "look":
                raise CannotLook(operation, "the simulated hypervisor does not answer")
            case _:
                raise ToolFailed(operation, "a simulated failure", exit_code=1, stderr="as the test wished")

    def _put(self, seen: Seen, operation: str) -> None:
        with self._lock:
            self._guests[seen.native] = seen
            _store(self._db, seen)
            self._count(seen.native, operation)

    def _write(self, statement: str, values: tuple[Any, ...]) -> None:
        self._db.execute(statement, values)

    def _count(self, native: str, operation: str) -> None:
        self._write(
            "INSERT INTO effects VALUES (?, ?, 1) ON CONFLICT (native, operation) DO UPDATE SET times = times + 1",
            (native, operation),
        )

    def _refresh(self) -> None:
        """Take over what another connection wrote (SQLite counts those writes: ``data_version``)."""
        (version,) = self._db.execute("PRAGMA data_version").fetchone()
        if version == self._version:
            return
        self._version = version
        self._faulty = self._db.execute("SELECT 1 FROM faults WHERE times > 0").fetchone() is not None
        fresh = {seen.native: seen for seen in map(_seen, self._db.execute("SELECT * FROM guests"))}
        self._events += [seen for native, seen in fresh.items() if self._guests.get(native) != seen]
        self._guests = fresh


def outside(path: Path, native: str, state: Observed | None, *, ve: UUID | None = None) -> None:
    """Change a guest behind the worker's back: its state, or (None) remove it; an unknown one appears as a foreign guest."""
    db = _open(path)
    found = db.execute("SELECT * FROM guests WHERE native = ?", (native,)).fetchone()
    if state is None:
        db.execute("DELETE FROM guests WHERE native = ?", (native,))
    else:
        known = _seen(found) if found else Seen(native=native, kind=Kind.SIMULATED, state=state, ve=ve, vcpus=1, memory_mib=64)
        _store(db, replace(known, state=state, since=time.time()))
    db.close()


def plan_fault(path: Path, operation: str, what: str, times: int = 1) -> None:
    """Let the next ``times`` calls of ``operation`` fail: ``error`` (worth another try), ``look`` (could not look), ``hang``."""
    db = _open(path)
    db.execute("INSERT OR REPLACE INTO faults VALUES (?, ?, ?)", (operation, what, times))
    db.close()


def effects(path: Path) -> dict[tuple[str, str], int]:
    """How often each operation really changed each guest: (native name, operation) → times."""
    db = _open(path)
    try:
        return {(native, operation): times for native, operation, times in db.execute("SELECT * FROM effects")}
    finally:
        db.close()


def _open(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=OFF")
    db.executescript(_TABLES)
    return db


def _store(db: sqlite3.Connection, seen: Seen) -> None:
    db.execute(
        "INSERT OR REPLACE INTO guests VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            seen.native,
            str(seen.ve) if seen.ve else None,
            seen.state,
            seen.since,
            seen.vcpus,
            seen.memory_mib,
            json.dumps(seen.addresses),
            seen.mac,
        ),
    )


def _seen(row: tuple[Any, ...]) -> Seen:
    native, ve, state, since, vcpus, memory_mib, addresses, mac = row
    return Seen(
        native=native,
        kind=Kind.SIMULATED,
        state=Observed(state),
        ve=UUID(ve) if ve else None,
        addresses=tuple(json.loads(addresses)),
        mac=mac,
        since=since,
        vcpus=vcpus,
        memory_mib=memory_mib,
    )
