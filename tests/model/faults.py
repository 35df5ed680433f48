"""Faults at a numbered effect: what the engine does to the outside is counted, and at one of these something happens.

An *effect* is one SQL statement, one commit, one call of the directory or one message to the broker. Before the test calls a
function of the engine it may :meth:`~Faults.arm` one fault for the n-th effect of that call: the part is lost from there on, the
call fails before or after it took effect, the process is killed, or somebody else acts in between (a request, another leader).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any

from django.db import OperationalError

from vmcloud.directory.errors import Stale
from vmcloud.directory.errors import Unavailable as DirectoryUnavailable
from vmcloud.domain.errors import Unavailable


class Killed(BaseException):
    """The process that carried out a call is no more; what it kept in memory is lost."""


class Fault(StrEnum):
    """What happens at the effect."""

    SQL_AWAY = "the database is away from here on"
    COMMIT_UNKNOWN = "the next commit takes effect and its answer is lost"
    UNDONE = "the database undoes the transaction for the sake of another"
    DIRECTORY_BEFORE = "the directory does not answer, and did nothing"
    DIRECTORY_AFTER = "the directory did it, and its answer is lost"
    DIRECTORY_STALE = "somebody else wrote the entry first"
    BROKER_BEFORE = "the broker does not answer, and took nothing"
    BROKER_AFTER = "the broker took it, and its answer is lost"
    KILLED = "the process is killed"


DIRECTORY = (Fault.DIRECTORY_BEFORE, Fault.DIRECTORY_AFTER, Fault.DIRECTORY_STALE)
BROKER = (Fault.BROKER_BEFORE, Fault.BROKER_AFTER)


class _Undone(Exception):
    """What psycopg says of a transaction that was undone (PostgreSQL, appendix A: serialization_failure)."""

    sqlstate = "40001"


class Faults:
    """Counts effects and makes the armed fault happen. One for each test; installed with :meth:`installed`."""

    def __init__(self) -> None:
        self.on = True
        self.watch: Callable[[str], None] = lambda sql: None
        """Told of each statement before it is carried out."""
        self.seen = 0
        """Effects since the fault was armed."""
        self._at: int | None = None
        self._fault: Fault | None = None
        self._between: Callable[[], None] | None = None
        self._away = False
        self._inside = False

    # ---------------------------------------------------------------------------------------------------------- arming

    def arm(self, at: int, fault: Fault) -> None:
        """Have ``fault`` happen at the effect with this number, counted from now."""
        self.disarm()
        self._at, self._fault = at, fault

    def arm_between(self, at: int, do: Callable[[], None]) -> None:
        """Have somebody else act before the effect with this number. Those inside of a transaction are not counted: in SQLite
        others wait for its end."""
        self.disarm()
        self._at, self._between = at, do

    def disarm(self) -> None:
        """Everything works again; nothing is to happen."""
        self.seen, self._at, self._fault, self._between = 0, None, None, None
        self._away = False

    # --------------------------------------------------------------------------------------------------------- effects

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Count what the database is told, for as long as this block goes on."""
        from django.db import connection

        commit = connection._commit

        def committing() -> None:
            fault = self._sql(Fault.SQL_AWAY, Fault.COMMIT_UNKNOWN)
            commit()
            if fault is Fault.COMMIT_UNKNOWN:
                raise OperationalError("the connection broke while it waited for the commit (injected)")

        def statement(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
            inside = connection.in_atomic_block and not sql.startswith(("BEGIN", "SAVEPOINT", "RELEASE", "ROLLBACK"))
            if self._sql(Fault.SQL_AWAY, *([Fault.UNDONE] if inside else [])) is Fault.UNDONE:
                raise OperationalError("could not serialize access (injected)") from _Undone()
            self.watch(sql)
            return execute(sql, params, many, context)

        connection._commit = committing  # type: ignore[method-assign]
        try:
            with connection.execute_wrapper(statement):
                yield
        finally:
            connection._commit = commit  # type: ignore[method-assign]

    def _sql(self, *kinds: Fault) -> Fault | None:
        """One statement or commit; the fault of these kinds that is to happen to it."""
        if self._inside or not self.on:
            return None
        fault = None if self._away else self._due(kinds)
        if fault is Fault.SQL_AWAY:
            self._away = True
        if self._away:
            raise OperationalError("the database is away (injected)")
        return fault

    def call(self, kind: str, do: Callable[[], Any]) -> Any:
        """One call of the directory or the broker."""
        if self._inside or not self.on:
            return do()
        fault = self._due(BROKER if kind == "broker" else DIRECTORY)
        match fault:
            case Fault.DIRECTORY_BEFORE:
                raise DirectoryUnavailable("the directory does not answer (injected)")
            case Fault.DIRECTORY_STALE if kind == "write":
                raise Stale("the entry was changed by somebody else (injected)")
            case Fault.BROKER_BEFORE:
                raise Unavailable("the broker does not answer (injected)")
        done = do()
        if fault is Fault.DIRECTORY_AFTER:
            raise DirectoryUnavailable("the directory does not answer (injected)")
        if fault is Fault.BROKER_AFTER:
            raise Unavailable("the broker does not answer (injected)")
        return done

    def _due(self, kinds: tuple[Fault, ...]) -> Fault | None:
        """The fault that happens now, if it is one of these; a kill happens at any effect."""
        from django.db import connection

        if self._between is not None and connection.in_atomic_block:
            return None
        self.seen += 1
        if self._at is None or self.seen < self._at:
            return None
        if self._between is not None:
            self._act()
            return None
        if self._fault is Fault.KILLED:
            self.disarm()
            raise Killed
        if self._fault not in kinds:
            return None
        fault, self._at, self._fault = self._fault, None, None
        return fault

    def _act(self) -> None:
        do, self._between, self._at = self._between, None, None
        assert do is not None
        self._inside = True
        try:
            do()
        finally:
            self._inside = False
