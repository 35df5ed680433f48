"""When and how a job may run, as its submitter says: Torque's ``qsub -p -a -h -W depend= -l walltime=``, checked."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Self

from .arrays import INDEX_MAX, ArrayRequest, JobRef
from .errors import Invalid
from .names import check_label

PRIORITY = (-1024, 1023)
RETRIES = (0, 20)
WALLTIME = (1.0, 7 * 86400.0)
"""Seconds an action may be given."""
AHEAD = 10 * 366 * 86400.0
"""Seconds from now within which a job may be told to begin."""
JOBS_MAX = 1000
"""Jobs that one may depend on."""


class Hold(StrEnum):
    """Who keeps a job from running. One is released by who may set it."""

    USER = "u"
    OPERATOR = "o"
    SYSTEM = "s"


class Depend(StrEnum):
    """Torque's words: this job may begin *after* others have begun or ended, or others *after* this one."""

    AFTER = "after"
    AFTER_OK = "afterok"
    AFTER_NOT_OK = "afternotok"
    AFTER_ANY = "afterany"
    AFTER_START_ARRAY = "afterstartarray"
    AFTER_OK_ARRAY = "afterokarray"
    AFTER_NOT_OK_ARRAY = "afternotokarray"
    AFTER_ANY_ARRAY = "afteranyarray"
    BEFORE = "before"
    BEFORE_OK = "beforeok"
    BEFORE_NOT_OK = "beforenotok"
    BEFORE_ANY = "beforeany"

    @property
    def turned(self) -> Depend:
        """Of *before*: the same, seen from the other job."""
        return Depend(self.value.replace("before", "after", 1))

    @property
    def counts_parts(self) -> bool:
        """Whether it is about how many parts of an array have begun or ended; all others take an array for one job."""
        return self.value.endswith("array")

    @property
    def is_before(self) -> bool:
        """Whether the others wait for this job."""
        return self.value.startswith("before")


@dataclass(frozen=True)
class Dependency:
    """One of a job's dependencies: on (or, for *before*, of) this job. ``count``: of how many parts; 0: of all."""

    type: Depend
    job: JobRef
    count: int = 0

    def __str__(self) -> str:
        return f"{self.type}:{self.job}" + (f"[{self.count}]" if self.count else "")


@dataclass(frozen=True)
class Terms:
    """What may be said of any job.

    ``not_before``: seconds since the epoch. ``walltime``: seconds from its first step on, after which it is ended. ``retries``:
    how often a failure worth another try is tried again. ``awaits``: ``on:N``, how many of the jobs that were told to run
    *before* this one must have done so. ``array``: it is to be many, one for each index."""

    queue: str = ""
    priority: int = 0
    not_before: float | None = None
    hold: bool = False
    depends: tuple[Dependency, ...] = ()
    awaits: int = 0
    walltime: float | None = None
    retries: int = 0
    array: ArrayRequest | None = None

    @classmethod
    def parse(cls, data: object, now: float) -> Self:
        """From untrusted JSON; unknown fields are refused. ``depend`` is Torque's text: ``afterok:12:13,on:2``."""
        if not isinstance(data, Mapping):
            raise Invalid("a JSON object is needed", where="job", todo='Send something like {"priority": 10}.')
        known = ("queue", "priority", "not_before", "hold", "depend", "walltime", "retries", "array")
        if unknown := sorted(set(map(str, data)) - set(known)):
            raise Invalid(f"no field is called {unknown[0]!r}", where=f"job.{unknown[0]}", todo=f"Known: {', '.join(known)}.")
        hold = data.get("hold", False)
        if not isinstance(hold, bool):
            raise Invalid("true or false is needed", where="job.hold")
        depends, awaits = parse_depend(data.get("depend", ""))
        queue = data.get("queue") or ""
        return cls(
            queue=check_label(queue, where="job.queue") if queue else "",
            priority=whole(data.get("priority", 0), PRIORITY, "job.priority"),
            not_before=None if data.get("not_before") is None else moment(data["not_before"], now, "job.not_before"),
            hold=hold,
            depends=depends,
            awaits=awaits,
            walltime=None if data.get("walltime") is None else seconds(data["walltime"], WALLTIME, "job.walltime"),
            retries=whole(data.get("retries", 0), RETRIES, "job.retries"),
            array=None if data.get("array") in (None, "") else ArrayRequest.parse(data["array"], "job.array"),
        )

    def altered(self, data: Mapping[str, Any], now: float) -> Self:
        """These terms with what ``data`` says of them; the hold has verbs of its own."""
        if "hold" in data:
            raise Invalid("a hold is not altered", where="job.hold", todo="Use hold and release.")
        if "queue" in data:
            raise Invalid("a queue is not altered", where="job.queue", todo="Use move.")
        if "array" in data:
            raise Invalid("which parts there are is not altered", where="job.array", todo='How many may run at once is: "slots".')
        if not data:
            raise Invalid("nothing to alter was given", where="job")
        said = type(self).parse(data, now)
        changes = {name: getattr(said, name) for name in data if name != "depend"}
        if "depend" in data:
            changes |= {"depends": said.depends, "awaits": said.awaits}
        return replace(self, **changes)


