"""Revert a VE to a snapshot: its root file system is as it was then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import Conflict
from ...steps import StepPlan
from ...vocabulary import Desired, Observed, Status
from ..base import Scene, Words, World
from .snapshot import TIMEOUT, AboutSnapshot


class Revert(AboutSnapshot):
    name = "revert"
    words = Words(
        "Revert a VE to a snapshot.",
        confirm="What was changed since the snapshot is lost. If it runs, it is stopped by force and started again.",
        danger=True,
    )
    fits = frozenset()
    place = 21

    def check(self, world: World, subject: Any, asked: Any) -> dict[str, Any]:
        kept = self.kept(world, subject, asked.snapshot)
        if subject.desired is Desired.SUSPENDED and subject.observed is Observed.SUSPENDED:
            raise Conflict(
                f"VE {subject.name!r} is suspended",
                where="ve",
                why="what it has in memory is not part of a snapshot",
                todo="Resume it, or stop it, first.",
            )
        return {"snapshot": kept.to_json()}

    def again(self, args: Mapping[str, Any]) -> Mapping[str, Any] | None:
        return None

    def steps(self, scene: Scene) -> Sequence[StepPlan]:
        return [scene.step(self.name, {**scene.args, "spec": scene.spec()}, timeout=TIMEOUT)]

    def status(self, desired: Desired, observed: Observed) -> Status | None:
        return Status.STARTING if desired is Desired.RUNNING and observed is not Observed.RUNNING else None


VERB = Revert()
