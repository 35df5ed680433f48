"""Cordon a node: it gets no new VEs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from ...steps import ServerVerb, StepPlan
from ..base import Ended, OnNode, Picture, Scene, Words


class Switch(OnNode):
    """What both ways of switching have in common."""

    cordoned: ClassVar[bool]

    def steps(self, scene: Scene) -> Sequence[StepPlan]:
        args = {"node": scene.node, "changes": {"cordoned": self.cordoned}}
        return [StepPlan(self.name, ServerVerb.CHANGE_NODE, "", f"node:{scene.node}", args)]

    def idle(self, cordoned: bool) -> bool:
        return cordoned is self.cordoned

    def missing(self, end: Ended, ve: Any, picture: Picture) -> str:
        return "the node's entry" if end.ok and picture.cordoned(end.node) is not self.cordoned else ""


class Cordon(Switch):
    name = "cordon"
    words = Words("Cordon a node: it gets no new VEs.", inverse="uncordon")
    cordoned = True
    place = 1


VERB = Cordon()
