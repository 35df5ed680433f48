"""Adopt a guest that is recorded nowhere: it becomes a VE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar
from uuid import UUID

from ... import kinds
from ...names import VE_NAME_MAX
from ...spec import DEFAULT_PROJECT, AdoptRequest, Spec
from ...steps import StepPlan
from ...vocabulary import Drift, Power, Restart
from .. import request
from ..base import Ended, MakesVE, Picture, Right, Scene, Settlement, Words


@dataclass(frozen=True)
class Request:
    """What the guest is to be as a VE. :class:`~vmcloud.domain.spec.AdoptRequest` checks it as a whole."""

    name: str = request.label(request.NEEDED, "The VE's name.", longest=VE_NAME_MAX, example="web-9")
    project: str = request.label(DEFAULT_PROJECT, "Where its name is unique.")
    owner: str = request.text("", "Whose it is to be; empty: who asks.")
    vcpus: int | None = request.whole(None, "Virtual CPUs; none: what it has.", *kinds.widest("vcpus"), "virtual CPUs")
    memory_mib: int | None = request.whole(None, "Memory; none: what it has.", *kinds.widest("memory_mib"), "MiB of memory")
    restart: str = request.choice(Spec.restart.value, "When it ends.", Restart)
    drift: str = request.choice(Spec.drift.value, "When somebody else changes its power or size.", Drift)
    description: str = request.text("", "Free text.")


class Adopt(MakesVE):
    name = "adopt"
    request = Request
    own_way = True
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

    def missing(self, end: Ended, ve: UUID | None, picture: Picture) -> str:
        if end.ok and picture.stray(str(end.args["target"])):
            return f"that {end.args['orphan']} is no orphan any more"
        return super().missing(end, ve, picture)


VERB = Adopt()
