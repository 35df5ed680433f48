"""Guest folders: what lies in ``home/lxc`` and how it is made and removed so that a kill at any point leaves no half guest.

A guest is made in ``.making/<native>`` and renamed into place whole; it is removed by being renamed into ``.trash`` first. So
a folder with our marker is always whole, and a folder without one is somebody else's (foreign).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Self
from uuid import UUID

from vmcloud.domain.spec import Spec
from workers.drivers.base import CannotLook, Guest

MARKER = "vmcloud.json"
POWER = "power"
FORMER = "config.former"
"""An adopted guest's configuration as its maker wrote it."""
NEXT = "config.adopted"
"""An adopted guest's configuration that is not in place yet."""
MAKING = ".making"
TRASH = ".trash"


@dataclass(frozen=True)
class Marker:
    """What vmcloud wrote about a guest of its own. ``copied``: its root is a whole tree, not a layer over an image. Of an adopted
    one: what it was called, whether it has a cable, and the id here of its root (None where that is the node's own). ``next``:
    the name that it is being given."""

    guest: Guest
    copied: bool = False
    adopted: str = ""
    cable: bool = True
    base: int | None = None
    next: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        guest = self.guest
        return {
            "v": 1,
            "ve": str(guest.ve),
            "native": guest.native,
            "spec": guest.spec.to_json(),
            "image": str(guest.image or ""),
            "address": guest.address,
            "gateway": guest.gateway,
            "mac": guest.mac,
            "copied": self.copied,
            "adopted": self.adopted,
            "cable": self.cable,
            "base": self.base,
            "next": self.next,
        }

    def text(self) -> str:
        """The marker file's content."""
        return json.dumps(self.to_json(), indent=1)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Inverse of :meth:`to_json`. Raises ValueError, KeyError or VmcloudError on anything else."""
        guest = Guest(
            ve=UUID(data["ve"]),
            native=str(data["native"]),
            spec=Spec.parse(data["spec"]),
            image=Path(data["image"]) if data["image"] else None,
            address=str(data["address"]),
            gateway=str(data["gateway"]),
            mac=str(data["mac"]),
        )
        base = data.get("base")
        return cls(
            guest,
            copied=bool(data["copied"]),
            adopted=str(data.get("adopted", "")),
            cable=bool(data.get("cable", True)),
            base=None if base is None else int(base),
            next=str(data.get("next", "")),
        )

    def resized(self, guest: Guest) -> Marker:
        """The same guest with the sizes of ``guest``; address, image and rights stay what they were made with."""
        old = self.guest.spec
        spec = replace(
            guest.spec,
            privileged=old.privileged,
            image=old.image,
        )
        return replace(self, guest=replace(self.guest, spec=spec))


def printable(native: str) -> str:
    """A native name as it can be written down; of ours, it is itself."""
    name = native.encode("utf-8", "backslashreplace").decode()
    return (name if name.isprintable() else name.encode("unicode_escape").decode())[:255]


def read_marker(folder: Path) -> Marker | None:
    """The marker in a guest's folder; None where the guest is not ours, such as a copy of one of ours that somebody made. Raises
    :class:`CannotLook` if it cannot be read."""
    try:
        text = (folder / MARKER).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise CannotLook("list", f"{folder / MARKER} cannot be read: {error.strerror}") from error
    try:
        marker = _parsed(text)
    except Exception as error:
        raise CannotLook("list", f"{folder / MARKER} is damaged: {error}", todo="Restore it, or move the folder away.") from error
    if marker.next == folder.name:  # whoever was giving it that name was killed before it could say so
        return replace(marker, guest=replace(marker.guest, native=folder.name))
    return marker if marker.guest.native == folder.name else None


@lru_cache(maxsize=8)
def _parsed(text: bytes) -> Marker:
    """One call of the driver reads a marker several times."""
    return Marker.from_json(json.loads(text))


def replace_durably(files: Mapping[Path, str]) -> None:
    """Replace files of one folder so that after a power cut each has either its old or its new content, and the new one once
    this returns. All are written before the first is replaced: a full disk changes none and leaves nothing."""
    made = {path.with_name(f".{path.name}.new"): path for path in files}
    try:
        for temporary, path in made.items():
            with temporary.open("w") as stream:
                stream.write(files[path])
                stream.flush()
                os.fsync(stream.fileno())
    except OSError:
        for temporary in made:
            temporary.unlink(missing_ok=True)
        raise
    for temporary, path in made.items():
        temporary.replace(path)
    for parent in {path.parent for path in files}:
        sync_directory(parent)


def overwrite(path: Path, text: str) -> Callable[[], None]:
    """Put ``text`` over a file's content of the same length: few bytes in one sector, which a power cut leaves as they were or as
    they are to be. No space is needed and no name changes, so it costs one write to the disk where a replacement costs two and
    the file system's journal. On the disk once the function that this returns was called, which must be. Raises OSError, and
    ValueError where the length is another."""
    stream, new = path.open("r+b", buffering=0), text.encode()
    old = stream.read(len(new) + 1) or b""
    if len(old) != len(new):
        stream.close()
        raise ValueError(f"{path} has another length")
    if old != new:
        stream.seek(0)
        stream.write(new)

    def sync() -> None:
        with stream:
            # Also of what was there already: whoever wrote it may have been killed before this.
            os.fdatasync(stream.fileno())

    return sync


def sync_directory(path: Path) -> None:
    """Make names in a directory durable."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def entries(guests: Path) -> Iterator[tuple[Path, Marker | None]]:
    """Every guest's folder in LXCPATH, ours with their marker and foreign ones without. Raises :class:`CannotLook`."""
    try:
        with os.scandir(guests) as entries:
            names = sorted(
                entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False)
            )
    except FileNotFoundError:
        return
    except OSError as error:
        raise CannotLook("list", f"{guests} cannot be read: {error.strerror}") from error
    for name in names:
        folder = guests / name
        marker = read_marker(folder)
        if marker is not None or (folder / "config").exists():
            yield folder, marker


def prepare(guests: Path, group: int) -> None:
    """Make LXCPATH and its work folders. Only root and the mapped root (``group``) may pass through: a set-user-id file that a
    guest makes must not be reachable by the node's other users."""
    for path in (guests, guests / MAKING):
        path.mkdir(parents=True, exist_ok=True)
        os.chown(path, 0, group)
        path.chmod(0o710)
    trash = guests / TRASH
    trash.mkdir(exist_ok=True)
    trash.chmod(0o700)


def retire(guests: Path, folder: Path) -> None:
    """Take a folder out of LXCPATH at once and for good; :func:`sweep` removes its tree."""
    trash = guests / TRASH
    trash.mkdir(mode=0o700, exist_ok=True)
    place = trash / f"{folder.name}.{os.urandom(4).hex()}"
    try:
        folder.rename(place)
    except FileNotFoundError:
        return
    sync_directory(guests)


def sweep(guests: Path, native: str) -> None:
    """Remove what this and earlier, killed calls for this guest left behind (symbolic links are not followed)."""
    leftovers = [guests / MAKING / native, *(guests / TRASH).glob(f"{native}.????????")]
    for path in leftovers:
        if path.exists():
            shutil.rmtree(path)
