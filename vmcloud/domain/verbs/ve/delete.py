"""Delete a VE and everything in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...steps import StepPlan
from ...vocabulary import Desired, Observed
from ..base import Ended, Picture, Scene, Settlement, Verb, Words


class Delete(Verb):
    name = "delete"
    words = Words(
        "Delete a VE and everything in it.",
        confirm="The guest, its disk and its snapshots are removed. This can not be undone.",
        danger=True,
    )
    power_after = Desired.ABSENT
    goes_back = True
    while_absent = True
    plain = True
    fits = frozenset(Observed)
    place = 99

    def again(self, args: Mapping[str, Any]) -> Mapping[str, Any] | None:
        return None if "stray" in args else args

    def steps(self, scene: Scene) -> Sequence[StepPlan]:
        return [scene.step(self.name, {**scene.args, "spec": scene.spec()} if scene.wish is not None else {})]

    def without_entry(self, args: Mapping[str, Any], buried: bool) -> bool:
        # The entry may be gone by somebody's hand; what was asked for is the end of the guest.
        return "stray" in args or not buried

    def to_settle(self, end: Ended) -> bool:
        return True if end.ok else super().to_settle(end)

    def settle(self, end: Ended, placed: bool) -> Settlement:
        if end.ok:
            return Settlement.BURY
        if not end.never_began:
            return Settlement.KEEP  # part of it may be gone: it stays wanted absent, and reconcile tries again
        return super().settle(end, placed)

    def gone(self, end: Ended) -> bool:
        return end.ok

    def missing(self, end: Ended, ve: Any, picture: Picture) -> str:
        if end.ok:
            return "" if picture.ve(ve) is None else "the entry's removal"
        return super().missing(end, ve, picture)


VERB = Delete()