_NUMBER = re.compile(r"[0-9]{1,16}")
_PARENT = re.compile(r"([0-9]{1,16}(?:\[[0-9]{0,6}\])?)(?:\[([0-9]{1,6})\])?")


def parse_depend(text: object) -> tuple[tuple[Dependency, ...], int]:
    """Torque's dependency list: ``type:job[:job...][,type:job...]`` and ``on:count``. Dependencies, and the count. A job may be
    an array (``41[]``, or ``41[][5]``: five of its parts) or a part (``41[7]``)."""
    where = "job.depend"
    if not isinstance(text, str):
        raise Invalid("text is needed", where=where, todo="Give something like afterok:12.")
    found: dict[Dependency, None] = {}
    awaits = 0
    for part in filter(None, (each.strip() for each in text.split(","))):
        word, *jobs = part.split(":")
        if word == "on" and len(jobs) == 1 and _NUMBER.fullmatch(jobs[0]):
            awaits = whole(int(jobs[0]), (1, JOBS_MAX), where)
            continue
        if not jobs or not all(map(_PARENT.fullmatch, jobs)):
            raise Invalid(f"{part[:60]!r} is no dependency", where=where, todo="Give type:job, such as afterok:12 or on:2.")
        if word not in list(Depend):
            known = ", ".join([*Depend, "on"])
            raise Invalid(f"no dependency is called {word[:40]!r}", where=where, todo=f"Known: {known}.")
        found.update(dict.fromkeys(_dependency(Depend(word), each, where) for each in jobs))
    if len(found) > JOBS_MAX:
        raise Invalid(f"{len(found)} dependencies, {JOBS_MAX} are allowed", where=where)
    return tuple(found), awaits


def _dependency(type: Depend, text: str, where: str) -> Dependency:
    said = _PARENT.fullmatch(text)
    assert said is not None
    ref, count = JobRef.parse(said[1], where), whole(int(said[2]), (1, INDEX_MAX), where) if said[2] else 0
    if type.counts_parts and ref.parts is not None:
        raise Invalid(f"{ref} is a part, {type} is about an array", where=where, todo=f"Give {type}:{ref.number}[].")
    if count and not type.counts_parts:
        todo = f"Give {type}:{ref}, or one of afterstartarray, afterokarray, afternotokarray, afteranyarray."
        raise Invalid(f"{type} does not count parts", where=where, todo=todo)
    return Dependency(type, replace(ref, whole=True) if type.counts_parts else ref, count)


def depend_text(depends: Iterable[Dependency], awaits: int) -> str:
    """The inverse of :func:`parse_depend`."""
    return ",".join([*map(str, depends), *([f"on:{awaits}"] if awaits else [])])


def whole(value: object, limits: tuple[int, int], where: str) -> int:
    """A whole number within ``limits``, both inclusive."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise Invalid(f"{value!r} is not a whole number", where=where)
    if not limits[0] <= value <= limits[1]:
        raise Invalid(f"{value} is out of range", where=where, why=f"{limits[0]} to {limits[1]} are allowed")
    return value


def seconds(value: object, limits: tuple[float, float], where: str) -> float:
    """A number of seconds within ``limits``."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Invalid(f"{value!r} is not a number of seconds", where=where)
    if not limits[0] <= value <= limits[1]:
        raise Invalid(f"{value:g} s is out of range", where=where, why=f"{limits[0]:g} to {limits[1]:g} seconds are allowed")
    return float(value)


def moment(value: object, now: float, where: str) -> float:
    """A time to come, as ISO 8601 (without an offset: UTC); seconds since the epoch."""
    if not isinstance(value, str):
        raise Invalid(f"{value!r} is no time", where=where, todo="Give it as ISO 8601, such as 2030-01-31T18:00:00Z.")
    try:
        given = datetime.fromisoformat(value)
        at = (given if given.tzinfo else given.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError) as error:
        todo = "Give it as ISO 8601, such as 2030-01-31T18:00:00Z."
        raise Invalid(f"{value[:40]!r} is no time", where=where, why=str(error)[:100], todo=todo) from error
    if at < now:
        raise Invalid(f"{value[:40]} is in the past", where=where, todo="Leave it out to begin as soon as possible.")
    if at > now + AHEAD:
        raise Invalid(f"{value[:40]} is too far ahead", where=where, why="ten years are allowed")
    return at
