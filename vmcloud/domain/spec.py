"""The wanted shape of a VE: parsing from untrusted JSON, checking, and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Self, TypeVar

from . import lease
from .errors import Invalid
from .kinds import KINDS, parse_kind
from .lease import Lease
from .names import check_label, check_ve_name
from .terms import seconds
from .vocabulary import Desired, Drift, Kind, LeaseAction, Restart

E = TypeVar("E", bound=StrEnum)

DESCRIPTION_MAX = 1000
LEASE = lease.FIELDS
ABOUT = ("restart", "drift", "description")
ALTERABLE = (*ABOUT, *LEASE)
"""Fields of a spec that only the record shows: no node has to do anything."""
DEFAULT_PROJECT = "main"
ADOPTED_IMAGE = "adopted"
"""What the spec of a VE has as its image that was made from none of ours."""


def check_whole(value: object, limits: tuple[int, int], where: str, unit: str) -> int:
    """``value`` as a whole number within ``limits`` (both inclusive)."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise Invalid(f"{value!r} is not a whole number", where=where, todo=f"Give {unit} as a whole number.")
    low, high = limits
    if not low <= value <= high:
        raise Invalid(f"{value} is out of range", where=where, why=f"{low} to {high} {unit} are allowed")
    return value


def check_choice(value: object, vocabulary: Iterable[E], where: str) -> E:
    """``value`` as a member of a closed vocabulary."""
    members = {member.value: member for member in vocabulary}
    if (found := members.get(str(value))) is not None:
        return found
    raise Invalid(f"{value!r} is not known here", where=where, todo=f"Choose one of: {', '.join(members)}.")


def check_text(value: object, where: str) -> str:
    """Free text: printable, one paragraph, bounded."""
    if not isinstance(value, str):
        raise Invalid("text is needed", where=where)
    if len(value) > DESCRIPTION_MAX:
        raise Invalid(f"{len(value)} characters, {DESCRIPTION_MAX} are allowed", where=where)
    if any(ord(char) < 32 and char not in "\n\t" for char in value) or "\x7f" in value:
        raise Invalid("control characters are not allowed", where=where)
    return value


@dataclass(frozen=True)
class Spec:
    """What a VE should be, apart from its name and power. Memory and disk in MiB (2^20 bytes); ``disk_mib`` 0 means no limit.

    ``node`` is a request for one node by name, or empty: the scheduler chooses. ``privileged`` containers share the host's
    user ids; all others are id-mapped. ``lease_end`` (seconds since the epoch; 0: none), ``lease_action`` and ``lease_grace``
    (seconds): see :class:`~vmcloud.domain.lease.Lease`.
    """

    kind: Kind
    image: str
    vcpus: int = 1
    memory_mib: int = 128
    disk_mib: int = 0
    restart: Restart = Restart.ON_FAILURE
    drift: Drift = Drift.REPORT
    node: str = ""
    privileged: bool = False
    description: str = ""
    lease_end: float = 0.0
    lease_action: LeaseAction = LeaseAction.STOP
    lease_grace: int = lease.DEFAULT_GRACE

    @property
    def lease(self) -> Lease:
        """How long it may live."""
        return Lease(self.lease_end, self.lease_action, self.lease_grace)

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Self:
        """Check untrusted ``data`` field by field; unknown fields are refused, so that a typing error never passes silently."""
        unknown = sorted(set(data) - set(cls.__dataclass_fields__))
        if unknown:
            known = ", ".join(cls.__dataclass_fields__)
            raise Invalid(f"no field is called {unknown[0]!r}", where=unknown[0], todo=f"Known fields: {known}.")
        kind = parse_kind(data.get("kind", Kind.LXC))
        limits = KINDS[kind]
        privileged = data.get("privileged", False)
        if not isinstance(privileged, bool):
            raise Invalid("true or false is needed", where="privileged")
        node = data.get("node") or ""
        return cls(
            kind=kind,
            image=check_label(data.get("image"), where="image"),
            vcpus=check_whole(data.get("vcpus", 1), limits.vcpus, "vcpus", "virtual CPUs"),
            memory_mib=check_whole(data.get("memory_mib", 128), limits.memory_mib, "memory_mib", "MiB of memory"),
            disk_mib=check_whole(data.get("disk_mib", 0), limits.disk_mib, "disk_mib", "MiB of disk"),
            restart=check_choice(data.get("restart", Restart.ON_FAILURE), Restart, "restart"),
            drift=check_choice(data.get("drift", Drift.REPORT), Drift, "drift"),
            node=check_label(node, where="node") if node else "",
            privileged=privileged,
            description=check_text(data.get("description", ""), "description"),
            lease_end=lease.end(data.get("lease_end", 0.0), "lease_end"),
            lease_action=lease.action(data.get("lease_action", LeaseAction.STOP), "lease_action"),
            lease_grace=int(seconds(data.get("lease_grace", lease.DEFAULT_GRACE), lease.GRACE, "lease_grace")),
        )

    def resized(self, data: Mapping[str, Any]) -> Self:
        """This spec with the sizes in ``data`` (``vcpus``, ``memory_mib``, ``disk_mib``); nothing else may be in it."""
        sizes = {"vcpus", "memory_mib", "disk_mib"}
        unknown = sorted(set(data) - sizes)
        if unknown:
            raise Invalid(
                f"{unknown[0]!r} is not a size",
                where=unknown[0],
                todo=f"Give any of: {', '.join(sorted(sizes))}.",
            )
        if not data:
            raise Invalid("no new size was given", todo=f"Give any of: {', '.join(sorted(sizes))}.")
        wanted = type(self).parse({**self.to_json(), **data})
        return replace(self, vcpus=wanted.vcpus, memory_mib=wanted.memory_mib, disk_mib=wanted.disk_mib)

    def altered(self, data: Mapping[str, Any]) -> Self:
        """This spec with what ``data`` says of it that no node need know (:data:`ALTERABLE`)."""
        unknown = sorted(set(data) - set(ALTERABLE))
        if unknown:
            todo = f"Give any of: {', '.join(ABOUT)}, lease."
            raise Invalid(f"{unknown[0][:60]!r} is nothing that can be altered", where=unknown[0][:60], todo=todo)
        if not data:
            raise Invalid("nothing to alter was given", todo=f"Give any of: {', '.join(ABOUT)}, lease.")
        wanted = type(self).parse({**self.to_json(), **data})
        return replace(self, **{name: getattr(wanted, name) for name in ALTERABLE})

    def forever(self) -> Self:
        """This spec without a lease, and without a request for a node."""
        return replace(self, node="", **lease.NO_LEASE_VALUES)

    def to_json(self) -> dict[str, Any]:
        """Plain values under the API's field names; :meth:`parse` takes them back."""
        return {name: plain(getattr(self, name)) for name in self.__dataclass_fields__}


