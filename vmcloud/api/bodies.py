"""Large request bodies: refused before anything of them is kept.

Django's ASGI handler writes the whole body to a temporary file before any view, and so any check of rights, runs. Hence this
in front of it: more than :data:`SMALL` bytes are taken for the import of an image by an administrator, and for nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.db import close_old_connections

from vmcloud.domain.errors import Unauthenticated, VmcloudError
from vmcloud.fleet import database
from vmcloud.fleet.services import images

from .auth import person
from .problems import TooLarge, send_problem

Scope = dict[str, Any]
Event = Mapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

SMALL = 1 << 20
"""Bytes of a body that anybody may send."""

_IMPORT = re.compile(r"/api/v1/images/[^/]+")


class _Refused(Exception):
    def __init__(self, error: VmcloudError) -> None:
        self.error = error


class BodyLimit:
    """ASGI middleware. The length is judged as announced, and again as it comes."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.lower(): value for name, value in scope["headers"]}
        announced = headers.get(b"content-length", b"")
        limit, taken = SMALL, 0

        async def grow(size: int) -> None:
            nonlocal limit
            if size > limit:
                limit = await _limit(scope, headers)
            if size > limit:
                raise _Refused(TooLarge(f"the body is larger than {limit} bytes", where="body"))

        async def counted() -> Event:
            nonlocal taken
            event = await receive()
            taken += len(event.get("body", b""))
            await grow(taken)
            return event

        try:
            if announced.isdigit():
                await grow(int(announced[:20]))
            await self._app(scope, counted, send)
        except _Refused as refused:
            await send_problem(scope, send, refused.error)


async def _limit(scope: Scope, headers: dict[bytes, bytes]) -> int:
    """How many bytes this request may have."""
    if scope["method"] not in ("PUT", "POST") or not _IMPORT.fullmatch(scope["path"]):
        return SMALL
    async with ThreadSensitiveContext():
        await sync_to_async(_demand_admin)(headers.get(b"authorization", b"").decode("latin-1"))
    return images.SIZE_MAX


def _demand_admin(authorization: str) -> None:
    scheme, _, token = authorization.partition(" ")
    try:
        if scheme.lower() != "bearer":
            raise Unauthenticated("who are you?", where="Authorization", todo="Log in: `vmcloud login`.")
        person(token).demand_admin("import an image")
    except VmcloudError as error:
        raise _Refused(error) from error
    except database.AWAY as error:
        raise _Refused(database.unavailable(error)) from error
    finally:
        close_old_connections()
