"""Tickets: single-use rights to a data connection. Made by the server for one job, node and purpose; one minute to begin."""

from __future__ import annotations

import hashlib
import secrets
import time
from pathlib import Path

from django.db import transaction

from vmcloud.domain.errors import Forbidden, NotFound
from vmcloud.fleet import ports
from vmcloud.fleet.models import Ticket

BEGIN_WITHIN = 60.0
"""Seconds from making a ticket to its use."""


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def make(purpose: str, subject: str, *, job: int, node: str, now: float) -> str:
    """A ticket's text, told once."""
    text = secrets.token_urlsafe(24)
    digest = _digest(text)
    Ticket.objects.create(digest=digest, purpose=purpose, subject=subject, job=job, node=node, expires=now + BEGIN_WITHIN)
    return text


def redeem_image(text: str, sha256: str) -> Path:
    """Use up a ticket for one image; the archive's path. :class:`Forbidden` for a ticket used, expired or for another."""
    now = time.time()
    valid = Ticket.objects.filter(digest=_digest(text), purpose="image", subject=sha256, used_at=None, expires__gte=now)
    used = valid.update(used_at=now)
    if not used:
        raise Forbidden("this ticket is not valid (any more)", why="a ticket counts once, for one minute, for one image")
    path = ports.cloud().images / sha256
    if not path.is_file():
        raise NotFound(f"the archive of image {sha256[:12]} is not in the store", todo="Import the image again.")
    return path


def redeem_session(text: str, job: int) -> None:
    """Use up a ticket for a node's end of a session. A session has one such end in its life: a second one (of a worker that was
    killed and does not know) is :class:`Forbidden` too, so that no command runs twice."""
    now = time.time()
    with transaction.atomic():
        valid = Ticket.objects.filter(digest=_digest(text), purpose="session", job=job, used_at=None, expires__gte=now)
        used = valid.update(used_at=now)
        if not used:
            raise Forbidden("this ticket is not valid (any more)", why="a ticket counts once, for one minute, for one session")
        if Ticket.objects.filter(purpose="session", job=job).exclude(used_at=None).count() > 1:
            raise Forbidden(f"session {job} has begun before", why="the worker that had it is gone", todo="Ask for a new one.")


def forget(before: float) -> None:
    """Remove tickets that expired before ``before``."""
    Ticket.objects.filter(expires__lt=before).delete()
