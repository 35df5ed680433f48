"""Suspend a VE: it is frozen in memory."""

from __future__ import annotations

from collections.abc import Sequence

from ...steps import StepPlan
from ...vocabulary import Desired, Observed, Power
from ..base import Right, Scene, Verb, Words


class Suspend(Verb):
    name = "suspend"
    words = Words("Suspend a VE: freeze it in memory.", inverse="resume", examples=("web-1 --wait", "web-1 web-2"))
    right = Right.OPERATOR
    needs = Power.FREEZE
    power_after = Desired.SUSPENDED
    goes_back = True
    plain = True
    fits = frozenset({Observed.RUNNING})
    place = 4

    def steps(self, scene: Scene) -> Sequence[StepPlan]:
        return [scene.step(self.name, {**scene.args, "spec": scene.spec()})]


VERB = Suspend()
