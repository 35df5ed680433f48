"""Leases: the time a VE may live (PBS's walltime, of the VE itself), and what comes at its end. Pure: the clock is an argument.

=================  ==================================================================================
time               what is done
=================  ==================================================================================
an hour before     it is told
the end            the VE is stopped: its guest is asked, and has :data:`ASKED_SECONDS` at most
grace after it     ``delete``: it is deleted. ``stop``: stopped by force, where it is not stopped yet
=================  ==================================================================================

Whoever gives it a later end before it is deleted calls off the rest. A VE whose lease is over is not started. Nothing is done
last before it has been told for the whole grace: an end that has long passed when it is first looked at (the server was away; the
entry is out of a backup) costs nobody a VE unawares.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from .errors import Invalid
from .terms import AHEAD, moment, seconds
from .vocabulary import LeaseAction

FIELDS = ("lease_end", "lease_action", "lease_grace")
"""Fields of a spec that say how long the VE may live."""
LENGTH = (1.0, AHEAD)
"""Seconds that a lease may last."""
GRACE = (0.0, 90 * 86400.0)
"""Seconds between the end of a lease and what is done last."""
DEFAULT_GRACE = 3600
END_MAX = 253_402_300_799.0
"""The last second of the year 9999: later ones cannot be written in a directory."""
ASKED_SECONDS = 60.0
"""How long a guest whose lease is over may take to shut itself down, where its grace is not shorter still."""
TOLD_BEFORE = 3600.0
"""Seconds before its end that a lease is told of."""
NO_LEASE: dict[str, Any] = {"lease_end": 0.0, "lease_action": LeaseAction.STOP.value, "lease_grace": DEFAULT_GRACE}
"""The fields of a spec that has none, as plain values."""
NO_LEASE_VALUES: dict[str, Any] = {**NO_LEASE, "lease_action": LeaseAction.STOP}
"""The same as a spec has them."""


class Stage(StrEnum):
    """How far a lease is."""

    FAR = "far"
    SOON = "soon"
    OVER = "over"
    LAST = "last"


@dataclass(frozen=True)
class Lease:
    """``end``: seconds since the epoch, 0 for none; ``grace``: seconds."""

    end: float = 0.0
    action: LeaseAction = LeaseAction.STOP
    grace: int = DEFAULT_GRACE

    def stage(self, now: float, told: float = 0.0) -> Stage:
        """How far it is. ``told``: since when it is told, 0 if it is not yet."""
        if not self.end or now < self.end - TOLD_BEFORE:
            return Stage.FAR
        if now < self.end:
            return Stage.SOON
        return Stage.LAST if told and now >= self.last_at(told) else Stage.OVER

    def last_at(self, told: float) -> float:
        """When the last is due."""
        return max(self.end, told) + self.grace

    def over(self, now: float) -> bool:
        """Whether the VE has lived as long as it may."""
        return bool(self.end) and now >= self.end

    @property
    def asked_seconds(self) -> float:
        """How long the guest may take to shut itself down at the end."""
        return min(ASKED_SECONDS, float(self.grace))

    def words(self, now: float, told: float = 0.0) -> str:
        """What is to come, in words that stay the same until the next stage; empty while it is far."""
        deleted = f"it is deleted at {said(self.last_at(told or min(now, self.end)))}"
        match self.stage(now):
            case Stage.FAR:
                return ""
            case Stage.SOON:
                then = f"; {deleted}" if self.action is LeaseAction.DELETE else ""
                return f"its lease ends at {said(self.end)}: then it is stopped{then}"
        if self.action is LeaseAction.DELETE:
            return f"its lease ended at {said(self.end)}; {deleted} unless it is renewed"
        return f"its lease ended at {said(self.end)}; it is not started until it is renewed"


FOREVER = Lease()
"""No lease."""


def said(at: float) -> str:
    """A time in words, to the second: ``2026-11-21 20:00:00 UTC``."""
    return datetime.fromtimestamp(min(at, END_MAX), UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def duration(seconds: float) -> str:
    """A span of time in words: ``90 s``, ``8 h``, ``2 days 4 h``."""
    parts, left = [], round(seconds)
    for unit, name in ((86400, "days"), (3600, "h"), (60, "min"), (1, "s")):
        if count := left // unit:
            parts.append(f"{count} {'day' if (count, name) == (1, 'days') else name}")
            left -= count * unit
    return " ".join(parts[:2]) or "0 s"


UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_duration(text: str) -> float | None:
    """Seconds of ``90``, ``30s``, ``5m``, ``8h``, ``1.5d``; None for what is no time."""
    factor = UNITS.get(text[-1:].lower())
    try:
        number = float(text[:-1] if factor else text) * (factor or 1)
    except ValueError:
        return None
    return number if 0 <= number < 1e9 else None


def compact(seconds: int) -> str:
    """The inverse of :func:`parse_duration`, in the largest unit that fits: ``8h``."""
    unit = next(name for name, size in reversed(UNITS.items()) if seconds % size == 0)
    return f"{seconds // UNITS[unit]}{unit}"


def fields(asked: object, now: float, begins: float | None = None) -> dict[str, Any]:
    """What a request says of a lease, as fields of a spec. ``asked``: null for none, or an object with ``for`` (seconds from
    ``begins``, else from now) or ``until`` (ISO 8601), ``action`` and ``grace`` (seconds); what is not said is left out."""
    if asked is None:
        return dict(NO_LEASE)
    known = ("for", "until", "action", "grace")
    if not isinstance(asked, Mapping) or not asked or set(map(str, asked)) - set(known):
        todo = f'Send {{"for": 28800}}; known fields: {", ".join(known)}; null: no lease.'
        raise Invalid("a lease is an object, or null", where="lease", todo=todo)
    if "for" in asked and "until" in asked:
        raise Invalid("a lease lasts for a time, or until a time", where="lease", todo="Give one of the two.")
    found: dict[str, Any] = {}
    if "for" in asked:
        found["lease_end"] = float(math.ceil((begins or now) + seconds(asked["for"], LENGTH, "lease.for")))
    if "until" in asked:
        found["lease_end"] = float(math.ceil(moment(asked["until"], now, "lease.until")))
    if "action" in asked:
        found["lease_action"] = action(asked["action"], "lease.action").value
    if "grace" in asked:
        found["lease_grace"] = int(seconds(asked["grace"], GRACE, "lease.grace"))
    return found


def taken_out(data: Mapping[str, Any], now: float, begins: float | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """A request without its member ``lease``, and what that says as fields of a spec (empty: nothing). Raises for those fields
    themselves: their times are the server's."""
    asked = dict(data)
    for name in FIELDS:
        if name in asked:
            todo = 'Send {"lease": {"for": 28800}}, or {"lease": null} for none.'
            raise Invalid(f"no field is called {name!r}", where=name, todo=todo)
    return asked, fields(asked.pop("lease"), now, begins) if "lease" in asked else {}


