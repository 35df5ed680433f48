"""Copy a VE: a new one with the root file system of another, on the same node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar
from uuid import UUID

from ...errors import Conflict, NotFound
from ...hints import Hint
from ...names import VE_NAME_MAX, check_label, check_ve_name, native_name
from ...steps import ServerVerb, StepPlan, Undo
from ...vocabulary import Kind, Observed, Power
from .. import request
from ..base import Ended, Lane, Picture, Scene, Verb, Words, World

SECONDS = 1800.0
"""How long copying a root file system may take."""


@dataclass(frozen=True)
class Request:
    """What is to be made."""

    name: str = request.label(request.NEEDED, "The new VE's name, free in the project.", longest=VE_NAME_MAX, example="web-2")
    snapshot: str = request.label("", "The snapshot that is copied; none: the present state.")
    start: bool = request.flag(False, "Start the copy.")


class Copy(Verb):
    name = "copy"
    request = Request
    words = Words(
        "Copy a VE: make a new one with its root file system.",
        examples=("web-1 web-2 --wait", "web-1 web-2 --snapshot before-upgrade --start"),
    )
    needs = Power.COPY
    wants_nothing = True
    leaves_power = True
    place = 13
    not_offered: ClassVar[Mapping[str, str]] = {"ldap": "an added entry is a new VE from an image"}

    def check(self, world: World, subject: Any, asked: Any) -> dict[str, Any]:
        name = check_ve_name(asked.name)
        if world.taken(subject.project, name):
            what = f"the name {name!r} is taken in project {subject.project!r}"
            raise Conflict(what, where="name", todo="Choose another one.", code="name-taken")
        if not subject.node:
            raise Conflict(f"VE {subject.name!r} is not on a node yet", where="ve", todo="Wait until it is made.")
        kept = world.snapshots(subject.ve)
        if asked.snapshot and check_label(asked.snapshot, where="snapshot") not in kept:
            todo = Hint("{} shows all.", "ve.snapshots", {"ve": subject.name})
            raise NotFound(f"VE {subject.name!r} has no snapshot {asked.snapshot!r}", where="snapshot", todo=todo)
        if subject.kind is Kind.LXC and not asked.snapshot and subject.observed is Observed.RUNNING:
            first = "Stop it, or take a snapshot and copy that: --snapshot NAME."
            raise Conflict(f"VE {subject.name!r} runs", where="ve", why="its files change while they are copied", todo=first)
        snapshot = kept[asked.snapshot].to_json() if asked.snapshot else None
        return {"name": name, "copy": str(world.new_uuid()), "snapshot": snapshot, "start": asked.start}

    def lanes(self, job: int, ve: UUID | None, node: str, args: Mapping[str, Any]) -> tuple[Lane, ...]:
        return (Lane(f"ve:{ve}"), Lane(f"ve:{args['copy']}"))

    def again(self, args: Mapping[str, Any]) -> Mapping[str, Any] | None:
        return None

    def steps(self, scene: Scene) -> Sequence[StepPlan]:
        assert scene.wish is not None and scene.record is not None
        new, name = UUID(scene.args["copy"]), str(scene.args["name"])
        power = "running" if scene.args["start"] else "stopped"
        spec = scene.wish.spec.forever().to_json()
        about = {"ve": str(new), "name": name, "project": scene.record.project, "owner": scene.record.owner}
        claim = StepPlan(
            "claim",
            ServerVerb.CLAIM_VE,
            "",
            f"ve:{new}",
            {**about, "spec": spec, "power": power, "node": scene.node},
            undo=Undo(ServerVerb.REMOVE_VE, about),
            ve=new,
        )
        args = {"source": {"ve": str(scene.ve), "native": scene.native}, "spec": spec, "power": power}
        args |= {"snapshot": scene.args["snapshot"]} if scene.args["snapshot"] else {}
        native, lane = native_name(name, new), f"ve:{new}@{scene.node}"
        make = scene.step("copy", args, ve=new, native=native, lane=lane, after=("claim",), timeout=SECONDS)
        return [claim, make]

    def to_settle(self, end: Ended) -> bool:
        return False

    def missing(self, end: Ended, ve: Any, picture: Picture) -> str:
        row = picture.ve(UUID(end.args["copy"]))
        if not end.ok:
            return "" if row is None or not end.undone else "the entry's removal"
        return "the copy's entry" if row is None else self.not_seen(end, row)


VERB = Copy()
