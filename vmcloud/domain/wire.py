"""Reading fields of a message that anybody may have written: each of its type and within limits, or ValueError.

What passes can be stored in every database of ours, written to the directory, counted with and shown.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, TypeVar

from .errors import Invalid

T = TypeVar("T")

WHOLE_DIGITS = 15
"""Longest whole number (characters) in an entry of the directory: LDAP's integers have no limit, those of SQL and JSON have."""
WHOLE_MAX = 10**WHOLE_DIGITS - 1
BYTES_MAX = (1 << 63) - 1
"""The largest number of bytes that were moved; such numbers are never in the directory."""
COUNT_MAX = (1 << 31) - 1
"""The largest number of things that a database's plain integer holds."""
CPUS_MAX = 1 << 16
MEMORY_MIB_MAX = 1 << 30
DISK_MIB_MAX = 1 << 40
"""The most that a machine is believed to have: 65,536 processors, 1 PiB of memory, 1 EiB of disk."""
MOMENT_MAX = 253_402_300_799.0
"""The last second of the year 9999."""
WORD_MAX = 255
NODE_MAX = 63
RELEASE_MAX = 100
"""Longest name (characters) of a release of vmcloud."""
PROSE_MAX = 4000
TEXT_MAX = 1000
"""Longest free text in an entry of the directory (characters); errors of hypervisors can be pages."""
LIST_MAX = 100_000
OUTPUT_BYTES_MAX = 16 << 10
"""Bytes, as JSON, of what one step gives to later steps of its job."""
IMAGES_MAX = 10_000
"""Images on one node."""
KEPT_MAX = 1000
"""Addresses, or snapshots, of one guest that are kept."""
_MAC = re.compile(r"([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}", re.ASCII)


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


def word(value: object, *, most: int = WORD_MAX) -> str:
    """A name or a code: short, and without what no database takes."""
    if not isinstance(value, str) or len(value) > most or not value.isprintable():
        raise ValueError(f"not a text of at most {most} printable characters")
    return value


def name(value: object, *, most: int = WORD_MAX) -> str:
    """A word that names something: it is not empty, and no blanks are around it, which LDAP would not keep apart."""
    if not word(value, most=most) or value != str(value).strip():
        raise ValueError("not a name")
    return str(value)


def address(value: object) -> str:
    """An IP address in its canonical form, without a zone; LDAP knows two spellings of one address for the same."""
    return str(ip_address(word(value).partition("%")[0]))


def mac(value: object) -> str:
    """A MAC address, or nothing."""
    if value != "" and not _MAC.fullmatch(word(value)):
        raise ValueError("not a MAC address")
    return str(value)


def prose(value: object, *, most: int = PROSE_MAX) -> str:
    """A sentence for people: cut where it is too long, and characters that no database takes are replaced."""
    if not isinstance(value, str):
        raise ValueError("not a text")
    return value[:most].replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def listing(value: object, item: Callable[[Any], T], *, most: int = LIST_MAX) -> tuple[T, ...]:
    """A list, each item read by ``item``."""
    if not isinstance(value, list | tuple) or len(value) > most:
        raise ValueError(f"not a list of at most {most} items")
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


def distinct(value: object, item: Callable[[Any], T]) -> tuple[T, ...]:
    """The first :data:`KEPT_MAX` of a list, each once: a guest may have any number of what its node must say of it."""
    return tuple(dict.fromkeys(listing(value, item)))[:KEPT_MAX]
