"""Who is asking: users, bearer tokens, and what an actor may see."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import time
from dataclasses import dataclass

from django.contrib.auth import authenticate as check_password
from django.contrib.auth.models import User

from vmcloud.domain.errors import Forbidden, Unauthenticated
from vmcloud.domain.hints import Hint
from vmcloud.fleet import database
from vmcloud.fleet.models import Token

USED_AT_GRAIN = 300.0
"""Seconds: a token's last use is written down this exactly, so that reading does not mean writing."""


@dataclass(frozen=True)
class Actor:
    """Somebody who asks. Administrators see and may do everything; others, what they own."""

    username: str
    is_admin: bool = False

    def demand_admin(self, what: str) -> None:
        """Raise :class:`Forbidden` for anybody but an administrator."""
        if not self.is_admin:
            raise Forbidden(f"only an administrator may {what}", todo=Hint("Ask one, or log in as one: {}.", "login"))

    def may(self, owner: str) -> bool:
        """Whether this actor may see and change what ``owner`` owns."""
        return self.is_admin or self.username == owner


SERVER = Actor("vmcloud", is_admin=True)
"""Who asks for what the rules demand."""


def actor_of(user: User) -> Actor:
    """A Django user as actor."""
    return Actor(user.get_username(), is_admin=bool(user.is_superuser))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def issue(user: User, name: str, now: float | None = None) -> str:
    """A new token for ``user``; its text is told once and not kept."""
    text = "vmc_" + secrets.token_urlsafe(32)
    Token.objects.create(digest=_digest(text), user=user, name=name[:100], created_at=now or time.time())
    return text


def login(username: str, password: str, token_name: str) -> str:
    """Exchange a password for a token."""
    user = check_password(username=username, password=password)
    if not isinstance(user, User):
        raise Unauthenticated(
            "no user with this name and password", todo=Hint("A lost password is reset on the cloud's machine: {}.", "passwd")
        )
    return issue(user, token_name)


def authenticate(token: str) -> Actor:
    """The actor whose token this is; :class:`Unauthenticated` otherwise."""
    row = Token.objects.select_related("user").filter(digest=_digest(token)).first()
    if row is None or not row.user.is_active:
        raise Unauthenticated("this token is not known here", todo='Log in: `vmcloud login`, or `eval "$(vmcloud env)"` as root.')
    now = time.time()
    if row.used_at is None or now - row.used_at > USED_AT_GRAIN:
        with contextlib.suppress(*database.AWAY):  # a full disk must not keep people from looking
            Token.objects.filter(pk=row.pk).update(used_at=now)
    return actor_of(row.user)
