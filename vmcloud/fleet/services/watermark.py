"""How far the read model is, for who wants to read what they have just written."""

from __future__ import annotations

from vmcloud.fleet.models import Watermark

NAME = "directory"
PATIENCE = 0.5
"""Seconds that a read waits at most for the write whose version it carries."""


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
