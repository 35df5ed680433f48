"""The file that simulated guests are rows of: every change is one transaction, and seen by all processes that have it open."""

from __future__ import annotations

import errno
import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

from vmcloud.domain.messages import Seen, Snapshot
from vmcloud.domain.vocabulary import Kind, Observed

from ..base import CannotLook, Gone, ToolFailed

VERSION = 2
CHANGES_KEPT = 10_000
MEMORY = "/run/"
"""Files below it are in a guest's memory."""

_TABLES = """
CREATE TABLE IF NOT EXISTS guests (native TEXT PRIMARY KEY, ve TEXT, state TEXT NOT NULL, since REAL NOT NULL,
    vcpus INTEGER NOT NULL, memory_mib INTEGER NOT NULL, address TEXT NOT NULL, mac TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS effects (native TEXT, operation TEXT, times INTEGER, PRIMARY KEY (native, operation)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS faults (operation TEXT PRIMARY KEY, what TEXT NOT NULL, times INTEGER NOT NULL) WITHOUT ROWID;
ALTER TABLE guests ADD COLUMN whole INTEGER NOT NULL DEFAULT 1;
ALTER TABLE guests ADD COLUMN saved INTEGER NOT NULL DEFAULT 0;
ALTER TABLE guests ADD COLUMN booted REAL NOT NULL DEFAULT 0;
ALTER TABLE guests ADD COLUMN disk_mib INTEGER NOT NULL DEFAULT 0;
CREATE TABLE files (native TEXT, path TEXT, content BLOB NOT NULL, PRIMARY KEY (native, path)) WITHOUT ROWID;
CREATE TABLE snapshots (native TEXT, name TEXT, job INTEGER NOT NULL, at REAL NOT NULL, PRIMARY KEY (native, name)) WITHOUT ROWID;
CREATE TABLE kept (native TEXT, name TEXT, path TEXT, content BLOB NOT NULL, PRIMARY KEY (native, name, path)) WITHOUT ROWID;
CREATE TABLE changes (id INTEGER PRIMARY KEY AUTOINCREMENT, seen TEXT NOT NULL);
CREATE TABLE draws (operation TEXT PRIMARY KEY, times INTEGER NOT NULL) WITHOUT ROWID;
PRAGMA user_version = 2;
"""
"""The first three are all that version 0 had."""


@dataclass(frozen=True)
class Record:
    """One guest. ``whole`` false: a killed call began to make it. ``booted``: when its memory began; 0 if it never did.
    ``outgoing``: the state in which it was sent to another node."""

    seen: Seen
    whole: bool = True
    saved: bool = False
    booted: float = 0.0
    disk_mib: int = 0
    outgoing: Observed | None = None


@dataclass(frozen=True)
class Incoming:
    """The place of a guest that is to come from another node. ``state``: what was received of it."""

    ve: UUID
    native: str
    state: dict[str, Any] | None = None


