"""Import an image: an archive that is in the store is recorded under a name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from ...steps import ServerVerb, StepPlan
from ..base import Ended, OnImage, Picture, Scene, Words


class Import(OnImage):
    name = "import"
    own_way = True
    words = Words("Import an image from an archive.", inverse="delete-image")
    place = 1
    not_offered: ClassVar[Mapping[str, str]] = {
        "pages": "an archive of gigabytes is sent from a shell: the list of images shows the command",
        "ldap": "an archive has to be sent along",
    }

    def again(self, args: Mapping[str, Any]) -> Mapping[str, Any] | None:
        return None

    def steps(self, scene: Scene) -> Sequence[StepPlan]:
        return [StepPlan(self.name, ServerVerb.ADD_IMAGE, "", f"image:{scene.args['image']}", dict(scene.args))]

    def missing(self, end: Ended, ve: Any, picture: Picture) -> str:
        return "the image's entry" if end.ok and not picture.image(str(end.args["image"])) else ""


VERB = Import()
