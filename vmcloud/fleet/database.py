"""What the job database's errors mean: it is away, its disk is full, or it undid a transaction for the sake of another's."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from django.db import DataError, InterfaceError, InternalError, OperationalError, transaction
from django.db.models import CharField, Model, TextField

from vmcloud.domain.errors import MAKE_ROOM, NoRoom, Unavailable

from .gather import Clash

P = ParamSpec("P")
R = TypeVar("R")

log = logging.getLogger(__name__)

AWAY = (InterfaceError, InternalError, OperationalError)
"""It does not answer, or not now; nothing was written. (PostgreSQL ends a session whose process stood still with an internal
error.)"""
UNFIT = (DataError, OverflowError)
"""A value that it can not hold: too long, out of range, with a NUL character."""
UNDONE = ("40001", "40P01")
"""PostgreSQL's codes (appendix A) of transactions that were undone for the sake of others: serialisation, deadlock."""
NO_ROOM = ("53100", "53200")
"""Its codes for a full disk and for too little memory."""
TRIES = 5


def unavailable(error: BaseException) -> Unavailable:
    """One of :data:`AWAY` in words that people can act on."""
    if _code(error) in NO_ROOM or "disk is full" in str(error):
        return NoRoom("the job database has no room on its disk", todo=MAKE_ROOM)
    return Unavailable("the job database does not answer", todo="Try again in a moment; look at: vmcloud status.")


def again(function: Callable[P, R]) -> Callable[P, R]:
    """A function that reads and writes in a transaction of its own, and does so again where the database undid that for the sake
    of another's, or where a row was changed by somebody else in between. What it does besides must bear repetition."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        nested = transaction.get_connection().in_atomic_block
        for left in reversed(range(TRIES)):
            try:
                return function(*args, **kwargs)
            except (OperationalError, Clash) as error:
                if nested or not left or not (isinstance(error, Clash) or _code(error) in UNDONE):
                    raise
                log.info("%s was undone and is done again: %s", function.__name__, error)
        raise AssertionError("the last try returns or raises")

    return run


def fit(row: Model) -> None:
    """Cut the texts of a row to what its columns hold: what others wrote elsewhere may be longer, or have NUL characters."""
    for name, length in _texts(type(row)):
        text = getattr(row, name)
        if len(text) > (length or len(text)) or "\0" in text:
            setattr(row, name, text[:length].replace("\0", "\ufffd"))


@functools.cache
def _texts(model: type[Model]) -> list[tuple[str, int | None]]:
    fields = model._meta.concrete_fields
    return [(field.attname, field.max_length) for field in fields if isinstance(field, CharField | TextField)]


def _code(error: BaseException) -> str:
    """PostgreSQL's code; empty for errors of others."""
    return str(getattr(error.__cause__, "sqlstate", None) or "")
