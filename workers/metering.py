"""A full list of one kind's guests, with what they use where their driver meters.

Guests come first and for themselves: whatever metering does, a list of guests is a list of guests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vmcloud.domain.messages import Seen, Usage

from .drivers.base import Driver, DriverError, Meter


@dataclass(frozen=True)
class Metered:
    """What guests use. ``trouble``: why it is not known, in words."""

    usage: Sequence[Usage] = ()
    trouble: str = ""


@dataclass(frozen=True)
class Listed:
    """All guests of one kind, and what they use."""

    guests: Sequence[Seen]
    metered: Metered = Metered()


def metered(driver: Driver) -> Metered:
    """What the guests use; nothing where the driver is no meter. Never raises."""
    if not isinstance(driver, Meter):
        return Metered()
    try:
        return Metered(tuple(driver.usage()))
    except DriverError as error:
        return Metered(trouble=str(error))
    except Exception as error:
        return Metered(trouble=f"{type(error).__name__}: {error}")
