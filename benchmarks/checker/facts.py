"""All that the checker looks at, as plain values. :mod:`.look` finds them, :mod:`.rules` judges them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Request:
    """Somebody asked for a job under a key. ``answer``: ``taken``, ``refused``, ``unknown``."""

    key: str
    verb: str
    target: str
    answer: str
    job: int = 0


@dataclass(frozen=True)
class Job:
    """A row of the job table. ``ends``: lines of its history that tell of its end; ``error``: the code of what went wrong;
    ``size``: of an array, how many parts it has; ``array`` and ``index``: of a part."""

    id: int
    verb: str
    ve: str
    name: str
    state: str
    outcome: str
    key: str = ""
    origin: str = "api"
    node: str = ""
    started: float | None = None
    ended: float | None = None
    ends: int = 1
    tries: int = 0
    error: str = ""
    size: int = 0
    array: int | None = None
    index: int | None = None
    result: Mapping[str, Any] = field(default_factory=dict)
    args: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """A row of the step table."""

    job: int
    number: int
    node: str
    lane: str
    state: str
    outcome: str
    attempt: int = 1
    sent: float | None = None
    ended: float | None = None


@dataclass(frozen=True)
class Shown:
    """A VE in the read model."""

    ve: str
    name: str
    node: str
    desired: str
    observed: str
    memory: int
    generation: int
    snapshots: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Entry:
    """A VE's entry in the directory."""

    ve: str
    name: str
    node: str
    desired: str
    observed: str
    observed_node: str
    memory: int
    observed_memory: int
    generation: int
    job: int
    snapshots: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Guest:
    """A guest that really is on a node. ``whole`` false: half made. ``memory`` 0: not known."""

    node: str
    native: str
    state: str
    memory: int = 0
    snapshots: frozenset[str] = frozenset()
    whole: bool = True


@dataclass(frozen=True)
class Told:
    """A step in a node's journal. ``starts``: how often it was begun."""

    node: str
    job: int
    step: int
    attempt: int
    state: str
    outcome: str
    starts: int
    verb: str = ""


@dataclass(frozen=True)
class Known:
    """A VE in a node's journal."""

    node: str
    ve: str
    native: str
    presence: str
    address: str = ""


@dataclass(frozen=True)
class Accepted:
    """What SQL says was last accepted as wanted. ``writing``: a write was announced and not concluded."""

    ve: str
    generation: int
    desired: str
    writing: bool = False


@dataclass(frozen=True)
class Facts:
    """A cloud at rest. ``effects``: (node, native name, operation) → how often it was really done; ``lists``: of the broker, with
    their lengths; ``outbox``: reports that nodes still keep; ``leaders``: holders of a lease that has not run out;
    ``findings``: what the rules report, by VE; ``left``: whatever else lies about, in words."""

    requests: tuple[Request, ...] = ()
    jobs: tuple[Job, ...] = ()
    steps: tuple[Step, ...] = ()
    shown: tuple[Shown, ...] = ()
    entries: tuple[Entry, ...] = ()
    accepted: tuple[Accepted, ...] = ()
    guests: tuple[Guest, ...] = ()
    told: tuple[Told, ...] = ()
    known: tuple[Known, ...] = ()
    tombstones: frozenset[str] = frozenset()
    strays: tuple[str, ...] = ()
    effects: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    lists: Mapping[str, int] = field(default_factory=dict)
    outbox: Mapping[str, int] = field(default_factory=dict)
    leaders: tuple[str, ...] = ("one",)
    findings: Mapping[str, str] = field(default_factory=dict)
    budgets: frozenset[str] = frozenset()
    misses: frozenset[str] = frozenset()
    left: tuple[str, ...] = ()