class Store:
    """One connection to the file, for all threads of a process. Reads are answered from memory as long as no other connection has
    written."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.changed = threading.Condition(threading.RLock())
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.execute("PRAGMA cache_size=-512")  # KiB; a process may stand for a hundred nodes
        self._prepare()
        self._version = -1
        self._records: dict[str, Record] = {}
        self._incoming: dict[UUID, Incoming] = {}
        self._faulty = False
        self.last = 0
        self._refresh()

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    # ------------------------------------------------------------------------------------------------------------ reading

    def get(self, native: str) -> Record | None:
        """One guest, also a half-made one."""
        with self.changed:
            self._refresh()
            return self._records.get(native)

    def records(self) -> list[Record]:
        """Every whole guest."""
        with self.changed:
            self._refresh()
            return [record for record in self._records.values() if record.whole]

    def changes(self, after: int) -> tuple[list[Seen | Gone], int]:
        """The changes with a number higher than ``after``, in their order, and the number of the last. LookupError where
        some of them are kept no more."""
        with self.changed:
            self._refresh()
            if after >= self.last:
                return [], after
            rows = self._db.execute("SELECT id, seen FROM changes WHERE id > ? ORDER BY id", (after,)).fetchall()
            if not rows or rows[0][0] != after + 1:
                raise LookupError
            return [_change(json.loads(text)) for _, text in rows], rows[-1][0]

    def effects(self) -> dict[tuple[str, str], int]:
        """(native name, operation) → how often it was changed so."""
        with self.changed:
            rows = self._db.execute("SELECT native, operation, times FROM effects").fetchall()
            return {(native, operation): times for native, operation, times in rows}

    # ------------------------------------------------------------------------------------------------------------ changing

    @contextmanager
    def change(self) -> Iterator[None]:
        """Everything within happens together or not at all, and no other process changes anything meanwhile."""
        with self.changed:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                self._refresh()
                yield
                self._db.execute("COMMIT")
            except BaseException as error:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                self._version = -1  # what this process remembers is read again
                if isinstance(error, sqlite3.Error):
                    raise ToolFailed("store", f"the file of simulated guests cannot be written: {error}") from error
                raise
            self.changed.notify_all()

    def put(self, record: Record, operation: str = "", *, event: bool = False) -> None:
        """Write a guest; count the ``operation`` that did it; say its new state, if it is an ``event``. Within :meth:`change`."""
        seen = record.seen
        self._db.execute(
            "INSERT OR REPLACE INTO guests VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                seen.native,
                str(seen.ve) if seen.ve else None,
                seen.state,
                seen.since,
                seen.vcpus,
                seen.memory_mib,
                json.dumps(seen.addresses),
                seen.mac,
                record.whole,
                record.saved,
                record.booted,
                record.disk_mib,
            ),
        )
        before = self._records.get(seen.native)
        if record.outgoing is not (before.outgoing if before else None):
            self._db.execute("DELETE FROM outgoing WHERE native = ?", (seen.native,))
            if record.outgoing is not None:
                self._db.execute("INSERT INTO outgoing VALUES (?, ?)", (seen.native, record.outgoing))
        self._records[seen.native] = record
        if operation:
            self.count(seen.native, operation)
        if event:
            self._say(seen.to_json())

    def _say(self, change: dict[str, Any]) -> None:
        done = self._db.execute("INSERT INTO changes (seen) VALUES (?)", (json.dumps(change),))
        self.last = done.lastrowid or 0
        if self.last % 1000 == 0:
            self._db.execute("DELETE FROM changes WHERE id <= ?", (self.last - CHANGES_KEPT,))

    def arrive(self, known: Record, state: Observed, operation: str = "") -> None:
        """Bring a guest into a state and say so. Its memory begins with a start and ends with a stop or crash; one that is saved
        goes on. Within :meth:`change`."""
        now = time.time()
        after = replace(known, seen=replace(known.seen, state=state, since=now), saved=operation == "save")
        ends = state in (Observed.STOPPED, Observed.CRASHED)
        boots = state is Observed.RUNNING and known.seen.state is not Observed.SUSPENDED and not known.saved
        if boots or (ends and not after.saved):
            self._db.execute("DELETE FROM files WHERE native = ? AND path GLOB ?", (known.seen.native, f"{MEMORY}*"))
        self.put(replace(after, booted=now) if boots else after, operation, event=True)

    def remove(self, native: str, operation: str = "", *, event: bool = False) -> None:
        """Remove a guest with all that is its; say so, if it is an ``event``. Within :meth:`change`."""
        for table in ("guests", "files", "snapshots", "kept", "adopted", "outgoing", "layers"):
            self._db.execute(f"DELETE FROM {table} WHERE native = ?", (native,))
        self._records.pop(native, None)
        if operation:
            self.count(native, operation)
        if event:
            self._say({"gone": native})

    def count(self, native: str, operation: str) -> None:
        """One more real effect."""
        self._db.execute(
            "INSERT INTO effects VALUES (?, ?, 1) ON CONFLICT (native, operation) DO UPDATE SET times = times + 1",
            (native, operation),
        )

    # -------------------------------------------------------------------------------------------------- files and snapshots

    def layers(self) -> Mapping[str, Path]:
        """The image that each guest was made from, by native name."""
        with self.changed:
            return {native: Path(image) for native, image in self._db.execute("SELECT native, image FROM layers")}

    def put_layer(self, native: str, image: Path | None) -> None:
        """Write which image a guest was made from. Within :meth:`change`."""
        if image is not None:
            self._db.execute("INSERT OR REPLACE INTO layers VALUES (?, ?)", (native, str(image)))

    def incoming(self, ve: UUID) -> Incoming | None:
        """The place that a VE has here, if one is prepared."""
        with self.changed:
            self._refresh()
            return self._incoming.get(ve)

    def incoming_named(self, native: str) -> Incoming | None:
        """The place of this name."""
        with self.changed:
            self._refresh()
            return next((each for each in self._incoming.values() if each.native == native), None)

    def put_incoming(self, place: Incoming, operation: str) -> None:
        """Write a place. Within :meth:`change`."""
        text = json.dumps(place.state) if place.state is not None else None
        self._db.execute("INSERT OR REPLACE INTO incoming VALUES (?, ?, ?)", (str(place.ve), place.native, text))
        self._incoming[place.ve] = place
        self.count(place.native, operation)

    def remove_incoming(self, place: Incoming, operation: str = "") -> None:
        """Remove a place and what was received in it. Within :meth:`change`."""
        self._db.execute("DELETE FROM incoming WHERE ve = ?", (str(place.ve),))
        self._incoming.pop(place.ve, None)
        if operation:
            self.count(place.native, operation)

    def files(self, native: str) -> Mapping[str, bytes]:
        """A guest's files by path."""
        with self.changed:
            rows = self._db.execute("SELECT path, content FROM files WHERE native = ? ORDER BY path", (native,))
            return {path: bytes(content) for path, content in rows}

    def write_file(self, native: str, path: str, content: bytes) -> None:
        """Write one file. OSError where the guest's disk is too small."""
        with self.change():
            record = self._records.get(native)
            if record is None:
                raise OSError(errno.EIO, "the guest is gone")
            (used,) = self._db.execute(
                "SELECT coalesce(sum(length(content)), 0) FROM files WHERE native = ? AND path != ?", (native, path)
            ).fetchone()
            if record.disk_mib and used + len(content) > record.disk_mib << 20:
                raise OSError(errno.ENOSPC, "No space left on device")
            self._db.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", (native, path, content))

    def fill(self, native: str, files: Mapping[str, bytes]) -> None:
        """Make these the guest's files. Within :meth:`change`."""
        self._db.execute("DELETE FROM files WHERE native = ?", (native,))
        self._db.executemany("INSERT INTO files VALUES (?, ?, ?)", [(native, *each) for each in files.items()])

    def remove_file(self, native: str, path: str) -> bool:
        """Whether there was one."""
        with self.change():
            return self._db.execute("DELETE FROM files WHERE native = ? AND path = ?", (native, path)).rowcount > 0

    def keep(self, record: Record, snapshot: Snapshot) -> None:
        """Keep the guest's files, as a power cut would leave them. Within :meth:`change`."""
        native = record.seen.native
        self._db.execute("INSERT INTO snapshots VALUES (?, ?, ?, ?)", (native, snapshot.name, snapshot.job, snapshot.at))
        self._db.execute(
            "INSERT INTO kept SELECT native, ?, path, content FROM files WHERE native = ? AND NOT path GLOB ?",
            (snapshot.name, native, f"{MEMORY}*"),
        )
        self.put(replace(record, seen=replace(record.seen, snapshots=(*record.seen.snapshots, snapshot))), "snapshot")

    def kept(self, native: str, name: str) -> Mapping[str, bytes]:
        """The files of a snapshot by path."""
        with self.changed:
            asked = (native, name)
            rows = self._db.execute("SELECT path, content FROM kept WHERE native = ? AND name = ? ORDER BY path", asked)
            return {path: bytes(content) for path, content in rows}

    def put_kept(self, native: str, snapshot: Snapshot, files: Mapping[str, bytes]) -> None:
        """Write a snapshot that was taken elsewhere. Within :meth:`change`."""
        self._db.execute("INSERT INTO snapshots VALUES (?, ?, ?, ?)", (native, snapshot.name, snapshot.job, snapshot.at))
        self._db.executemany("INSERT INTO kept VALUES (?, ?, ?, ?)", [(native, snapshot.name, *each) for each in files.items()])

    def bring_back(self, native: str, name: str) -> None:
        """Make the guest's files those of a snapshot. Within :meth:`change`."""
        self._db.execute("DELETE FROM files WHERE native = ?", (native,))
        self._db.execute("INSERT INTO files SELECT native, path, content FROM kept WHERE native = ? AND name = ?", (native, name))

    def drop(self, record: Record, name: str) -> None:
        """Remove a snapshot. Within :meth:`change`."""
        native = record.seen.native
        for table in ("snapshots", "kept"):
            self._db.execute(f"DELETE FROM {table} WHERE native = ? AND name = ?", (native, name))
        left = tuple(each for each in record.seen.snapshots if each.name != name)
        self.put(replace(record, seen=replace(record.seen, snapshots=left)), "delete-snapshot")

    # ------------------------------------------------------------------------------------------------------------- chance

    def plan_fault(self, operation: str, what: str, times: int) -> None:
        """See :func:`.outside.plan_fault`."""
        with self.change():
            self._db.execute("INSERT OR REPLACE INTO faults VALUES (?, ?, ?)", (operation, what, times))
            self._faulty = True

    def take_fault(self, operation: str) -> str:
        """What is planned for this call; empty if nothing is."""
        with self.changed:
            self._refresh()
            if not self._faulty:
                return ""
            with self.change():  # two processes must not take the same one
                row = self._db.execute("SELECT what FROM faults WHERE operation = ? AND times > 0", (operation,)).fetchone()
                self._db.execute("UPDATE faults SET times = times - 1 WHERE operation = ? AND times > 0", (operation,))
                return str(row[0]) if row else ""

    def draw(self, operation: str) -> int:
        """Which call of an operation this is, over all runs."""
        with self.change():
            self._db.execute(
                "INSERT INTO draws VALUES (?, 1) ON CONFLICT (operation) DO UPDATE SET times = times + 1", (operation,)
            )
            (times,) = self._db.execute("SELECT times FROM draws WHERE operation = ?", (operation,)).fetchone()
            return int(times)

    # ------------------------------------------------------------------------------------------------------------- within

    def rename(self, record: Record, after: Record, operation: str) -> None:
        """Give a guest another name and what belongs to it, with its files and snapshots. Within :meth:`change`."""
        old, new = record.seen.native, after.seen.native
        for table in ("files", "snapshots", "kept", "layers", "adopted"):
            self._db.execute(f"UPDATE {table} SET native = ? WHERE native = ?", (new, old))
        self._db.execute("DELETE FROM guests WHERE native = ?", (old,))
        self._records.pop(old, None)
        self.put(after, operation)

    def note_adopted(self, native: str, before: Seen | None) -> None:
        """Remember, or (None) forget, what an adopted guest was. Within :meth:`change`."""
        self._db.execute("DELETE FROM adopted WHERE native = ?", (native,))
        if before is not None:
            self._db.execute("INSERT INTO adopted VALUES (?, ?)", (native, json.dumps(before.to_json())))

    def adopted(self, native: str) -> Seen | None:
        """What an adopted guest was."""
        with self.changed:
            row = self._db.execute("SELECT seen FROM adopted WHERE native = ?", (native,)).fetchone()
            return Seen.from_json(json.loads(row[0])) if row else None

    def _prepare(self) -> None:
        for table in (
            "adopted (native TEXT PRIMARY KEY, seen TEXT NOT NULL)",
            "outgoing (native TEXT PRIMARY KEY, state TEXT NOT NULL)",
            "incoming (ve TEXT PRIMARY KEY, native TEXT NOT NULL UNIQUE, state TEXT)",
            "layers (native TEXT PRIMARY KEY, image TEXT NOT NULL)",
        ):
            self._db.execute(f"CREATE TABLE IF NOT EXISTS {table} WITHOUT ROWID")
        if self._format() == VERSION:
            return
        self._db.execute("BEGIN IMMEDIATE")
        if self._format() != VERSION:  # else another process was faster
            for statement in filter(str.strip, _TABLES.split(";")):
                self._db.execute(statement)
        self._db.execute("COMMIT")

    def _format(self) -> int:
        (found,) = self._db.execute("PRAGMA user_version").fetchone()
        return int(found)

    def _refresh(self) -> None:
        """Take over what another connection wrote. Raises :class:`CannotLook`."""
        try:
            self._read()
        except sqlite3.Error as error:
            raise CannotLook("list", f"the file of simulated guests cannot be read: {error}") from error

    def _read(self) -> None:
        # SQLite counts the writes of other connections.
        (version,) = self._db.execute("PRAGMA data_version").fetchone()
        if version == self._version:
            return
        self._faulty = self._db.execute("SELECT 1 FROM faults WHERE times > 0").fetchone() is not None
        self.last = self._db.execute("SELECT coalesce(max(id), 0) FROM changes").fetchone()[0]
        snapshots: dict[str, tuple[Snapshot, ...]] = {}
        for native, name, job, at in self._db.execute("SELECT native, name, job, at FROM snapshots ORDER BY at, name"):
            snapshots[native] = (*snapshots.get(native, ()), Snapshot(name, job, at))
        outgoing = {native: Observed(state) for native, state in self._db.execute("SELECT native, state FROM outgoing")}
        rows = self._db.execute("SELECT * FROM guests")
        self._records = {row[0]: _record(row, snapshots.get(row[0], ()), outgoing.get(row[0])) for row in rows}
        places = self._db.execute("SELECT ve, native, state FROM incoming").fetchall()
        made = (Incoming(UUID(ve), native, json.loads(state) if state else None) for ve, native, state in places)
        self._incoming = {place.ve: place for place in made}
        self._version = version


def _change(said: dict[str, Any]) -> Seen | Gone:
    return Gone(str(said["gone"])) if "gone" in said else Seen.from_json(said)


def _record(row: tuple[Any, ...], snapshots: tuple[Snapshot, ...], outgoing: Observed | None) -> Record:
    native, ve, state, since, vcpus, memory_mib, addresses, mac, whole, saved, booted, disk_mib = row
    seen = Seen(
        native=native,
        kind=Kind.SIMULATED,
        state=Observed(state),
        ve=UUID(ve) if ve else None,
        addresses=tuple(json.loads(addresses)),
        mac=mac,
        since=since,
        vcpus=vcpus,
        memory_mib=memory_mib,
        snapshots=snapshots,
    )
    return Record(seen, bool(whole), bool(saved), booted, disk_mib, outgoing)
