"""``vmcloud down``: end the parts; guests go on running."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from vmcloud.domain.errors import Forbidden, Unavailable

from . import status, up

PATIENCE = 60.0
"""Seconds that all parts together get to end; each has a shorter time of its own."""


def stop(data: Path, tell: Callable[[str], None]) -> bool:
    """End the supervisor and with it all parts; False if none ran. What a killed supervisor left is ended too."""
    found = status.read(data)
    if found is None or not found.running:
        if found is not None and found.parts:
            up.clear_leftovers(data)
        return False
    try:
        os.kill(found.supervisor.pid, signal.SIGTERM)
    except ProcessLookupError:
        return False
    except PermissionError as error:
        raise Forbidden("this cloud runs as another user", todo="Run it as root: sudo vmcloud down.") from error
    told: set[str] = set()
    deadline = time.monotonic() + PATIENCE
    while found.supervisor.alive:
        for part in (status.read(data) or found).parts:
            if part.state == "stopped" and part.name not in told:
                told.add(part.name)
                tell(f"{part.name} has stopped")
        if time.monotonic() > deadline:
            raise Unavailable(
                "the parts do not end", why=f"supervisor {found.supervisor.pid} still runs", todo="See the log; `vmcloud status`."
            )
        time.sleep(0.03)
    for part in (status.read(data) or found).parts:
        if part.state == "stopped" and part.name not in told:
            tell(f"{part.name} has stopped")
    return True
