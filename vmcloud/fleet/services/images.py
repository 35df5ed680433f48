"""Images: an archive is received into the store under its SHA-256, then a job records it in the directory."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from vmcloud.domain.errors import Conflict, Invalid
from vmcloud.domain.kinds import parse_kind
from vmcloud.domain.names import check_label
from vmcloud.fleet import ports
from vmcloud.fleet.models import Image, Job

from . import submit
from .accounts import Actor

SIZE_MAX = 64 << 30
"""Bytes of the largest archive that is taken."""
INCOMING = ".incoming-"
STALE = 86400.0
"""Seconds after which an archive that is still incoming has been given up: its web part ended."""


def receive(
    actor: Actor,
    name: str,
    chunks: Iterable[bytes],
    *,
    kind: str = "lxc",
    description: str = "",
    origin: str = "api",
    key: str = "",
) -> Job:
    """Store an archive (tar, also compressed) and queue the job that records it as image ``name``. Its content is checked by the
    node that unpacks it. The same archive under the same name again is the same image."""
    actor.demand_admin("import an image")
    check_label(name, where="name")
    parse_kind(kind)
    known = Image.objects.filter(name=name).first()

    def check(sha256: str) -> None:
        if known is None or known.sha256 == sha256:
            return
        raise Conflict(
            f"an image called {name!r} exists with another content", where="name", todo="Choose another name.", code="name-taken"
        )

    sha256, size = _store(ports.cloud().images, chunks, check)
    asked = {"image": name, "kind": kind, "sha256": sha256, "size": size, "description": description}
    return submit.queue_import(actor, asked, origin=origin, key=key)


def _store(folder: Path, chunks: Iterable[bytes], check: Callable[[str], None]) -> tuple[str, int]:
    """Write the chunks to a temporary file, then, if ``check`` lets its SHA-256 pass, give it its name: whole and on the disk, or
    not there at all."""
    folder.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    digest, size = hashlib.sha256(), 0
    with tempfile.NamedTemporaryFile(dir=folder, prefix=INCOMING, delete=False) as stream:
        temporary = Path(stream.name)
        try:
            for chunk in chunks:
                digest.update(chunk)
                size += len(chunk)
                if size > SIZE_MAX:
                    raise Invalid(f"the archive is larger than {SIZE_MAX >> 30} GiB", where="body")
                stream.write(chunk)
            if not size:
                raise Invalid("the archive is empty", where="body", todo="Send the archive's bytes as the request's body.")
            stream.flush()
            os.fsync(stream.fileno())
            check(digest.hexdigest())
            temporary.rename(folder / digest.hexdigest())
            _sync(folder)
        finally:
            temporary.unlink(missing_ok=True)
    return digest.hexdigest(), size


def _sweep(folder: Path) -> None:
    """Remove what earlier imports left half done."""
    limit = time.time() - STALE
    for path in folder.glob(f"{INCOMING}*"):
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < limit:
                path.unlink()


def _sync(folder: Path) -> None:
    """Bring the names in ``folder`` to the disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
