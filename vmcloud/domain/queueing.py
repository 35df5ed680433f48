"""Queues: named lines of jobs with limits, as in PBS. Which one takes a job; whether one more of its jobs may run. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from math import inf
from typing import Any, Self

from .errors import Invalid
from .lease import duration
from .names import check_label
from .terms import AHEAD, PRIORITY, whole

DEFAULT_QUEUE = "main"
"""The queue of jobs that name none. It is always there."""
COUNT = (0, 10**9)
"""Lowest and highest limit; 0: no limit."""
LISTED = 1000
"""Names in one list of a queue."""
SIZES = ("min_vcpus", "max_vcpus", "min_memory_mib", "max_memory_mib")
LEASES = ("default_lease", "max_lease")
COUNTS = ("max_running", "max_user_running", "max_queued", "max_user_queued")


@dataclass(frozen=True)
class Queue:
    """A queue. ``enabled``: it takes jobs; ``started``: its jobs may begin. Counts and sizes of 0 mean no limit.

    ``max_queued`` and ``max_user_queued`` count its jobs that are not complete; ``max_running`` and ``max_user_running`` those
    that have begun. Sizes (MiB of memory) are those of the VE that a create or a resize asks for. ``users``: who may submit
    (none: everybody). ``routes``: a routing queue keeps no job and hands each to the first of these that takes it. ``labels``:
    what the nodes of its creates must have, all of them. Leases are in seconds: a create that says nothing of one gets
    ``default_lease``, or else ``max_lease``, which neither a create nor a renewal may exceed.
    """

    name: str
    enabled: bool = True
    started: bool = True
    priority: int = 0
    max_running: int = 0
    max_user_running: int = 0
    max_queued: int = 0
    max_user_queued: int = 0
    min_vcpus: int = 0
    max_vcpus: int = 0
    min_memory_mib: int = 0
    max_memory_mib: int = 0
    default_lease: int = 0
    max_lease: int = 0
    users: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()

    @property
    def lease(self) -> int:
        """Seconds that a VE lives of whose lease nothing was said; 0: for ever."""
        return self.default_lease or self.max_lease

    @classmethod
    def parse(cls, name: object, data: Mapping[str, Any]) -> Self:
        """From untrusted JSON; unknown fields are refused."""
        return cls(check_label(name, where="name")).altered(data)

    def altered(self, data: Mapping[str, Any]) -> Self:
        """This queue with what ``data`` says of it."""
        known = [each.name for each in fields(self) if each.name != "name"]
        if unknown := sorted(set(map(str, data)) - set(known)):
            raise Invalid(f"no field is called {unknown[0]!r}", where=unknown[0], todo=f"Known: {', '.join(known)}.")
        changed = replace(self, **{name: _value(name, value) for name, value in data.items()})
        for size in ("vcpus", "memory_mib"):
            low, high = getattr(changed, f"min_{size}"), getattr(changed, f"max_{size}")
            if high and low > high:
                raise Invalid(f"{low} is above max_{size}, which is {high}", where=f"min_{size}")
        if changed.max_lease and changed.default_lease > changed.max_lease:
            why = f"{changed.default_lease} is above max_lease, which is {changed.max_lease}"
            raise Invalid(why, where="default_lease")
        if changed.name in changed.routes:
            raise Invalid("a queue does not route to itself", where="routes")
        return changed

    def to_json(self) -> dict[str, Any]:
        """Plain values under the API's field names."""
        found = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}


def _value(name: str, value: object) -> Any:
    if name in ("enabled", "started"):
        if not isinstance(value, bool):
            raise Invalid("true or false is needed", where=name)
        return value
    if name == "priority":
        return whole(value, PRIORITY, name)
    if name in LEASES:
        return whole(value, (0, int(AHEAD)), name)
    if name in (*COUNTS, *SIZES):
        return whole(value, COUNT, name)
    if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
        raise Invalid("a list of texts is needed", where=name)
    if len(value) > LISTED or any(not 0 < len(each) <= 150 or not each.isprintable() for each in value):
        raise Invalid(f"at most {LISTED} printable texts of at most 150 characters are needed", where=name)
    if name == "routes":
        for each in value:
            check_label(each, where=name)
    return tuple(dict.fromkeys(value))


