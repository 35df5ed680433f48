"""The read model: rows made from the directory's watch, and from nothing else. Dropped and made anew at any time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from django.db import models

from vmcloud.directory import port
from vmcloud.domain.records import ImageRecord, NodeRecord, Record, StrayRecord, Tombstone, VERecord
from vmcloud.domain.vocabulary import EventType
from vmcloud.fleet import database, gather
from vmcloud.fleet.models import VE, Image, Node, ReadModel, Stray
from vmcloud.fleet.models import Tombstone as TombstoneRow
from vmcloud.fleet.services import events, feed, queries, watermark

from . import memory

MODELS: dict[str, type[ReadModel]] = {"ve": VE, "node": Node, "image": Image, "stray": Stray, "tombstone": TombstoneRow}
MARKS = ("observed_epoch", "observed_sequence")


class Projection(memory.Kept):
    """Applies watch events. ``differs`` is told of each VE that is not (any more) as it is wanted.

    What it keeps in memory is undone with the transaction that it belongs to (:mod:`.memory`)."""

    def __init__(self, clock: Callable[[], float] = time.time, differs: Callable[[UUID], object] = lambda ve: None) -> None:
        self.synced = False
        """Whether the read model shows all that the directory held when the watch last said so."""
        self.down = ""
        """Why the directory, or its watch, did not answer last."""
        self._heed = differs
        self._clock = clock
        self._told: memory.Set[tuple[str, str]] | None = memory.Set()
        """What the watch has told until it has told all there is; None from then on."""
        self._version = ""

    @property
    def whole(self) -> bool:
        """Whether the watch has told all there is once: before, the read model may lack anything, for instance where VEs are."""
        return self._told is None

    def apply(self, event: port.Event) -> None:
        """One event; to be called inside a transaction."""
        match event:
            case port.Changed(record):
                self.show([record])
            case port.Removed(kind, key):
                self._remove(MODELS[kind].objects.filter(pk=key))
            case port.Synced():
                self._forget_untold()
                self.synced, self.down = True, ""
                watermark.synced(self._version, self._clock())
            case port.Down(reason):
                self.synced, self.down = False, reason
            case port.Malformed(ve=ve):
                # The watch has logged it; the row keeps what was last understood.
                if ve is not None and self._told is not None:
                    self._told.add(("ve", str(ve)))

    def show(self, records: Sequence[Record]) -> None:
        """Entries as they are now, in the order in which that was told; to be called inside a transaction."""
        if self._told is not None:
            self._told.update(map(port.key_of, records))
        rows: dict[type[ReadModel], list[ReadModel]] = {}
        for record in records:
            row = row_of(record)
            database.fit(row)
            rows.setdefault(type(row), []).append(row)
        with gather.gathering():
            for model, changed in rows.items():
                self._change(model, changed)
        newest = max((record.version for record in records), default="")
        if newest > self._version:
            self._version = newest
            if self._told is None:
                watermark.reached(newest)

    def _change(self, model: type[ReadModel], changed: Sequence[ReadModel]) -> None:
        known = model.objects.in_bulk([row.pk for row in changed])
        new, named = dict[Any, ReadModel](), dict[tuple[str, str], Any]()
        told: list[tuple[VE, EventType, str]] = []
        holders = _holders([row for row in changed if isinstance(row, VE) and _renamed(known.get(row.pk), row)])
        for row in changed:
            before = known.get(row.pk)
            if isinstance(row, VE) and _renamed(before, row):
                called = row.project, row.name
                held = holders.pop(called, row.pk)
                gone = self._remove(VE.objects.filter(pk=held)) if held != row.pk else []
                for other in [*gone, named.get(called)]:
                    new.pop(other, None)
                    known.pop(other, None)
            if before is None or _differs(before, row):
                self._tell(before, row)
                if isinstance(row, VE):
                    assert isinstance(before, VE | None)
                    named[row.project, row.name] = row.pk
                    told += [(row, type, text) for type, text in history(before, row)]
                    if row.observed_state not in ("", row.desired):
                        self._heed(row.pk)
            if before is None or not _same(before, row):
                new[row.pk] = row
            known[row.pk] = row
        _upsert(model, list(new.values()))
        self._note(told)

    def _note(self, told: Sequence[tuple[VE, EventType, str]]) -> None:
        """Write down what no job tells, or has told."""
        if not told:
            return
        ves = {row.uuid for row, _, _ in told}
        silent = set(queries.changing().filter(ve__in=ves).values_list("ve", flat=True))
        silent |= set(TombstoneRow.objects.filter(pk__in=ves).values_list("pk", flat=True))
        for row, type, text in told:
            if row.uuid not in silent:
                events.note(type, text, at=self._clock(), row=row)

    def _remove(self, rows: models.QuerySet[Any]) -> list[Any]:
        """Forget these rows; their keys."""
        found = list(rows)
        for row in found:
            self._tell(row, None)
        if found:
            rows.delete()
        return [row.pk for row in found]

    def _forget_untold(self) -> None:
        """At the first sync, rows of entries that vanished while nobody watched."""
        if self._told is None:
            return
        for kind, model in MODELS.items():
            told = {key for each, key in self._told if each == kind}
            gone = [pk for pk in model.objects.values_list("pk", flat=True) if str(pk) not in told]
            for start in range(0, len(gone), 500):
                self._remove(model.objects.filter(pk__in=gone[start : start + 500]))
        self._told = None

    def _tell(self, before: ReadModel | None, after: ReadModel | None) -> None:
        """Put the difference on the feed."""
        row = after or before
        match row:
            case VE():
                feed.changed("ve", str(row.pk), project=row.project, owner=row.owner, ve=row.uuid, node=row.node)
            case Stray():
                feed.changed("stray", row.key, ve=row.ve, node=row.node)
                if before is None and row.ve is None and self._told is None:
                    text = f"{row.native} is on node {row.node} and recorded nowhere"
                    events.note(EventType.ORPHAN, text, at=self._clock(), node=row.node)
            case Node():
                feed.changed("node", row.name, node=row.name)
            case Image():
                feed.changed("image", row.name)


def history(before: VE | None, after: VE | None) -> list[tuple[EventType, str]]:
    """What is worth remembering of a VE's change. (Who removed an entry is another question: ``foreign.py``.)"""
    if after is None:
        return []
    told = []
    if after.node and (before is None or before.node != after.node):
        before_that = f", before on {before.node}" if before is not None and before.node else ""
        told.append((EventType.PLACED, f"placed on node {after.node}{before_that}"))
    seen = (after.observed_state, after.observed_node)
    if after.observed_state and (before is None or (before.observed_state, before.observed_node) != seen):
        text = f"{after.observed_state} on node {after.observed_node}"
        text += f", before {before.observed_state}" if before is not None and before.observed_state else ""
        told.append((EventType.STATE, text + (f": {after.error}" if after.error else "")))
    elif before is not None and after.error and after.error != before.error:
        told.append((EventType.STATE, after.error))
    return told


