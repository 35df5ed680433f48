"""Requests as typed models: frozen dataclasses whose fields carry their limits and their words.

A field is made with :func:`said` or one of the sorts below it; :func:`read` makes the model from untrusted JSON. Doors derive
their schemas, forms and options from the same fields (:func:`fields_of`), so that what one door takes every door takes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Any, Final, TypeVar

from ..errors import Invalid
from ..names import LABEL_MAX, check_label
from ..session import argv, environment
from ..spec import DESCRIPTION_MAX, check_choice, check_text, check_whole

R = TypeVar("R")
_KEY = "said"
NEEDED: Any = dataclasses.MISSING
"""The default of a field of which something must be said."""


class Unsaid(Enum):
    """The default of a field that changes nothing where nothing is said of it, and of which null says something."""

    UNSAID = "unsaid"


UNSAID: Final = Unsaid.UNSAID


class Sort(StrEnum):
    """What a field's values look like, for doors that make options, forms and schemas of it."""

    FLAG = "flag"
    WHOLE = "whole"
    """A whole number; its unit may be MiB."""
    SECONDS = "seconds"
    LABEL = "label"
    TEXT = "text"
    CHOICE = "choice"
    LEASE = "lease"
    ARGUMENTS = "arguments"
    VARIABLES = "variables"


@dataclass(frozen=True)
class About:
    """What is known of one field of a request besides its name, its type and its default."""

    words: str
    """What it means, as a sentence for people."""
    check: Callable[[Any, str], Any]
    """Makes a value of untrusted JSON; the second argument is the field's path. Raises :class:`Invalid`."""
    sort: Sort = Sort.TEXT
    unit: str = ""
    low: float | None = None
    """The lowest value that is allowed; a kind of VE may allow less."""
    high: float | None = None
    longest: int | None = None
    """Of a text: how many characters it may have."""
    choices: tuple[str, ...] = ()
    example: Any = None
    """A value such as people give."""
    hidden: bool = False
    """Whether pages do not ask for it."""


def said(default: Any, words: str, check: Callable[[Any, str], Any], **about: Any) -> Any:
    """A field of a request; ``default`` is :data:`NEEDED` where something must be said."""
    metadata = {_KEY: About(words, check, **about)}
    return field(default_factory=default, metadata=metadata) if default is dict else field(default=default, metadata=metadata)


def fields_of(request: type) -> dict[str, tuple[dataclasses.Field[Any], About]]:
    """The fields of a request by name, in their order, with what is known of each."""
    return {each.name: (each, each.metadata[_KEY]) for each in dataclasses.fields(request)}


def needed(each: dataclasses.Field[Any]) -> bool:
    """Whether something must be said of a field."""
    return each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING


def read(request: type[R], data: Mapping[str, Any], verb: str) -> R:
    """The request that ``data`` is; a field that there is not is refused, so that a typing error never passes silently."""
    known = fields_of(request)
    for name in data:
        if name not in known:
            todo = f"Known: {', '.join(known)}." if known else ""
            raise Invalid(f"{verb} takes no {str(name)[:60]!r}", where=str(name)[:60], todo=todo)
    values = {}
    for name, (each, about) in known.items():
        if name in data:
            values[name] = about.check(data[name], name)
        elif needed(each):
            values[name] = about.check(None, name)  # a missing one is refused in the words for one that is none
    return request(**values)


def given(request: Any) -> dict[str, Any]:
    """What was said, by name, of a request whose fields may be left unsaid."""
    return {name: value for name, value in vars(request).items() if value is not UNSAID}


# --------------------------------------------------------------------------------------------------------------- sorts of fields


def flag(default: Any, words: str) -> Any:
    """A field that is true or false."""
    return said(default, words, _flag, sort=Sort.FLAG)


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

    return said(default, words, check, sort=Sort.SECONDS, unit="s", low=low, high=high)


def label(default: Any, words: str, *, longest: int = LABEL_MAX, example: str | None = None) -> Any:
    """A field that is a name: a DNS label (RFC 1123) of at most ``longest`` characters; its default may be none (empty)."""

    def check(value: Any, where: str) -> str:
        return "" if value == default == "" else check_label(value, where=where, maximum=longest)

    return said(default, words, check, sort=Sort.LABEL, longest=longest, example=example)


def whole(default: Any, words: str, low: int, high: int, unit: str = "", *, example: int | None = None) -> Any:
    """A field that is a whole number from ``low`` to ``high``."""
    limits = (low, high)

    def check(value: Any, where: str) -> int:
        return check_whole(value, limits, where, unit)

    about = {"unit": unit, "low": low, "high": high, "example": example}
    return said(default, words, check, sort=Sort.WHOLE, **about)


def choice(default: Any, words: str, vocabulary: Iterable[StrEnum]) -> Any:
    """A field that is one of a closed vocabulary, or of some of its members."""
    known = tuple(vocabulary)

    def check(value: Any, where: str) -> str:
        return check_choice(value, known, where).value

    return said(default, words, check, sort=Sort.CHOICE, choices=tuple(each.value for each in known))


def text(default: Any, words: str, *, example: str | None = None) -> Any:
    """A field that is free text."""
    return said(default, words, check_text, sort=Sort.TEXT, longest=DESCRIPTION_MAX, example=example)


def lease(words: str) -> Any:
    """A field that says how long a VE may live; null: for ever. The verb checks it, who knows when its times are counted from."""
    return said(UNSAID, words, lambda value, where: value, sort=Sort.LEASE)


def arguments(words: str) -> Any:
    """A field that is a program and its arguments."""
    return said(NEEDED, words, lambda value, where: argv(value), sort=Sort.ARGUMENTS, example=["ls", "-l"])


def variables(words: str) -> Any:
    """A field that is an object of names and values."""
    return said(dict, words, lambda value, where: environment(value), sort=Sort.VARIABLES, example={"LANG": "C.UTF-8"})


@dataclass(frozen=True)
class Nothing:
    """The request of a verb of which nothing more can be said."""
