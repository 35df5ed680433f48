"""Unpacking of hostile archives into a new, empty folder.

Every name is walked component by component below the folder's descriptor without ever following a symbolic link, so no member
can reach outside, whatever links earlier members made. Device nodes are left out (a guest gets its own /dev); size, number of
files and free disk space bound what an archive may grow to.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from vmcloud.domain.errors import Invalid
from workers.drivers.base import NoSpace, Report, silent

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 1 << 20
_CAPABILITY = "security.capability"
_TODO = "Build the image again with mmdebstrap, or with tar --numeric-owner from its root directory."


@dataclass(frozen=True)
class IdMap:
    """User and group ids 0 to ``size`` - 1 of a guest are ``base`` and up on the node."""

    base: int
    size: int

    def owner(self, number: int) -> int:
        """The node's id for a guest's id. Raises :class:`Invalid` for an id that the guest cannot have."""
        if not 0 <= number < self.size:
            raise Invalid(f"the image has a file of id {number}", where="image", why=f"guests have ids 0 to {self.size - 1}")
        return self.base + number


@dataclass(frozen=True)
class Limits:
    """How large an image may be when unpacked: bytes, files, and the share of the free disk space."""

    size: int = 64 << 30
    files: int = 2_000_000
    free_share: float = 0.9


def extract(archive: Path, into: Path, idmap: IdMap | None, limits: Limits, report: Report = silent) -> None:
    """Unpack into the empty folder ``into``. Raises :class:`Invalid`, :class:`~workers.drivers.base.NoSpace`."""
    free = os.statvfs(into)
    room = int(free.f_bavail * free.f_frsize * limits.free_share)
    packed = max(1, archive.stat().st_size)
    left, files, told = limits.size, limits.files, -1
    owner = idmap.owner if idmap else _same
    root = _Root(into, owner)
    try:
        with archive.open("rb") as raw, tarfile.open(fileobj=raw, mode="r:*") as tar:
            while (member := tar.next()) is not None:
                # TarFile keeps every member it has read; an archive of millions would fill the memory.
                tar.members = []  # type: ignore[attr-defined]
                files -= 1
                left -= member.size if member.isreg() else 0
                room -= (member.size if member.isreg() else 0) + 512
                if files < 0 or left < 0:
                    what = f"more than {limits.files} files" if files < 0 else f"more than {limits.size >> 20} MiB"
                    raise Invalid(f"the image unpacks to {what}", where="image", todo="Make it smaller.")
                if room < 0:
                    raise NoSpace("image", "the image does not fit on this node's disk", todo="Remove images or add disk.")
                _add(root, tar, member, idmap)
                if (percent := min(99, raw.tell() * 100 // packed)) > told:
                    told = percent
                    report("unpack", percent)
        root.finish()
    except (tarfile.TarError, EOFError, UnicodeError, struct.error, ValueError) as error:
        raise Invalid(f"not a readable tar archive: {error}", where="image", todo="Give a .tar, .tar.gz or .tar.xz.") from error
    except OSError as error:
        if error.errno in (28, 122):  # ENOSPC, EDQUOT
            raise NoSpace("image", "the disk is full", todo="Remove images or add disk.") from error
        if error.errno in (5, 30) or "compress" in str(error).lower():
            raise
        raise Invalid(f"the archive cannot be unpacked: {error}", where="image", todo=_TODO) from error
    except Exception as error:
        if type(error).__module__ in ("_lzma", "zlib"):
            raise Invalid(f"the archive is damaged: {error}", where="image", todo="Import it again.") from error
        raise
    finally:
        root.close()


def _same(number: int) -> int:
    return number


def _add(root: _Root, tar: tarfile.TarFile, member: tarfile.TarInfo, idmap: IdMap | None) -> None:
    parts = _parts(member.name)
    mode = member.mode & 0o7777
    if not parts:
        if member.isdir():
            root.later[()] = (mode, member.uid, member.gid, member.mtime)
        return
    if member.isdir():
        root.directory(parts)
        root.later[parts] = (mode, member.uid, member.gid, member.mtime)
    elif member.isreg():
        source = tar.extractfile(member)
        assert source is not None
        capability = member.pax_headers.get(f"SCHILY.xattr.{_CAPABILITY}", "")
        root.file(parts, source, mode, (member.uid, member.gid), member.mtime, _capability(capability, idmap))
    elif member.issym():
        root.symlink(parts, member.linkname, (member.uid, member.gid))
    elif member.islnk():
        root.hardlink(parts, _parts(member.linkname))
    elif member.isfifo():
        root.fifo(parts, mode, (member.uid, member.gid))
    elif not member.isdev():
        raise Invalid(f"{member.name!r} is of a kind that no image needs", where="image", todo=_TODO)


def _parts(name: str) -> tuple[str, ...]:
    if name.startswith("/") or "\0" in name:
        raise Invalid(f"the image has a file with an absolute name, {name!r}", where="image", todo=_TODO)
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in parts:
        raise Invalid(f"the image has a file that climbs out of it, {name!r}", where="image", todo=_TODO)
    return parts


def _capability(text: str, idmap: IdMap | None) -> bytes:
    """A file capability as the kernel takes it; with an id map it is bound to the guest's root (revision 3)."""
    raw = text.encode("utf-8", "surrogateescape")
    if len(raw) not in (20, 24):
        return b""
    magic, *rest = struct.unpack("<5I", raw[:20])
    if idmap is None:
        return struct.pack("<5I", 0x02000000 | magic & 1, *rest)
    return struct.pack("<6I", 0x03000000 | magic & 1, *rest, idmap.base)


