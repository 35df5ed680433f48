"""Job arrays, Torque's ``qsub -t 0-99%5``: which indices, how many at once, and the names of what is many. Pure; no range is made
into a list before it is known to be small."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from .errors import Invalid
from .names import check_ve_name

INDEX_MAX = 999_999
TEXT_MAX = 100_000
"""Characters of a list of indices."""
JOB_MAX = 2**53
"""Above this, JSON numbers are not exact (RFC 8259, 6)."""

_RANGE = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,18}))?")
_REF = re.compile(r"([0-9]{1,16})(?:\[([^\]]*)\])?")
_PLACE = re.compile(r"%(?:0([1-6]))?i")


@dataclass(frozen=True)
class Indices:
    """A set of indices, as ranges (both ends in them) in rising order that neither overlap nor touch."""

    ranges: tuple[tuple[int, int], ...]

    @classmethod
    def parse(cls, text: object, where: str) -> Self:
        """``0-99``, ``1,3,7-9``: in any order, no index twice."""
        if not isinstance(text, str):
            raise Invalid("text is needed", where=where, todo="Give indices such as 0-99 or 1,3,7-9.")
        if len(text) > TEXT_MAX:
            raise Invalid(f"the list has {len(text)} characters, {TEXT_MAX} are allowed", where=where)
        given = sorted(_range(part.strip(), where) for part in text.split(","))
        joined: list[tuple[int, int]] = []
        for low, high in given:
            if joined and low <= joined[-1][1]:
                raise Invalid(f"index {low} is given twice", where=where, todo="Give each index once.")
            if joined and low == joined[-1][1] + 1:
                low = joined.pop()[0]
            joined.append((low, high))
        return cls(tuple(joined))

    @classmethod
    def of(cls, numbers: list[int]) -> Self:
        """These, at least one."""
        return cls.parse(",".join(map(str, numbers)), "array")

    def __len__(self) -> int:
        return sum(high - low + 1 for low, high in self.ranges)

    def __iter__(self) -> Iterator[int]:
        for low, high in self.ranges:
            yield from range(low, high + 1)

    def __contains__(self, index: object) -> bool:
        return isinstance(index, int) and any(low <= index <= high for low, high in self.ranges)

    def __str__(self) -> str:
        return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in self.ranges)

    @property
    def highest(self) -> int:
        """The last one."""
        return self.ranges[-1][1]


def _range(text: str, where: str) -> tuple[int, int]:
    found = _RANGE.fullmatch(text)
    if not found:
        what = f"{text[:40]!r} is no index and no range" if text else "an index or a range is missing"
        raise Invalid(what, where=where, todo="Give indices such as 0-99 or 1,3,7-9.")
    low, high = int(found[1]), int(found[2] or found[1])
    if low > high:
        raise Invalid(f"the range {low}-{high} goes backwards", where=where, todo=f"Give {high}-{low}.")
    if high > INDEX_MAX:
        raise Invalid(f"index {high} is out of range", where=where, why=f"0 to {INDEX_MAX} are allowed")
    return low, high


@dataclass(frozen=True)
class ArrayRequest:
    """What is asked for as an array. ``slots``: how many of its parts may run at once; 0: any number."""

    indices: Indices
    slots: int = 0

    @classmethod
    def parse(cls, text: object, where: str) -> Self:
        """``0-99``, or ``0-99%5`` with a slot limit."""
        said, sign, limit = text.partition("%") if isinstance(text, str) else (text, "", "")
        indices = Indices.parse(said, where)
        return cls(indices, parse_slots(int(limit) if re.fullmatch("[0-9]{1,9}", limit) else limit, where) if sign else 0)

    def __str__(self) -> str:
        return f"{self.indices}%{self.slots}" if self.slots else str(self.indices)


def parse_slots(value: object, where: str) -> int:
    """A slot limit."""
    if isinstance(value, bool) or not isinstance(value, int):
        todo = "Give a whole number, such as 5 (0-99%5)."
        raise Invalid(f"{value!r} is no slot limit" if value != "" else "the slot limit is missing", where=where, todo=todo)
    if not 1 <= value <= INDEX_MAX:
        why = "no part could ever begin" if value == 0 else f"1 to {INDEX_MAX} are allowed"
        raise Invalid(f"a slot limit of {value} is not possible", where=where, why=why, todo="Leave it out for no limit.")
    return value


@dataclass(frozen=True)
class JobRef:
    """What people call a job: ``12``; an array ``41[]``; its part ``41[7]``; several of its parts ``41[0-9]``.

    ``parts``: which; None for the job or array itself. ``whole``: written as an array."""

    number: int
    parts: Indices | None = None
    whole: bool = False

    @classmethod
    def parse(cls, text: str, where: str = "job") -> Self:
        """From text that people type."""
        found = _REF.fullmatch(text)
        if not found or not 1 <= int(found[1]) <= JOB_MAX:
            todo = "Give a number such as 12, an array such as 41[], or parts of one such as 41[7] or 41[0-9]."
            raise Invalid(f"{text[:60]!r} is no job", where=where, todo=todo)
        inner = found[2]
        return cls(int(found[1]), Indices.parse(inner, where) if inner else None, inner == "")

    @property
    def index(self) -> int | None:
        """The part that is meant, if it is exactly one."""
        return self.parts.highest if self.parts is not None and len(self.parts) == 1 else None

    def __str__(self) -> str:
        return f"{self.number}[{'' if self.whole else self.parts}]" if self.whole or self.parts else str(self.number)


def named(pattern: str, index: int) -> str:
    """The name that a pattern means for one index: ``web-%i`` → ``web-7``, ``web-%03i`` → ``web-007``."""
    return _PLACE.sub(lambda place: str(index).zfill(int(place[1] or 1)), pattern)


def is_pattern(name: str) -> bool:
    """Whether a name has a place for an index."""
    return bool(_PLACE.search(name))


def check_pattern(pattern: object, indices: Indices, *, where: str = "name") -> str:
    """A name with exactly one place for the index, that is a VE's name with each of ``indices``."""
    if not isinstance(pattern, str) or len(_PLACE.findall(pattern)) != 1:
        why = "each part of an array is about a VE of its own, and %i stands for its index"
        todo = "Give a name such as 'web-%i', or 'web-%03i' for web-007."
        raise Invalid(f"{str(pattern)[:60]!r} does not name many VEs", where=where, why=why, todo=todo)
    # Digits may stand wherever letters may, so only the longest can break a rule that the others keep.
    check_ve_name(named(pattern, indices.highest), where=where)
    return pattern


def parts_sentence(array: Mapping[str, Any]) -> str:
    """How an array's parts are (``states``, ``outcomes``, ``slots`` of the API): ``90 Q, 5 R, 5 X (1 failed, 4 ok)``."""
    ends = ", ".join(f"{count} {outcome}" for outcome, count in array["outcomes"].items())
    words = [f"{count} {letter}" + (f" ({ends})" if letter == "X" else "") for letter, count in array["states"].items()]
    return ", ".join(words) + (f", at most {array['slots']} at once" if array["slots"] else "")
