"""Entries to values and back. Pure: no connection, no clock.

An entry is a name (RFC 4514 text) and its attributes, each a list of bytes, as python-ldap gives them. Decoding is strict about
the attributes it knows and ignores all others, so that people may add their own. What can not be read raises
:class:`~vmcloud.domain.errors.Invalid` that names the entry.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TypeVar
from uuid import UUID

import ldap.dn

from vmcloud.domain.errors import Invalid
from vmcloud.domain.lease import DEFAULT_GRACE
from vmcloud.domain.messages import Mark, NodeFacts, Seen, Snapshot
from vmcloud.domain.records import (
    ImageRecord,
    NodeRecord,
    Observation,
    Record,
    StrayRecord,
    Tombstone,
    VERecord,
)
from vmcloud.domain.spec import Spec
from vmcloud.domain.vocabulary import Desired, Drift, Kind, LeaseAction, Observed, Restart
from vmcloud.domain.wire import CPUS_MAX, DISK_MIB_MAX, MEMORY_MIB_MAX, TEXT_MAX, WHOLE_DIGITS, WHOLE_MAX, whole

Attributes = dict[str, list[bytes]]
E = TypeVar("E", bound=StrEnum)
T = TypeVar("T")

DEFAULTS: dict[str, str] = {
    "vmcVCPUs": "1",
    "vmcMemoryMiB": "128",
    "vmcDiskMiB": "0",
    "vmcRestartPolicy": Restart.ON_FAILURE.value,
    "vmcDrift": Drift.REPORT.value,
    "vmcPrivileged": "FALSE",
    "vmcLeaseAction": LeaseAction.STOP.value,
    "vmcLeaseGrace": str(DEFAULT_GRACE),
    "vmcGeneration": "0",
    "vmcJob": "0",
    "vmcCordoned": "FALSE",
    "vmcMaintenance": "FALSE",
}
"""What the absence of an attribute means: entries made by other people's tools may be short."""


@dataclass(frozen=True)
class Tree:
    """Names of entries below ``suffix``. Every part is escaped (RFC 4514, 2.4): foreign guests may be called anything."""

    suffix: str

    def unit(self, name: str) -> str:
        """A branch: ``nodes``, ``ves``, ``images``, ``tombstones``, ..."""
        return f"ou={ldap.dn.escape_dn_chars(name)},{self.suffix}"

    def project(self, name: str) -> str:
        """A project's branch of VEs."""
        return f"ou={ldap.dn.escape_dn_chars(name)},{self.unit('ves')}"

    def ve(self, project: str, name: str) -> str:
        """A VE's entry."""
        return f"cn={ldap.dn.escape_dn_chars(name)},{self.project(project)}"

    def node(self, name: str) -> str:
        """A node's entry."""
        return f"cn={ldap.dn.escape_dn_chars(name)},{self.unit('nodes')}"

    def stray(self, node: str, native: str) -> str:
        """The entry of a guest that does not belong on ``node``."""
        return f"cn={ldap.dn.escape_dn_chars(native)},{self.node(node)}"

    def image(self, name: str) -> str:
        """An image's entry."""
        return f"cn={ldap.dn.escape_dn_chars(name)},{self.unit('images')}"

    def tombstone(self, ve: UUID) -> str:
        """A deleted VE's tombstone."""
        return f"cn={ve},{self.unit('tombstones')}"

    def service(self, identity: str) -> str:
        """The name that a part binds as."""
        return f"cn={ldap.dn.escape_dn_chars(identity)},{self.unit('services')}"


def rdns(dn: str) -> list[str]:
    """The values of the name's parts, leaf first; of a part with several attributes the first."""
    try:
        return [part[0][1] for part in ldap.dn.str2dn(dn)]
    except (ldap.DECODING_ERROR, IndexError) as error:
        raise Invalid("not a distinguished name", where=dn) from error


# ---------------------------------------------------------------------------------------------------------- reading values


