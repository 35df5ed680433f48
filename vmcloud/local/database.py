"""The job database as root of the machine sees to it: the read model made anew, all of it copied into another one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from urllib.parse import urlsplit

from vmcloud.config import CONFIG_NAME, PARTS_WITH_SQL, Config
from vmcloud.domain.errors import Conflict, Forbidden, Invalid, Unavailable

from . import layout, status
from .child import credentials
from .parts import environment

MARGIN = 30.0
"""Seconds that Django may take to start, besides."""
COPY_SECONDS = 24 * 3600.0


def check(config: Config) -> None:
    """Before a start: passwords are in no file that others may read. Raises :class:`Invalid`."""
    if urlsplit(config.database_url).password:
        line = "HOST:PORT:DATABASE:USER:PASSWORD"
        raise Invalid(
            "the password of the job database does not belong there",
            where=f"{config.data / CONFIG_NAME}: database_url",
            why="everybody on this machine can read that file",
            todo=f"Take it out, and write it to {config.passfile} as a line {line}.",
        )
    for part in PARTS_WITH_SQL:
        if config.passfile.exists():
            layout.write(config.passfile_of(part), config.passfile.read_text(), user=config.user_of(part), mode=0o600)
        else:
            config.passfile_of(part).unlink(missing_ok=True)
    if config.passfile.exists():
        layout.own(config.passfile, layout.ROOT, 0o600)


def rebuild(config: Config, timeout: float) -> str:
    """Make the read model anew; what was done. Raises :class:`Unavailable` with the reason."""
    return _run(config, "rebuild", "--timeout", f"{timeout:g}", seconds=timeout, failed="the read model was not made anew")


def copy(config: Config, url: str) -> str:
    """Copy all of the job database into the empty one at ``url``; what was done. Not while the cloud runs."""
    found = status.read(config.data)
    if found is not None and found.running:
        raise Conflict("the cloud runs, and would write on to the old database", todo="End it first: vmcloud down.")
    if urlsplit(url).password:
        raise Invalid("a password does not belong on a command line", todo=f"Write it to {config.passfile} (libpq's form).")
    check(config)
    return _run(config, "copydatabase", url, seconds=COPY_SECONDS, failed="the job database was not copied")


def examine(config: Config) -> Iterator[str]:
    """What keeps the job database from being used, for the doctor."""
    try:
        _run(config, "check", "--database", "default", seconds=MARGIN, failed="it can not be used")
    except Unavailable as error:
        yield error.problem.why or error.problem.what


def _run(config: Config, *arguments: str, seconds: float, failed: str) -> str:
    """Run a management command as the user of the web part; what it says."""
    if os.geteuid() != config.data.stat().st_uid:
        todo = "Run it as root: sudo vmcloud …"
        raise Forbidden("this cloud's tables are for root of this machine", todo=todo)
    done = subprocess.run(
        [sys.executable, "-m", "vmcloud.site", *arguments],
        env=environment(config.data),
        cwd=config.data,
        capture_output=True,
        text=True,
        timeout=seconds + MARGIN,
        check=False,
        **credentials(config.user_of("web")),
    )
    if done.returncode:
        why = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1].removeprefix("CommandError: ")
        raise Unavailable(failed, why=why, todo="Look at `vmcloud status`.")
    said: str = done.stdout.strip()
    return said
