"""Threads for what is not asynchronous in the web part, each with its database connection, kept from one request to the next.

Django's own handler gives every request a thread that is new, and with it a new connection: for SQLite with its pragmas, that is
half of what a small request takes. asgiref lets the caller own the executor (ThreadSensitiveContext).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.core.handlers.asgi import ASGIHandler
from django.db import close_old_connections

from vmcloud.fleet import database

T = TypeVar("T")

KEPT = 16
"""Threads that wait for requests; under more requests at once there are more, and they end with them."""

_idle: list[ThreadPoolExecutor] = []


@asynccontextmanager
async def thread() -> AsyncIterator[None]:
    """Inside, what is not asynchronous runs in one thread of its own, the one used last that is free: its caches are warm."""
    executor = _idle.pop() if _idle else ThreadPoolExecutor(1, "web")
    try:
        async with ThreadSensitiveContext(executor=executor):
            yield
    finally:
        if len(_idle) < KEPT:
            _idle.append(executor)
        else:
            executor.shutdown(wait=False)


async def ask(call: Callable[[], T]) -> T:
    """Run ``call``, which uses the database, in a thread. :class:`~vmcloud.domain.errors.Unavailable` where it is away."""

    def asked() -> T:
        try:
            return call()
        except database.AWAY as error:
            raise database.unavailable(error) from error
        finally:
            close_old_connections()

    async with thread():
        awaited: Awaitable[T] = sync_to_async(asked)()
        return await awaited


class Handler(ASGIHandler):
    """Django's, with a kept thread for each request under way."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request."""
        async with thread():
            await self.handle(scope, receive, send)
