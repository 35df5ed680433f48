"""Requests as typed models: frozen dataclasses whose fields carry their limits and their words.

A field is made with :func:`said`; :func:`read` makes the model from untrusted JSON. Doors derive their schemas, forms and options
from the same fields (:func:`fields_of`), so that what one door takes every door takes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ..errors import Invalid

R = TypeVar("R")
_KEY = "said"


@dataclass(frozen=True)
class About:
    """What is known of one field of a request besides its name, its type and its default."""

    words: str
    """What it means, as a sentence for people."""
    check: Callable[[Any, str], Any]
    """Makes a value of untrusted JSON; the second argument is the field's path. Raises :class:`Invalid`."""
    unit: str = ""
    low: float | None = None
    """The lowest value that is allowed."""
    high: float | None = None
    choices: tuple[str, ...] = ()
    hidden: bool = False
    """Whether pages do not ask for it."""


def said(default: Any, words: str, check: Callable[[Any, str], Any], **about: Any) -> Any:
    """A field of a request; ``default`` is :data:`dataclasses.MISSING` where something must be said."""
    return field(default=default, metadata={_KEY: About(words, check, **about)})


def fields_of(request: type) -> dict[str, tuple[dataclasses.Field[Any], About]]:
    """The fields of a request by name, in their order, with what is known of each."""
    return {each.name: (each, each.metadata[_KEY]) for each in dataclasses.fields(request)}


def read(request: type[R], data: Mapping[str, Any], verb: str) -> R:
    """The request that ``data`` is; a field that there is not is refused, so that a typing error never passes silently."""
    known = fields_of(request)
    for name in data:
        if name not in known:
            todo = f"Known: {', '.join(known)}." if known else ""
            raise Invalid(f"{verb} takes no {str(name)[:60]!r}", where=str(name)[:60], todo=todo)
    values = {name: about.check(data[name], name) for name, (_, about) in known.items() if name in data}
    for name, (each, _) in known.items():
        if name not in data and each.default is dataclasses.MISSING:
            raise Invalid(f"{verb} needs a {name}", where=name)
    return request(**values)


# --------------------------------------------------------------------------------------------------------------- sorts of fields


def flag(default: bool, words: str) -> Any:
    """A field that is true or false."""
    return said(default, words, _flag)


def _flag(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise Invalid("true or false is needed", where=where)
    return value


def seconds(default: Any, words: str, low: float, high: float) -> Any:
    """A field that is a number of seconds from ``low`` to ``high``."""

    def check(value: Any, where: str) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Invalid("seconds are needed, as a number", where=where)
        if not low <= value <= high:
            raise Invalid(f"{value} is out of range", where=where, why=f"{low:g} to {high:g} seconds are allowed")
        return value

    return said(default, words, check, unit="s", low=low, high=high)


def label(default: Any, words: str) -> Any:
    """A field that is a name."""
    from ..names import check_label

    return said(default, words, lambda value, where: check_label(value, where=where))


def anything(default: Any, words: str) -> Any:
    """A field that the verb checks by itself, with what it knows of its subject."""
    return said(default, words, lambda value, where: value)


@dataclass(frozen=True)
class Nothing:
    """The request of a verb of which nothing more can be said."""
