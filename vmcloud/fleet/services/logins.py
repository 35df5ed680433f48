"""Logging in, through whatever door: how often a password may be tried, and the name that is nobody's."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vmcloud.domain.errors import Forbidden, VmcloudError

from . import accounts, audit
from .audit import Door


class TooMany(VmcloudError):
    """Asked too often; ``after`` seconds from now it may be tried again."""

    http_status = 429
    code = "too-many"

    def __init__(self, what: str, *, after: int) -> None:
        super().__init__(what, todo=f"Try again in {after} seconds.")
        self.after = after


def refuse_reserved(username: str) -> None:
    """:class:`Forbidden` for the name in which the cloud does things by itself."""
    if username.casefold() == accounts.SERVER.username:
        raise Forbidden(
            f"nobody may act as {accounts.SERVER.username!r}",
            where="username",
            why="what the cloud does by itself is done in this name",
            todo="An administrator gives the user another name.",
        )


@contextmanager
def noted(username: str, source: str, what: str) -> Iterator[None]:
    """Have the audit know how a try to log in goes, made from the address ``source``."""
    try:
        yield
    except VmcloudError as error:
        audit.denied(Door.LOGIN, what, error.problem.what, who=username, source=source)
        raise
    audit.granted(Door.LOGIN, what, who=username, source=source)


class RateLimit:
    """At most ``count`` tries per ``window`` seconds and key, in this process; remembers at most ``remember`` keys."""

    def __init__(self, count: int, window: float, *, remember: int = 10_000, clock: Callable[[], float] = time.monotonic) -> None:
        self._count, self._window, self._remember, self._clock = count, window, remember, clock
        self._tries: OrderedDict[str, deque[float]] = OrderedDict()

    def check(self, key: str) -> None:
        """Count one try; :class:`TooMany` if it is one too many."""
        now = self._clock()
        tries = self._tries.setdefault(key, deque())
        self._tries.move_to_end(key)
        while len(self._tries) > self._remember:
            self._tries.popitem(last=False)
        while tries and tries[0] <= now - self._window:
            tries.popleft()
        if len(tries) >= self._count:
            raise TooMany("too many tries to log in", after=max(1, int(tries[0] + self._window - now) + 1))
        tries.append(now)


PER_USER = RateLimit(10, 60.0)
PER_ADDRESS = RateLimit(30, 60.0)


def check_rate(address: str, username: str) -> None:
    """Passwords are tried at most 30 times a minute from one address, and 10 times for one user, from wherever: addresses are
    cheap. The same counters for every door of one web process."""
    PER_ADDRESS.check(address)
    PER_USER.check(username[:200])
