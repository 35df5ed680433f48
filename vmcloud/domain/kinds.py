"""Kinds of VE as data: what each can do and within which limits. Refused here means refused before anything is queued."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import Impossible, Invalid
from .vocabulary import Kind, Verb

_POWER = frozenset({Verb.CREATE, Verb.START, Verb.STOP, Verb.RESTART, Verb.DELETE})


@dataclass(frozen=True)
class KindInfo:
    """One kind. Memory and disk in MiB. ``live_resize``: a running VE takes a new size without a restart. ``limits_disk``: a
    disk size is more than a wish."""

    kind: Kind
    title: str
    verbs: frozenset[Verb]
    vcpus: tuple[int, int]
    memory_mib: tuple[int, int]
    disk_mib: tuple[int, int]
    live_resize: bool
    driver: bool
    limits_disk: bool = True


def _later(kind: Kind, title: str) -> KindInfo:
    """A kind that the contract names and this version has no driver for: it can do nothing."""
    return KindInfo(kind, title, frozenset(), (1, 512), (8, 16 << 20), (0, 1 << 30), live_resize=False, driver=False)


KINDS: dict[Kind, KindInfo] = {
    Kind.LXC: KindInfo(
        Kind.LXC,
        "Linux container (liblxc), unprivileged by default",
        _POWER | {Verb.SUSPEND, Verb.RESUME, Verb.RESIZE},
        vcpus=(1, 1024),
        memory_mib=(8, 64 << 20),
        disk_mib=(0, 1 << 30),
        live_resize=True,
        driver=True,
        limits_disk=False,
    ),
    Kind.SIMULATED: KindInfo(
        Kind.SIMULATED,
        "simulated guest, for tests and demonstrations",
        _POWER | {Verb.SUSPEND, Verb.RESUME, Verb.RESIZE},
        vcpus=(1, 1024),
        memory_mib=(1, 64 << 20),
        disk_mib=(0, 1 << 30),
        live_resize=True,
        driver=True,
    ),
    Kind.KVM: _later(Kind.KVM, "virtual machine (QEMU through libvirt)"),
    Kind.XEN: _later(Kind.XEN, "Xen domain"),
    Kind.OPENVZ: _later(Kind.OPENVZ, "OpenVZ container"),
}


def parse_kind(value: object, *, where: str = "kind") -> Kind:
    """The kind named ``value``; :class:`Invalid` lists the known ones."""
    try:
        return Kind(str(value))
    except ValueError:
        known = ", ".join(kind.value for kind in Kind)
        raise Invalid(f"no kind is called {value!r}", where=where, todo=f"Choose one of: {known}.") from None


def check_verb(kind: Kind, verb: Verb) -> None:
    """Raise :class:`Impossible` if VEs of this kind cannot do ``verb`` at all."""
    info = KINDS[kind]
    if verb in info.verbs:
        return
    if not info.driver:
        usable = ", ".join(k.value for k, known in KINDS.items() if known.driver)
        raise Impossible(
            f"this version of vmcloud has no driver for kind {kind}",
            where="kind",
            todo=f"Choose one of: {usable}.",
        )
    raise Impossible(f"a VE of kind {kind} cannot {verb}", where="verb")


def check_disk(kind: Kind, disk_mib: int) -> None:
    """Raise :class:`Impossible` for a disk size that nothing would enforce: a limit that does not hold is worse than none."""
    if disk_mib and not KINDS[kind].limits_disk:
        raise Impossible(
            f"a VE of kind {kind} can not be given a disk size yet",
            where="disk_mib",
            why="its root is an overlay on the node's own file system, which has no limit for one guest",
            todo="Leave it out (0: no limit).",
        )
