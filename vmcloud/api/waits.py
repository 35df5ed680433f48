"""Requests that wait before they are answered: ``GET /jobs/{id}?wait=`` for a change, ``?after=`` for what one wrote to be shown.

They wait here, in front of Django, whose handler would keep a thread for each; then they are answered as any other. What is wrong
with a request, Django's side says: such a one does not wait.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any
from urllib.parse import parse_qsl

from vmcloud.domain.errors import Invalid, Unavailable, VmcloudError
from vmcloud.domain.vocabulary import JobState
from vmcloud.fleet.database import UNFIT
from vmcloud.fleet.models import Job
from vmcloud.fleet.services import jobs, watermark
from vmcloud.fleet.services.accounts import Actor

from .answers import VERSION, number
from .auth import person
from .bodies import App, Event, Receive, Scope, Send
from .problems import send_problem
from .reader import Reader
from .shares import Share
from .threads import ask

WAIT_MAX = 60.0
"""Seconds one long poll may last."""
LONG_POLLS = {"places": 2000, "each": 200, "kept": 200}
"""Of one web process."""
READS_MAX = 500
"""Reads that wait for a write at once; others are answered with what is there."""

_JOB = re.compile(r"/api/v1/jobs/([^/]+)")
_SHOWN = re.compile(r"/api/v1/(?:ves|nodes|images)(?:/[^/]+)?")


class Waits:
    """ASGI middleware; everything goes on to ``app``, some of it later."""

    def __init__(self, app: App, reader: Reader) -> None:
        self._app, self._reader = app, reader
        self._share = Share("long polls", **LONG_POLLS)
        self._reads = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection."""
        asked = _query(scope)
        if (found := _JOB.fullmatch(scope["path"]) if "wait" in asked else None) is not None:
            await self._poll(found[1], asked, scope, receive, send)
            return
        if VERSION.fullmatch(version := asked.get("after", "")) and _SHOWN.fullmatch(scope["path"]) and self._reads < READS_MAX:
            self._reads += 1
            try:
                await self._reader.directory(version, watermark.PATIENCE)
            except VmcloudError as error:
                await send_problem(scope, send, error)
                return
            finally:
                self._reads -= 1
        await self._app(scope, receive, send)

    async def _poll(self, ref: str, asked: dict[str, str], scope: Scope, receive: Receive, send: Send) -> None:
        """Wait for a job, unless it has changed already; whoever leaves meanwhile gives up their place."""
        body = _Body(receive)
        try:
            seconds = min(number(asked["wait"], "wait"), WAIT_MAX)
            version = int(number(asked.get("version", "0"), "version"))
            actor, job = await ask(lambda: _look(scope, ref))
        except Unavailable as error:
            await send_problem(scope, send, error)
            return
        except (VmcloudError, *UNFIT):
            await self._app(scope, receive, send)
            return
        if seconds and job.version <= version and job.state != JobState.COMPLETE:
            try:
                with self._share.place(actor):
                    await body.read()
                    tasks = [asyncio.create_task(each) for each in (self._reader.job(job.pk, version, seconds), body.left())]
                    try:
                        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                        if tasks[0].done():
                            tasks[0].result()
                    finally:
                        for task in tasks:
                            task.cancel()
                        await asyncio.gather(*tasks, return_exceptions=True)
            except VmcloudError as error:
                await send_problem(scope, send, error)
                return
            if body.gone:
                return
        await self._app(scope, body.again, send)


class _Body:
    """What a request says beside its head (nothing, mostly), kept for who answers it; and whether its client is still there."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._kept: list[Event] = []
        self.gone = False

    async def read(self) -> None:
        """All of it."""
        more = True
        while more:
            event = await self._receive()
            self._kept.append(event)
            self.gone = event["type"] == "http.disconnect"
            more = not self.gone and event.get("more_body", False)

    async def left(self) -> None:
        """Until the client is gone."""
        while not self.gone:
            self.gone = (await self._receive())["type"] == "http.disconnect"

    async def again(self) -> Event:
        """As ``receive``, from the beginning."""
        return self._kept.pop(0) if self._kept else await self._receive()


def _query(scope: Scope) -> dict[str, str]:
    """What a request for something asks for beside its path."""
    if scope["type"] != "http" or scope["method"] != "GET" or not scope["query_string"]:
        return {}
    return dict(parse_qsl(scope["query_string"].decode("latin-1")))


def _look(scope: Scope, ref: str) -> tuple[Actor, Job]:
    """Who asks, and the job as they may see it."""
    headers: dict[bytes, Any] = {name.lower(): value for name, value in scope["headers"]}
    scheme, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    if scheme.lower() != "bearer":
        raise Invalid("no token")
    who = person(token)
    return who, jobs.get(who, ref)
