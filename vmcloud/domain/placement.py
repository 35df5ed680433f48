"""Where a new VE goes: filter, then score, then the name as tie-break. Pure, so that "why not there?" has one answer."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from .kinds import KINDS
from .spec import Spec
from .vocabulary import Kind, NodeState

MEMORY_RESERVE_MIB = 256
"""Memory of a real node that placement leaves to the node itself."""


@dataclass(frozen=True)
class Candidate:
    """A node as placement sees it. ``memory_mib`` is the node's, ``used_mib`` the sum of what is placed there, ``note`` what
    people have written on it."""

    name: str
    state: NodeState
    kinds: frozenset[Kind]
    cpus: int
    memory_mib: int
    used_mib: int = 0
    cordoned: bool = False
    maintenance: bool = False
    simulated: bool = False
    labels: frozenset[str] = frozenset()
    note: str = ""

    @property
    def usable_mib(self) -> int:
        """Memory that VEs may have together."""
        return self.memory_mib if self.simulated else max(0, self.memory_mib - MEMORY_RESERVE_MIB)


@dataclass(frozen=True)
class Placement:
    """The chosen node, or none and why each was not chosen."""

    node: str
    reasons: Mapping[str, str] = field(default_factory=dict)

    def why_not(self) -> str:
        """The reasons of all nodes in one sentence, nodes with the same reason together."""
        if not self.reasons:
            return "there are no nodes; add one with `vmcloud node add`"
        together: dict[str, list[str]] = {}
        for node, reason in self.reasons.items():
            together.setdefault(reason, []).append(node)
        return "; ".join(f"{', '.join(sorted(nodes))}: {reason}" for reason, nodes in together.items())


def never(spec: Spec, node: Candidate) -> str:
    """Why ``node`` could not take ``spec`` even if it were up and empty; empty if it could."""
    if spec.node and spec.node != node.name:
        return f"node {spec.node} was asked for"
    if spec.kind not in node.kinds:
        return f"does not run kind {spec.kind}"
    if spec.memory_mib > node.usable_mib:
        return f"{spec.memory_mib} MiB asked, {node.usable_mib} MiB in all"
    if spec.vcpus > node.cpus:
        return f"{spec.vcpus} vcpus asked, {node.cpus} there"
    return ""


def _not_now(spec: Spec, node: Candidate) -> str:
    if reason := never(spec, node):
        return reason
    if node.state is not NodeState.UP:
        return node.state.value
    if node.cordoned:
        return f"cordoned: {node.note}" if node.note else "cordoned"
    if node.maintenance:
        return "in maintenance"
    return short_of(spec.memory_mib, node)


def short_of(more: int, node: Candidate) -> str:
    """Why a VE on ``node`` can not have ``more`` MiB of memory than it has; empty if it can."""
    short = more - (node.usable_mib - node.used_mib)
    return f"{_amount(short)} short" if short > 0 else ""


def _amount(mib: int) -> str:
    return f"{mib} MiB" if mib < 1024 else f"{mib / 1024:.3g} GiB"


def place(spec: Spec, candidates: Iterable[Candidate], labels: Collection[str] = ()) -> Placement:
    """Choose a node for ``spec`` that has all of ``labels``: the one with the largest free share of memory (striping); names
    break ties."""
    reasons: dict[str, str] = {}
    best: tuple[float, str] | None = None
    for node in candidates:
        if reason := _unlabelled(node, labels) or _not_now(spec, node):
            reasons[node.name] = reason
            continue
        free = (node.usable_mib - node.used_mib - spec.memory_mib) / max(1, node.usable_mib)
        score = (-free, node.name)
        if best is None or score < best:
            best = score
    return Placement(best[1] if best else "", reasons)


def _unlabelled(node: Candidate, labels: Collection[str]) -> str:
    missing = sorted(set(labels) - node.labels)
    return f"has no label {', '.join(missing)}" if missing else ""


def impossible(spec: Spec, candidates: Iterable[Candidate]) -> str:
    """Why no node could ever take ``spec``, as a sentence; empty if some could once it is up and has room."""
    reasons = {node.name: never(spec, node) for node in candidates}
    if any(not reason for reason in reasons.values()):
        return ""
    if not reasons:
        return f"no node is known that could run a {KINDS[spec.kind].title}"
    return Placement("", reasons).why_not()
