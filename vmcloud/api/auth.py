"""Who is asking: bearer tokens, and how often a password may be tried."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

from django.http import HttpRequest
from ninja.security import HttpBearer

from vmcloud.domain.errors import Forbidden
from vmcloud.fleet.services import accounts
from vmcloud.fleet.services.accounts import Actor

from .problems import TooMany


class Bearer(HttpBearer):
    """``Authorization: Bearer <token>``; the actor is then ``request.auth``."""

    def authenticate(self, request: HttpRequest, token: str) -> Actor:
        """The token's actor, or :class:`~vmcloud.domain.errors.Unauthenticated`."""
        return person(token)


def person(token: str) -> Actor:
    """The person whose token this is. Nobody is let in under the cloud's own name: its jobs would be theirs."""
    found = accounts.authenticate(token.strip())
    refuse_reserved(found.username)
    return found


def refuse_reserved(username: str) -> None:
    """:class:`Forbidden` for the name in which the cloud does things by itself."""
    if username.casefold() == accounts.SERVER.username:
        raise Forbidden(
            f"nobody may act as {accounts.SERVER.username!r}",
            where="username",
            why="what the cloud does by itself is done in this name",
            todo="An administrator gives the user another name.",
        )


def actor(request: HttpRequest) -> Actor:
    """The actor that :class:`Bearer` found."""
    found: Any = getattr(request, "auth", None)
    assert isinstance(found, Actor)
    return found


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


def check_login_rate(request: HttpRequest, username: str) -> None:
    """Passwords are tried at most 30 times a minute from one address, and 10 times for one user, from wherever: addresses are
    cheap. The address is the connection's own, never what a header says (uvicorn runs with ``--no-proxy-headers``)."""
    PER_ADDRESS.check(str(request.META.get("REMOTE_ADDR", "")))
    PER_USER.check(username[:200])