class _Root:
    """Creates names below one folder by descriptors."""

    def __init__(self, path: Path, owner: Callable[[int], int]) -> None:
        self._fd = os.open(path, _DIRECTORY)
        self._path = path
        self._owner = owner
        self.later: dict[tuple[str, ...], tuple[int, int, int, float]] = {}
        """Directories' own attributes: set at the end, or a read-only directory could not be filled."""

    def close(self) -> None:
        os.close(self._fd)

    def _own(self, uid: int, gid: int) -> tuple[int, int]:
        return self._owner(uid), self._owner(gid)

    def _open(self, parts: tuple[str, ...], create: bool) -> int:
        """A descriptor of a directory; the caller closes it. Missing ones are made if ``create``."""
        fd = os.dup(self._fd)
        try:
            for index, part in enumerate(parts):
                try:
                    below = os.open(part, _DIRECTORY, dir_fd=fd)
                except FileNotFoundError:
                    if not create:
                        raise
                    os.mkdir(part, 0o700, dir_fd=fd)
                    self.later.setdefault(parts[: index + 1], (0o755, 0, 0, 0.0))
                    below = os.open(part, _DIRECTORY, dir_fd=fd)
                except NotADirectoryError as error:
                    name = "/".join(parts[: index + 1])
                    raise Invalid(f"the image puts files into {name!r}, no directory", where="image", todo=_TODO) from error
                os.close(fd)
                fd = below
        except BaseException:
            os.close(fd)
            raise
        return fd

    def directory(self, parts: tuple[str, ...]) -> None:
        os.close(self._open(parts, True))

    def _fresh(self, parts: tuple[str, ...]) -> int:
        """The parent of a name that is about to be made; what had the name before is removed (later members win)."""
        parent = self._open(parts[:-1], True)
        try:
            os.unlink(parts[-1], dir_fd=parent)
        except FileNotFoundError:
            pass
        except OSError:
            os.close(parent)
            raise
        return parent

    def file(
        self, parts: tuple[str, ...], source: IO[bytes], mode: int, ids: tuple[int, int], mtime: float, capability: bytes
    ) -> None:
        parent = self._fresh(parts)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(parts[-1], flags, 0o600, dir_fd=parent)
        finally:
            os.close(parent)
        with os.fdopen(fd, "wb") as out:
            while chunk := source.read(_CHUNK):
                out.write(chunk)
            out.flush()
            os.fchown(fd, *self._own(*ids))
            os.fchmod(fd, mode)  # after chown, which clears set-user-id
            if capability:
                os.setxattr(fd, _CAPABILITY, capability)
            os.utime(fd, (mtime, mtime))

    def symlink(self, parts: tuple[str, ...], target: str, ids: tuple[int, int]) -> None:
        """Links may point anywhere: they are only ever followed inside the guest, where ``/`` is the guest's own root."""
        parent = self._fresh(parts)
        try:
            os.symlink(target, parts[-1], dir_fd=parent)
            os.chown(parts[-1], *self._own(*ids), dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(parent)

    def hardlink(self, parts: tuple[str, ...], target: tuple[str, ...]) -> None:
        if not target:
            raise Invalid("the image has a hard link to nothing", where="image", todo=_TODO)
        if target == parts:
            return
        parent = self._fresh(parts)
        try:
            source = self._open(target[:-1], False)
            try:
                os.link(target[-1], parts[-1], src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
            finally:
                os.close(source)
        except FileNotFoundError as error:
            raise Invalid(f"hard link {'/'.join(parts)!r} to a file that is not there", where="image", todo=_TODO) from error
        finally:
            os.close(parent)

    def fifo(self, parts: tuple[str, ...], mode: int, ids: tuple[int, int]) -> None:
        parent = self._fresh(parts)
        try:
            os.mkfifo(parts[-1], 0o600, dir_fd=parent)
            os.chown(parts[-1], *self._own(*ids), dir_fd=parent, follow_symlinks=False)
            os.chmod(parts[-1], mode & 0o777, dir_fd=parent)
        finally:
            os.close(parent)

    def finish(self) -> None:
        """Give directories their attributes, innermost first."""
        self.later.setdefault((), (0o755, 0, 0, 0.0))
        for parts, (mode, uid, gid, mtime) in sorted(self.later.items(), key=lambda item: -len(item[0])):
            try:
                fd = self._open(parts, False)
            except (FileNotFoundError, Invalid):
                continue  # a later member replaced it
            try:
                os.fchown(fd, *self._own(uid, gid))
                os.fchmod(fd, mode if parts else mode | 0o111)
                os.utime(fd, (mtime, mtime))
            finally:
                os.close(fd)


def shift_tree(tree: Path, old_base: int, idmap: IdMap | None) -> None:
    """Change every owner of a tree from ``old_base`` up to those of ``idmap``; set-user-id bits and capabilities survive.

    Symbolic links are not followed; a file with several names is changed once.
    """
    owner = idmap.owner if idmap else _same
    seen: set[int] = set()
    for _, folders, names, fd in os.fwalk(tree, topdown=False, follow_symlinks=False):
        links = [name for name in folders if stat.S_ISLNK(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode)]
        for name in [*names, *links, "."]:
            info = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if info.st_nlink > 1 and not stat.S_ISDIR(info.st_mode):
                if info.st_ino in seen:
                    continue
                seen.add(info.st_ino)
            capability = _read_capability(name, fd) if stat.S_ISREG(info.st_mode) else ""
            ids = owner(info.st_uid - old_base), owner(info.st_gid - old_base)
            os.chown(name, *ids, dir_fd=fd, follow_symlinks=False)
            if not stat.S_ISLNK(info.st_mode):
                os.chmod(name, stat.S_IMODE(info.st_mode), dir_fd=fd)
            if capability:
                os.setxattr(f"/proc/self/fd/{fd}/{name}", _CAPABILITY, _capability(capability, idmap))


def _read_capability(name: str, fd: int) -> str:
    try:
        return os.getxattr(f"/proc/self/fd/{fd}/{name}", _CAPABILITY).decode("utf-8", "surrogateescape")
    except OSError:
        return ""


def sync_filesystem(path: Path) -> None:
    """Write everything of the file system that holds ``path`` to disk (syncfs(2), which Python does not offer)."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(fd) != 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error), str(path))
    finally:
        os.close(fd)
