"""``GET /api/v1/watch``: what changes, as it changes, by server-sent events (HTML standard, 9.2).

A connection costs no thread: one reader for each web process looks at the feed (:mod:`.reader`), and each listener is told what
concerns it. Events: ``ready`` once, ``change`` with kind and key, ``reset`` where more was missed than the feed keeps ("look at
everything again"). ``id`` is the place to resume, by ``Last-Event-ID`` or ``?after=``: nothing is missed then. Who resumes may be
told again what was committed at about that time; as long as a connection lasts, nothing is told twice.
"""

from __future__ import annotations

import asyncio
import io
import json
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

from vmcloud.domain.errors import Invalid, Unauthenticated, VmcloudError
from vmcloud.fleet.services import accounts, feed, logins
from vmcloud.fleet.services.accounts import Actor
from vmcloud.fleet.services.feed import News, Place

from .auth import person
from .bodies import App, Receive, Scope, Send
from .problems import NotAllowed, send_problem
from .reader import Reader
from .shares import Share
from .threads import ask

PATH = "/api/v1/watch"
KINDS = frozenset({"ve", "node", "image", "stray", "job", "queue", "event"})
REST_SECONDS = 15.0
"""Silence after which a comment is sent, so that proxies keep the connection and a client that is gone is noticed."""
LIFE_SECONDS = 900.0
"""After this a connection ends; the client comes again at once, and its right to is checked anew."""
BEHIND = 1000
"""News that a listener may be behind; one that is further behind is told to look at everything again."""
STREAMS = {"places": 2000, "each": 100, "kept": 200}
"""Connections of one web process."""
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
    known: set[int] = field(default_factory=set)
    """Numbers of what it was told when it resumed: the reader may come to these later."""

    def offer(self, news: News) -> None:
        """Keep what concerns it."""
        if news.number in self.known:
            self.known.discard(news.number)
            return
        if not (news.visible_to(self.actor) and news.about(self.kinds, self.keys)):
            return
        if len(self.waiting) >= BEHIND:
            self.waiting.clear()
            self.lost = True
        self.waiting.append(news)
        self.woken.set()

    def resume(self, missed: list[News]) -> None:
        """Tell it first what it missed, some of which it may have been offered already."""
        offered, self.waiting = self.waiting, deque()
        for news in missed:
            self.offer(news)
        self.known = {news.number for news in missed}
        for news in offered:
            self.offer(news)


class Watch:
    """ASGI middleware for :data:`PATH`; everything else goes on to ``app``."""

    def __init__(self, app: App, reader: Reader) -> None:
        self._app, self._reader = app, reader
        self._share = Share("streams", **STREAMS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection."""
        if scope["type"] != "http" or scope["path"] != PATH:
            await self._app(scope, receive, send)
            return
        try:
            if scope["method"] != "GET":
                raise NotAllowed(f"{scope['method']} is not possible here", where=PATH, todo="Possible: GET.")
            kinds, keys, after = _wishes(scope)
            listener = Listener(await ask(lambda: _who(scope)), kinds, keys)
            with self._share.place(listener.actor):
                try:
                    await self._reader.join(listener)  # before the feed is read: what comes meanwhile is not missed
                    await self._serve(listener, after, receive, send)
                finally:
                    self._reader.leave(listener)
        except VmcloudError as error:
            await send_problem(scope, send, error)

    async def _serve(self, listener: Listener, after: Place | None, receive: Receive, send: Send) -> None:
        place, missed = await ask(lambda: _begin(after))
        listener.resume(missed or [])
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        tasks = [
            asyncio.create_task(self._tell(listener, send, str(place), reset=missed is None)),
            asyncio.create_task(_left(receive)),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _tell(self, listener: Listener, send: Send, place: str, *, reset: bool) -> None:
        async def say(event: str, data: Any, place: str) -> None:
            text = f"event: {event}\nid: {place}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n"
            await send({"type": "http.response.body", "body": text.encode(), "more_body": True})

        ends = asyncio.get_running_loop().time() + LIFE_SECONDS
        await say("reset" if reset else "ready", {}, place)
        while asyncio.get_running_loop().time() < ends:
            if listener.lost:
                listener.lost = False
                await say("reset", {}, self._reader.place)
            while listener.waiting:
                news = listener.waiting.popleft()
                await say("change", news.to_json(), news.place)
            listener.woken.clear()
            try:
                await asyncio.wait_for(listener.woken.wait(), REST_SECONDS)
            except TimeoutError:
                await send({"type": "http.response.body", "body": b": here\n\n", "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _wishes(scope: Scope) -> tuple[frozenset[str], frozenset[str], Place | None]:
    """Kinds, keys, and the place to resume at; :class:`Invalid` for anything else."""
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
    try:
        return kinds, keys, Place.parse(after) if after else None
    except ValueError:
        raise Invalid(f"{after[:40]!r} is no place to resume at", where="after", todo="Give the id of the last event.") from None


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


def _begin(after: Place | None) -> tuple[Place, list[News] | None]:
    """Where the feed is now, and what came after ``after``; None if that is not all known any more."""
    now = feed.cursor()
    if after is None:
        return now, []
    if after.number > now.number or not feed.reaches_back(after):
        return now, None
    found, _ = feed.read(after, BEHIND + 1)
    return now, found if len(found) <= BEHIND else None


async def _left(receive: Receive) -> None:
    """Until the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
