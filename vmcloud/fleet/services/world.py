"""What checks of verbs look at, read from the tables when they ask, and at most once for one request or batch."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from uuid import UUID, uuid4

from vmcloud.domain.messages import Snapshot
from vmcloud.domain.placement import Candidate
from vmcloud.domain.records import ImageRecord
from vmcloud.domain.verbs.base import VEFacts
from vmcloud.domain.vocabulary import Desired, Kind, Observed
from vmcloud.fleet.models import VE, Image

from . import queries, snapshots

NAMED = 10
"""Images that are named where one is not known."""


class World:
    """The cloud as one request finds it (:class:`vmcloud.domain.verbs.base.World`)."""

    def __init__(self, now: float | None = None) -> None:
        self.now = time.time() if now is None else now

    @cached_property
    def _nodes(self) -> list[Candidate]:
        return queries.candidates(self.now)

    def candidates(self) -> Sequence[Candidate]:
        """All nodes as placement sees them."""
        return self._nodes

    def image(self, name: str) -> ImageRecord | None:
        """The image with this name."""
        return image(name)

    def image_names(self) -> Sequence[str]:
        """The first of the images that there are."""
        return list(Image.objects.order_by("name").values_list("name", flat=True)[:NAMED])

    def snapshots(self, ve: UUID) -> Mapping[str, Snapshot]:
        """The snapshots that a VE will have when its open jobs have ended well."""
        row = VE.objects.filter(pk=ve).first()
        return snapshots.expected(row) if row is not None else {}

    def taken(self, project: str, name: str) -> bool:
        """Whether a VE of the project is called so."""
        return VE.objects.filter(project=project, name=name).exists()

    def made_from(self, image: str) -> Sequence[str]:
        """Names of the VEs that were made from an image."""
        return list(VE.objects.filter(image=image).order_by("name").values_list("name", flat=True))

    def new_uuid(self) -> UUID:
        """A random one (RFC 9562)."""
        return uuid4()


def image(name: str) -> ImageRecord | None:
    """The image with this name, as the read model shows it."""
    row = Image.objects.filter(name=name).first()
    return ImageRecord(row.name, row.kind, row.sha256, row.size, row.description) if row is not None else None


def facts(row: VE) -> VEFacts:
    """A VE as checks see it."""
    return VEFacts(
        ve=row.uuid,
        name=row.name,
        project=row.project,
        owner=row.owner,
        kind=Kind(row.kind),
        node=row.node,
        desired=Desired(row.desired),
        observed=Observed(row.observed_state) if row.observed_state else None,
        spec=row.spec,
    )
