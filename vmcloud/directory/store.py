"""The directory in LDAP.

Every write of an existing entry is a compare-and-swap (assertion control, RFC 4528) and returns the entry as stored (post-read
control, RFC 4527): one round trip, no window. What each method promises: :class:`vmcloud.directory.port.Store`.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar
from uuid import UUID

from ldap.filter import escape_filter_chars

from vmcloud.domain.errors import Invalid
from vmcloud.domain.messages import Mark, NodeFacts
from vmcloud.domain.records import ImageRecord, NodeRecord, Observation, Record, StrayRecord, Tombstone, VERecord
from vmcloud.domain.spec import Spec
from vmcloud.domain.vocabulary import Desired, Kind

from . import codec
from .client import Client, Entry, Settings
from .errors import Exists, Gone, Stale

log = logging.getLogger(__name__)
R = TypeVar("R", VERecord, NodeRecord, ImageRecord, StrayRecord, Tombstone)

BATCH = 200
"""UUIDs asked for in one search."""

DESIRED = frozenset(codec.desired_attributes(Desired.RUNNING, Spec(kind=Kind.LXC, image="x"), ""))


@dataclass(frozen=True)
class Write:
    """One write to an entry as the access log has it: who (a DN), when (GeneralizedTime), which attributes."""

    writer: str
    at: str
    attributes: frozenset[str]


class Directory:
    """The store at ``uri``, as ``bind_dn``; without one, over ldapi as root (SASL EXTERNAL).

    Connects at first use. Thread-safe."""

    def __init__(self, uri: str, suffix: str, bind_dn: str = "", password: str = "", *, timeout: float = 3.0) -> None:
        self.settings = Settings(uri, bind_dn, password, timeout)
        self.tree = codec.Tree(suffix)
        self.client = Client(self.settings)

    @classmethod
    def of(cls, uri: str, suffix: str, identity: str, password: str, *, timeout: float = 3.0) -> Directory:
        """The store as one of the parts: ``web``, ``server``, ``monitor``, ``reader``."""
        return cls(uri, suffix, codec.Tree(suffix).service(identity), password, timeout=timeout)

    def close(self) -> None:
        """Close idle connections."""
        self.client.close()

    def check(self) -> None:
        """Raise if the directory does not answer, or refuses our password."""
        self.client.search(self.tree.suffix, deep=False, attributes=("1.1",))

    # ------------------------------------------------------------------------------------------------------------ reading

    def ves(self) -> list[VERecord]:
        return self._list(self.tree.unit("ves"), "(objectClass=vmcVE)", VERecord)

    def ves_on(self, node: str) -> list[VERecord]:
        wanted = f"(&(objectClass=vmcVE)(vmcNodeName={escape_filter_chars(node)}))"
        return self._list(self.tree.unit("ves"), wanted, VERecord)

    def ves_with(self, uuids: Collection[UUID]) -> list[VERecord]:
        found: list[VERecord] = []
        names = sorted(map(str, uuids))
        for start in range(0, len(names), BATCH):
            some = _any(*(f"(vmcUUID={name})" for name in names[start : start + BATCH]))
            found += self._list(self.tree.unit("ves"), f"(&(objectClass=vmcVE){some})", VERecord)
        return found

    def ve(self, ve: UUID) -> VERecord | None:
        found = self._list(self.tree.unit("ves"), f"(&(objectClass=vmcVE)(vmcUUID={ve}))", VERecord)
        return found[0] if found else None

    def ve_named(self, project: str, name: str) -> VERecord | None:
        return self._one(self.tree.ve(project, name), VERecord)

    def projects(self) -> list[str]:
        base = self.tree.unit("ves")
        found = self.client.search(base, "(objectClass=organizationalUnit)", attributes=("ou",))
        return sorted(codec.rdns(dn)[0] for dn, _ in found if dn.lower() != base.lower())

    def nodes(self) -> list[NodeRecord]:
        return self._list(self.tree.unit("nodes"), "(objectClass=vmcNode)", NodeRecord)

    def node(self, name: str) -> NodeRecord | None:
        return self._one(self.tree.node(name), NodeRecord)

    def node_with_strays(self, name: str) -> tuple[NodeRecord | None, list[StrayRecord]]:
        try:
            found = self.client.search(self.tree.node(name), "(|(objectClass=vmcNode)(objectClass=vmcStray))")
        except Gone:
            return None, []
        return next(_records(found, NodeRecord), None), list(_records(found, StrayRecord))

    def images(self) -> list[ImageRecord]:
        return self._list(self.tree.unit("images"), "(objectClass=vmcImage)", ImageRecord)

    def image(self, name: str) -> ImageRecord | None:
        return self._one(self.tree.image(name), ImageRecord)

    def strays(self, node: str | None = None) -> list[StrayRecord]:
        base = self.tree.unit("nodes") if node is None else self.tree.node(node)
        try:
            return self._list(base, "(objectClass=vmcStray)", StrayRecord)
        except Gone:
            return []

    def tombstones(self) -> list[Tombstone]:
        return self._list(self.tree.unit("tombstones"), "(objectClass=vmcTombstone)", Tombstone)

    def tombstone(self, ve: UUID) -> Tombstone | None:
        return self._one(self.tree.tombstone(ve), Tombstone)

    def writes(self, record: VERecord, limit: int = 20) -> list[Write]:
        """The last writes to the VE's entry, newest first, without those of the monitor. Needs the right to read the access log
        (server, administrators); it reaches back 7 days."""
        name = escape_filter_chars(self.tree.ve(record.project, record.name))
        monitor = escape_filter_chars(self.tree.service("monitor"))
        wanted = f"(&(objectClass=auditWriteObject)(reqDN={name})(reqResult=0)(!(reqAuthzID={monitor})))"
        found = self.client.search("cn=accesslog", wanted, attributes=("reqStart", "reqAuthzID", "reqMod"))
        made = [
            Write(
                writer=values.get("reqAuthzID", [b""])[0].decode(errors="replace"),
                at=values["reqStart"][0].decode(),
                attributes=frozenset(mod.partition(b":")[0].decode(errors="replace") for mod in values.get("reqMod", ())),
            )
            for _, values in found
        ]
        return sorted(made, key=lambda write: write.at, reverse=True)[:limit]

    def last_writer(self, record: VERecord) -> str | None:
        """The DN that last changed what is wanted of the VE; None if the access log does not reach back that far."""
        for write in self.writes(record, limit=1000):
            if write.attributes & DESIRED:
                return write.writer
        return None

    # --------------------------------------------------------------------------------------------------- writing: desired

    def claim(self, record: VERecord) -> VERecord:
        try:
            return _as(VERecord, self.client.add(self.tree.ve(record.project, record.name), codec.encode_ve(record)))
        except Exists:
            stored = self.ve_named(record.project, record.name)
            if stored is None or (stored.ve, stored.job) != (record.ve, record.job):
                raise
            return stored

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
        new = changed(old, job=job, desired=desired, spec=spec, owner=owner, node=node, refusal=refusal)
        before, after = _attributes(old), _attributes(new)
        changes = {name: values for name, values in after.items() if values != before[name]}
        if not changes:
            return old
        asserted = {name for name in changes if name != "vmcJob"} | {"vmcGeneration"}
        if job is not None:
            asserted |= DESIRED
        guard = _all(f"(vmcUUID={old.ve})", *(_equals(name, before[name]) for name in sorted(asserted)))
        try:
            return _as(VERecord, self.client.modify(self.tree.ve(old.project, old.name), changes, guard))
        except Stale:
            stored = self.ve(old.ve) if job is not None else None
            if stored is None or _attributes(stored) != after:
                raise
            return stored

    def remove_ve(self, record: VERecord) -> None:
        dn = self.tree.ve(record.project, record.name)
        counted = codec.count_attributes(record.generation, record.job)
        guard = _all(f"(vmcUUID={record.ve})", _equals("vmcGeneration", counted["vmcGeneration"]))
        self._delete_tree(dn, guard)

    def bury(self, tombstone: Tombstone) -> None:
        try:
            self.client.add(self.tree.tombstone(tombstone.ve), codec.encode_tombstone(tombstone))
        except Exists:
            pass

    def forget_tombstones(self, before: float) -> int:
        old = [each for each in self.tombstones() if each.at < before]
        for tombstone in old:
            self._delete(self.tree.tombstone(tombstone.ve))
        return len(old)

    def add_project(self, name: str) -> None:
        self.client.add(self.tree.project(name), {"objectClass": [b"organizationalUnit"], "ou": [name.encode()]})

    def add_node(self, record: NodeRecord) -> NodeRecord:
        return _as(NodeRecord, self.client.add(self.tree.node(record.name), codec.encode_node(record)))

    def change_node(
        self,
        old: NodeRecord,
        *,
        cordoned: bool | None = None,
        maintenance: bool | None = None,
        labels: tuple[str, ...] | None = None,
        description: str | None = None,
    ) -> NodeRecord:
        new = switched(old, cordoned=cordoned, maintenance=maintenance, labels=labels, description=description)
        before = codec.switch_attributes(old)
        changes = {name: values for name, values in codec.switch_attributes(new).items() if values != before[name]}
        if not changes:
            return old
        guard = _all(*(_equals(name, before[name]) for name in changes))
        return _as(NodeRecord, self.client.modify(self.tree.node(old.name), changes, guard))

    def remove_node(self, name: str) -> None:
        self._delete_tree(self.tree.node(name), "")

    def add_image(self, record: ImageRecord) -> ImageRecord:
        return _as(ImageRecord, self.client.add(self.tree.image(record.name), codec.encode_image(record)))

    def remove_image(self, name: str) -> None:
        self._delete(self.tree.image(name))

    # -------------------------------------------------------------------------------------------------- writing: observed

    def observe_ve(self, record: VERecord, seen: Observation) -> bool:
        node = escape_filter_chars(seen.node)
        guard = _all(
            f"(vmcUUID={record.ve})",
            f"(vmcNodeName={node})",
            # Marks of two nodes do not compare; after a migration the new node's first word counts.
            f"(|(!(vmcObservedNode={node})){_older(seen.mark)})",
        )
        dn = self.tree.ve(record.project, record.name)
        return self._observe(dn, codec.observed_attributes(seen), guard, codec.observed_classes(seen))

    def observe_node(self, name: str, facts: NodeFacts, mark: Mark) -> bool:
        attributes = codec.facts_attributes(facts, mark)
        return self._observe(self.tree.node(name), attributes, _older(mark), {"ipHost": bool(facts.address)})

    def note_stray(self, stray: StrayRecord) -> bool:
        dn = self.tree.stray(stray.node, stray.seen.native)
        try:
            self.client.add(dn, codec.encode_stray(stray))
            return True
        except Exists:
            classes = codec.observed_classes(codec.stray_observation(stray))
            return self._observe(dn, codec.stray_attributes(stray), _older(stray.mark), classes)

    def clear_stray(self, node: str, native: str, mark: Mark | None = None) -> bool:
        guard = "" if mark is None else _any(_older(mark), _at(mark))
        try:
            self._delete(self.tree.stray(node, native), guard)
        except Stale:
            return False
        return True

    # ------------------------------------------------------------------------------------------------------------ helpers

    def _observe(self, dn: str, attributes: codec.Attributes, guard: str, classes: dict[str, bool]) -> bool:
        try:
            self.client.modify(dn, attributes, guard, classes=classes)
        except Stale:
            return False
        return True

    def _one(self, dn: str, kind: type[R]) -> R | None:
        try:
            found = self.client.search(dn, deep=False)
        except Gone:
            return None
        records = list(_records(found, kind))
        return records[0] if records else None

    def _list(self, base: str, filterstr: str, kind: type[R]) -> list[R]:
        return list(_records(self.client.search(base, filterstr), kind))

    def _delete(self, dn: str, guard: str = "") -> None:
        try:
            self.client.delete(dn, guard)
        except Gone:
            pass

    def _delete_tree(self, dn: str, guard: str) -> None:
        """Children first, deepest first; the guard is on the entry itself and asserted before anything is deleted."""
        try:
            found = self.client.search(dn, attributes=("1.1",))
            if guard and not self.client.search(dn, guard, deep=False, attributes=("1.1",)):
                raise Stale("the entry was changed by somebody else", where=dn)
        except Gone:
            return
        below = [name for name, _ in found if name.lower() != dn.lower()]
        for name in sorted(below, key=lambda name: -len(codec.rdns(name))):
            self._delete(name)
        self._delete(dn, guard)


def changed(
    old: VERecord,
    *,
    job: int | None,
    desired: Desired | None,
    spec: Spec | None,
    owner: str | None,
    node: str | None,
    refusal: str | None,
) -> VERecord:
    """What :meth:`Directory.change_ve` makes of ``old``."""
    if job is None and not (desired is None and spec is None and owner is None):
        raise ValueError("a change of what is wanted needs the job that covers it")
    return replace(
        old,
        desired=old.desired if desired is None else desired,
        spec=old.spec if spec is None else spec,
        owner=old.owner if owner is None else owner,
        node=old.node if node is None else node,
        refusal=old.refusal if refusal is None else refusal,
        generation=old.generation if job is None else old.generation + 1,
        job=old.job if job is None else job,
    )


def switched(
    old: NodeRecord,
    *,
    cordoned: bool | None,
    maintenance: bool | None,
    labels: tuple[str, ...] | None,
    description: str | None,
) -> NodeRecord:
    """What :meth:`Directory.change_node` makes of ``old``."""
    return replace(
        old,
        cordoned=old.cordoned if cordoned is None else cordoned,
        maintenance=old.maintenance if maintenance is None else maintenance,
        labels=old.labels if labels is None else tuple(sorted(labels)),
        description=old.description if description is None else description,
    )


def _attributes(record: VERecord) -> codec.Attributes:
    """Everything of a VE that the server writes."""
    return {
        **codec.desired_attributes(record.desired, record.spec, record.owner),
        **codec.count_attributes(record.generation, record.job),
        **codec.placement_attributes(record.node, record.refusal),
    }


def _records(entries: Sequence[Entry], kind: type[R]) -> Iterator[R]:
    for dn, attributes in entries:
        try:
            record = codec.decode(dn, attributes)
        except Invalid as error:
            log.error("left out an entry that can not be read: %s", error)
            continue
        if isinstance(record, kind):
            yield record


def _as(kind: type[R], entry: Entry) -> R:
    """The record just stored."""
    record: Record | None = codec.decode(*entry)
    if not isinstance(record, kind):
        raise Invalid(f"the directory stored something that is no {kind.__name__}", where=entry[0])
    return record


# ---------------------------------------------------------------------------------------------------- guards (RFC 4515 text)


def _all(*parts: str) -> str:
    return f"(&{''.join(parts)})"


def _any(*parts: str) -> str:
    return f"(|{''.join(parts)})"


def _equals(name: str, values: list[bytes]) -> str:
    """The attribute has these values (all of them, perhaps more); absent if there are none, or may be if that means the same."""
    absent = f"(!({name}=*))"
    if not values:
        return absent
    rule = ":caseExactMatch:" if name in ("description", "vmcRefusal") else ""
    present = _all(*(f"({name}{rule}={escape_filter_chars(value.decode())})" for value in values))
    if codec.DEFAULTS.get(name, "").encode() == values[0]:
        return _any(present, absent)
    return present


def _older(mark: Mark) -> str:
    """The entry was last seen before ``mark``, or never."""
    return _any(
        f"(!(vmcObservedEpoch>={mark.epoch}))",
        f"(&(vmcObservedEpoch={mark.epoch})(!(vmcObservedSequence>={mark.sequence})))",
    )


def _at(mark: Mark) -> str:
    return f"(&(vmcObservedEpoch={mark.epoch})(vmcObservedSequence={mark.sequence}))"
