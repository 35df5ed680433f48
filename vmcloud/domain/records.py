"""What the directory holds, as frozen values: the common language of directory, monitor, server and read model."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from .messages import Mark, NodeFacts, Seen, Snapshot
from .spec import Spec
from .vocabulary import Desired, Observed


@dataclass(frozen=True)
class Observation:
    """The observed attributes of a VE entry, in its assigned node's voice. ``since``: seconds since the epoch. ``snapshots`` are
    in the order of their names."""

    state: Observed
    node: str
    mark: Mark
    generation: int
    addresses: tuple[str, ...] = ()
    mac: str = ""
    since: float = 0.0
    vcpus: int = 0
    memory_mib: int = 0
    error: str = ""
    snapshots: tuple[Snapshot, ...] = ()


@dataclass(frozen=True)
class VERecord:
    """A VE entry. ``node`` is the placement (empty: not placed); ``observed`` is None for a VE never seen.

    ``version`` is the entry's resource version (entryCSN): asserted by compare-and-swap. ``job`` covers ``generation``.
    ``refusal`` says why the last change from outside was refused.
    """

    ve: UUID
    name: str
    project: str
    owner: str
    spec: Spec
    desired: Desired
    generation: int
    job: int
    node: str = ""
    observed: Observation | None = None
    refusal: str = ""
    version: str = ""


@dataclass(frozen=True)
class NodeRecord:
    """A node entry. ``facts`` is None until the node was heard; ``mark`` is the voice they were said in."""

    name: str
    cordoned: bool = False
    maintenance: bool = False
    labels: tuple[str, ...] = ()
    description: str = ""
    facts: NodeFacts | None = None
    mark: Mark | None = None
    version: str = ""


@dataclass(frozen=True)
class ImageRecord:
    """An image entry: a template root file system, one tar archive known by its SHA-256. ``size`` in bytes."""

    name: str
    kind: str
    sha256: str
    size: int
    description: str = ""
    version: str = ""


@dataclass(frozen=True)
class StrayRecord:
    """A guest seen where it does not belong (foreign, wrong node, deleted VE), kept in an entry below the node that saw it."""

    node: str
    seen: Seen
    mark: Mark
    version: str = ""


@dataclass(frozen=True)
class Tombstone:
    """A VE that was deleted: late sightings of it are not orphans. ``at``: seconds since the epoch."""

    ve: UUID
    name: str
    project: str
    at: float
    version: str = ""


Record = VERecord | NodeRecord | ImageRecord | StrayRecord | Tombstone
