"""Kinds of VE as data: what each can do and within which limits. Refused here means refused before anything is queued."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from .errors import Impossible, Invalid
from .vocabulary import Kind, Power

if TYPE_CHECKING:
    from .spec import Spec


class Support(StrEnum):
    """Whether a kind can do something. ``NODE``: only where a real trial of it passed; ``LATER``: not in this release."""

    YES = "yes"
    NODE = "node"
    LATER = "later"
    NO = "no"


@dataclass(frozen=True)
class Capability:
    """One cell of the matrix. ``why`` in words for all but yes; a "no" needs ``source``, the upstream's word for it (a URL)."""

    support: Support
    why: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        if self.support is not Support.YES and not self.why:
            raise ValueError("what is not simply possible needs a reason")
        if self.support is Support.NO and not self.source:
            raise ValueError("a no needs an upstream reference")


YES = Capability(Support.YES)


@dataclass(frozen=True)
class KindInfo:
    """One kind. Limits (lowest, highest) of virtual CPUs, memory and disk in MiB. ``driver``: this release has one. Of what
    ``powers`` does not name, the kind is capable."""

    kind: Kind
    title: str
    vcpus: tuple[int, int]
    memory_mib: tuple[int, int]
    disk_mib: tuple[int, int] = (0, 1 << 30)
    driver: bool = True
    powers: Mapping[Power, Capability] = field(default_factory=dict)

    def capability(self, power: Power) -> Capability:
        """Whether, and if not why."""
        if not self.driver:
            return Capability(Support.LATER, "this release has no driver for it")
        return self.powers.get(power, YES)


KINDS: dict[Kind, KindInfo] = {
    Kind.LXC: KindInfo(
        Kind.LXC,
        "Linux container (liblxc), unprivileged by default",
        vcpus=(1, 1024),
        memory_mib=(8, 64 << 20),
        powers={
            Power.SAVE: Capability(
                Support.NODE,
                "CRIU must have dumped and restored a container of the same shape on the node, which liblxc 5.0 with CRIU 4.1 "
                "does not",
            ),
            Power.DISK_LIMIT: Capability(
                Support.LATER, "its root is an overlay on the node's own file system, which has no limit for one guest"
            ),
            Power.MIGRATE: Capability(Support.LATER, "nothing moves a container's files to another node yet"),
        },
    ),
    Kind.SIMULATED: KindInfo(
        Kind.SIMULATED,
        "simulated guest, for tests and demonstrations",
        vcpus=(1, 1024),
        memory_mib=(1, 64 << 20),
    ),
    Kind.KVM: KindInfo(Kind.KVM, "virtual machine (QEMU through libvirt)", (1, 512), (8, 16 << 20), driver=False),
    Kind.XEN: KindInfo(Kind.XEN, "Xen domain", (1, 512), (8, 16 << 20), driver=False),
    Kind.OPENVZ: KindInfo(Kind.OPENVZ, "OpenVZ container", (1, 512), (8, 16 << 20), driver=False),
}


def widest(size: str) -> tuple[int, int]:
    """The lowest and the highest value of a size (``vcpus``, ``memory_mib``, ``disk_mib``) that any kind allows."""
    limits: list[tuple[int, int]] = [getattr(info, size) for info in KINDS.values()]
    return min(low for low, _ in limits), max(high for _, high in limits)


def parse_kind(value: object, *, where: str = "kind") -> Kind:
    """The kind named ``value``; :class:`Invalid` lists the known ones."""
    try:
        return Kind(str(value))
    except ValueError:
        known = ", ".join(kind.value for kind in Kind)
        raise Invalid(f"no kind is called {value!r}", where=where, todo=f"Choose one of: {known}.") from None


def check(spec: Spec) -> None:
    """Raise :class:`Impossible` for a shape whose fields are each fine and that its kind cannot have all the same."""
    disk = KINDS[spec.kind].capability(Power.DISK_LIMIT)
    if spec.disk_mib and disk.support is not Support.YES:
        # A limit that does not hold is worse than none.
        raise Impossible(
            f"a VE of kind {spec.kind} can not be given a disk size yet",
            where="disk_mib",
            why=disk.why,
            todo="Leave it out (0: no limit).",
        )
