"""Times that were written down by clocks which people set, and which differ between machines."""

from __future__ import annotations

from datetime import UTC, datetime

TOLERANCE = 60.0
"""Seconds by which two clocks of a cloud may differ without anybody minding."""


def elapsed(then: float | None, now: float) -> float:
    """Seconds from ``then`` to ``now``, both since 1970; endless where it never was.

    A time that is still to come was written by a clock that was ahead, or this one was set back since: who waited for it to
    pass would wait for as long as the clock was wrong. So it counts as long ago, unless two good clocks explain it.
    """
    if then is None or then > now + TOLERANCE:
        return float("inf")
    return max(now - then, 0.0)


def as_iso(seconds: float | None) -> str | None:
    """A time as people and programs are shown it: ISO 8601 in UTC; None for none."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds") if seconds else None
