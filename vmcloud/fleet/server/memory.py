"""What the leader keeps in memory about what it has committed: a change of it counts if the transaction around it does.

Whatever is kept in :class:`Kept`, :class:`Dict`, :class:`Set` and :class:`List` notes how each change is undone while a block of
:func:`undoing` is open. Where the block ends with an exception, its changes are undone, the last one first. So whoever changes
memory inside a transaction of the leader (:meth:`.leader.Leader.transaction` opens such a block) sees the change at once, need
not think of a rollback, and may be called again for the same. *Not* ``transaction.on_commit``: within one batch, later items are
judged by what earlier ones have changed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, MutableSequence, MutableSet
from contextlib import contextmanager
from typing import Any, TypeVar

K = TypeVar("K")
V = TypeVar("V")

_here = threading.local()


@contextmanager
def undoing() -> Iterator[None]:
    """A block of whose changes to memory none is left if it ends with an exception. Blocks may stand in each other."""
    outer: list[Callable[[], object]] | None = getattr(_here, "undo", None)
    undo = _here.undo = list[Callable[[], object]]()
    try:
        yield
    except BaseException:
        _here.undo = None
        while undo:
            undo.pop()()
        raise
    else:
        if outer is not None:
            outer.extend(undo)
    finally:
        _here.undo = outer


def _note(undo: Callable[[], object]) -> None:
    if (noted := getattr(_here, "undo", None)) is not None:
        noted.append(undo)


class Kept:
    """An object whose attributes are such memory. (What they refer to is so only if it is of one of the classes below.)"""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.__dict__:  # else the object is being made: before that there is nothing to go back to
            before = self.__dict__[name]
            _note(lambda: self.__dict__.__setitem__(name, before))
        super().__setattr__(name, value)


class Dict(MutableMapping[K, V]):
    """A dictionary that is such memory. What is put back by an undo comes last in its order."""

    def __init__(self, items: Mapping[K, V] | None = None) -> None:
        self._items: dict[K, V] = dict(items or {})

    def __getitem__(self, key: K) -> V:
        return self._items[key]

    def __setitem__(self, key: K, value: V) -> None:
        if key in self._items:
            before = self._items[key]
            _note(lambda: self._items.__setitem__(key, before))
        else:
            _note(lambda: self._items.pop(key, None))
        self._items[key] = value

    def __delitem__(self, key: K) -> None:
        before = self._items.pop(key)
        _note(lambda: self._items.__setitem__(key, before))

    def __iter__(self) -> Iterator[K]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, key: object) -> bool:
        return key in self._items

    def __repr__(self) -> str:
        return f"Dict({self._items!r})"


class Set(MutableSet[V]):
    """A set that is such memory."""

    def __init__(self, items: Iterable[V] = ()) -> None:
        self._items: set[V] = set(items)

    def __contains__(self, item: object) -> bool:
        return item in self._items

    def __iter__(self) -> Iterator[V]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def add(self, value: V) -> None:
        """As of a set."""
        if value not in self._items:
            self._items.add(value)
            _note(lambda: self._items.discard(value))

    def discard(self, value: V) -> None:
        """As of a set."""
        if value in self._items:
            self._items.discard(value)
            _note(lambda: self._items.add(value))

    def update(self, values: Iterable[V]) -> None:
        """As of a set."""
        for value in values:
            self.add(value)

    def __repr__(self) -> str:
        return f"Set({self._items!r})"


class List(MutableSequence[V]):
    """A list that is such memory."""

    def __init__(self, items: Iterable[V] = ()) -> None:
        self._items: list[V] = list(items)

    def __getitem__(self, index: Any) -> Any:
        return self._items[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        before = list(self._items)
        self._items[index] = value
        _note(lambda: self._items.__setitem__(slice(None), before))

    def __delitem__(self, index: Any) -> None:
        before = list(self._items)
        del self._items[index]
        _note(lambda: self._items.__setitem__(slice(None), before))

    def __len__(self) -> int:
        return len(self._items)

    def insert(self, index: int, value: V) -> None:
        """As of a list."""
        before = list(self._items)
        self._items.insert(index, value)
        _note(lambda: self._items.__setitem__(slice(None), before))

    def __repr__(self) -> str:
        return f"List({self._items!r})"
