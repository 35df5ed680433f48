"""A node's images, and the fetch step that brings one here: download by ticket, check, unpack.

The archive comes from the web part over HTTP(S) that the worker opens (:mod:`workers.download`); the ticket is single use.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol

from vmcloud.config import Config
from vmcloud.domain.messages import StepOrder
from vmcloud.domain.vocabulary import Kind

from .drivers.base import BadRequest, Guest, Report
from .drivers.registry import layers
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

    def remove(self, sha256: str) -> None:
        """Remove one; absent is success. :class:`BadRequest` while a guest of this node is a layer over it."""


class SimulatedImages:
    """Images that are but names: for simulated nodes."""

    def __init__(self, folder: Path, delay: float = 0.0, used: storage.Used = frozenset) -> None:
        self._folder, self._delay, self._used = folder, delay, used

    def sums(self) -> tuple[str, ...]:
        """See :class:`ImageStore`."""
        return tuple(sorted(path.name for path in self._folder.glob("*"))) if self._folder.is_dir() else ()

    def path(self, sha256: str) -> Path | None:
        """See :class:`ImageStore`."""
        path = self._folder / sha256
        return path if path.exists() else None

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

    def remove(self, sha256: str) -> None:
        """See :class:`ImageStore`."""
        path = self._folder / sha256
        storage.check_unused(path, self._used())
        path.unlink(missing_ok=True)


class UnpackedImages:
    """Root file systems unpacked on this node (:mod:`workers.storage.images`)."""

    def __init__(self, config: Config, node: str) -> None:
        self._config, self._node = config, node
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

    def remove(self, sha256: str) -> None:
        """See :class:`ImageStore`."""
        kinds = [Kind(kind) for kind in self._config.node.kinds]
        self._store.remove(sha256, used=lambda: layers(kinds, self._config, self._node))

    def _download(self, order: StepOrder) -> Path:
        """Where the archive goes; its lane has one download at a time."""
        return self._home / f"download-{ordered_sum(order)}"


def make_images(config: Config, node: str, *, simulated: bool) -> ImageStore:
    """The images of ``node``."""
    if simulated:
        used = partial(layers, (Kind.SIMULATED,), config, node)
        return SimulatedImages(config.node_home(node) / "images", config.node.simulate_delay, used)
    return UnpackedImages(config, node)


def ordered_sum(order: StepOrder) -> str:
    """The SHA-256 that the order names, checked."""
    wanted = str(order.args["sha256"]).lower()
    if len(wanted) != 64 or set(wanted) - set("0123456789abcdef"):
        raise BadRequest(order.verb, f"{wanted!r} is no SHA-256 sum")
    return wanted
