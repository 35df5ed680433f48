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

from vmcloud.domain.errors import Invalid, VmcloudError
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
class Found:
    """A VE's entry as it is, also where it can not be read: then ``record`` is None and ``reason`` says why."""

    dn: str
    ve: UUID
    version: str
    record: VERecord | None
    reason: str = ""
    refusal: str = ""
    generation: int = 0
    job: int = 0


@dataclass(frozen=True)
class Who:
    """Somebody who binds: the name in the DN, whether the entry is a person's, and the groups that it is in."""

    dn: str
    name: str
    person: bool
    groups: frozenset[str]


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

    # ------------------------------------------------------------------------------------------- what others have written

    def find_ve(self, ve: UUID) -> Found | None:
        """The entry of the VE with this UUID, readable or not, and wherever somebody has moved it."""
        for dn, attributes in self.client.search(self.tree.suffix, f"(&(objectClass=vmcVE)(vmcUUID={ve}))"):
            version = attributes.get("entryCSN", [b""])[0].decode()
            try:
                record = _as(VERecord, (dn, attributes))
                return Found(dn, ve, version, record, "", record.refusal, record.generation, record.job)
            except Invalid as error:
                refusal = attributes.get("vmcRefusal", [b""])[0].decode(errors="replace")
                counted = (int(attributes.get(name, [b"0"])[0]) for name in ("vmcGeneration", "vmcJob"))
                return Found(dn, ve, version, None, error.problem.what, refusal, *counted)
        return None

    def writers(self, found: Found, names: Collection[str], since: float) -> dict[str, str] | None:
        """Who last wrote each of these attributes of the entry, oldest write first; without those that nobody wrote after
        ``since`` (seconds since the epoch). None while the access log has not come to the entry as it was found."""
        name, version = escape_filter_chars(found.dn), escape_filter_chars(found.version)
        if not self.client.search("cn=accesslog", f"(&(reqDN={name})(entryCSN={version}))", attributes=("1.1",)):
            return None
        wanted = f"(&(reqDN={name})(reqResult=0)(reqStart>={codec.encode_time(max(0.0, since))}))"
        logged = self.client.search("cn=accesslog", wanted, attributes=("reqStart", "reqAuthzID", "reqMod"))
        last: dict[str, str] = {}
        for _, values in sorted(logged, key=lambda entry: entry[1]["reqStart"][0]):
            writer = values.get("reqAuthzID", [b""])[0].decode(errors="replace")
            for mod in values.get("reqMod", ()):
                written = mod.partition(b":")[0].decode(errors="replace")
                if written in names:
                    last.pop(written, None)
                    last[written] = writer
        return last

    def remover(self, dn: str, since: float) -> str:
        """Who deleted the entry after ``since`` (seconds since the epoch); empty if the access log does not tell."""
        after = f"(reqStart>={codec.encode_time(max(0.0, since))})"
        wanted = f"(&(objectClass=auditDelete)(reqDN={escape_filter_chars(dn)})(reqResult=0){after})"
        logged = self.client.search("cn=accesslog", wanted, attributes=("reqStart", "reqAuthzID"))
        if not logged:
            return ""
        return max(logged, key=lambda entry: entry[1]["reqStart"][0])[1].get("reqAuthzID", [b""])[0].decode(errors="replace")

    def who(self, dn: str) -> Who:
        """Somebody by the name they bind with."""
        wanted = f"(&(objectClass=groupOfNames)(member={escape_filter_chars(dn)}))"
        groups = self.client.search(self.tree.unit("groups"), wanted, attributes=("1.1",))
        person = dn.lower().endswith("," + self.tree.unit("people").lower())
        return Who(dn, (codec.rdns(dn) or [""])[0], person, frozenset(codec.rdns(group)[0].lower() for group, _ in groups))

    def restore_ve(
        self,
        found: Found,
        desired: Desired,
        spec: Spec,
        owner: str,
        *,
        job: int,
        generation: int,
        refusal: str = "",
        node: str | None = None,
    ) -> VERecord:
        """A desired write over whatever the entry says, of any generation; ``node``: also its placement. Raises Stale if it was
        written again."""
        guard = _all(f"(vmcUUID={found.ve})", f"(entryCSN={escape_filter_chars(found.version)})")
        attributes = {
            **codec.desired_attributes(desired, spec, owner),
            **codec.count_attributes(generation, job),
            "vmcRefusal": codec.placement_attributes("", refusal)["vmcRefusal"],
        }
        if node is not None:
            attributes |= codec.placement_attributes(node, refusal)
        return _as(VERecord, self.client.modify(found.dn, attributes, guard))

    def move_back(self, found: Found, project: str, name: str) -> None:
        """Give a moved or renamed entry its place again. Raises Denied, Exists, Gone."""
        self.client.rename(found.dn, self.tree.ve(project, name))

    def refuse(self, found: Found, refusal: str) -> None:
        """Say in the entry itself why nothing is made of it. Raises Stale if it is not as it was found."""
        guard = _all(f"(vmcUUID={found.ve})", f"(entryCSN={escape_filter_chars(found.version)})")
        self.client.modify(found.dn, {"vmcRefusal": codec.placement_attributes("", refusal)["vmcRefusal"]}, guard)

    # --------------------------------------------------------------------------------------------------- writing: desired

    def claim(self, record: VERecord) -> VERecord:
        [claimed] = self.claim_all([record])
        if claimed is None:
            raise Exists("the name is taken", where=record.name)
        return claimed

    def claim_all(self, records: Sequence[VERecord]) -> list[VERecord | None]:
        entries = [(self.tree.ve(record.project, record.name), codec.encode_ve(record)) for record in records]
        answers = self.client.add_all(entries) if entries else []
        return [self._claimed(record, answer) for record, answer in zip(records, answers, strict=True)]

    def _claimed(self, record: VERecord, answer: Entry | VmcloudError) -> VERecord | None:
        if isinstance(answer, Exists):
            stored = self.ve_named(record.project, record.name)
            return stored if stored and (stored.ve, stored.job) == (record.ve, record.job) else None
        if isinstance(answer, VmcloudError):
            raise answer
        return _as(VERecord, answer)

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
            self.client.overwrite(dn, attributes, guard, classes=classes)
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
