"""Many writes of one transaction, made together: a statement for each sort of change instead of one for each row.

Between :func:`gathering` and its end, :func:`add` and :func:`change` only note what is to be written. Outside of it they write at
once, so what calls them need not know. Django takes ten times as long to make a statement as SQLite takes to carry it out.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from django.db import connection, models

_here = threading.local()


class _Notes:
    """What is to be written: new rows, and rows with the names of the fields that changed."""

    def __init__(self) -> None:
        self.new: dict[type[models.Model], list[models.Model]] = {}
        self.changed: dict[tuple[type[models.Model], Any], tuple[models.Model, set[str]]] = {}

    def take_over(self, inner: _Notes) -> None:
        """What a block inside this one has noted."""
        for model, rows in inner.new.items():
            self.new.setdefault(model, []).extend(rows)
        for key, (row, names) in inner.changed.items():
            known, before = self.changed.setdefault(key, (row, set()))
            before.update(names)
            for name in names:
                setattr(known, name, getattr(row, name))

    def write(self) -> None:
        new, self.new = self.new, {}
        changed, self.changed = self.changed, {}
        alike: dict[tuple[type[models.Model], tuple[str, ...]], list[models.Model]] = {}
        for (model, _), (row, names) in changed.items():
            alike.setdefault((model, tuple(sorted(names))), []).append(row)
        for (model, fields), rows in alike.items():
            _update(model, fields, rows)
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
    """Insert a row. Who gathers learns its number later."""
    if (notes := getattr(_here, "notes", None)) is None:
        row.save(force_insert=True)
    else:
        notes.new.setdefault(type(row), []).append(row)


def change(row: models.Model, **changes: Any) -> None:
    """Update these fields of a row, by its key. A field that its model names in ``COUNTED`` grows by one with each statement."""
    for name, value in changes.items():
        setattr(row, name, value)
    if (notes := getattr(_here, "notes", None)) is None:
        _update(type(row), tuple(changes), [row])
    else:
        notes.changed.setdefault((type(row), row.pk), (row, set()))[1].update(changes)


def _update(model: type[models.Model], fields: Sequence[str], rows: Sequence[models.Model]) -> None:
    quote, meta = connection.ops.quote_name, model._meta
    columns = [field for name in fields if isinstance(field := meta.get_field(name), models.Field)]
    sets = [f"{quote(str(field.column))} = %s" for field in columns]
    if counted := getattr(model, "COUNTED", ""):
        sets.append(f"{quote(counted)} = {quote(counted)} + 1")
    key = meta.pk
    assert isinstance(key, models.Field)
    statement = f"UPDATE {quote(meta.db_table)} SET {', '.join(sets)} WHERE {quote(str(key.column))} = %s"
    values = [
        [
            *(field.get_db_prep_save(getattr(row, field.attname), connection) for field in columns),
            key.get_db_prep_value(row.pk, connection),
        ]
        for row in rows
    ]
    with connection.cursor() as cursor:
        cursor.executemany(statement, values)
