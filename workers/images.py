"""A node's images, and the fetch step that brings one here: download by ticket, check, unpack.

The archive comes from the web part over HTTP(S) that the worker opens (:mod:`workers.download`); the ticket is single use.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from vmcloud.config import Config
from vmcloud.domain.messages import StepOrder

from .drivers.base import BadRequest, Guest, Report
from .storage import images as storage


class ImageStore(Protocol):
    """The images of one node, each known by the SHA-256 of its archive."""

    def sums(self) -> tuple[str, ...]:
        """Those that are here, whole."""

    def path(self, sha256: str) -> Path | None:
        """The unpacked root file system; None where there is none."""

    def suited(self, guest: Guest, report: Report) -> Guest:
        """``guest`` with the image's tree that has the owners its kind of guest needs; made, if it is not here yet."""

    def fetch(self, order: StepOrder, report: Report) -> None:
        """Bring one here."""

    def sweep(self, order: StepOrder) -> None:
        """Remove what a killed fetch left."""


class SimulatedImages:
    """Images that are but names: for simulated nodes."""

    def __init__(self, folder: Path, delay: float = 0.0) -> None:
        self._folder, self._delay = folder, delay

    def sums(self) -> tuple[str, ...]:
        """See :class:`ImageStore`."""
        return tuple(sorted(path.name for path in self._folder.glob("*"))) if self._folder.is_dir() else ()

    def path(self, sha256: str) -> Path | None:
        """See :class:`ImageStore`."""
        return None

    def suited(self, guest: Guest, report: Report) -> Guest:
        """See :class:`ImageStore`."""
        return guest

    def fetch(self, order: StepOrder, report: Report) -> None:
        """Remember the sum; nothing is downloaded."""
        report("download", 0)
        time.sleep(self._delay)
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / ordered_sum(order)).touch()

    def sweep(self, order: StepOrder) -> None:
        """Nothing is ever left."""


class UnpackedImages:
    """Root file systems unpacked on this node (:mod:`workers.storage.images`)."""

    def __init__(self, config: Config, node: str) -> None:
        self._home = config.node_home(node)
        self._store = storage.ImageStore.from_config(config, node)

    def sums(self) -> tuple[str, ...]:
        """See :class:`ImageStore`."""
        return self._store.list_images()

    def path(self, sha256: str) -> Path | None:
        """See :class:`ImageStore`."""
        return self._store.path(sha256)

    def suited(self, guest: Guest, report: Report) -> Guest:
        """See :class:`ImageStore`."""
        if guest.image is None:
            return guest
        idmap = None if guest.spec.privileged else self._store.idmap
        return replace(guest, image=storage.with_owners(guest.image, idmap, report))

    def fetch(self, order: StepOrder, report: Report) -> None:
        """Download, then unpack."""
        from .download import download  # HTTP and TLS weigh megabytes in the memory that all children of the worker share

        wanted, path = ordered_sum(order), self._download(order)
        if wanted in self.sums():
            return
        try:
            with path.open("wb") as archive:
                download(order, archive, report)
            self._store.unpack(path, wanted, report)
        finally:
            path.unlink(missing_ok=True)

    def sweep(self, order: StepOrder) -> None:
        """See :class:`ImageStore`. The store itself removes half unpacked trees."""
        self._download(order).unlink(missing_ok=True)

    def _download(self, order: StepOrder) -> Path:
        """Where the archive goes; its lane has one download at a time."""
        return self._home / f"download-{ordered_sum(order)}"


def make_images(config: Config, node: str, *, simulated: bool) -> ImageStore:
    """The images of ``node``."""
    if simulated:
        return SimulatedImages(config.node_home(node) / "images", config.node.simulate_delay)
    return UnpackedImages(config, node)


def ordered_sum(order: StepOrder) -> str:
    """The SHA-256 that the order names, checked."""
    wanted = str(order.args["sha256"]).lower()
    if len(wanted) != 64 or set(wanted) - set("0123456789abcdef"):
        raise BadRequest("fetch", f"{wanted!r} is no SHA-256 sum")
    return wanted