@dataclass(frozen=True)
class Entry:
    """A job that asks for a queue. ``vcpus``, ``memory_mib``: of the VE it asks for; 0 where it asks for none. ``lease``: seconds
    for which that is to live (infinite: for ever); None where nothing is said of it. ``count``: so many jobs that are alike, the
    parts of an array."""

    user: str
    is_admin: bool = False
    vcpus: int = 0
    memory_mib: int = 0
    lease: float | None = None
    count: int = 1


@dataclass(frozen=True)
class Filling:
    """How many jobs a queue has: all that are not complete, and those that have begun; in all and by user."""

    queued: int = 0
    running: int = 0
    queued_of: Mapping[str, int] = field(default_factory=dict)
    running_of: Mapping[str, int] = field(default_factory=dict)


def refusal(queue: Queue, entry: Entry, filling: Filling) -> str:
    """Why a queue does not take a job; empty if it does. Who may submit does not bind administrators, all else does."""
    if not queue.enabled:
        return f"queue {queue.name} takes no jobs"
    if queue.users and entry.user not in queue.users and not entry.is_admin:
        return f"{entry.user} may not submit to queue {queue.name}"
    for size, unit in (("vcpus", "virtual CPUs"), ("memory_mib", "MiB of memory")):
        wanted, low, high = getattr(entry, size), getattr(queue, f"min_{size}"), getattr(queue, f"max_{size}")
        if wanted and not low <= wanted <= (high or wanted):
            return f"queue {queue.name} takes {low} to {high or 'any number of'} {unit}, {wanted} were asked"
    if entry.lease is not None and queue.max_lease and entry.lease > queue.max_lease:
        long = f"{duration(entry.lease)} were asked" if entry.lease != inf else "one without end was asked"
        return f"queue {queue.name} allows leases of at most {duration(queue.max_lease)}, {long}"
    asked = "" if entry.count == 1 else f", {entry.count} more were asked"
    if queue.max_queued and filling.queued + entry.count > queue.max_queued:
        return f"queue {queue.name} has {filling.queued} jobs{asked}, {queue.max_queued} are allowed"
    mine = filling.queued_of.get(entry.user, 0)
    if queue.max_user_queued and mine + entry.count > queue.max_user_queued:
        return f"{entry.user} has {mine} jobs in queue {queue.name}{asked}, {queue.max_user_queued} are allowed"
    return ""


def route(name: str, queues: Mapping[str, Queue], entry: Entry, fillings: Mapping[str, Filling]) -> tuple[str, str]:
    """The queue that takes a job which asks for ``name``, and why none does: one of the two is empty. Routing queues are followed
    in the order of their routes, each queue is asked once."""
    reasons: list[str] = []
    chosen = _route(name, queues, entry, fillings, set(), reasons)
    return chosen, "" if chosen else "; ".join(reasons) or f"the routes of queue {name} lead nowhere"


def _route(
    name: str,
    queues: Mapping[str, Queue],
    entry: Entry,
    fillings: Mapping[str, Filling],
    asked: set[str],
    reasons: list[str],
) -> str:
    if name in asked:
        return ""
    asked.add(name)
    queue = queues.get(name)
    if queue is None:
        reasons.append(f"no queue is called {name!r}")
        return ""
    if why := refusal(queue, entry, fillings.get(name, Filling())):
        reasons.append(why)
        return ""
    if not queue.routes:
        return name
    chosen = (_route(each, queues, entry, fillings, asked, reasons) for each in queue.routes)
    return next(filter(None, chosen), "")


def keeps_waiting(queue: Queue | None, user: str, filling: Filling) -> str:
    """Why no more of a queue's jobs may begin now; empty if one may. A queue that is gone keeps nobody."""
    if queue is None:
        return ""
    if not queue.started:
        return f"queue {queue.name} is stopped"
    if queue.max_running and filling.running >= queue.max_running:
        return f"queue {queue.name} runs {filling.running} jobs, {queue.max_running} are allowed"
    mine = filling.running_of.get(user, 0)
    if queue.max_user_running and mine >= queue.max_user_running:
        return f"{user} runs {mine} jobs of queue {queue.name}, {queue.max_user_running} are allowed"
    return ""
