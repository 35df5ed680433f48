"""Happenings: what others are told of, by webhooks and by hooks at the server, and who is told what."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .errors import Invalid
from .vocabulary import EventType

JOB_TYPES = ("job.queued", "job.begun", "job.ended")
NODE_TYPES = ("node.down", "node.up")
VE_TYPES = tuple(f"ve.{each.value}" for each in EventType if each is not EventType.NODE)
TYPES = (*JOB_TYPES, *NODE_TYPES, *VE_TYPES)
TEST = "webhook.test"
"""What a person asks to be sent, to see whether it arrives; every webhook takes it."""


@dataclass(frozen=True)
class Happening:
    """One happening. ``id`` stays the same however often it is told; ``at``: seconds since the epoch; ``project`` and ``owner``
    are empty for what belongs to nobody (nodes); ``data`` is what is told of it."""

    id: str
    type: str
    at: float
    project: str
    owner: str
    data: dict[str, Any]


def check_types(value: object) -> tuple[str, ...]:
    """What to be told of: types, or all of one subject (``job.*``); none: all."""
    if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
        raise Invalid("a list of types is needed", where="types")
    for each in value:
        if each not in TYPES and each not in _GROUPS:
            todo = f"Known: {', '.join((*_GROUPS, *TYPES))}."
            raise Invalid(f"no type of events is called {each[:60]!r}", where="types", todo=todo)
    return tuple(dict.fromkeys(value))


_GROUPS = tuple(dict.fromkeys(f"{each.partition('.')[0]}.*" for each in TYPES))


def wants(types: Iterable[str], type: str) -> bool:
    """Whether somebody who asked for ``types`` is told of ``type``."""
    asked = set(types)
    return not asked or type in asked or f"{type.partition('.')[0]}.*" in asked
