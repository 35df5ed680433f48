"""Drain a node: it gets no new VEs, and those that it has are migrated to others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...steps import ServerVerb, StepPlan
from .. import request
from ..base import OnNode, Scene, Words

SECONDS = 86400.0
"""How long emptying a node may take."""


@dataclass(frozen=True)
class Request:
    """How its VEs are moved."""

    live: bool = request.flag(True, "Move what runs live, where its kind can; else it is stopped for the move.")


class Drain(OnNode):
    name = "drain"
    request = Request
    words = Words(
        "Drain a node: cordon it, and migrate its VEs to other nodes.",
        confirm="It gets no new VEs, and those that it has are moved to other nodes one after the other.",
    )
    place = 3

    def again(self, args: Mapping[str, Any]) -> Mapping[str, Any] | None:
        return args

    def steps(self, scene: Scene) -> Sequence[StepPlan]:
        lane = f"node:{scene.node}"
        cordon = {"node": scene.node, "changes": {"cordoned": True}}
        moves = {"node": scene.node, "live": bool(scene.args.get("live", True))}
        return [
            StepPlan("cordon", ServerVerb.CHANGE_NODE, "", lane, cordon),
            StepPlan("move", ServerVerb.DRAIN, "", lane, moves, after=("cordon",), timeout=SECONDS),
        ]


VERB = Drain()
