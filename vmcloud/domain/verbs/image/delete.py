"""Delete an image: from the nodes that have it, then its record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ...errors import Conflict, NotFound
from ...hints import Hint
from ...steps import ServerVerb, StepPlan
from .. import request
from ..base import Ended, OnImage, Picture, Scene, Words, World


@dataclass(frozen=True)
class Request:
    """Which image."""

    image: str = request.label(request.NEEDED, "The image's name.")


class DeleteImage(OnImage):
    name = "delete-image"
    command = "delete"
    request = Request
    words = Words(
        "Delete an image.",
        button="Delete",
        confirm="It is removed from the nodes that have it, and its name is free again. Refused while a VE made from it exists.",
        danger=True,
    )
    place = 9
    not_offered: ClassVar[Mapping[str, str]] = {"ldap": "an image's entry is the server's: nodes have to let go of it first"}

    def check(self, world: World, subject: Any, asked: Any) -> dict[str, Any]:
        image = world.image(asked.image)
        if image is None:
            raise NotFound(f"no image is called {asked.image!r}", where="image", todo=Hint("{} shows all.", "image.list"))
        if users := world.made_from(asked.image):
            named = ", ".join(users[:5]) + (f" and {len(users) - 5} more" if len(users) > 5 else "")
            todo = "Delete these VEs first: their root file systems are layers over it."
            raise Conflict(f"image {asked.image!r} is in use", where="image", why=f"made from it: {named}", todo=todo)
        return {"image": asked.image, "sha256": image.sha256}

    def steps(self, scene: Scene) -> Sequence[StepPlan]:
        sha256, name = str(scene.args["sha256"]), str(scene.args["image"])
        plans = [
            StepPlan(f"node-{node}"[:40], "remove-image", node, f"image:{sha256}@{node}", {"sha256": sha256}, gives_up=True)
            for node in scene.holders(sha256)
        ]
        after = tuple(plan.key for plan in plans)
        lane, args = f"image:{name}", {"image": name, "sha256": sha256}
        return [*plans, StepPlan("entry", ServerVerb.REMOVE_IMAGE, "", lane, args, after=after, commits=True)]

    def missing(self, end: Ended, ve: Any, picture: Picture) -> str:
        return "that the image's entry is gone" if end.ok and picture.image(str(end.args["image"])) else ""


VERB = DeleteImage()
