"""Start a VE."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...errors import Conflict
from ...hints import Hint
from ...spec import Spec
from ...steps import StepPlan
from ...vocabulary import Desired, Observed, Status
from ..base import Right, Scene, VEFacts, Verb, Words, World


class Starting(Verb):
    """What verbs have in common after which a VE runs."""

    right = Right.OPERATOR
    power_after = Desired.RUNNING
    plain = True

    def check(self, world: World, subject: Any, asked: Any) -> dict[str, Any]:
        demand_alive(subject, world.now)
        return super().check(world, subject, asked)

    def steps(self, scene: Scene) -> Sequence[StepPlan]:
        return [scene.step(self.name, {**scene.args, "spec": scene.spec()})]


def demand_alive(subject: VEFacts, now: float) -> None:
    """Raise :class:`Conflict` for a VE whose lease is over."""
    known = Spec.parse(subject.spec).lease
    if known.over(now):
        todo = Hint("Renew it: {}.", "ve.lease", {"ve": subject.name, "for": "+8h"})
        raise Conflict(f"the lease of VE {subject.name!r} is over", where="lease", why=known.words(now), todo=todo, code="lease")


class Start(Starting):
    name = "start"
    words = Words("Start a VE.", inverse="stop", primary=True, examples=("web-1 --wait", "'web-%i' --array 0-99%5"))
    fits = frozenset({Observed.STOPPED, Observed.CRASHED, Observed.UNKNOWN})
    place = 1

    def status(self, desired: Desired, observed: Observed) -> Status | None:
        return Status.STARTING if observed is not Observed.RUNNING else None


VERB = Start()
