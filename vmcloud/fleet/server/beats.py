"""Digests of one batch, taken in together: what they lead to is read once and written once, however many nodes speak.

At rest a batch costs three statements that read and one that writes, and rows whose content stays are not written anew: of them
only the time and the mark of the last digest are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import cached_property

from vmcloud.domain.messages import Digest
from vmcloud.fleet.models import VE, Liveness, Misses, Step, StepState
from vmcloud.fleet.services import usage

TAKEN = (StepState.ACCEPTED, StepState.RUNNING)
"""States of a step that its node says it has; one that it does not speak of any more is forgotten there."""
MARK = ("heard_at", "epoch", "sequence")
CONTENT = ("count", "previous_count", "images", "usage", "refusal")


class Beats:
    """What is known of the nodes that speak in one batch, for as long as the transaction of the batch lasts."""

    def __init__(self, nodes: Collection[str]) -> None:
        self._nodes = nodes
        self._beaten: set[str] = set()
        self._changed: set[str] = set()

    @cached_property
    def busy(self) -> set[str]:
        """Nodes that have taken steps. A step that is taken later in the batch was heard of just now, so it is not forgotten."""
        return set(Step.objects.filter(node__in=self._nodes, state__in=TAKEN).values_list("node", flat=True))

    @cached_property
    def _rows(self) -> dict[str, Liveness]:
        return Liveness.objects.in_bulk(list(self._nodes))

    @cached_property
    def _missed(self) -> set[str]:
        """Nodes with VEs that were missing."""
        missed = VE.objects.filter(pk__in=Misses.objects.values("ve"), node__in=self._nodes)
        return set(missed.values_list("node", flat=True))

    def take(self, digest: Digest, now: float, skew: float) -> bool:
        """Take in a digest; False if a later one was taken before."""
        node, off = digest.node, digest.at - now
        live = self._rows.get(node) or Liveness(node=node)
        if (digest.mark.epoch, digest.mark.sequence) <= (live.epoch, live.sequence):
            return False
        before = _content(live)
        if digest.full:
            live.previous_count, live.count = live.count, digest.count
            if digest.missing or node in self._missed:
                _count_misses(digest)
                self._missed.add(node)
        live.epoch, live.sequence, live.heard_at = digest.mark.epoch, digest.mark.sequence, now
        live.images, live.usage = list(digest.images), usage.newest(live.usage, digest)
        live.refusal = f"its clock is {abs(off):.0f} s {'ahead' if off > 0 else 'behind'}; set it" if abs(off) > skew else ""
        self._rows[node] = live
        self._beaten.add(node)
        if _content(live) != before:
            self._changed.add(node)
        return True

    def write(self) -> None:
        """Write what was taken in, and forget what was read: others may write the same rows now."""
        same = self._beaten - self._changed
        _upsert((Liveness(node=node, **{name: getattr(self._rows[node], name) for name in MARK}) for node in sorted(same)), MARK)
        _upsert((self._rows[node] for node in sorted(self._changed)), (*MARK, *CONTENT))
        self._beaten, self._changed = set(), set()
        for name in ("busy", "_rows", "_missed"):
            self.__dict__.pop(name, None)


def _content(live: Liveness) -> tuple[object, ...]:
    return tuple(getattr(live, name) for name in CONTENT)


def _upsert(rows: Iterable[Liveness], fields: Collection[str]) -> None:
    """A row that is not there yet is made; of one that is, only these fields are written."""
    if found := list(rows):
        Liveness.objects.bulk_create(found, update_conflicts=True, unique_fields=["node"], update_fields=fields)


def _count_misses(digest: Digest) -> None:
    """Only VEs that are placed on the speaker; what it says of others' is not its business."""
    own = set(VE.objects.filter(node=digest.node).values_list("uuid", flat=True))
    missing = set(digest.missing) & own
    known = dict(Misses.objects.filter(ve__in=own).values_list("ve", "count"))
    for ve in missing:
        Misses.objects.update_or_create(ve=ve, defaults={"node": digest.node, "count": known.get(ve, 0) + 1})
    Misses.objects.filter(ve__in=[ve for ve in known if ve not in missing]).delete()
