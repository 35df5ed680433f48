"""Many writes of one transaction, made together: a statement for each sort of change instead of one for each row.

Between :func:`gathering` and its end, :func:`add` and :func:`change` only note what is to be written. Outside of it they write at
once, so what calls them need not know. Django takes ten times as long to make a statement as SQLite takes to carry it out.

A row whose model names a ``COUNTED`` field is changed by compare-and-swap: the statement names the version that was read, and
:class:`Clash` says that somebody else was first.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from django.db import connection, models

_here = threading.local()


class Clash(Exception):
    """Somebody else has changed a row since it was read. Nothing of the transaction counts: read again, and decide again."""


class _Change:
    """What is to be written of one row: the objects that stand for it, and the names of the fields that changed."""

    def __init__(self, row: models.Model) -> None:
        self.rows: list[models.Model] = [row]
        self.names: set[str] = set()

    def take(self, row: models.Model, names: set[str]) -> None:
        """These fields have the values of ``row`` now; every object that stands for the row learns them."""
        if not any(row is each for each in self.rows):
            for name in self.names - names:
                setattr(row, name, getattr(self.rows[0], name))
            self.rows.append(row)
        self.names |= names
        for other in self.rows:
            for name in names:
                setattr(other, name, getattr(row, name))


class _Notes:
    """What is to be written: new rows, and changes of rows."""

    def __init__(self) -> None:
        self.new: dict[type[models.Model], list[models.Model]] = {}
        self.changed: dict[tuple[type[models.Model], Any], _Change] = {}
        self.statements: dict[str, list[Sequence[Any]]] = {}

    def note(self, row: models.Model, names: set[str]) -> None:
        key = type(row), row.pk
        if key not in self.changed:
            self.changed[key] = _Change(row)
        self.changed[key].take(row, names)

    def take_over(self, inner: _Notes) -> None:
        """What a block inside this one has noted."""
        for model, rows in inner.new.items():
            self.new.setdefault(model, []).extend(rows)
        for change in inner.changed.values():
            for row in change.rows:
                self.note(row, change.names)
        for statement, values in inner.statements.items():
            self.statements.setdefault(statement, []).extend(values)

    def write(self) -> None:
        new, self.new = self.new, {}
        changed, self.changed = self.changed, {}
        statements, self.statements = self.statements, {}
        alike: dict[tuple[type[models.Model], tuple[str, ...]], list[_Change]] = {}
        for (model, _), change in changed.items():
            alike.setdefault((model, tuple(sorted(change.names))), []).append(change)
        for (model, fields), changes in alike.items():
            _update(model, fields, changes)
        for statement, values in statements.items():
            _execute(statement, values)
        for model, rows in new.items():
            model._default_manager.bulk_create(rows)


@contextmanager
def gathering() -> Iterator[None]:
    """Write together what is added and changed in this block, at its end, or at that of the block around it; inside a
    transaction. An exception forgets it."""
    outer: _Notes | None = getattr(_here, "notes", None)
    notes = _here.notes = _Notes()
    try:
        yield
        if outer is None:
            notes.write()
        else:
            outer.take_over(notes)
    finally:
        _here.notes = outer


def flush() -> None:
    """Write what is noted so far: before a read that must see it."""
    if (notes := getattr(_here, "notes", None)) is not None:
        notes.write()


def add(row: models.Model) -> None:
    """Insert a row. Inside a block its number is known only when the block has ended."""
    if (notes := getattr(_here, "notes", None)) is None:
        row.save(force_insert=True)
    else:
        notes.new.setdefault(type(row), []).append(row)


def run(statement: str, values: Sequence[Any]) -> None:
    """Carry out a statement that changes rows of a table which is not read here; the same ones go together."""
    if (notes := getattr(_here, "notes", None)) is None:
        _execute(statement, [values])
    else:
        notes.statements.setdefault(statement, []).append(values)


def _execute(statement: str, values: Sequence[Sequence[Any]]) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(statement, values)


def change(row: models.Model, **changes: Any) -> None:
    """Update these fields of a row, by its key. A field that its model names in ``COUNTED`` grows by one with each statement, and
    the row is changed only if it still has the version that was read; else :class:`Clash`."""
    for name, value in changes.items():
        setattr(row, name, value)
    if (notes := getattr(_here, "notes", None)) is None:
        alone = _Change(row)
        alone.names = set(changes)
        _update(type(row), tuple(changes), [alone])
    else:
        notes.note(row, set(changes))


def _update(model: type[models.Model], fields: Sequence[str], changes: Sequence[_Change]) -> None:
    quote, meta = connection.ops.quote_name, model._meta
    columns = [field for name in fields if isinstance(field := meta.get_field(name), models.Field)]
    sets = [f"{quote(str(field.column))} = %s" for field in columns]
    key, counted = meta.pk, getattr(model, "COUNTED", "")
    assert isinstance(key, models.Field)
    where = f"{quote(str(key.column))} = %s"
    if counted:
        sets.append(f"{quote(counted)} = {quote(counted)} + 1")
        where += f" AND {quote(counted)} = %s"
    values = []
    for row in (each.rows[0] for each in changes):
        stored = [field.get_db_prep_save(getattr(row, field.attname), connection) for field in columns]
        version = [getattr(row, counted)] if counted else []
        values.append([*stored, key.get_db_prep_value(row.pk, connection), *version])
    with connection.cursor() as cursor:
        cursor.executemany(f"UPDATE {quote(meta.db_table)} SET {', '.join(sets)} WHERE {where}", values)
        written = cursor.rowcount
    if not counted:
        return
    if written != len(changes):
        raise Clash(f"{len(changes) - written} of {len(changes)} rows of {meta.db_table} were changed by somebody else")
    for change in changes:
        version = getattr(change.rows[0], counted) + 1
        for row in change.rows:
            setattr(row, counted, version)
