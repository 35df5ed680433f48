"""Rename a VE: its entry, and its guest in the hypervisor, get another name; its UUID and all else stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ...errors import Conflict
from ...hints import Hint
from ...names import VE_NAME_MAX, check_ve_name, native_name
from ...steps import ServerVerb, StepPlan, Undo
from ...vocabulary import Kind, Observed, Power
from .. import request
from ..base import Ended, Picture, Scene, Verb, Words, World


@dataclass(frozen=True)
class Request:
    """The new name."""

    name: str = request.label(
        request.NEEDED, "What it is to be called; free in its project.", longest=VE_NAME_MAX, example="web-2"
    )


class Rename(Verb):
    name = "rename"
    request = Request
    words = Words("Rename a VE.")
    needs = Power.RENAME
    leaves_power = True
    place = 12
    not_offered: ClassVar[Mapping[str, str]] = {"ldap": "an entry that is moved by hand is put back: its name is its key there"}

    def check(self, world: World, subject: Any, asked: Any) -> dict[str, Any]:
        name = check_ve_name(asked.name)
        if name == subject.name or world.taken(subject.project, name):
            what = f"the name {name!r} is taken in project {subject.project!r}"
            raise Conflict(what, where="name", todo="Choose another one.", code="name-taken")
        if subject.kind is Kind.LXC and subject.observed not in (Observed.STOPPED, Observed.CRASHED):
            todo = Hint("Stop it first: {}.", "ve.stop", {"ve": subject.name})
            raise Conflict(
                f"VE {subject.name!r} is {subject.observed}", where="ve", why="a container is renamed stopped", todo=todo
            )
        return {"name": name, "before": subject.name}

    def again(self, args: Mapping[str, Any]) -> Mapping[str, Any] | None:
        return None

    def steps(self, scene: Scene) -> Sequence[StepPlan]:
        assert scene.record is not None and scene.ve is not None
        old, new = scene.args["before"], scene.args["name"]
        here = native_name(old, scene.ve)
        entry = StepPlan(
            "entry",
            ServerVerb.RENAME_VE,
            "",
            f"ve:{scene.ve}",
            {"name": new},
            undo=Undo(ServerVerb.RENAME_VE, {"name": old}),
            ve=scene.ve,
        )
        guest = scene.step("rename", {"native": native_name(new, scene.ve)}, key="guest", native=here, after=("entry",))
        return [entry, guest]

    def missing(self, end: Ended, ve: Any, picture: Picture) -> str:
        row = picture.ve(ve)
        if end.ok and row is not None and row.name != end.args["name"]:
            return "its new name"
        return super().missing(end, ve, picture)


VERB = Rename()
