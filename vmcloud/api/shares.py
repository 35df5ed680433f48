"""Shares: of what lasts (streams, long polls) everybody gets some, and nobody all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from vmcloud.domain.errors import Unavailable
from vmcloud.fleet.services.accounts import Actor
from vmcloud.fleet.services.logins import TooMany

AFTER = 5
"""Seconds after which it is worth another try."""


class Share:
    """Places of one web process, counted. ``what``: what they are for, in the plural."""

    def __init__(self, what: str, *, places: int, each: int, kept: int) -> None:
        """``places`` in all; ``each``: for one user; ``kept``: which only administrators get. One of these gets half of all."""
        self._what, self._places, self._each, self._kept = what, places, each, kept
        self._taken: Counter[str] = Counter()

    @contextmanager
    def place(self, actor: Actor) -> Iterator[None]:
        """One place while inside. :class:`TooMany` where this user has enough, :class:`Unavailable` where all are taken."""
        name, mine = actor.username, self._taken[actor.username]
        if mine >= (most := self._places // 2 if actor.is_admin else self._each):
            raise TooMany(f"you have {most} {self._what} open already", after=AFTER)
        if self._taken.total() >= self._places - (0 if actor.is_admin else self._kept):
            raise Unavailable(
                f"too many {self._what} are open here", todo=f"Try again in {AFTER} seconds, or run another web part."
            )
        self._taken[name] += 1
        try:
            yield
        finally:
            self._taken[name] -= 1
            if not self._taken[name]:
                del self._taken[name]
