"""What waits in front of Django (streams, long polls, reads after a write), in this process and against the web part of a test.

The ASGI layers are the product's; behind them is the test's own client. What both ask the database is asked in a thread, as it is
in use, through the one connection of the test.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.web import Web


class Door:
    """The layers, and what comes of requests through them."""

    def __init__(self, web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
        from django.db import connections

        from vmcloud.api import reader, waits, watch

        self.connection = shared = connections["default"]
        shared.inc_thread_sharing()
        self._thread = ThreadPoolExecutor(1, initializer=lambda: connections.__setitem__("default", shared))
        for module in (reader, waits, watch):
            monkeypatch.setattr(module, "ask", self.ask)
        self.web, self.reader = web, reader.Reader()
        self.app = watch.Watch(waits.Waits(self._django, self.reader), self.reader)

    async def ask(self, call: Callable[[], Any]) -> Any:
        """As :func:`vmcloud.api.threads.ask`; also for what the test itself does to the database meanwhile."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    async def _django(self, scope: Any, receive: Any, send: Any) -> None:
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        path = f"{scope['path']}?{scope['query_string'].decode()}"
        answer = await self.ask(lambda: self.web.client.generic(scope["method"], path, headers=headers))
        fields = [(name.lower().encode(), value.encode()) for name, value in answer.items()]
        await send({"type": "http.response.start", "status": answer.status_code, "headers": fields})
        await send({"type": "http.response.body", "body": answer.content})

    async def get(self, path: str, token: str = "", left: asyncio.Event | None = None) -> Answer:
        """One request below ``/api/v1``, until it is answered whole or its client leaves."""
        answer = Answer()
        await self.app(scope(path, token or self.web.token), receiver(left or asyncio.Event()), answer.hear)
        return answer

    @asynccontextmanager
    async def stream(self, path: str, token: str = "") -> Any:
        """A request that is answered bit by bit; its client leaves at the end."""
        answer, left = Answer(), asyncio.Event()
        task = asyncio.create_task(self.app(scope(path, token or self.web.token), receiver(left), answer.hear))
        try:
            yield answer
        finally:
            left.set()
            await asyncio.wait_for(task, 10)


class Answer:
    """What was answered so far."""

    def __init__(self) -> None:
        self.status, self.headers, self.body = 0, dict[str, str](), b""
        self.more = asyncio.Event()

    async def hear(self, event: Mapping[str, Any]) -> None:
        """One message of the application's."""
        if event["type"] == "http.response.start":
            self.status = event["status"]
            self.headers = {name.decode(): value.decode() for name, value in event["headers"]}
        self.body += event.get("body", b"")
        self.more.set()

    async def until(self, test: Callable[[Answer], object], seconds: float = 10.0) -> None:
        """Wait until it is so."""
        async with asyncio.timeout(seconds):
            while not test(self):
                self.more.clear()
                await self.more.wait()

    def json(self) -> Any:
        """The whole body."""
        return json.loads(self.body)

    def events(self, kind: str = "change") -> list[dict[str, str]]:
        """The events of a stream: id and data."""
        found = [dict(line.split(": ", 1) for line in text.splitlines() if not line.startswith(":")) for text in self._texts()]
        return [each for each in found if each.get("event") == kind]

    def _texts(self) -> list[str]:
        return [text for text in self.body.decode().split("\n\n") if text]


def scope(path: str, token: str) -> dict[str, Any]:
    """What a server says of a request."""
    parts = urlsplit(f"/api/v1{path}")
    headers = [(b"authorization", f"Bearer {token}".encode())]
    return {"type": "http", "method": "GET", "path": parts.path, "query_string": parts.query.encode(), "headers": headers}


def receiver(left: asyncio.Event) -> Callable[[], Awaitable[Mapping[str, Any]]]:
    """A client that sends no body and leaves some time."""
    said = False

    async def receive() -> Mapping[str, Any]:
        nonlocal said
        if not said:
            said = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await left.wait()
        return {"type": "http.disconnect"}

    return receive