def plain(value: Any) -> Any:
    """A field's value as JSON has it."""
    return value.value if isinstance(value, StrEnum) else value


@dataclass(frozen=True)
class CreateRequest:
    """A checked request to create one VE: its name and project, the power wanted afterwards, and its spec."""

    name: str
    project: str
    power: Desired
    spec: Spec

    @classmethod
    def parse(cls, data: object) -> Self:
        """From the untrusted JSON object of a form, the command line or the API."""
        if not isinstance(data, Mapping):
            raise Invalid("a JSON object is needed", todo='Send {"name": "web-1", "image": "busybox"}.')
        fields = dict(data)
        name = check_ve_name(fields.pop("name", None))
        project = check_label(fields.pop("project", DEFAULT_PROJECT), where="project")
        power = check_choice(fields.pop("power", Desired.RUNNING), Desired, "power")
        if power not in (Desired.RUNNING, Desired.STOPPED):
            raise Invalid(f"a VE cannot be created {power}", where="power", todo="Choose running or stopped.")
        return cls(name=name, project=project, power=power, spec=Spec.parse(fields))


@dataclass(frozen=True)
class AdoptRequest:
    """A checked request to adopt a guest: the VE's name, project and owner (empty: who asks), and what its spec is to say. Sizes
    of None are those that the guest has."""

    name: str
    project: str
    owner: str
    vcpus: int | None
    memory_mib: int | None
    restart: Restart
    drift: Drift
    description: str

    @classmethod
    def parse(cls, data: object) -> Self:
        """From the untrusted JSON object of the command line or the API. The kind's limits are checked by :meth:`spec`."""
        if not isinstance(data, Mapping):
            raise Invalid("a JSON object is needed", todo='Send {"name": "web-9"}.')
        unknown = sorted(set(map(str, data)) - set(cls.__dataclass_fields__))
        if unknown:
            known = ", ".join(cls.__dataclass_fields__)
            raise Invalid(f"no field is called {unknown[0][:60]!r}", where=unknown[0][:60], todo=f"Known fields: {known}.")
        owner = data.get("owner") or ""
        if not isinstance(owner, str):
            raise Invalid("a user's name is needed", where="owner")
        return cls(
            name=check_ve_name(data.get("name")),
            project=check_label(data.get("project", DEFAULT_PROJECT), where="project"),
            owner=owner,
            vcpus=data.get("vcpus"),
            memory_mib=data.get("memory_mib"),
            restart=check_choice(data.get("restart", Restart.ON_FAILURE), Restart, "restart"),
            drift=check_choice(data.get("drift", Drift.REPORT), Drift, "drift"),
            description=check_text(data.get("description", ""), "description"),
        )

    @property
    def sizes(self) -> dict[str, int]:
        """Those asked for."""
        return {name: size for name, size in (("vcpus", self.vcpus), ("memory_mib", self.memory_mib)) if size is not None}

    def spec(self, kind: Kind, vcpus: int, memory_mib: int) -> Spec:
        """What the VE is to be, of a guest that has these sizes (0: no limit, or not known)."""
        has = {name: size for name, size in (("vcpus", vcpus), ("memory_mib", memory_mib)) if size}
        about = {"restart": self.restart, "drift": self.drift, "description": self.description}
        return Spec.parse({"kind": kind, "image": ADOPTED_IMAGE, **has, **self.sizes, **about})
