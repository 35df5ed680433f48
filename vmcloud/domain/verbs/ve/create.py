"""Create a VE from an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from ... import kinds
from ...errors import Impossible, NotFound
from ...hints import Hint
from ...names import VE_NAME_MAX
from ...placement import impossible
from ...spec import DEFAULT_PROJECT, LEASE, CreateRequest, Spec
from ...steps import StepPlan
from ...vocabulary import Desired, Drift, Kind, Observed, Restart, Status
from .. import request
from ..base import Ended, Lane, MakesVE, Right, Scene, Settlement, Words, World
from ..fetching import fetch_step

POWERS = (Desired.RUNNING, Desired.STOPPED)
"""What may be wanted of a VE that is new."""
TIMEOUT = 600.0
"""Seconds that making a guest may take."""


@dataclass(frozen=True)
class Request:
    """What a new VE is to be. :class:`~vmcloud.domain.spec.CreateRequest` checks it as a whole, by the limits of its kind."""

    name: str = request.label(request.NEEDED, "Its name.", longest=VE_NAME_MAX, example="web-1")
    image: str = request.label(request.NEEDED, "What its root file system is made from.", example="busybox")
    project: str = request.label(DEFAULT_PROJECT, "Where its name is unique.")
    kind: str = request.choice(Kind.LXC.value, "What sort of VE.", Kind)
    vcpus: int = request.whole(Spec.vcpus, "Virtual CPUs.", *kinds.widest("vcpus"), "virtual CPUs")
    memory_mib: int = request.whole(Spec.memory_mib, "Memory.", *kinds.widest("memory_mib"), "MiB of memory")
    disk_mib: int = request.whole(Spec.disk_mib, "Disk; 0: no limit.", *kinds.widest("disk_mib"), "MiB of disk")
    power: str = request.choice(Desired.RUNNING.value, "What is wanted afterwards.", POWERS)
    restart: str = request.choice(Spec.restart.value, "When it ends.", Restart)
    drift: str = request.choice(Spec.drift.value, "When somebody else changes its power or size.", Drift)
    lease: Mapping[str, Any] | None = request.lease("How long it may live; null: for ever; not said: as its queue says.")
    node: str = request.label("", "The one node that may have it; empty: the scheduler chooses.")
    privileged: bool = request.flag(Spec.privileged, "Whether it shares the host's user ids; administrators only.")
    description: str = request.text(Spec.description, "Free text.")


class Create(MakesVE):
    name = "create"
    request = Request
    own_way = True
    words = Words("Create a VE from an image.", inverse="delete")
    right = Right.OWNER
    claims = True
    wants_nothing = True
    fits = frozenset()
    place = 0

    def parse(self, data: Mapping[str, Any]) -> Any:
        return CreateRequest.parse(data)

    def check(self, world: World, subject: Any, asked: Any) -> dict[str, Any]:
        """Refuse a VE that no node of this cloud could ever be. ``subject`` is nobody yet; ``asked``: its spec."""
        spec: Spec = asked
        kinds.check(spec)
        image = world.image(spec.image)
        if image is None:
            raise Impossible(
                f"no image is called {spec.image!r}",
                where="image",
                why=f"known images: {', '.join(world.image_names()) or 'none yet'}",
                todo=Hint("{} shows all.", "image.list"),
            )
        if image.kind not in (spec.kind.value, "any") and spec.kind is not Kind.SIMULATED:
            what = f"image {image.name!r} is for kind {image.kind}"
            raise Impossible(what, where="image", why=f"the VE is to be {spec.kind}")
        nodes = world.candidates()
        if spec.node and not any(each.name == spec.node for each in nodes):
            raise NotFound(f"no node is called {spec.node!r}", where="node", todo=Hint("{} shows all.", "node.list"))
        if reason := impossible(spec, nodes):
            todo = "Ask for less, or add a node."
            raise Impossible("no node could ever run this VE", where="spec", why=reason, todo=todo)
        return {"spec": spec.to_json()}

    def lanes(self, job: int, ve: UUID | None, node: str, args: Mapping[str, Any]) -> tuple[Lane, ...]:
        image = args.get("spec", {}).get("image")
        return (Lane(f"ve:{ve}"), *([Lane(f"image:{image}", shared=True)] if image else []))

    def again(self, args: Mapping[str, Any]) -> Mapping[str, Any] | None:
        about = {"power": args["power"], **({"lease": args["lease"]} if "lease" in args else {})}
        return {**{name: value for name, value in args["spec"].items() if name not in LEASE}, **about}

    def steps(self, scene: Scene) -> Sequence[StepPlan]:
        assert scene.wish is not None
        spec, plans = scene.wish.spec, list[StepPlan]()
        args: dict[str, Any] = {"spec": spec.to_json(), "power": scene.wish.desired.value, "image_sha256": ""}
        if spec.kind is not Kind.SIMULATED:
            image = scene.image(spec.image)
            if image is None:
                raise NotFound(f"image {spec.image!r} is recorded no more", where="image")
            args["image_sha256"] = image.sha256
            if not scene.stored(scene.node, image.sha256):
                plans.append(fetch_step(image, scene.node))
        after = tuple(plan.key for plan in plans)
        return [*plans, scene.step(self.name, args, timeout=TIMEOUT, after=after)]

    def to_settle(self, end: Ended) -> bool:
        return not end.ok

    def settle(self, end: Ended, placed: bool) -> Settlement:
        if end.ok:
            return Settlement.KEEP
        return Settlement.BURY if end.undone or not placed else Settlement.ABSENT

    def status(self, desired: Desired, observed: Observed) -> Status | None:
        return Status.STARTING if desired is Desired.RUNNING and observed is not Observed.RUNNING else None


VERB = Create()
