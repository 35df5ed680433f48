"""The directory in memory, for unit tests: the same promises as :class:`vmcloud.directory.port.Store`, no rights, no server.

``fail(error)`` makes the next operation raise; ``subscribe(callback)`` tells what a watch would tell.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import TypeVar
from uuid import UUID

from vmcloud.domain.messages import Mark, NodeFacts
from vmcloud.domain.records import ImageRecord, NodeRecord, Observation, Record, StrayRecord, Tombstone, VERecord
from vmcloud.domain.spec import DEFAULT_PROJECT, Spec
from vmcloud.domain.vocabulary import Desired

from .errors import Exists, Gone, Stale
from .port import Callback, Changed, Event, Removed, Synced, key_of
from .store import changed, switched

R = TypeVar("R", VERecord, NodeRecord, ImageRecord, StrayRecord, Tombstone)


class FakeDirectory:
    """One cloud's directory. All parts of a test share the object."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str], Record] = {}
        self._projects = {DEFAULT_PROJECT}
        self._version = 0
        self._lock = threading.RLock()
        self._watchers: list[Callback] = []
        self._failures: list[Exception] = []

    # ----------------------------------------------------------------------------------------------------- for the tests

    def fail(self, error: Exception) -> None:
        """The next operation raises ``error`` and does nothing."""
        self._failures.append(error)

    def subscribe(self, callback: Callback) -> None:
        """Tell ``callback`` everything there is, then Synced, then every change, in the writer's thread."""
        with self._lock:
            for record in list(self._entries.values()):
                callback(Changed(record))
            callback(Synced())
            self._watchers.append(callback)

    # ----------------------------------------------------------------------------------------------------------- reading

    def ves(self) -> list[VERecord]:
        return self._all(VERecord)

    def ves_on(self, node: str) -> list[VERecord]:
        return [each for each in self.ves() if each.node == node]

    def ves_with(self, uuids: Collection[UUID]) -> list[VERecord]:
        return [each for each in self.ves() if each.ve in uuids]

    def ve(self, ve: UUID) -> VERecord | None:
        return self._find("ve", str(ve), VERecord)

    def ve_named(self, project: str, name: str) -> VERecord | None:
        return next((each for each in self.ves() if (each.project, each.name) == (project, name)), None)

    def projects(self) -> list[str]:
        self._begin()
        return sorted(self._projects)

    def nodes(self) -> list[NodeRecord]:
        return self._all(NodeRecord)

    def node(self, name: str) -> NodeRecord | None:
        return self._find("node", name, NodeRecord)

    def node_with_strays(self, name: str) -> tuple[NodeRecord | None, list[StrayRecord]]:
        with self._lock:
            return self.node(name), self.strays(name)

    def images(self) -> list[ImageRecord]:
        return self._all(ImageRecord)

    def image(self, name: str) -> ImageRecord | None:
        return self._find("image", name, ImageRecord)

    def strays(self, node: str | None = None) -> list[StrayRecord]:
        return [each for each in self._all(StrayRecord) if node in (None, each.node)]

    def tombstones(self) -> list[Tombstone]:
        return self._all(Tombstone)

    def tombstone(self, ve: UUID) -> Tombstone | None:
        return self._find("tombstone", str(ve), Tombstone)

    # -------------------------------------------------------------------------------------------------- writing: desired

    def claim(self, record: VERecord) -> VERecord:
        with self._lock:
            if record.project not in self._projects:
                raise Gone("no such project", where=record.project)
            there = self.ve_named(record.project, record.name)
            if there is not None and (there.ve, there.job) == (record.ve, record.job):
                return there
            if there is not None or self.ve(record.ve) is not None:
                raise Exists("the name is taken", where=record.name)
            return self._put(replace(record, observed=None))

    def claim_all(self, records: Sequence[VERecord]) -> list[VERecord | None]:
        return [self._claimed(record) for record in records]

    def _claimed(self, record: VERecord) -> VERecord | None:
        try:
            return self.claim(record)
        except Exists:
            return None

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
        with self._lock:
            new = changed(old, job=job, desired=desired, spec=spec, owner=owner, node=node, refusal=refusal)
            if new == old:
                return old
            stored = self._named(old)
            if stored.ve == old.ve and job is not None and _written(stored) == _written(new):
                return stored
            matches = (stored.ve, stored.generation) == (old.ve, old.generation)
            if job is not None:
                matches = matches and (stored.desired, stored.spec, stored.owner) == (old.desired, old.spec, old.owner)
            if new.node != old.node:
                matches = matches and stored.node == old.node
            if new.refusal != old.refusal:
                matches = matches and stored.refusal == old.refusal
            if not matches:
                raise Stale("the entry was changed by somebody else", where=old.name)
            node_now = new.node if new.node != old.node else stored.node
            refusal_now = new.refusal if new.refusal != old.refusal else stored.refusal
            return self._put(replace(new, node=node_now, refusal=refusal_now, observed=stored.observed))

    def remove_ve(self, record: VERecord) -> None:
        with self._lock:
            try:
                stored = self._named(record)
            except Gone:
                return
            if (stored.ve, stored.generation) != (record.ve, record.generation):
                raise Stale("the entry was changed by somebody else", where=record.name)
            self._drop("ve", str(record.ve))

    def bury(self, tombstone: Tombstone) -> None:
        with self._lock:
            if self.tombstone(tombstone.ve) is None:
                self._put(tombstone)

    def forget_tombstones(self, before: float) -> int:
        with self._lock:
            old = [each for each in self.tombstones() if each.at < before]
            for each in old:
                self._drop("tombstone", str(each.ve))
            return len(old)

    def add_project(self, name: str) -> None:
        with self._lock:
            self._begin()
            if name in self._projects:
                raise Exists("the name is taken", where=name)
            self._projects.add(name)

    def add_node(self, record: NodeRecord) -> NodeRecord:
        with self._lock:
            if self.node(record.name) is not None:
                raise Exists("the name is taken", where=record.name)
            return self._put(replace(record, labels=tuple(sorted(record.labels)), facts=None, mark=None))

    def change_node(
        self,
        old: NodeRecord,
        *,
        cordoned: bool | None = None,
        maintenance: bool | None = None,
        labels: tuple[str, ...] | None = None,
        description: str | None = None,
    ) -> NodeRecord:
        with self._lock:
            new = switched(old, cordoned=cordoned, maintenance=maintenance, labels=labels, description=description)
            if new == old:
                return old
            stored = self.node(old.name)
            if stored is None:
                raise Gone("no such entry", where=old.name)
            for name in ("cordoned", "maintenance", "labels", "description"):
                if getattr(new, name) != getattr(old, name):
                    if getattr(stored, name) != getattr(old, name):
                        raise Stale("the entry was changed by somebody else", where=old.name)
                    stored = replace(stored, **{name: getattr(new, name)})
            return self._put(stored)

    def remove_node(self, name: str) -> None:
        with self._lock:
            for stray in self.strays(name):
                self._drop(*key_of(stray))
            self._drop("node", name)

    def add_image(self, record: ImageRecord) -> ImageRecord:
        with self._lock:
            if self.image(record.name) is not None:
                raise Exists("the name is taken", where=record.name)
            return self._put(record)

    def remove_image(self, name: str) -> None:
        with self._lock:
            self._drop("image", name)

    # ------------------------------------------------------------------------------------------------- writing: observed

    def observe_ve(self, record: VERecord, seen: Observation) -> bool:
        with self._lock:
            stored = self._named(record)
            last = stored.observed
            if stored.ve != record.ve or stored.node != seen.node:
                return False
            if last is not None and last.node == seen.node and last.mark >= seen.mark:
                return False
            observed = replace(seen, addresses=tuple(sorted(seen.addresses)), snapshots=tuple(sorted(seen.snapshots)))
            self._put(replace(stored, observed=observed))
            return True

    def observe_node(self, name: str, facts: NodeFacts, mark: Mark) -> bool:
        with self._lock:
            stored = self.node(name)
            if stored is None:
                raise Gone("no such entry", where=name)
            if stored.mark is not None and stored.mark >= mark:
                return False
            self._put(replace(stored, facts=replace(facts, kinds=tuple(sorted(facts.kinds))), mark=mark))
            return True

    def note_stray(self, stray: StrayRecord) -> bool:
        with self._lock:
            if self.node(stray.node) is None:
                raise Gone("no such entry", where=stray.node)
            stored = self._find(*key_of(stray), StrayRecord)
            if stored is not None and stored.mark >= stray.mark:
                return False
            seen = stray.seen
            seen = replace(seen, addresses=tuple(sorted(seen.addresses)), snapshots=tuple(sorted(seen.snapshots)))
            self._put(replace(stray, seen=seen))
            return True

    def clear_stray(self, node: str, native: str, mark: Mark | None = None) -> bool:
        with self._lock:
            stored = self._find("stray", f"{node}/{native}", StrayRecord)
            if stored is not None and mark is not None and stored.mark > mark:
                return False
            self._drop("stray", f"{node}/{native}")
            return True

    # ----------------------------------------------------------------------------------------------------------- helpers

    def _begin(self) -> None:
        if self._failures:
            raise self._failures.pop(0)

    def _find(self, kind: str, key: str, sort: type[R]) -> R | None:
        with self._lock:
            self._begin()
            record = self._entries.get((kind, key))
            return record if isinstance(record, sort) else None

    def _all(self, sort: type[R]) -> list[R]:
        with self._lock:
            self._begin()
            records: Iterable[Record] = list(self._entries.values())
            return [record for record in records if isinstance(record, sort)]

    def _named(self, record: VERecord) -> VERecord:
        stored = self.ve_named(record.project, record.name)
        if stored is None:
            raise Gone("no such entry", where=record.name)
        return stored

    def _put(self, record: R) -> R:
        self._version += 1
        record = replace(record, version=f"{self._version:08d}")
        self._entries[key_of(record)] = record
        self._tell(Changed(record))
        return record

    def _drop(self, kind: str, key: str) -> None:
        if self._entries.pop((kind, key), None) is not None:
            self._tell(Removed(kind, key))

    def _tell(self, event: Event) -> None:
        for callback in self._watchers:
            callback(event)


def _written(record: VERecord) -> VERecord:
    """Only what the server writes of it."""
    return replace(record, observed=None, version="")
