"""The read model made anew, as root of the machine."""

from __future__ import annotations

import os
import subprocess
import sys

from vmcloud.config import Config
from vmcloud.domain.errors import Forbidden, Unavailable

from .child import credentials
from .parts import environment

MARGIN = 30.0
"""Seconds that Django may take to start, besides."""


def rebuild(config: Config, timeout: float) -> str:
    """Run ``manage.py rebuild`` as the user of the web part; what it says. Raises :class:`Unavailable` with its reason."""
    if os.geteuid() != config.data.stat().st_uid:
        raise Forbidden(
            "this cloud's tables are for root of this machine", todo="Run it as root: sudo vmcloud directory rebuild."
        )
    done = subprocess.run(
        [sys.executable, "-m", "vmcloud.site", "rebuild", "--timeout", f"{timeout:g}"],
        env=environment(config.data),
        cwd=config.data,
        capture_output=True,
        text=True,
        timeout=timeout + MARGIN,
        check=False,
        **credentials(config.user),  # type: ignore[call-overload]
    )
    if done.returncode:
        why = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1].removeprefix("CommandError: ")
        raise Unavailable("the read model was not made anew", why=why, todo="Look at `vmcloud status`.")
    said: str = done.stdout.strip()
    return said