@dataclass(frozen=True)
class _Entry:
    """One entry with typed access; every complaint names the entry and the attribute."""

    dn: str
    attributes: Mapping[str, list[bytes]]

    def many(self, name: str) -> tuple[str, ...]:
        try:
            values = tuple(value.decode() for value in self.attributes.get(name, ()))
        except UnicodeDecodeError as error:
            raise self._bad(name, "is not UTF-8") from error
        if any("\0" in value for value in values):
            raise self._bad(name, "has a NUL character")
        return values

    def text(self, name: str, default: str = "") -> str:
        values = self.many(name)
        if len(values) > 1 and name != "description":
            raise self._bad(name, f"has {len(values)} values, one is allowed")
        return values[0] if values else DEFAULTS.get(name, default)

    def need(self, name: str) -> str:
        value = self.text(name)
        if not value:
            raise self._bad(name, "is missing")
        return value

    def whole(self, name: str, digits: int = WHOLE_DIGITS) -> int:
        value = self._read(name, lambda text: int(text) if len(text) <= digits else None, "whole number")
        if value is None:
            raise self._bad(name, f"has more than {digits} digits")
        return value

    def claimed(self, name: str, high: int = WHOLE_MAX) -> int:
        """A number that a node said: within the limits that its messages have; 0 where nothing was said."""
        if not self.text(name):
            return 0
        value = self.whole(name)
        try:
            return whole(value, high=high)
        except ValueError as error:
            raise self._bad(name, f"is {value}, {error}") from error

    def flag(self, name: str) -> bool:
        value = self.text(name, "FALSE").upper()
        if value not in ("TRUE", "FALSE"):
            raise self._bad(name, f"is {value!r}, not TRUE or FALSE")
        return value == "TRUE"

    def uuid(self, name: str) -> UUID:
        return self._read(name, UUID, "UUID")

    def time(self, name: str) -> float:
        return self._read(name, decode_time, "time") if self.text(name) else 0.0

    def choice(self, name: str, vocabulary: type[E]) -> E:
        return self._read(name, lambda value: vocabulary(value.lower()), "word of the vocabulary")

    def mark(self) -> Mark:
        return Mark(self.whole("vmcObservedEpoch"), self.whole("vmcObservedSequence"))

    def snapshots(self) -> tuple[Snapshot, ...]:
        try:
            return tuple(sorted(map(decode_snapshot, self.many("vmcSnapshot"))))
        except ValueError as error:
            raise self._bad("vmcSnapshot", "is not a name, a job's number and a time") from error

    def _read(self, name: str, convert: Callable[[str], T], what: str) -> T:
        value = self.need(name)
        try:
            return convert(value)
        except ValueError as error:
            raise self._bad(name, f"is {value[:60]!r}, not a {what}") from error

    def _bad(self, name: str, why: str) -> Invalid:
        return Invalid(f"{name} {why}", where=self.dn, todo="Correct the entry with any LDAP tool.")


def decode(dn: str, attributes: Mapping[str, list[bytes]]) -> Record | None:
    """The record in an entry; None if the entry is of no class of ours (branches, people, ...). Raises Invalid."""
    classes = {value.decode(errors="replace").lower() for value in attributes.get("objectClass", ())}
    entry = _Entry(dn, attributes)
    for name, read in _READERS.items():
        if name in classes:
            return read(entry)
    return None


def uuid_of(attributes: Mapping[str, list[bytes]]) -> UUID | None:
    """The UUID in an entry that may be unreadable otherwise."""
    try:
        return UUID(attributes["vmcUUID"][0].decode())
    except (LookupError, ValueError):
        return None


def _ve(entry: _Entry) -> VERecord:
    parts = rdns(entry.dn)
    project = entry.need("vmcProject")
    if len(parts) < 3 or parts[1].lower() != project.lower():
        raise Invalid(f"vmcProject is {project!r}, and the entry stands in another project", where=entry.dn)
    spec = Spec(
        kind=entry.choice("vmcKind", Kind),
        image=entry.need("vmcImageName"),
        vcpus=entry.whole("vmcVCPUs", 9),
        memory_mib=entry.whole("vmcMemoryMiB"),
        disk_mib=entry.whole("vmcDiskMiB"),
        restart=entry.choice("vmcRestartPolicy", Restart),
        drift=entry.choice("vmcDrift", Drift),
        node=entry.text("vmcRequestedNode"),
        privileged=entry.flag("vmcPrivileged"),
        description=entry.text("description"),
        lease_end=entry.time("vmcLeaseEnd"),
        lease_action=entry.choice("vmcLeaseAction", LeaseAction),
        lease_grace=entry.whole("vmcLeaseGrace", 9),
    )
    return VERecord(
        ve=entry.uuid("vmcUUID"),
        name=parts[0],
        project=project,
        owner=entry.text("vmcOwner"),
        spec=spec,
        desired=entry.choice("vmcDesiredState", Desired),
        generation=entry.whole("vmcGeneration"),
        job=entry.whole("vmcJob"),
        node=entry.text("vmcNodeName"),
        observed=_observation(entry) if entry.text("vmcObservedState") else None,
        refusal=entry.text("vmcRefusal"),
        version=entry.text("entryCSN"),
    )


