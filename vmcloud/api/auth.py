"""Who is asking: bearer tokens."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from ninja.security import HttpBearer

from vmcloud.fleet.services import accounts, logins
from vmcloud.fleet.services.accounts import Actor


class Bearer(HttpBearer):
    """``Authorization: Bearer <token>``; the actor is then ``request.auth``."""

    def authenticate(self, request: HttpRequest, token: str) -> Actor:
        """The token's actor, or :class:`~vmcloud.domain.errors.Unauthenticated`."""
        return person(token)


def person(token: str) -> Actor:
    """The person whose token this is. Nobody is let in under the cloud's own name: its jobs would be theirs."""
    found = accounts.authenticate(token.strip())
    logins.refuse_reserved(found.username)
    return found


def actor(request: HttpRequest) -> Actor:
    """The actor that :class:`Bearer` found."""
    found: Any = getattr(request, "auth", None)
    assert isinstance(found, Actor)
    return found


def check_login_rate(request: HttpRequest, username: str) -> None:
    """:func:`~vmcloud.fleet.services.logins.check_rate`. The address is the connection's own, never what a header says (uvicorn
    runs with ``--no-proxy-headers``)."""
    logins.check_rate(str(request.META.get("REMOTE_ADDR", "")), username)
