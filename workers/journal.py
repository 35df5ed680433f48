"""The node's own record: which steps it was told, what became of them, and which VEs are its own.

One SQLite file per node (WAL, full sync). A transaction that :meth:`Journal.transaction` ends has reached the disk, so an order
is acknowledged only once it can no longer be lost, and a result is sent only once it can be said again. Loosely synced
transactions (the beginning of a step, the spool) survive the death of the process, not of the machine; they are repeatable.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any
from uuid import UUID

from vmcloud.config import Keep
from vmcloud.domain.errors import Invalid
from vmcloud.domain.messages import NOTES_MAX, Message, Result, StepOrder, parse
from vmcloud.domain.vocabulary import StepVerb

from .schema import MIGRATIONS

log = logging.getLogger(__name__)

KEEP_STEPS = 5000
"""The last steps, which stay however old they are."""
A_DAY = 86400.0
"""Seconds that a step stays however many there are: so long, and longer, the server may ask for its result again."""
LOG_BYTES, CACHE_KIB = 1 << 20, 512
"""Most that the write-ahead log keeps on disk after it was longer, and most of the file that is kept in memory."""
Key = tuple[int, int]
"""(job, step)."""


class JournalDamaged(Exception):
    """The journal can not be read, or was written by a later release. The worker must not start on it."""


class State(StrEnum):
    """Where a step is."""

    ACCEPTED = "accepted"
    RUNNING = "running"
    DONE = "done"


class Presence(StrEnum):
    """Whether the journal says that a VE's guest should be on this node. Of one that was deleted here nothing is done any more;
    one that moved to another node may come back."""

    ABSENT = "absent"
    PRESENT = "present"
    DELETED = "deleted"
    MOVED = "moved"


@dataclass(frozen=True)
class StepRow:
    """One step. ``order`` is None for a cancelled step that was never heard of. ``starts`` counts begun executions that did not
    end by themselves, and ``deaths`` says how they ended; ``before`` is the guest's state before the first of them; ``cancel``:
    stop it and undo; ``notes``: lines for the job's history. A step that is not done and has a ``result`` has only its epilogue
    left, and its telling."""

    sequence: int
    job: int
    step: int
    attempt: int
    state: State
    order: StepOrder | None
    starts: int = 0
    cancel: bool = False
    before: str = ""
    deaths: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    result: Result | None = None

    @property
    def key(self) -> Key:
        """(job, step)."""
        return self.job, self.step


@dataclass(frozen=True)
class VERow:
    """One VE on this node. ``generation_high``: highest ordered; ``generation_done``: highest worked on; ``address`` with its
    prefix length."""

    ve: UUID
    native: str = ""
    kind: str = ""
    spec: dict[str, Any] | None = None
    address: str = ""
    mac: str = ""
    generation_high: int = 0
    generation_done: int = 0
    presence: Presence = Presence.ABSENT


class Journal:
    """See the module. Safe for use by several threads: one connection, one lock."""

    def __init__(self, path: Path, keep: Keep = Keep()) -> None:  # noqa: B008 - a frozen value
        """Open or make the file at ``path`` and begin a new epoch. :class:`JournalDamaged`. ``keep``: how much of what is over.

        A new file begins at the seconds since 1970: later than any epoch of a journal that was here before it and is lost, of
        which the directory may still know marks (a worker starts less than once in a second).
        """
        self.path, self._keep = path, keep
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = threading.RLock()
        self._depth = 0
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=64)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute(f"PRAGMA journal_size_limit={LOG_BYTES}")
            self._db.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
            self._check()
            self._migrate()
            self._ves: dict[UUID, VERow] = self._load_ves()
            with self.transaction():
                self._db.execute(
                    "UPDATE meta SET epoch = CASE epoch WHEN 0 THEN max(?, 1) ELSE epoch + 1 END", (int(time.time()),)
                )
            self.epoch: int = self._db.execute("SELECT epoch FROM meta").fetchone()[0]
        except sqlite3.DatabaseError as error:
            raise self._damage(str(error)) from error

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._db.close()

    @contextmanager
    def transaction(self, *, synced: bool = True) -> Iterator[None]:
        """All or nothing; on disk at its end if ``synced``. Nested ones belong to the outermost."""
        with self._lock:
            if self._depth:
                yield
                return
            if not synced:
                self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.execute("BEGIN IMMEDIATE")
            self._depth = 1
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # a full disk has ended it already
                    self._db.execute("ROLLBACK")
                self._ves = self._load_ves()
                raise
            finally:
                self._depth = 0
                if not synced:
                    self._db.execute("PRAGMA synchronous=FULL")

    # ------------------------------------------------------------------------------------------------------------- steps

    def step(self, key: Key) -> StepRow | None:
        """What is known of one step."""
        with self._lock:
            found = self._db.execute(f"SELECT {_STEP} FROM steps WHERE job = ? AND step = ?", key).fetchone()
        return _step(found) if found else None

    def accept(self, order: StepOrder, now: float) -> StepRow:
        """Record ``order`` as accepted, after all others; whatever was known of the same step is replaced."""
        with self.transaction():
            self._db.execute("DELETE FROM steps WHERE job = ? AND step = ?", (order.job, order.step))
            made = self._db.execute(
                'INSERT INTO steps (job, step, attempt, state, "order", accepted) VALUES (?, ?, ?, ?, ?, ?)',
                (order.job, order.step, order.attempt, State.ACCEPTED, json.dumps(order.to_json()), now),
            )
            if order.ve is not None:
                known = self.ve(order.ve) or VERow(order.ve)
                native, kind = known.native or order.native, known.kind or str(order.kind or "")
                renewed = order.verb in (StepVerb.DELETE, StepVerb.MIGRATE_PREPARE)
                if renewed and known.presence is not Presence.PRESENT:
                    # A guest of a VE that is wanted no more is called what its sighting said; one that comes back may have been
                    # renamed meanwhile.
                    native = order.native
                if order.verb is StepVerb.MIGRATE_PREPARE and known.presence is not Presence.PRESENT:
                    known = replace(known, presence=Presence.ABSENT, spec=None)
                high = max(known.generation_high, order.generation)
                self.put_ve(replace(known, native=native, kind=kind, generation_high=high))
        assert made.lastrowid is not None
        return StepRow(made.lastrowid, order.job, order.step, order.attempt, State.ACCEPTED, order)

    def adopt(self, order: StepOrder) -> None:
        """Let an unfinished step go on under a later attempt's number and arguments; its place in its lane stays."""
        with self.transaction():
            self._db.execute(
                'UPDATE steps SET attempt = ?, "order" = ? WHERE job = ? AND step = ?',
                (order.attempt, json.dumps(order.to_json()), order.job, order.step),
            )

    def cancel(self, key: Key, attempt: int) -> None:
        """Mark a begun step as to be stopped and undone."""
        with self.transaction():
            self._db.execute("UPDATE steps SET cancel = 1, attempt = ? WHERE job = ? AND step = ?", (attempt, *key))

    def begin(self, key: Key, sequence: int) -> StepRow | None:
        """Count a start of an unfinished step and say what it is; None if it is done or unknown, or if another order took the
        place of the one with this ``sequence``."""
        with self.transaction(synced=False):
            found = self._db.execute(
                "UPDATE steps SET state = ?, starts = starts + 1 WHERE job = ? AND step = ? AND sequence = ? AND state != ? "
                f"RETURNING {_STEP}",
                (State.RUNNING, *key, sequence, State.DONE),
            ).fetchall()
        return _step(found[0]) if found else None

    def before(self, key: Key, state: str) -> None:
        """Keep the state in which a step's first start found its guest."""
        with self.transaction(synced=False):
            self._db.execute("UPDATE steps SET before = ? WHERE job = ? AND step = ? AND before = ''", (state, *key))

    def died(self, sequence: int, how: str) -> None:
        """Keep how the last start of a step ended, which did not end by itself; where that is known already nothing changes."""
        with self.transaction(synced=False):
            found = self._db.execute("SELECT starts, deaths FROM steps WHERE sequence = ?", (sequence,)).fetchone()
            starts, deaths = (found[0], json.loads(found[1])) if found else (0, [])
            if len(deaths) < starts:
                self._db.execute("UPDATE steps SET deaths = ? WHERE sequence = ?", (json.dumps([*deaths, how]), sequence))

    def note(self, sequence: int, text: str, *, instead: bool = False) -> None:
        """Add a line for the job's history, or put it in the place of the last one."""
        with self.transaction(synced=False):
            found = self._db.execute("SELECT notes FROM steps WHERE sequence = ?", (sequence,)).fetchone()
            notes = json.loads(found[0]) if found else []
            notes = [*(notes[:-1] if instead else notes), text][-NOTES_MAX:]
            self._db.execute("UPDATE steps SET notes = ? WHERE sequence = ?", (json.dumps(notes), sequence))

    def conclude(self, sequence: int, result: Result) -> None:
        """Keep how the work of a step ended, before its epilogue."""
        with self.transaction(synced=False):
            text = json.dumps(result.to_json())
            self._db.execute("UPDATE steps SET result = ? WHERE sequence = ? AND state != 'done'", (text, sequence))

    def leave(self, key: Key) -> None:
        """The worker ends before the step does, on purpose: this start is not held against the step."""
        with self.transaction(synced=False):
            self._db.execute("UPDATE steps SET starts = max(starts - 1, 0) WHERE job = ? AND step = ?", key)

    def finish(self, result: Result) -> None:
        """Record a step's end. Its ticket, if it had one, is worthless from now on and forgotten."""
        text = json.dumps(result.to_json())
        with self.transaction():
            known = self._db.execute(
                "UPDATE steps SET state = 'done', attempt = ?, result = ?, done = ?, "
                '"order" = json_remove("order", \'$.args.ticket\') WHERE job = ? AND step = ?',
                (result.attempt, text, result.at, result.job, result.step),
            )
            if not known.rowcount:
                self._db.execute(
                    "INSERT INTO steps (job, step, attempt, state, result, accepted, done) VALUES (?, ?, ?, 'done', ?, ?, ?)",
                    (result.job, result.step, result.attempt, text, result.at, result.at),
                )

    def unfinished(self) -> list[StepRow]:
        """Steps accepted or running, in order of acceptance."""
        with self._lock:
            rows = self._db.execute(f"SELECT {_STEP} FROM steps WHERE state != 'done' ORDER BY sequence").fetchall()
        return [_step(row) for row in rows]

    def results_since(self, when: float) -> list[Result]:
        """Results of steps that ended after ``when`` (seconds since the epoch), oldest first."""
        with self._lock:
            rows = self._db.execute("SELECT result FROM steps WHERE done > ? ORDER BY done", (when,)).fetchall()
        return [Result.decode(json.loads(text)) for (text,) in rows]

    # --------------------------------------------------------------------------------------------------------------- VEs

    def ve(self, ve: UUID) -> VERow | None:
        """What is known of one VE."""
        return self._ves.get(ve)

    def ves(self) -> list[VERow]:
        """Every VE that this node remembers, deleted ones too."""
        with self._lock:
            return list(self._ves.values())

    def put_ve(self, row: VERow) -> None:
        """Record one VE."""
        with self.transaction():
            self._db.execute(
                "INSERT INTO ves VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (ve) DO UPDATE SET native = excluded.native, "
                "kind = excluded.kind, spec = excluded.spec, address = excluded.address, mac = excluded.mac, "
                "generation_high = excluded.generation_high, generation_done = excluded.generation_done, "
                "presence = excluded.presence, changed = excluded.changed",
                (
                    str(row.ve),
                    row.native,
                    row.kind,
                    json.dumps(row.spec) if row.spec is not None else None,
                    row.address,
                    row.mac,
                    row.generation_high,
                    row.generation_done,
                    row.presence,
                    time.time(),
                ),
            )
            self._ves[row.ve] = row

    # ------------------------------------------------------------------------------------------------------------- spool

    def spool(self, message: Message) -> None:
        """Keep a report for later; a full list takes the place of earlier ones, the oldest go where there are too many."""
        full = bool(getattr(message, "full", False))
        with self.transaction(synced=False):
            if full:
                self._db.execute("DELETE FROM outbox WHERE full = 1")
            self._db.execute("INSERT INTO outbox (full, message) VALUES (?, ?)", (full, json.dumps(message.to_json())))
            self._db.execute("DELETE FROM outbox WHERE id <= (SELECT max(id) FROM outbox) - ?", (self._keep.spool_messages,))

    def spooled(self, limit: int = 100) -> list[tuple[int, Message]]:
        """The oldest reports kept, with their numbers. Those that can not be read (written by another release) are dropped."""
        while True:
            with self._lock:
                rows = self._db.execute("SELECT id, message FROM outbox ORDER BY id LIMIT ?", (limit,)).fetchall()
            kept: list[tuple[int, Message]] = []
            for number, text in rows:
                try:
                    kept.append((number, parse(json.loads(text))))
                except (Invalid, ValueError, TypeError) as error:
                    log.error("a report that was kept can not be read and is dropped (%s): %.300s", error, text)
                    with self.transaction(synced=False):
                        self._db.execute("DELETE FROM outbox WHERE id = ?", (number,))
            if kept or not rows:
                return kept

    def unspool(self, up_to: int) -> None:
        """Forget the reports up to this number: they were sent."""
        with self.transaction(synced=False):
            self._db.execute("DELETE FROM outbox WHERE id <= ?", (up_to,))

    # ------------------------------------------------------------------------------------------------------------ upkeep

    def prune(self, now: float, *, steps: int = KEEP_STEPS) -> None:
        """Forget steps that ended long ago, save the last ``steps``, and of those that ended a day ago the oldest where there are
        too many; VEs that were deleted or moved away after three times as long."""
        days = self._keep.journal_days
        with self.transaction(synced=False):
            self._db.execute(
                "DELETE FROM steps WHERE state = 'done' AND done < ? AND sequence <= (SELECT max(sequence) FROM steps) - ?",
                (now - A_DAY, max(self._keep.journal_steps, steps)),
            )
            self._db.execute(
                "DELETE FROM steps WHERE state = 'done' AND done < ? "
                "AND sequence NOT IN (SELECT sequence FROM steps ORDER BY sequence DESC LIMIT ?)",
                (now - days * A_DAY, steps),
            )
            over = (Presence.DELETED, Presence.MOVED, now - 3 * days * A_DAY)
            self._db.execute("DELETE FROM ves WHERE presence IN (?, ?) AND changed < ?", over)
            self._ves = self._load_ves()

    def _load_ves(self) -> dict[UUID, VERow]:
        rows = [_ve(row) for row in self._db.execute("SELECT * FROM ves")]
        return {row.ve: row for row in rows}

    def _check(self) -> None:
        (verdict,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise self._damage(verdict)

    def _migrate(self) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version > len(MIGRATIONS):
            raise self._damage(f"its version {version} is later than this program's {len(MIGRATIONS)}")
        for number, script in enumerate(MIGRATIONS[version:], version + 1):
            self._db.executescript(f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {number}; COMMIT;")

    def _damage(self, why: str) -> JournalDamaged:
        return JournalDamaged(
            f"the journal {self.path} can not be used: {why}. The guests are not touched. Restore the file, run the release "
            f"that wrote it, or move it (with its -wal and -shm) away: the node then begins an empty one and reports what it sees"
        )


_STEP = 'sequence, job, step, attempt, state, "order", starts, cancel, before, deaths, notes, result'


def _step(row: tuple[Any, ...]) -> StepRow:
    sequence, job, step, attempt, state, order, starts, cancel, before, deaths, notes, result = row
    return StepRow(
        sequence=sequence,
        job=job,
        step=step,
        attempt=attempt,
        state=State(state),
        order=_order(order) if order else None,
        starts=starts,
        cancel=bool(cancel),
        before=before,
        deaths=tuple(json.loads(deaths)),
        notes=tuple(json.loads(notes)),
        result=Result.decode(json.loads(result)) if result else None,
    )


@lru_cache(maxsize=64)
def _order(text: str) -> StepOrder:
    """An order is read several times on its way through one step."""
    return StepOrder.decode(json.loads(text))


def _ve(row: tuple[Any, ...]) -> VERow:
    ve, native, kind, spec, address, mac, high, done, presence, _changed = row
    return VERow(
        ve=UUID(ve),
        native=native,
        kind=kind,
        spec=json.loads(spec) if spec else None,
        address=address,
        mac=mac,
        generation_high=high,
        generation_done=done,
        presence=Presence(presence),
    )