def _renamed(before: ReadModel | None, row: VE) -> bool:
    """Whether a row comes by its name just now."""
    return not isinstance(before, VE) or (before.project, before.name) != (row.project, row.name)


def _holders(rows: Sequence[VE]) -> dict[tuple[str, str], UUID]:
    """By project and name, which row bears it of the names that these rows come by; one statement for all of them."""
    names, projects = {row.name for row in rows}, {row.project for row in rows}
    found = VE.objects.filter(name__in=names, project__in=projects).values_list("project", "name", "pk")
    return {(project, name): pk for project, name, pk in found} if rows else {}


def _differs(before: ReadModel, after: ReadModel) -> bool:
    """Whether anything that people are shown differs: not the mark of the last sighting."""
    names = (field.attname for field in type(after)._meta.concrete_fields)
    return any(getattr(before, name) != getattr(after, name) for name in names if name not in MARKS)


def _same(before: ReadModel, after: ReadModel) -> bool:
    """Whether nothing at all differs: a new leader is told everything, and has almost nothing to write."""
    return not _differs(before, after) and all(getattr(before, name, 0) == getattr(after, name, 0) for name in MARKS)


def _upsert(model: type[ReadModel], rows: Sequence[ReadModel]) -> None:
    if not rows:
        return
    fields = [field.name for field in model._meta.concrete_fields if not field.primary_key]
    key = model._meta.pk
    assert isinstance(key, models.Field)
    model.objects.bulk_create(rows, update_conflicts=True, unique_fields=[key.name], update_fields=fields)


def row_of(record: Record) -> ReadModel:
    """A record as its row."""
    match record:
        case VERecord():
            return _ve(record)
        case NodeRecord():
            return _node(record)
        case ImageRecord():
            return Image(
                name=record.name, kind=record.kind, sha256=record.sha256, size=record.size, description=record.description
            )
        case StrayRecord():
            seen = record.seen
            return Stray(
                key=port.key_of(record)[1],
                node=record.node,
                native=seen.native,
                kind=seen.kind.value,
                state=seen.state.value,
                ve=seen.ve,
                addresses=list(seen.addresses),
                mac=seen.mac,
                since=seen.since,
                vcpus=seen.vcpus,
                memory_mib=seen.memory_mib,
            )
        case Tombstone():
            return TombstoneRow(ve=record.ve, name=record.name, project=record.project, at=record.at)


def _ve(record: VERecord) -> VE:
    row = VE(
        uuid=record.ve,
        name=record.name,
        project=record.project,
        owner=record.owner,
        kind=record.spec.kind.value,
        node=record.node,
        desired=record.desired.value,
        generation=record.generation,
        job=record.job,
        spec=record.spec.to_json(),
        image=record.spec.image,
        vcpus=record.spec.vcpus,
        memory_mib=record.spec.memory_mib,
        refusal=record.refusal,
    )
    if seen := record.observed:
        row.observed_state = seen.state.value
        row.observed_node = seen.node
        row.observed_epoch, row.observed_sequence = seen.mark.epoch, seen.mark.sequence
        row.observed_generation = seen.generation
        row.addresses, row.mac = list(seen.addresses), seen.mac
        row.since, row.error = seen.since, seen.error
        row.observed_vcpus, row.observed_memory_mib = seen.vcpus, seen.memory_mib
        row.snapshots = [snapshot.to_json() for snapshot in seen.snapshots]
    return row


def _node(record: NodeRecord) -> Node:
    facts: dict[str, Any] = {}
    if record.facts:
        facts = {
            "kinds": [kind.value for kind in record.facts.kinds],
            "cpus": record.facts.cpus,
            "memory_mib": record.facts.memory_mib,
            "disk_mib": record.facts.disk_mib,
            "software": record.facts.version,
            "simulated": record.facts.simulated,
            "address": record.facts.address,
        }
    return Node(
        name=record.name,
        cordoned=record.cordoned,
        maintenance=record.maintenance,
        labels=list(record.labels),
        description=record.description,
        **facts,
    )
