"""``GET /api/v1/watch``: what changes, as it changes, by server-sent events (HTML standard, 9.2).

A connection costs no thread: one task for each web process looks at the feed (:mod:`vmcloud.fleet.services.feed`) while anybody
listens, and each listener is told what concerns it. Events: ``ready`` once, ``change`` with kind and key, ``reset`` where more
was missed than the feed keeps ("look at everything again"). ``id`` is the place to resume, by ``Last-Event-ID`` or ``?after=``.
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections import deque
from dataclasses import dataclass, field
from http.cookies import CookieError
from importlib import import_module
from typing import Any
from urllib.parse import parse_qsl

from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.auth.models import User
from django.core.handlers.asgi import ASGIRequest

from vmcloud.domain.errors import Invalid, Unauthenticated, Unavailable, VmcloudError
from vmcloud.fleet.services import accounts, feed, logins
from vmcloud.fleet.services.accounts import Actor
from vmcloud.fleet.services.feed import News

from .auth import person
from .bodies import App, Receive, Scope, Send
from .problems import NotAllowed, send_problem
from .threads import ask

log = logging.getLogger(__name__)

PATH = "/api/v1/watch"
KINDS = frozenset({"ve", "node", "image", "stray", "job", "queue", "event"})
LOOK_SECONDS = 0.1
"""Between two looks at the feed: one read of a few rows, whatever the number of listeners."""
REST_SECONDS = 15.0
"""Silence after which a comment is sent, so that proxies keep the connection and a client that is gone is noticed."""
LIFE_SECONDS = 900.0
"""After this a connection ends; the client comes again at once, and its right to is checked anew."""
BEHIND = 1000
"""News that a listener may be behind; one that is further behind is told to look at everything again."""
LISTENERS = 2000
"""Connections of one web process."""
REMEMBERED = 4 * feed.SLACK
"""Numbers of rows that are known to have been told."""
HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


@dataclass(eq=False)
class Listener:
    """One connection: who it is, and what it asked for."""

    actor: Actor
    kinds: frozenset[str]
    keys: frozenset[str]
    waiting: deque[News] = field(default_factory=deque)
    lost: bool = False
    woken: asyncio.Event = field(default_factory=asyncio.Event)

    def offer(self, news: News) -> None:
        """Keep what concerns it."""
        if not (news.visible_to(self.actor) and news.about(self.kinds, self.keys)):
            return
        if len(self.waiting) >= BEHIND:
            self.waiting.clear()
            self.lost = True
        self.waiting.append(news)
        self.woken.set()


class Watch:
    """ASGI middleware for :data:`PATH`; everything else goes on to ``app``."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._listeners: set[Listener] = set()
        self._looking: asyncio.Task[None] | None = None
        self._number = 0
        self._told: deque[int] = deque(maxlen=REMEMBERED)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection."""
        if scope["type"] != "http" or scope["path"] != PATH:
            await self._app(scope, receive, send)
            return
        try:
            if scope["method"] != "GET":
                raise NotAllowed(f"{scope['method']} is not possible here", where=PATH, todo="Possible: GET.")
            if len(self._listeners) >= LISTENERS:
                raise Unavailable(f"{LISTENERS} connections watch already", todo="Close some, or run another web part.")
            kinds, keys, after = _wishes(scope)
            listener = Listener(await ask(lambda: _who(scope)), kinds, keys)
            self._listeners.add(listener)  # before the feed is read: what comes meanwhile is not missed
            try:
                await self._serve(listener, after, receive, send)
            finally:
                self._listeners.discard(listener)
        except VmcloudError as error:
            await send_problem(scope, send, error)

    async def _serve(self, listener: Listener, after: int | None, receive: Receive, send: Send) -> None:
        number, missed = await ask(lambda: _begin(after))
        for news in missed or ():
            listener.offer(news)
        if self._looking is None or self._looking.done():
            self._number = number
            self._looking = asyncio.create_task(self._look())
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        tasks = [
            asyncio.create_task(self._tell(listener, send, number, reset=missed is None)),
            asyncio.create_task(_left(receive)),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _look(self) -> None:
        """Read the feed and tell the listeners, as long as there are any."""
        while self._listeners:
            try:
                for news in await ask(lambda: feed.since(self._number)):
                    if news.number in self._told:
                        continue
                    self._told.append(news.number)
                    self._number = max(self._number, news.number)
                    for listener in self._listeners:
                        listener.offer(news)
            except Unavailable:
                pass  # looked at again in a moment; who listens misses nothing
            except Exception:
                log.exception("reading the feed failed; it is tried again")
            await asyncio.sleep(LOOK_SECONDS)

    async def _tell(self, listener: Listener, send: Send, number: int, *, reset: bool) -> None:
        async def say(event: str, data: Any, number: int) -> None:
            text = f"event: {event}\nid: {number}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n"
            await send({"type": "http.response.body", "body": text.encode(), "more_body": True})

        ends = asyncio.get_running_loop().time() + LIFE_SECONDS
        await say("reset" if reset else "ready", {}, number)
        while asyncio.get_running_loop().time() < ends:
            if listener.lost:
                listener.lost = False
                await say("reset", {}, self._number)
            while listener.waiting:
                news = listener.waiting.popleft()
                await say("change", news.to_json(), news.number)
            listener.woken.clear()
            try:
                await asyncio.wait_for(listener.woken.wait(), REST_SECONDS)
            except TimeoutError:
                await send({"type": "http.response.body", "body": b": here\n\n", "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _wishes(scope: Scope) -> tuple[frozenset[str], frozenset[str], int | None]:
    """Kinds, keys, and the number to resume after; :class:`Invalid` for anything else."""
    asked = dict(parse_qsl(scope["query_string"].decode("latin-1")))
    headers = {name.lower(): value for name, value in scope["headers"]}
    after = headers.get(b"last-event-id", b"").decode("latin-1") or asked.pop("after", "")
    asked.pop("after", None)
    kinds = frozenset(filter(None, asked.pop("kinds", "").split(",")))
    keys = frozenset(filter(None, asked.pop("key", "").split(",")))
    if asked:
        where = next(iter(asked))[:60]
        raise Invalid(f"no query parameter is called {where!r} here", where=where, todo="Known: kinds, key, after.")
    if unknown := kinds - KINDS:
        raise Invalid(f"no kind is called {min(unknown)[:40]!r}", where="kinds", todo=f"Known: {', '.join(sorted(KINDS))}.")
    if after and not (after.isascii() and after.isdigit() and len(after) < 19):
        raise Invalid(f"{after[:40]!r} is no place to resume at", where="after", todo="Give the id of the last event.")
    return kinds, keys, int(after) if after else None


def _who(scope: Scope) -> Actor:
    """By token, else by the admin's session. A page of somebody else's cannot read the answer (there is no CORS header)."""
    headers = {name.lower(): value for name, value in scope["headers"]}
    scheme, _, text = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    if scheme.lower() == "bearer":
        return person(text)
    try:
        request = ASGIRequest(scope, io.BytesIO())
        request.session = import_module(settings.SESSION_ENGINE).SessionStore(request.COOKIES.get(settings.SESSION_COOKIE_NAME))
        user = get_user(request)
    except (CookieError, ValueError):
        user = None
    if not isinstance(user, User) or not user.is_active:
        raise Unauthenticated("who are you?", where="Authorization", todo="Log in: `vmcloud login`, or in the browser.")
    logins.refuse_reserved(user.get_username())
    return accounts.actor_of(user)


def _begin(after: int | None) -> tuple[int, list[News] | None]:
    """Where the feed is now, and what came after ``after``; None if that is not all known any more."""
    now = feed.cursor()
    if after is None:
        return now, []
    if after > now or not feed.reaches_back(after):
        return now, None
    found = feed.since(after, BEHIND + 1)
    return now, found if len(found) <= BEHIND else None


async def _left(receive: Receive) -> None:
    """Until the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
