"""What the rest of vmcloud asks of the directory. Two implementations, one contract suite (tests/contract)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from vmcloud.domain.messages import Mark, NodeFacts
from vmcloud.domain.records import ImageRecord, NodeRecord, Observation, Record, StrayRecord, Tombstone, VERecord
from vmcloud.domain.spec import Spec
from vmcloud.domain.vocabulary import Desired


class Store(Protocol):
    """Typed reads and compare-and-swap writes.

    Methods raise the errors of :mod:`vmcloud.directory.errors`: all of them ``Unavailable``, writes ``Denied`` and ``Rejected``
    besides those named. Entries that can not be decoded are logged and left out."""

    def ves(self) -> list[VERecord]:
        """All VEs."""
        ...

    def ves_on(self, node: str) -> list[VERecord]:
        """VEs placed on this node."""
        ...

    def ves_with(self, uuids: Collection[UUID]) -> list[VERecord]:
        """The VEs with these UUIDs, as far as there are any."""
        ...

    def ve(self, ve: UUID) -> VERecord | None:
        """The VE with this UUID."""
        ...

    def ve_named(self, project: str, name: str) -> VERecord | None:
        """The VE with this name."""
        ...

    def projects(self) -> list[str]:
        """Names of projects."""
        ...

    def nodes(self) -> list[NodeRecord]:
        """All nodes."""
        ...

    def node(self, name: str) -> NodeRecord | None:
        """The node with this name."""
        ...

    def node_with_strays(self, name: str) -> tuple[NodeRecord | None, list[StrayRecord]]:
        """A node and what does not belong there, in one reading."""
        ...

    def images(self) -> list[ImageRecord]:
        """All images."""
        ...

    def image(self, name: str) -> ImageRecord | None:
        """The image with this name."""
        ...

    def strays(self, node: str | None = None) -> list[StrayRecord]:
        """Guests that do not belong where they were seen; on one node or on all."""
        ...

    def tombstones(self) -> list[Tombstone]:
        """All tombstones."""
        ...

    def tombstone(self, ve: UUID) -> Tombstone | None:
        """The tombstone of a deleted VE."""
        ...

    def claim(self, record: VERecord) -> VERecord:
        """Add the VE's entry: the atomic claim of its name. Raises Exists (name or UUID taken), Gone (no such project).

        An entry with the same UUID and job is this claim, made before: it is returned."""
        ...

    def claim_all(self, records: Sequence[VERecord]) -> list[VERecord | None]:
        """Many claims, each as :meth:`claim` makes it; None for those whose name or UUID is taken. Raises Gone."""
        ...

    def change_ve(
        self,
        old: VERecord,
        *,
        job: int | None = None,
        desired: Desired | None = None,
        spec: Spec | None = None,
        owner: str | None = None,
        node: str | None = None,
        refusal: str | None = None,
    ) -> VERecord:
        """One modify of what differs from ``old``; None leaves a thing as it is, an empty string removes it.

        With ``job`` it is a desired write: generation + 1 and the job go with it, even if nothing else differs; the entry must
        still have ``old``'s generation and everything that ``old`` wants. ``desired``, ``spec``, ``owner`` need ``job``
        (ValueError). Without it only placement or refusal change, and the entry must still have ``old``'s generation and the
        old values of what changes. Observed writes never stand in the way. Raises Stale, Gone. A second call after an unknown
        result returns what the first one stored.
        """
        ...

    def remove_ve(self, record: VERecord) -> None:
        """Delete the entry and what is below it; gone already is success. Raises Stale if it has another UUID or generation."""
        ...

    def bury(self, tombstone: Tombstone) -> None:
        """Add a tombstone; one that is there is success."""
        ...

    def forget_tombstones(self, before: float) -> int:
        """Remove tombstones of VEs deleted before (seconds since the epoch); how many."""
        ...

    def add_project(self, name: str) -> None:
        """Raises Exists."""
        ...

    def add_node(self, record: NodeRecord) -> NodeRecord:
        """Add a node's entry (without facts: these are the monitor's). Raises Exists."""
        ...

    def change_node(
        self,
        old: NodeRecord,
        *,
        cordoned: bool | None = None,
        maintenance: bool | None = None,
        labels: tuple[str, ...] | None = None,
        description: str | None = None,
    ) -> NodeRecord:
        """Change switches of a node, asserting their old values. Raises Stale, Gone."""
        ...

    def remove_node(self, name: str) -> None:
        """Delete the node's entry and the strays below it; gone already is success."""
        ...

    def add_image(self, record: ImageRecord) -> ImageRecord:
        """Raises Exists."""
        ...

    def remove_image(self, name: str) -> None:
        """Delete an image's entry; gone already is success."""
        ...

    def observe_ve(self, record: VERecord, seen: Observation) -> bool:
        """Write what was seen (the monitor only). Raises Gone.

        False, and nothing written, if the VE is placed elsewhere than ``seen.node``, was replaced by another, or has been seen
        at this mark or a later one by that node."""
        ...

    def observe_node(self, name: str, facts: NodeFacts, mark: Mark) -> bool:
        """Write what a node says about itself (the monitor only). False if it has said so at this mark or later. Raises Gone."""
        ...

    def note_stray(self, stray: StrayRecord) -> bool:
        """Write what was seen of a guest that does not belong (the monitor only). False if seen at this mark or later. Raises
        Gone if there is no such node."""
        ...

    def clear_stray(self, node: str, native: str, mark: Mark | None = None) -> bool:
        """Delete a stray's entry; gone already is success. With ``mark``: False if it was seen again after that."""
        ...


@dataclass(frozen=True)
class Synced:
    """The watch is up to date: everything there was has been told."""


@dataclass(frozen=True)
class Changed:
    """An entry is new or changed; this is what it holds now."""

    record: Record


@dataclass(frozen=True)
class Removed:
    """An entry is gone. ``kind``: ve, node, image, stray, tombstone. ``key``: :func:`key_of` what it held."""

    kind: str
    key: str


@dataclass(frozen=True)
class Malformed:
    """An entry of ours that can not be decoded, and why. What was known of it still counts. ``ve``: the VE whose entry it is."""

    dn: str
    reason: str
    ve: UUID | None = None


@dataclass(frozen=True)
class Down:
    """The watch lost the directory; what is known may be old until the next :class:`Synced`."""

    reason: str


Event = Synced | Changed | Removed | Malformed | Down
Callback = Callable[[Event], None]


def key_of(record: Record) -> tuple[str, str]:
    """(kind, key) of a record: UUID of VEs and tombstones, name of nodes and images, ``<node>/<native name>`` of strays."""
    if isinstance(record, VERecord):
        return "ve", str(record.ve)
    if isinstance(record, NodeRecord):
        return "node", record.name
    if isinstance(record, ImageRecord):
        return "image", record.name
    if isinstance(record, StrayRecord):
        return "stray", f"{record.node}/{record.seen.native}"
    return "tombstone", str(record.ve)
