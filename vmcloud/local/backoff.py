"""How long to wait before a part that ended is started again."""

from __future__ import annotations

from dataclasses import dataclass

FIRST = 0.2
LONGEST = 30.0
HEALTHY = 30.0
"""Seconds: the first wait, the longest, and how long a part must have been ready for its past to be forgotten."""


@dataclass(frozen=True)
class Backoff:
    """Ends in a row without a healthy time between."""

    failures: int = 0

    def after_end(self, ready_for: float) -> Backoff:
        """The state after one more end of a part that had been ready for so many seconds (0: never)."""
        return Backoff(failures=1 if ready_for >= HEALTHY else self.failures + 1)

    @property
    def delay(self) -> float:
        """Seconds to wait now: doubles from 0.2 to 30."""
        return min(LONGEST, FIRST * 2.0 ** min(self.failures - 1, 16)) if self.failures else 0.0