def _observation(entry: _Entry) -> Observation:
    return Observation(
        state=entry.choice("vmcObservedState", Observed),
        node=entry.need("vmcObservedNode"),
        mark=entry.mark(),
        generation=entry.claimed("vmcObservedGeneration"),
        addresses=tuple(sorted(entry.many("ipHostNumber"))),
        mac=entry.text("macAddress"),
        since=entry.time("vmcStateSince"),
        vcpus=entry.claimed("vmcObservedVCPUs", CPUS_MAX),
        memory_mib=entry.claimed("vmcObservedMemoryMiB", MEMORY_MIB_MAX),
        error=entry.text("vmcLastError"),
        snapshots=entry.snapshots(),
    )


def _node(entry: _Entry) -> NodeRecord:
    heard = bool(entry.text("vmcObservedEpoch"))
    facts = NodeFacts(
        kinds=tuple(sorted(_kind(entry, value) for value in entry.many("vmcOfferedKind"))),
        cpus=entry.claimed("vmcCapacityCPUs", CPUS_MAX),
        memory_mib=entry.claimed("vmcCapacityMemoryMiB", MEMORY_MIB_MAX),
        disk_mib=entry.claimed("vmcCapacityDiskMiB", DISK_MIB_MAX),
        version=entry.text("vmcVersion"),
        simulated=entry.flag("vmcSimulated"),
        address=entry.text("ipHostNumber"),
    )
    return NodeRecord(
        name=rdns(entry.dn)[0],
        cordoned=entry.flag("vmcCordoned"),
        maintenance=entry.flag("vmcMaintenance"),
        labels=tuple(sorted(entry.many("vmcLabel"))),
        description=entry.text("description"),
        facts=facts if heard else None,
        mark=entry.mark() if heard else None,
        version=entry.text("entryCSN"),
    )


def _kind(entry: _Entry, value: str) -> Kind:
    try:
        return Kind(value.lower())
    except ValueError as error:
        raise Invalid(f"no kind is called {value!r}", where=entry.dn) from error


def _stray(entry: _Entry) -> StrayRecord:
    parts = rdns(entry.dn)
    observation = _observation(entry)
    seen = Seen(
        native=parts[0],
        kind=entry.choice("vmcKind", Kind),
        state=observation.state,
        ve=entry.uuid("vmcUUID") if entry.text("vmcUUID") else None,
        generation=observation.generation,
        addresses=observation.addresses,
        mac=observation.mac,
        since=observation.since,
        vcpus=observation.vcpus,
        memory_mib=observation.memory_mib,
        error=observation.error,
        snapshots=observation.snapshots,
    )
    return StrayRecord(node=parts[1], seen=seen, mark=observation.mark, version=entry.text("entryCSN"))


def _image(entry: _Entry) -> ImageRecord:
    return ImageRecord(
        name=rdns(entry.dn)[0],
        kind=entry.choice("vmcKind", Kind),
        sha256=entry.need("vmcSHA256").lower(),
        size=entry.whole("vmcSize"),
        description=entry.text("description"),
        version=entry.text("entryCSN"),
    )


def _tombstone(entry: _Entry) -> Tombstone:
    return Tombstone(
        ve=entry.uuid("vmcUUID"),
        name=entry.need("vmcVEName"),
        project=entry.need("vmcProject"),
        at=entry.time("vmcDeletedAt"),
        version=entry.text("entryCSN"),
    )


_READERS: dict[str, Callable[[_Entry], Record]] = {
    "vmcve": _ve,
    "vmcnode": _node,
    "vmcstray": _stray,
    "vmcimage": _image,
    "vmctombstone": _tombstone,
}


# ---------------------------------------------------------------------------------------------------------- writing values


