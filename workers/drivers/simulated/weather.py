"""Delays and failures that come as if by chance and are the same at each run with the same seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum


class Fails(StrEnum):
    """Whether a call fails, and if so whether it does what it was asked before it says so."""

    NO = "no"
    BEFORE = "before"
    AFTER = "after"


@dataclass(frozen=True)
class Weather:
    """``delay``: seconds that each call takes; with a ``seed``, up to twice as many or none. ``fail``: the share of acting calls
    that fail, half of them after they have done it."""

    delay: float = 0.0
    fail: float = 0.0
    seed: str = ""

    @property
    def changes(self) -> bool:
        """Whether calls differ from each other, so that they have to be counted."""
        return bool(self.seed) or self.fail > 0

    def draw(self, operation: str, number: int) -> tuple[float, Fails]:
        """Seconds, and how it ends, of the ``number``-th call of an operation."""
        if not self.changes:
            return self.delay, Fails.NO
        chance = random.Random(f"{self.seed}/{operation}/{number}")
        delay = self.delay * 2 * chance.random() if self.seed else self.delay
        if chance.random() >= self.fail:
            return delay, Fails.NO
        return delay, Fails.BEFORE if chance.random() < 0.5 else Fails.AFTER
