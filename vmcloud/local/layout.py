"""The data directory: which folders it has, who owns them, with which modes. See docs/design.md, "Processes, users, files"."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from vmcloud.domain.errors import Invalid, Unavailable

ROOT = "root"
BROKER_USER = "redis"
DIRECTORY_USER = "openldap"


@dataclass(frozen=True)
class Folder:
    """One folder below the data directory."""

    name: str
    user: str
    mode: int


def folders(user: str) -> tuple[Folder, ...]:
    """All of them, parents first; ``user`` is whom web, server and monitor run as.

    ``node`` and what leads to it can be walked through by anybody: the root of an unprivileged container is nobody here.
    """
    return (
        Folder("secrets", ROOT, 0o711),
        Folder("run", ROOT, 0o755),
        Folder("log", ROOT, 0o750),
        Folder("broker", BROKER_USER, 0o700),
        Folder("directory", DIRECTORY_USER, 0o711),
        Folder("sql", user, 0o700),
        Folder("images", user, 0o750),
        Folder("hooks", ROOT, 0o755),
        Folder("node", ROOT, 0o711),
    )


def make(data: Path, user: str) -> None:
    """Make what is missing and set owners and modes right. Raises :class:`Invalid` for a folder of other things."""
    if data.is_dir() and any(data.iterdir()) and not any((data / name).exists() for name in ("config.toml", "run", "secrets")):
        raise Invalid(
            f"{data} is not empty and is no data directory of vmcloud",
            where="--data",
            todo="Name another folder, or an empty one.",
        )
    data.mkdir(parents=True, exist_ok=True)
    data.chmod(0o711)
    for folder in folders(user):
        path = data / folder.name
        path.mkdir(exist_ok=True)
        own(path, folder.user, folder.mode)


def own(path: Path, user: str, mode: int) -> None:
    """Give ``path`` to ``user`` (as root; anybody else keeps what is theirs) with ``mode``."""
    if os.geteuid() == 0:
        entry = pwd.getpwnam(user)
        os.chown(path, entry.pw_uid, entry.pw_gid)
    path.chmod(mode)


def write(path: Path, text: str, *, user: str = ROOT, mode: int = 0o600) -> None:
    """Replace ``path`` by ``text`` at once: whoever reads sees the old or the new, never a part, and never with a wider mode."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        own(Path(name), user, mode)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def reachable(path: Path) -> Path | None:
    """The first folder on the way to ``path`` that other users may not walk through, or None."""
    for parent in [*reversed(path.absolute().parents), path.absolute()]:
        if parent.is_dir() and not parent.stat().st_mode & 0o001:
            return parent
    return None


def ensure_users(user: str) -> list[str]:
    """Make the system users that are missing (root only); the names of those made now."""
    if os.geteuid() != 0:
        return []
    made = []
    for name in dict.fromkeys((user, BROKER_USER, DIRECTORY_USER)):
        if exists(name):
            continue
        useradd = shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin")
        if useradd is None:
            raise Unavailable(f"there is no user {name}", why="and no useradd to make it with", todo="apt-get install passwd")
        argv = [useradd, "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"]
        argv += ["--shell", "/usr/sbin/nologin", name]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode != 0 and not exists(name):
            raise Unavailable(f"user {name} could not be made", why=done.stderr.strip()[-300:], todo=f"Try: {' '.join(argv)}")
        made.append(name)
    return made


def exists(user: str) -> bool:
    """Whether this machine has such a user."""
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True
