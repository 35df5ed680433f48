"""The read model: rows made from the directory's watch, and from nothing else. Dropped and made anew at any time."""

from __future__ import annotations

from typing import Any

from django.db import models

from vmcloud.directory import port
from vmcloud.domain.records import ImageRecord, NodeRecord, Record, StrayRecord, Tombstone, VERecord
from vmcloud.fleet.models import VE, Image, Node, ReadModel, Stray
from vmcloud.fleet.models import Tombstone as TombstoneRow

MODELS: dict[str, type[ReadModel]] = {"ve": VE, "node": Node, "image": Image, "stray": Stray, "tombstone": TombstoneRow}


class Projection:
    """Applies watch events. ``synced``: the read model shows all that the directory held when the watch last said so."""

    def __init__(self) -> None:
        self.synced = False
        self.down = ""
        self._told: set[tuple[str, str]] | None = set()

    def apply(self, event: port.Event) -> None:
        """One event; to be called inside a transaction."""
        match event:
            case port.Changed(record):
                self._change(record)
            case port.Removed(kind, key):
                MODELS[kind].objects.filter(pk=key).delete()
            case port.Synced():
                self._forget_untold()
                self.synced, self.down = True, ""
            case port.Down(reason):
                self.synced, self.down = False, reason
            case port.Malformed():
                pass  # the watch has logged it; the row keeps what was last understood

    def _change(self, record: Record) -> None:
        if self._told is not None:
            self._told.add(port.key_of(record))
        row = row_of(record)
        if isinstance(row, VE):
            VE.objects.filter(project=row.project, name=row.name).exclude(pk=row.pk).delete()
        _upsert(row)

    def _forget_untold(self) -> None:
        """At the first sync, rows of entries that vanished while nobody watched."""
        if self._told is None:
            return
        for kind, model in MODELS.items():
            told = {key for each, key in self._told if each == kind}
            gone = [pk for pk in model.objects.values_list("pk", flat=True) if str(pk) not in told]
            for start in range(0, len(gone), 500):
                model.objects.filter(pk__in=gone[start : start + 500]).delete()
        self._told = None


def _upsert(row: ReadModel) -> None:
    model = type(row)
    fields = [field.name for field in model._meta.concrete_fields if not field.primary_key]
    key = model._meta.pk
    assert isinstance(key, models.Field)
    model.objects.bulk_create([row], update_conflicts=True, unique_fields=[key.name], update_fields=fields)


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
