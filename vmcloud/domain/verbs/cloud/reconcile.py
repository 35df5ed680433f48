"""Reconcile: mend what is not as it is wanted, now, all of it or a part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from uuid import UUID

from ...steps import ServerVerb, StepPlan
from ..base import Ended, Lane, Picture, Right, Scene, Verb, Words


class Reconcile(Verb):
    name = "reconcile"
    object = "cloud"
    own_way = True
    words = Words("Mend what is not as it is wanted.")
    right = Right.ADMINISTRATOR
    not_offered: ClassVar[Mapping[str, str]] = {"ldap": "what the directory says is what is mended"}

    def lanes(self, job: int, ve: UUID | None, node: str, args: Mapping[str, Any]) -> tuple[Lane, ...]:
        return (Lane("reconcile"),)

    def again(self, args: Mapping[str, Any]) -> Mapping[str, Any] | None:
        return None

    def steps(self, scene: Scene) -> Sequence[StepPlan]:
        return [StepPlan(self.name, ServerVerb.MEND, "", "reconcile", dict(scene.args))]

    def to_settle(self, end: Ended) -> bool:
        return False

    def missing(self, end: Ended, ve: Any, picture: Picture) -> str:
        return ""


VERB = Reconcile()
