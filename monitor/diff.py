"""What a sighting changes. Pure: values in, writes out; nothing unchanged is written.

The monitor makes the directory equal to what was seen and decides nothing. In particular a VE recorded on a node and not in its
full list gets no write: misses are counted by the server, from the digest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from uuid import UUID

from vmcloud.domain.capacity import STRAYS_MAX
from vmcloud.domain.messages import Mark, NodeFacts, Seen, Sighting, Snapshot
from vmcloud.domain.names import native_name
from vmcloud.domain.records import NodeRecord, Observation, StrayRecord, VERecord

SINCE_TOLERANCE = 1.0
"""Seconds by which two readings of when a state began may differ and mean the same: hypervisors round."""


@dataclass(frozen=True)
class Known:
    """What the directory holds of the things in one sighting: its node, the VEs named in it (by UUID), the node's strays (by
    native name)."""

    node: NodeRecord | None
    ves: Mapping[UUID, VERecord] = field(default_factory=dict)
    strays: Mapping[str, StrayRecord] = field(default_factory=dict)


@dataclass(frozen=True)
class ObserveVE:
    """Write what was seen into a VE's entry."""

    record: VERecord
    seen: Observation


@dataclass(frozen=True)
class ObserveNode:
    """Write a node's facts."""

    name: str
    facts: NodeFacts
    mark: Mark


@dataclass(frozen=True)
class NoteStray:
    """Write, below the node, a guest that does not belong there."""

    stray: StrayRecord


@dataclass(frozen=True)
class ClearStray:
    """Delete a stray's entry, unless it was seen again after ``mark``."""

    node: str
    native: str
    mark: Mark


@dataclass(frozen=True)
class LeaveOut:
    """Write nothing about so many guests of a node: it has :data:`~vmcloud.domain.capacity.STRAYS_MAX` strays already."""

    node: str
    count: int


Write = ObserveVE | ObserveNode | NoteStray | ClearStray | LeaveOut


def diff(sighting: Sighting, known: Known) -> list[Write]:
    """The writes that make the directory show ``sighting``; none for a node that the directory does not know.

    1. facts of the node, if they differ;
    2. for each guest: its VE's entry if that is placed here, else a stray, of which one node has only so many; what is there
       already and not older stays;
    3. strays that are proper now, named gone, said to have left, or not in a full list: cleared.
    """
    if known.node is None:
        return []
    writes: list[Write] = []
    if sighting.facts is not None and _news(sighting.facts, sighting.mark, known.node):
        writes.append(ObserveNode(sighting.node, sighting.facts, sighting.mark))
    strays: set[str] = set()
    room, left_out = STRAYS_MAX - len(known.strays), 0
    speakers = _speakers(sighting, known)
    for guest in sighting.guests:
        if guest.ve is not None and speakers.get(guest.ve) == guest.native:
            record = known.ves[guest.ve]
            observation = observe(guest, record.observed, sighting)
            if observation is not None:
                writes.append(ObserveVE(record, observation))
        else:
            if guest.native not in known.strays and guest.native not in strays:
                if room <= 0:
                    left_out += 1
                    continue
                room -= 1
            strays.add(guest.native)
            stray = StrayRecord(node=sighting.node, seen=guest, mark=sighting.mark)
            if _stray_differs(stray, known.strays.get(guest.native)):
                writes.append(NoteStray(stray))
    listed = {guest.native for guest in sighting.guests}
    for native, noted in known.strays.items():
        over = native in listed - strays or (noted.seen.ve in sighting.gone and native not in strays)
        missing = native not in listed and (sighting.full or native in sighting.left)
        if (over or missing) and noted.mark <= sighting.mark:
            writes.append(ClearStray(sighting.node, native, sighting.mark))
    return [*writes, LeaveOut(sighting.node, left_out)] if left_out else writes


def observe(guest: Seen, before: Observation | None, sighting: Sighting) -> Observation | None:
    """What to write into the VE's entry; None if it says so already, or something newer in the same voice."""
    heard = before if before is not None and before.node == sighting.node else None
    if heard is not None and heard.mark >= sighting.mark:
        return None
    since = guest.since
    if not since:
        since = heard.since if heard is not None and heard.state is guest.state else sighting.at
    seen = Observation(
        state=guest.state,
        node=sighting.node,
        mark=sighting.mark,
        generation=guest.generation,
        addresses=tuple(sorted(set(guest.addresses))),
        mac=guest.mac,
        since=since,
        vcpus=guest.vcpus,
        memory_mib=guest.memory_mib,
        error=guest.error,
        snapshots=tuple(sorted(set(guest.snapshots))),
    )
    if heard is not None and _same(seen, heard):
        return None
    return seen


def _same(new: Observation, old: Observation) -> bool:
    close = abs(new.since - old.since) <= SINCE_TOLERANCE
    return close and replace(new, mark=old.mark, since=old.since, snapshots=_settled(new.snapshots, old.snapshots)) == old


def _settled(new: tuple[Snapshot, ...], old: tuple[Snapshot, ...]) -> tuple[Snapshot, ...]:
    """``old`` where ``new`` means the same: a snapshot is known by its name and its job, and its time is rounded on the way."""
    return old if [(each.name, each.job) for each in new] == [(each.name, each.job) for each in old] else new


def _speakers(sighting: Sighting, known: Known) -> dict[UUID, str]:
    """For each VE placed here, the native name of the one guest that may speak for it: of two with its UUID (a copied
    configuration) the one that is called as its VE demands."""
    chosen: dict[UUID, str] = {}
    for guest in sighting.guests:
        record = known.ves.get(guest.ve) if guest.ve is not None else None
        if record is None or record.node != sighting.node:
            continue
        if record.ve not in chosen or guest.native == native_name(record.name, record.ve):
            chosen[record.ve] = guest.native
    return chosen


def _news(facts: NodeFacts, mark: Mark, node: NodeRecord) -> bool:
    if node.facts is None or node.mark is None:
        return True
    return node.mark < mark and replace(facts, kinds=tuple(sorted(facts.kinds))) != node.facts


def _stray_differs(new: StrayRecord, old: StrayRecord | None) -> bool:
    if old is None:
        return True
    if old.mark >= new.mark:
        return False
    close = not new.seen.since or abs(new.seen.since - old.seen.since) <= SINCE_TOLERANCE
    snapshots = _settled(tuple(sorted(set(new.seen.snapshots))), old.seen.snapshots)
    plain = replace(new.seen, since=old.seen.since, addresses=tuple(sorted(set(new.seen.addresses))), snapshots=snapshots)
    return not (close and plain == old.seen)
