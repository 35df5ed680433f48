"""Resize a VE: give it other numbers of virtual CPUs, or another amount of memory or disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ... import kinds
from ...errors import Impossible
from ...placement import impossible
from ...spec import Spec
from ...steps import StepPlan
from ...vocabulary import Power
from ...wish import Wish
from .. import request
from ..base import Scene, Verb, Words, World


@dataclass(frozen=True)
class Request:
    """The sizes that are to change; what is not said stays."""

    vcpus: int = request.whole(request.UNSAID, "Virtual CPUs.", *kinds.widest("vcpus"), "virtual CPUs", example=2)
    memory_mib: int = request.whole(request.UNSAID, "Memory.", *kinds.widest("memory_mib"), "MiB of memory", example=256)
    disk_mib: int = request.whole(request.UNSAID, "Disk; 0: no limit.", *kinds.widest("disk_mib"), "MiB of disk")


class Resize(Verb):
    name = "resize"
    request = Request
    words = Words("Resize a VE: change its virtual CPUs, memory or disk.", button="Change")
    needs = Power.RESIZE
    goes_back = True
    leaves_power = True
    fits = frozenset()  # the form of alter has sizes too
    place = 10
    page = "alter"

    def check(self, world: World, subject: Any, asked: Any) -> dict[str, Any]:
        sizes = request.given(asked)
        wanted = Spec.parse(subject.spec).resized(sizes)
        kinds.check(wanted)
        nodes = [each for each in world.candidates() if subject.node in ("", each.name)]
        if reason := impossible(wanted, nodes):
            raise Impossible("its node could never hold this size", where="spec", why=reason)
        return {"size": sizes}

    def again(self, args: Mapping[str, Any]) -> Mapping[str, Any] | None:
        return dict(args["size"])

    def wants(self, wish: Wish, args: Mapping[str, Any]) -> Wish:
        return wish.with_spec(wish.spec.resized(args["size"]))

    def steps(self, scene: Scene) -> Sequence[StepPlan]:
        return [scene.step(self.name, {"spec": scene.spec()})]

    def back(self, args: Mapping[str, Any], before: Wish, now: Wish) -> Wish:
        asked = dict(args.get("size", {}))
        return now.taking(before, (name for name in asked if now.value(name) == asked[name]))


VERB = Resize()
