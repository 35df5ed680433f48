"""The data directory: which folders it has, who owns them, with which modes. See docs/design.md, "Processes, users, files"."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from vmcloud.config import PARTS_WITH_SQL, PARTS_WITH_USER, Config, part_user
from vmcloud.domain.errors import Invalid, Unavailable

ROOT = "root"
BROKER_USER = "redis"
DIRECTORY_USER = "openldap"
DATABASE = "vmcloud.sqlite3"


@dataclass(frozen=True)
class Folder:
    """One folder below the data directory. ``group``: the user's own unless it is said."""

    name: str
    user: str
    mode: int
    group: str = ""


def folders(user: str) -> tuple[Folder, ...]:
    """All of them, parents first; ``user`` is the cloud's group, from whose name those of its parts' users are made. What is made
    in ``sql`` is the group's: web and server share the database and its write-ahead log.

    ``node`` and what leads to it can be walked through by anybody: the root of an unprivileged container is nobody here.
    """
    return (
        Folder("secrets", ROOT, 0o711),
        Folder("run", ROOT, 0o755),
        Folder("run/alive", ROOT, 0o755),
        Folder("log", ROOT, 0o750),
        Folder("broker", BROKER_USER, 0o700),
        Folder("directory", DIRECTORY_USER, 0o711),
        Folder("sql", ROOT, 0o2770, user),
        Folder("images", part_user(user, "web"), 0o750),
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
        own(path, folder.user, folder.mode, folder.group)
    _take_over(data, user)


def own(path: Path | int, user: str, mode: int, group: str = "") -> None:
    """Give ``path`` (or an open file) to ``user`` (as root; anybody else keeps what is theirs) with ``mode``."""
    if os.geteuid() == 0:
        entry = pwd.getpwnam(user)
        os.chown(path, entry.pw_uid, grp.getgrnam(group).gr_gid if group else entry.pw_gid)
    os.chmod(path, mode)  # noqa: PTH101 - it may be an open file


def _take_over(data: Path, user: str) -> None:
    """Give what parts have made to those that they are now: an earlier release ran them all as ``user``."""
    database = data / "sql" / DATABASE
    # Its first writer would make it for itself alone; SQLite makes the files beside it as this one is.
    if not database.exists():
        os.close(os.open(database, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    if not (denials := Config(data=data).denials).exists():
        write(denials, "")
    _hand_over(denials, ROOT, 0o640, user)
    for file in data.joinpath("sql").iterdir():
        _hand_over(file, part_user(user, "web"), 0o660, user)
    for file in data.joinpath("images").iterdir():
        _hand_over(file, part_user(user, "web"), None)
    for part in PARTS_WITH_USER:
        _hand_over(data / "secrets" / f"{part}.json", part_user(user, part), 0o600)


def _hand_over(path: Path, user: str, mode: int | None, group: str = "") -> None:
    """Give a plain file to ``user``. Nothing else: its folder may be another user's, who could have put a link to a file of
    root's there. A ``mode`` of None: as it is."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    try:
        found = os.fstat(file)
        if stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
            own(file, user, stat.S_IMODE(found.st_mode) if mode is None else mode, group)
    finally:
        os.close(file)


def write(path: Path, text: str, *, user: str = ROOT, mode: int = 0o600) -> None:
    """Replace ``path`` by ``text`` at once: whoever reads sees the old or the new, never a part, and never with a wider mode."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
            own(stream.fileno(), user, mode)
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
    for name, groups in users(user).items():
        if exists(name):
            _join(name, groups)
            continue
        useradd = shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin")
        if useradd is None:
            raise Unavailable(f"there is no user {name}", why="and no useradd to make it with", todo="apt-get install passwd")
        argv = [useradd, "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"]
        argv += ["--shell", "/usr/sbin/nologin", *(["--groups", ",".join(groups)] if groups else []), name]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode != 0 and not exists(name):
            raise Unavailable(f"user {name} could not be made", why=done.stderr.strip()[-300:], todo=f"Try: {' '.join(argv)}")
        made.append(name)
    return made


def users(user: str) -> dict[str, tuple[str, ...]]:
    """The system users of a cloud, in the order in which they are made, and the groups besides their own that each is in."""
    parts = {part_user(user, part): (user,) if part in PARTS_WITH_SQL else () for part in PARTS_WITH_USER}
    return {user: (), **parts, BROKER_USER: (), DIRECTORY_USER: ()}


def _join(user: str, groups: tuple[str, ...]) -> None:
    """Make ``user`` a member of ``groups``, where it is not."""
    for group in groups:
        if user in grp.getgrnam(group).gr_mem:
            continue
        argv = ["usermod", "--append", "--groups", group, user]
        path = {**os.environ, "PATH": "/usr/sbin:/sbin:/usr/bin:/bin"}
        done = subprocess.run(argv, env=path, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode != 0:
            why = done.stderr.strip()[-300:]
            raise Unavailable(f"user {user} could not be put in group {group}", why=why, todo=f"Try: {' '.join(argv)}")


def exists(user: str) -> bool:
    """Whether this machine has such a user."""
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True
