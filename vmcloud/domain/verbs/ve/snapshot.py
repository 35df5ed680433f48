"""Snapshot a VE: keep the present state of its root file system under a name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ...clocks import as_iso
from ...errors import Conflict, NotFound
from ...hints import Hint
from ...messages import Snapshot as Kept
from ...steps import StepPlan
from ...vocabulary import Observed, Power
from .. import request
from ..base import Ended, Scene, VEFacts, Verb, Words, World

MAX = 32
"""Snapshots of one VE."""
TIMEOUT = 1800.0
"""Seconds that keeping or taking back a root file system may take."""


@dataclass(frozen=True)
class Request:
    """Which snapshot is meant."""

    snapshot: str = request.label(request.NEEDED, "The snapshot's name.", example="before-upgrade")


class AboutSnapshot(Verb):
    """What verbs have in common that are about one snapshot of a VE. Its name counts as the VE's open jobs leave it."""

    request = Request
    needs = Power.SNAPSHOT
    not_offered: ClassVar[Mapping[str, str]] = {"ldap": "an entry shows which snapshots there are; none is wanted there"}

    def kept(self, world: World, subject: VEFacts, name: str) -> Kept:
        """The snapshot that is meant; :class:`NotFound` names those that there are."""
        kept = world.snapshots(subject.ve)
        if name in kept:
            return kept[name]
        known = ", ".join(sorted(kept))
        raise NotFound(
            f"VE {subject.name!r} has no snapshot {name!r}",
            where="snapshot",
            why=f"it has: {known}" if known else "it has none",
            todo=Hint("{} shows all.", "ve.snapshots", {"ve": subject.name}),
        )

    def listed(self, end: Ended, row: Any, taken_by: int) -> bool:
        """Whether the read model lists the snapshot that the job was about."""
        name = end.args["snapshot"]["name"]
        return any((each["name"], each["job"]) == (name, taken_by) for each in row.snapshots)


class Snapshot(AboutSnapshot):
    name = "snapshot"
    words = Words("Keep the present state of a VE's root file system.", inverse="delete-snapshot")
    leaves_power = True
    fits = frozenset(Observed)
    place = 20

    def check(self, world: World, subject: Any, asked: Any) -> dict[str, Any]:
        name, kept = asked.snapshot, world.snapshots(subject.ve)
        if name in kept:
            taken = as_iso(kept[name].at)
            raise Conflict(
                f"VE {subject.name!r} has a snapshot {name!r} already",
                where="snapshot",
                why=f"taken {taken}" if taken else f"job {kept[name].job} takes it",
                todo=Hint("Choose another name, or {} first.", "ve.delete-snapshot", {"ve": subject.name, "snapshot": name}),
                code="name-taken",
            )
        if len(kept) >= MAX:
            oldest = min(kept.values(), key=lambda each: (each.at or float("inf"), each.name)).name
            raise Conflict(
                f"VE {subject.name!r} has {len(kept)} snapshots",
                where="snapshot",
                why=f"{MAX} are allowed",
                todo=Hint(
                    "Delete one first, such as the oldest: {}.", "ve.delete-snapshot", {"ve": subject.name, "snapshot": oldest}
                ),
                code="too-many-snapshots",
            )
        return {"snapshot": {"name": name}}

    def steps(self, scene: Scene) -> Sequence[StepPlan]:
        taken = Kept(scene.args["snapshot"]["name"], scene.job, round(scene.now, 3))
        return [scene.step(self.name, {"snapshot": taken.to_json()}, timeout=TIMEOUT)]

    def not_listed(self, end: Ended, row: Any) -> str:
        # A list that was under way while the step ended may show its generation, and the snapshots from before it.
        return f"snapshot {end.args['snapshot']['name']}" if end.ok and not self.listed(end, row, end.job) else ""


VERB = Snapshot()
