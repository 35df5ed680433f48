"""Migrate a VE to another node: offline, or live while it runs.

The steps: a place is *prepared* on the target; the source *sends* the guest, which from then on runs nowhere; the target
*receives* it; the directory says that the VE is on the target (the point without return); the target *activates* it; the source
*cleans* up. Until that point whatever fails is taken back: the guest runs on the source again, nothing is left on the target.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar
from uuid import UUID

from ...errors import Conflict, Impossible, NotFound
from ...hints import Hint
from ...names import native_name
from ...placement import never
from ...spec import Spec
from ...steps import ServerVerb, StepPlan, Undo
from ...vocabulary import Desired, Observed, Power, Status
from .. import request
from ..base import Ended, Lane, Picture, Scene, VEFacts, Verb, Words, World

SECONDS = 3600.0
"""How long sending and receiving a guest may take."""
CLEANED = 5
"""How often the source is asked to remove what it had, where it fails in a way that is worth another try."""


@dataclass(frozen=True)
class Request:
    """Where to, and how."""

    node: str = request.label("", "The node to move it to; none: the one with the most room.")
    live: bool = request.flag(False, "Let it run until the end, and go on with its memory there.")
    grace: float = request.seconds(
        30.0, "Offline: how long the guest may take to shut itself down; then it is forced.", 0.0, 3600.0
    )


class Migrate(Verb):
    name = "migrate"
    request = Request
    words = Words(
        "Migrate a VE to another node.",
        confirm="Offline it is stopped for the move; live it stands still for a moment.",
        examples=("web-1 --wait", "web-1 --node node-2 --live"),
    )
    needs = Power.MIGRATE
    leaves_power = True
    moves = True
    place = 40
    not_offered: ClassVar[Mapping[str, str]] = {"ldap": "where a VE is is written by the server, once it is there"}

    def check(self, world: World, subject: Any, asked: Any) -> dict[str, Any]:
        if not subject.node:
            raise Conflict(f"VE {subject.name!r} is not on a node yet", where="ve", todo="Wait until it is made.")
        if subject.observed is Observed.SUSPENDED and not asked.live:
            why = "what it has in memory is moved only live"
            raise Conflict(f"VE {subject.name!r} is suspended", where="ve", why=why, todo="Resume it, or move it live.")
        if asked.node:
            self._check_target(world, subject, asked.node)
        return dict(vars(asked))

    def _check_target(self, world: World, subject: VEFacts, name: str) -> None:
        if name == subject.node:
            raise Conflict(f"VE {subject.name!r} is on node {name}", where="node", todo="Name another one, or none.")
        node = next((each for each in world.candidates() if each.name == name), None)
        if node is None:
            raise NotFound(f"no node is called {name!r}", where="node", todo=Hint("{} shows all.", "node.list"))
        if reason := never(Spec.parse({**subject.spec, "node": ""}), node):
            raise Impossible(f"node {name} could never run this VE", where="node", why=reason)

    def lanes(self, job: int, ve: UUID | None, node: str, args: Mapping[str, Any]) -> tuple[Lane, ...]:
        return (Lane(f"ve:{ve}"),)

    def again(self, args: Mapping[str, Any]) -> Mapping[str, Any] | None:
        return args

    def steps(self, scene: Scene) -> Sequence[StepPlan]:
        assert scene.wish is not None
        target, live = str(scene.args["node"]), bool(scene.args["live"])
        shape = {"spec": scene.spec(), "power": scene.wish.desired.value, "live": live}
        there: dict[str, Any] = {"node": target, "gives_up": True}
        return [
            scene.step("migrate-prepare", shape, key="prepare", undo=Undo("migrate-discard"), **there),
            scene.step(
                "migrate-send",
                {"live": live, "grace": scene.args["grace"]},
                key="send",
                after=("prepare",),
                undo=Undo("migrate-keep"),
                timeout=SECONDS,
            ),
            scene.step(
                "migrate-receive",
                shape,
                key="receive",
                after=("send",),
                takes={"state": "send.state"},
                timeout=SECONDS,
                **there,
            ),
            StepPlan(
                "switch",
                ServerVerb.PLACE_VE,
                "",
                f"ve:{scene.ve}",
                {"node": target},
                after=("receive",),
                commits=True,
                ve=scene.ve,
            ),
            scene.step("migrate-clean", key="clean", after=("activate",), retries=CLEANED),
            scene.step("migrate-activate", shape, key="activate", node=target, after=("switch",), retries=CLEANED),
        ]

    def missing(self, end: Ended, ve: UUID | None, picture: Picture) -> str:
        row = picture.ve(ve) if ve is not None else None
        if row is not None and end.ok and picture.stray(f"{end.node}/{native_name(row.name, row.uuid)}"):
            return f"that nothing of it is on node {end.node} any more"
        return super().missing(end, ve, picture)

    def status(self, desired: Desired, observed: Observed) -> Status | None:
        return Status.MIGRATING


VERB = Migrate()
