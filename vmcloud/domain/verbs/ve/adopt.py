"""Adopt a guest that is recorded nowhere: it becomes a VE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from uuid import UUID

from ...spec import AdoptRequest
from ...steps import StepPlan
from ...vocabulary import Power
from ..base import Ended, Picture, Right, Scene, Settlement, Verb, Words


class Adopt(Verb):
    name = "adopt"
    request = AdoptRequest
    words = Words("Adopt a guest that somebody else made: it becomes a VE.")
    right = Right.ADMINISTRATOR
    needs = Power.ADOPT
    claims = True
    wants_nothing = True
    fits = frozenset()
    place = 60
    not_offered: ClassVar[Mapping[str, str]] = {"ldap": "an entry added with the guest's vmcUUID takes the guest back instead"}

    def parse(self, data: Mapping[str, Any]) -> Any:
        return AdoptRequest.parse(data)

    def again(self, args: Mapping[str, Any]) -> Mapping[str, Any] | None:
        return None

    def steps(self, scene: Scene) -> Sequence[StepPlan]:
        return [scene.step(self.name, {**scene.args, "spec": scene.spec()})]

    def to_settle(self, end: Ended) -> bool:
        return True

    def settle(self, end: Ended, placed: bool) -> Settlement:
        if end.ok:
            return Settlement.SHAPE
        # No tombstone: what still bears this UUID anywhere would be deleted for it.
        return Settlement.FORGET if end.undone or not placed else Settlement.KEEP

    def gone(self, end: Ended) -> bool:
        return self.removed(end)

    def missing(self, end: Ended, ve: UUID | None, picture: Picture) -> str:
        assert ve is not None
        if self.removed(end):
            return "" if picture.ve(ve) is None else "the entry's removal"
        if end.ok and picture.stray(str(end.args["target"])):
            return f"that {end.args['orphan']} is no orphan any more"
        return super().missing(end, ve, picture)


VERB = Adopt()