def encode_time(seconds: float) -> str:
    """Seconds since the epoch as GeneralizedTime in UTC with microseconds (RFC 4517, 3.3.13)."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%d%H%M%S.%fZ")


def decode_time(text: str) -> float:
    """GeneralizedTime in UTC, with or without a fraction, as seconds since the epoch. ValueError for other forms."""
    whole, _, fraction = text.rstrip("Z").partition(".")
    if not text.endswith("Z") or (fraction and not fraction.isdigit()):
        raise ValueError(text)
    moment = datetime.strptime(whole, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    return round(moment.timestamp() + (float(f"0.{fraction}") if fraction else 0.0), 6)


def encode_snapshot(snapshot: Snapshot) -> str:
    """A snapshot as one value: ``before-upgrade 17 20261121101500.250000Z``."""
    return f"{snapshot.name} {snapshot.job} {encode_time(snapshot.at)}"


def decode_snapshot(text: str) -> Snapshot:
    """Inverse of :func:`encode_snapshot`. ValueError for other forms."""
    name, job, at = text.split(" ")
    try:
        return Snapshot.from_json({"name": name, "job": int(job), "at": decode_time(at)})
    except Invalid as error:
        raise ValueError(text) from error


def _values(*values: object) -> list[bytes]:
    """Each value as LDAP writes it; empty text and None are no value."""
    made = []
    for value in values:
        if isinstance(value, bool):
            value = "TRUE" if value else "FALSE"
        text = "" if value is None else str(value)
        if text:
            made.append(text.encode())
    return made


def _time(seconds: float) -> list[bytes]:
    return _values(encode_time(seconds)) if seconds and math.isfinite(seconds) else []


def desired_attributes(desired: Desired, spec: Spec, owner: str) -> Attributes:
    """What is wanted of a VE. An empty list: no such attribute."""
    return {
        "vmcDesiredState": _values(desired.value),
        "vmcKind": _values(spec.kind.value),
        "vmcImageName": _values(spec.image),
        "vmcVCPUs": _values(spec.vcpus),
        "vmcMemoryMiB": _values(spec.memory_mib),
        "vmcDiskMiB": _values(spec.disk_mib),
        "vmcRestartPolicy": _values(spec.restart.value),
        "vmcDrift": _values(spec.drift.value),
        "vmcRequestedNode": _values(spec.node),
        "vmcPrivileged": _values(spec.privileged),
        "description": _values(spec.description),
        "vmcOwner": _values(owner),
        "vmcLeaseEnd": _time(spec.lease_end),
        "vmcLeaseAction": _values("" if spec.lease_action is LeaseAction.STOP else spec.lease_action.value),
        "vmcLeaseGrace": _values("" if spec.lease_grace == DEFAULT_GRACE else spec.lease_grace),
    }


ATTRIBUTE = {
    "desired": "vmcDesiredState",
    "kind": "vmcKind",
    "image": "vmcImageName",
    "vcpus": "vmcVCPUs",
    "memory_mib": "vmcMemoryMiB",
    "disk_mib": "vmcDiskMiB",
    "restart": "vmcRestartPolicy",
    "drift": "vmcDrift",
    "node": "vmcRequestedNode",
    "privileged": "vmcPrivileged",
    "description": "description",
    "owner": "vmcOwner",
    "lease_end": "vmcLeaseEnd",
    "lease_action": "vmcLeaseAction",
    "lease_grace": "vmcLeaseGrace",
}
"""Field of what is wanted (:data:`vmcloud.domain.foreign.FIELDS`) → its attribute."""


def count_attributes(generation: int, job: int) -> Attributes:
    """The generation and the job that covers it."""
    return {"vmcGeneration": _values(generation), "vmcJob": _values(job)}


def placement_attributes(node: str, refusal: str) -> Attributes:
    """What the server notes beside the desired state."""
    return {"vmcNodeName": _values(node), "vmcRefusal": _values(refusal[:TEXT_MAX])}


def observed_attributes(seen: Observation) -> Attributes:
    """What was seen of a VE. An empty list: no such attribute (any more)."""
    return {
        "vmcObservedState": _values(seen.state.value),
        "vmcObservedNode": _values(seen.node),
        "vmcObservedEpoch": _values(seen.mark.epoch),
        "vmcObservedSequence": _values(seen.mark.sequence),
        "vmcObservedGeneration": _values(seen.generation),
        "vmcStateSince": _time(seen.since),
        "vmcObservedVCPUs": _values(seen.vcpus or None),
        "vmcObservedMemoryMiB": _values(seen.memory_mib or None),
        "vmcLastError": _values(seen.error[:TEXT_MAX]),
        "vmcSnapshot": _values(*dict.fromkeys(map(encode_snapshot, seen.snapshots))),
        "ipHostNumber": _values(*dict.fromkeys(seen.addresses)),
        "macAddress": _values(seen.mac),
    }


def observed_classes(seen: Observation) -> dict[str, bool]:
    """Which auxiliary classes the observed attributes need: ipHost demands an address (RFC 2307)."""
    return {"ipHost": any(seen.addresses), "ieee802Device": bool(seen.mac)}


def encode_ve(record: VERecord) -> Attributes:
    """A whole new VE entry, without anything observed."""
    return _present(
        {
            "objectClass": _values("device", "vmcVE"),
            "cn": _values(record.name),
            "vmcUUID": _values(record.ve),
            "vmcProject": _values(record.project),
            **desired_attributes(record.desired, record.spec, record.owner),
            **count_attributes(record.generation, record.job),
            **placement_attributes(record.node, record.refusal),
        }
    )


def switch_attributes(node: NodeRecord) -> Attributes:
    """What people set of a node."""
    return {
        "vmcCordoned": _values(node.cordoned),
        "vmcMaintenance": _values(node.maintenance),
        "vmcLabel": _values(*node.labels),
        "description": _values(node.description),
    }


def encode_node(record: NodeRecord) -> Attributes:
    """A whole new node entry, without facts."""
    head = {"objectClass": _values("device", "vmcNode"), "cn": _values(record.name)}
    return _present({**head, **switch_attributes(record)})


def facts_attributes(facts: NodeFacts, mark: Mark) -> Attributes:
    """What a node said about itself."""
    return {
        "vmcOfferedKind": _values(*(kind.value for kind in facts.kinds)),
        "vmcCapacityCPUs": _values(facts.cpus),
        "vmcCapacityMemoryMiB": _values(facts.memory_mib),
        "vmcCapacityDiskMiB": _values(facts.disk_mib),
        "vmcVersion": _values(facts.version),
        "vmcSimulated": _values(facts.simulated),
        "vmcObservedEpoch": _values(mark.epoch),
        "vmcObservedSequence": _values(mark.sequence),
        "ipHostNumber": _values(facts.address),
    }


def stray_attributes(stray: StrayRecord) -> Attributes:
    """What was seen of a stray guest. An empty list: no such attribute."""
    seen = stray.seen
    observation = stray_observation(stray)
    return {
        **observed_attributes(observation),
        "vmcKind": _values(seen.kind.value),
        "vmcUUID": _values(seen.ve),
    }


def stray_observation(stray: StrayRecord) -> Observation:
    """The stray's sighting in the shape of a VE's."""
    seen = stray.seen
    return Observation(
        state=seen.state,
        node=stray.node,
        mark=stray.mark,
        generation=seen.generation,
        addresses=seen.addresses,
        mac=seen.mac,
        since=seen.since,
        vcpus=seen.vcpus,
        memory_mib=seen.memory_mib,
        error=seen.error,
        snapshots=seen.snapshots,
    )


def encode_stray(stray: StrayRecord) -> Attributes:
    """A whole new entry of a stray guest."""
    classes = [name for name, needed in observed_classes(stray_observation(stray)).items() if needed]
    head = {"objectClass": _values("device", "vmcStray", *classes), "cn": _values(stray.seen.native)}
    return _present({**head, **stray_attributes(stray)})


def encode_image(record: ImageRecord) -> Attributes:
    """A whole new image entry. ``documentIdentifier`` is what its structural class demands (RFC 4524)."""
    return _present(
        {
            "objectClass": _values("document", "vmcImage"),
            "cn": _values(record.name),
            "documentIdentifier": _values(record.name),
            "vmcKind": _values(record.kind),
            "vmcSHA256": _values(record.sha256),
            "vmcSize": _values(record.size),
            "description": _values(record.description),
        }
    )


def encode_tombstone(record: Tombstone) -> Attributes:
    """A whole new tombstone."""
    return {
        "objectClass": _values("vmcTombstone"),
        "cn": _values(record.ve),
        "vmcUUID": _values(record.ve),
        "vmcProject": _values(record.project),
        "vmcVEName": _values(record.name),
        "vmcDeletedAt": _values(encode_time(record.at)),
    }


def _present(attributes: Attributes) -> Attributes:
    """Without the empty ones: an add may hold none."""
    return {name: values for name, values in attributes.items() if values}
