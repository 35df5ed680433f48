"""A node's images: archives unpacked once, as read-only lower layers that all guests of an image share.

A tree lies in ``images/<sha256>/<owners>``: ``plain`` has the archive's owners (privileged guests), ``ids-<base>`` has every
owner moved up by ``base``. Shifting at unpack time is the fastest safe way (docs/adr/0004): a guest is then an empty layer,
mounted by liblxc *inside* the guest's user namespace, so that nothing is mounted on the node and nothing is copied or chowned
at create or start; liblxc 5.0.2 refuses to id-map an overlay's lower layer (it does so for plain directories only).

Archives are hostile: see :mod:`workers.storage.unpack`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from vmcloud import faults
from vmcloud.config import Config
from vmcloud.domain.errors import Invalid
from workers.drivers import tools
from workers.drivers.base import BadRequest, Report, silent

from .unpack import IdMap, Limits, extract, shift_tree, sync_filesystem

faults.declare("worker", "storage.images.unpacked", "storage.images.hidden")

PLAIN = "plain"
Used = Callable[[], Collection[Path]]
"""Tells the trees that guests are layers over."""
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CHUNK = 1 << 20


@dataclass(frozen=True)
class ImageStore:
    """The images of one node under ``home/images``; ``idmap`` is that of its unprivileged guests."""

    home: Path
    idmap: IdMap | None
    limits: Limits = field(default_factory=Limits)

    @classmethod
    def from_config(cls, config: Config, node: str) -> Self:
        """The store of one node in a cloud's configuration."""
        return cls(config.node_home(node), IdMap(config.node.idmap_base, config.node.idmap_size))

    @property
    def folder(self) -> Path:
        """Where the images are."""
        return self.home / "images"

    def list_images(self) -> tuple[str, ...]:
        """The SHA-256 sums of the images that are here, whole."""
        if not self.folder.is_dir():
            return ()
        return tuple(sorted(path.name for path in self.folder.iterdir() if _SHA256.fullmatch(path.name) and _trees(path)))

    def path(self, sha256: str) -> Path | None:
        """The tree for unprivileged guests (or what else is there: :func:`with_owners` makes the other); None if not here."""
        trees = _trees(self.folder / _checked(sha256))
        wanted = _owners(self.idmap)
        return next((tree for tree in trees if tree.name == wanted), trees[0] if trees else None)

    def unpack(self, archive: Path, sha256: str, report: Report = silent) -> Path:
        """Unpack ``archive`` (tar, plain or packed by gzip, xz, bzip2) whose sum must be ``sha256``; answers the tree's folder.

        Repeating it is harmless. A kill in the middle leaves a folder that the next call removes; a tree with its final name is
        whole and on disk. Raises :class:`~vmcloud.domain.errors.Invalid` (wrong sum, no archive, hostile content, too large).
        """
        with self._locked():
            place = self.folder / _checked(sha256)
            tree = place / _owners(self.idmap)
            if tree.is_dir():
                return tree
            self._sweep()
            _verify(archive, sha256, report)
            new = self.folder / f".new-{sha256}"
            new.mkdir(mode=0o755)
            try:
                extract(archive, new, self.idmap, self.limits, report)
                sync_filesystem(new)
            except BaseException:
                shutil.rmtree(new, ignore_errors=True)
                raise
            faults.point("storage.images.unpacked")
            _place(new, tree)
            return tree

    def remove(self, sha256: str, *, used: Used = frozenset) -> None:
        """Remove an image; absent is success. ``used`` tells the trees that guests are layers over
        (:class:`~workers.drivers.base.Layered`): :class:`~workers.drivers.base.BadRequest` if this image's is among them. It is
        asked again when the image has gone out of sight: a guest may have been made of it meanwhile."""
        place = self.folder / _checked(sha256)
        check_unused(place, used())
        with self._locked():
            self._sweep()
            if place.is_dir():
                doomed = self.folder / f".old-{sha256}"
                place.rename(doomed)
                faults.point("storage.images.hidden")
                try:
                    check_unused(place, used())
                except BaseException:
                    doomed.rename(place)
                    raise
                shutil.rmtree(doomed)

    def _sweep(self) -> None:
        for path in self.folder.glob(".*-*"):
            shutil.rmtree(path)
        for path in self.folder.glob(f"*/.{PLAIN}*"):
            shutil.rmtree(path)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One process at a time changes the store."""
        prepare(self.folder, self.idmap.base if self.idmap else 0)
        handle = os.open(self.folder / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def check_unused(place: Path, used: Collection[Path]) -> None:
    """:class:`~workers.drivers.base.BadRequest` where the image in ``place``, or a tree of it, is among those ``used``."""
    if any(place in (tree, tree.parent) for tree in used):
        raise BadRequest(
            "remove-image", f"image {place.name[:12]} is in use on this node", todo="Delete the VEs made from it first."
        )


def prepare(folder: Path, group: int) -> None:
    """Make the store's folder: only root and the guests' root may pass, for trees hold set-user-id programs."""
    folder.mkdir(parents=True, exist_ok=True)
    os.chown(folder, 0, group)
    folder.chmod(0o710)


def with_owners(tree: Path, idmap: IdMap | None, report: Report = silent) -> Path:
    """The same image's tree with other owners, made by copying where it is not here yet."""
    wanted = tree.parent / _owners(idmap)
    if tree == wanted or wanted.is_dir() or not (tree.name == PLAIN or tree.name.startswith("ids-")):
        return wanted if wanted.is_dir() else tree
    report("copy image", -1)
    new = tree.parent.parent / f".new-{tree.parent.name}.{wanted.name}.{os.getpid()}"
    old = 0 if tree.name == PLAIN else int(tree.name.removeprefix("ids-"))
    try:
        tools.run([tools.require("cp", operation="image"), "-a", "--", str(tree), str(new)], operation="image", timeout=3600)
        shift_tree(new, old, idmap)
        sync_filesystem(new)
        _place(new, wanted)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    return wanted


def _place(new: Path, tree: Path) -> None:
    """Give a finished tree its name, durably."""
    group = new.stat().st_gid
    tree.parent.mkdir(mode=0o710, exist_ok=True)
    os.chown(tree.parent, 0, group if tree.name != PLAIN else tree.parent.stat().st_gid)
    new.rename(tree)
    for path in (tree.parent, tree.parent.parent):
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _owners(idmap: IdMap | None) -> str:
    return f"ids-{idmap.base}" if idmap else PLAIN


def _trees(place: Path) -> list[Path]:
    if not place.is_dir():
        return []
    return sorted(path for path in place.iterdir() if path.name == PLAIN or path.name.startswith("ids-"))


def _checked(sha256: str) -> str:
    if not _SHA256.fullmatch(sha256):
        raise Invalid(f"{sha256!r} is no SHA-256 sum", where="image", todo="Give 64 lower-case hexadecimal digits.")
    return sha256


def _verify(archive: Path, sha256: str, report: Report) -> None:
    digest = hashlib.sha256()
    report("verify", -1)
    with archive.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    if digest.hexdigest() != sha256:
        raise Invalid(
            "the image archive is not what was promised",
            where="image",
            why=f"its SHA-256 is {digest.hexdigest()}, {sha256} was promised",
            todo="Import the image again.",
        )
