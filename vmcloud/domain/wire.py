"""Reading fields of a message that anybody may have written: each of its type and within limits, or ValueError.

What passes can be stored in every database of ours, written to the directory, counted with and shown.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

from .errors import Invalid

T = TypeVar("T")

WHOLE_MAX = (1 << 63) - 1
COUNT_MAX = (1 << 31) - 1
"""The largest number of things that a database's plain integer holds."""
MOMENT_MAX = 253_402_300_799.0
"""The last second of the year 9999."""
WORD_MAX = 255
PROSE_MAX = 4000
LIST_MAX = 100_000
OUTPUT_BYTES_MAX = 16 << 10
"""Bytes, as JSON, of what one step gives to later steps of its job."""


def whole(value: object, *, low: int = 0, high: int = WHOLE_MAX) -> int:
    """A whole number."""
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"not a whole number from {low} to {high}")
    return value


def moment(value: object, *, low: float = 0.0) -> float:
    """Seconds: since the epoch, or how many. Never infinite, never NaN."""
    if type(value) not in (int, float) or not low <= value <= MOMENT_MAX:  # type: ignore[operator]
        raise ValueError("not a number of seconds")
    return float(value)  # type: ignore[arg-type]


def boolean(value: object) -> bool:
    """True or false; 0 and 1 are taken for them."""
    if value not in (0, 1) or type(value) not in (bool, int):
        raise ValueError("neither true nor false")
    return bool(value)


def word(value: object) -> str:
    """A name, an address, a code: short, and without what no database takes."""
    if not isinstance(value, str) or len(value) > WORD_MAX or not value.isprintable():
        raise ValueError(f"not a text of at most {WORD_MAX} printable characters")
    return value


def prose(value: object) -> str:
    """A sentence for people: cut where it is too long, and characters that no database takes are replaced."""
    if not isinstance(value, str):
        raise ValueError("not a text")
    return value[:PROSE_MAX].replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def listing(value: object, item: Callable[[Any], T]) -> tuple[T, ...]:
    """A list, each item read by ``item``."""
    if not isinstance(value, list | tuple) or len(value) > LIST_MAX:
        raise ValueError(f"not a list of at most {LIST_MAX} items")
    return tuple(item(each) for each in value)


def check_output(output: object) -> dict[str, Any]:
    """``output``, if it can travel with a result: a JSON object of at most :data:`OUTPUT_BYTES_MAX` bytes, its numbers finite and
    its texts UTF-8 without NUL, so that every store takes it. Raises :class:`Invalid`."""
    if not isinstance(output, dict):
        raise Invalid("what a step gives is a JSON object")
    if not output:
        return {}
    try:
        text = json.dumps(output, ensure_ascii=False, allow_nan=False)
        size = len(text.encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise Invalid(f"what the step gives is no JSON: {type(error).__name__}") from error
    if "\\u0000" in text:
        raise Invalid("what the step gives has a NUL in a text")
    if size > OUTPUT_BYTES_MAX:
        raise Invalid(f"what the step gives has {size} bytes, at most {OUTPUT_BYTES_MAX} can be passed on", code="too-large")
    return output
