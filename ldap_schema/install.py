"""Making a private slapd's folders, and the command that runs it.

Layout below one folder: ``slapd.d/`` (cn=config), ``db/`` (the data), ``accesslog/``, ``run/`` (the local socket). ``slapd.d`` is
put in its place last, by one rename: where it exists, the directory is whole; where it does not, what is there is remade.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from . import config, tree

SLAPD = "/usr/sbin/slapd"
SLAPADD = "/usr/sbin/slapadd"
TIMEOUT = 60.0


class InstallError(RuntimeError):
    """slapadd refused; the message ends with what it said."""


def initialise(folder: Path, suffix: str, passwords: Mapping[str, str], user: str | None, *, durable: bool = True) -> bool:
    """Make the directory below ``folder`` unless it is there already; True if it was made now.

    1. what an interrupted attempt left is removed;
    2. cn=config and the base entries are loaded with slapadd(8);
    3. everything is given to ``user`` (its primary group too) when running as root; None: to nobody else;
    4. ``slapd.d`` is renamed into place.

    ``passwords`` are clear text by identity (:data:`ldap_schema.access.IDENTITIES`); only their hashes are stored. They are not
    changed where the directory exists. Raises :class:`InstallError`, OSError.
    """
    final, fresh = folder / "slapd.d", folder / "slapd.d.new"
    if final.is_dir():
        return False
    folder.mkdir(parents=True, exist_ok=True)
    for name in (fresh.name, "db", "accesslog"):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir(mode=0o700)
    (folder / "run").mkdir(mode=0o755, exist_ok=True)
    settings = config.Settings(folder=folder, suffix=suffix, root_uid=os.getuid(), durable=durable)
    _slapadd(["-q", "-n", "0", "-F", str(fresh)], config.render(settings))
    # Not -q: it maps the file for writing, which then has the full size of the map (sparse) for ever.
    _slapadd(["-w", "-b", suffix, "-F", str(fresh)], tree.to_ldif(tree.entries(suffix, passwords)))
    if user is not None and os.getuid() == 0:
        for name in (fresh.name, "db", "accesslog", "run"):
            _give(folder / name, user)
    fresh.rename(final)
    return True


def slapd_argv(folder: Path, uris: Sequence[str], user: str | None) -> list[str]:
    """The command that serves ``folder`` in the foreground at ``uris``, as ``user`` (if this process is root)."""
    argv = [SLAPD, "-F", str(folder / "slapd.d"), "-h", " ".join(uris), "-d", "0"]
    if user is not None and os.getuid() == 0:
        group = str(pwd.getpwnam(user).pw_gid)
        argv += ["-u", user, "-g", group]
    return argv


def ldapi_uri(socket: Path) -> str:
    """The URI of the local socket at ``socket``."""
    return f"ldapi://{quote(str(socket), safe='')}"


def _slapadd(arguments: list[str], ldif: str) -> None:
    done = subprocess.run([SLAPADD, *arguments], input=ldif, text=True, capture_output=True, timeout=TIMEOUT, check=False)
    if done.returncode != 0:
        raise InstallError(f"slapadd {' '.join(arguments)} ended with {done.returncode}: {_head(done.stderr)}")


def _give(path: Path, user: str) -> None:
    """chown -R, without following links."""
    entry = pwd.getpwnam(user)
    os.lchown(path, entry.pw_uid, entry.pw_gid)
    for parent, folders, files in os.walk(path):
        for name in folders + files:
            os.lchown(os.path.join(parent, name), entry.pw_uid, entry.pw_gid)  # noqa: PTH118


def _head(stderr: str) -> str:
    """What slapadd complained about: its first lines; a grammar of what it would have taken may follow them."""
    return stderr.strip()[:600]