def check_change(known: Lease, changes: Mapping[str, Any], now: float) -> None:
    """Raise where these fields of a spec can not be given to a VE that has this lease."""
    after = changes.get("lease_end", known.end)
    if "lease_end" in changes:
        to_come(after, now)
    if not after and set(changes) & set(FIELDS) and "lease_end" not in changes:
        raise Invalid("it has no lease", where="lease", todo="Say how long it may live too.")


def action(value: object, where: str) -> LeaseAction:
    """One of the two."""
    try:
        return LeaseAction(str(value))
    except ValueError:
        known = " or ".join(LeaseAction)
        raise Invalid(f"{str(value)[:40]!r} is not what a lease ends with", where=where, todo=f"Choose {known}.") from None


def end(value: object, where: str) -> float:
    """The end of a lease as it is stored: seconds since the epoch, 0 for none. It may have passed."""
    return 0.0 if value == 0 else seconds(value, (1.0, END_MAX), where)


def length(end: float, now: float) -> float:
    """Seconds that a lease with this end still lasts; without an end, for ever."""
    return max(0.0, end - now) if end else math.inf


def to_come(end: float, now: float) -> None:
    """Raise :class:`Invalid` for an end that has passed, or is farther ahead than one may be."""
    if end and not now < end <= now + AHEAD:
        why = "it is in the past" if end <= now else "ten years ahead are allowed"
        raise Invalid(f"a lease can not end at {said(end)}", where="lease_end", why=why)
