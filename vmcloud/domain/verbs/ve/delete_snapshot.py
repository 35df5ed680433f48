"""Delete a snapshot of a VE."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...steps import StepPlan
from ..base import Ended, Scene, Words, World
from .snapshot import AboutSnapshot

TIMEOUT = 600.0
"""Seconds that removing what is kept may take."""


class DeleteSnapshot(AboutSnapshot):
    name = "delete-snapshot"
    words = Words(
        "Delete a snapshot of a VE.",
        confirm="The VE stays as it is; it can not be taken back to this snapshot any more.",
        danger=True,
    )
    leaves_power = True
    fits = frozenset()
    place = 22

    def check(self, world: World, subject: Any, asked: Any) -> dict[str, Any]:
        return {"snapshot": self.kept(world, subject, asked.snapshot).to_json()}

    def steps(self, scene: Scene) -> Sequence[StepPlan]:
        return [scene.step(self.name, {**scene.args, "spec": scene.spec()}, timeout=TIMEOUT)]

    def not_listed(self, end: Ended, row: Any) -> str:
        kept = end.args["snapshot"]
        return f"snapshot {kept['name']} gone" if end.ok and self.listed(end, row, kept["job"]) else ""


VERB = DeleteSnapshot()
