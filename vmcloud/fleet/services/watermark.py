"""How far the read model is, for who wants to read what they have just written."""

from __future__ import annotations

import time

from vmcloud.fleet.models import Watermark

NAME = "directory"
PATIENCE = 0.5
"""Seconds that a read waits at most for the write whose version it carries."""
LOOK_EVERY = 0.005
"""Seconds between two looks meanwhile: one read of one row."""


def reached(version: str) -> None:
    """The read model shows the directory up to this entryCSN. By the leader, inside its transaction."""
    Watermark.objects.filter(name=NAME).update(version=version)


def synced(version: str, now: float) -> None:
    """The read model shows all that there is. By the leader, inside its transaction."""
    Watermark.objects.update_or_create(name=NAME, defaults={"version": version, "synced_at": now})


def synced_at() -> float:
    """When the read model last showed all that there was (seconds since the epoch); 0.0: never."""
    return Watermark.objects.filter(name=NAME).values_list("synced_at", flat=True).first() or 0.0


def version() -> str:
    """Up to which version the read model shows the directory; empty: nothing yet."""
    return Watermark.objects.filter(name=NAME).values_list("version", flat=True).first() or ""


def shows(wanted: str) -> bool:
    """Whether the read model shows an entry of this version. An empty one is always shown."""
    return not wanted or version() >= wanted


def wait(wanted: str, patience: float = PATIENCE) -> bool:
    """Wait until the read model shows an entry of this version, or ``patience`` seconds; whether it does. An empty version is
    always shown. A read model that lags is no error: what it shows then is what it shows."""
    deadline = time.monotonic() + patience
    while not shows(wanted):
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_EVERY)
    return True
