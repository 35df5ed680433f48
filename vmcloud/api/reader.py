"""The one reader of the job database for all who wait in this web process: streams, long polls, sessions, reads after a write.

Who waits costs no thread and no statement of its own. One task looks as long as anybody waits: often just after somebody came,
since most wait for something short, and ten times a second otherwise. Other web processes have readers of their own; what wakes
them is in SQL.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from vmcloud.domain.errors import Unavailable
from vmcloud.domain.vocabulary import JobState
from vmcloud.fleet.models import Job
from vmcloud.fleet.services import feed, watermark
from vmcloud.fleet.services.feed import News, Place

from .threads import ask

log = logging.getLogger(__name__)

LOOK_FIRST, LOOK_LAST = 0.005, 0.1
"""Seconds between two looks, at least and at most."""
LOOK_GROWTH = 0.05
"""Between them: this part of the time for which the one who came last has waited."""


class Listener(Protocol):
    """Who is told of all news."""

    def offer(self, news: News) -> None:
        """One change; in the order of their commits."""


@dataclass(eq=False)
class _Waiter:
    """Somebody who waits for one thing: a version of a job, or of the directory."""

    version: int | str
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    away: Unavailable | None = None
    """Why it was woken, where that is that the database does not answer."""


@dataclass(frozen=True)
class _Seen:
    """What one look has found. ``jobs``: versions of those that are not complete."""

    news: list[News]
    place: Place
    jobs: dict[int, int]
    directory: str


class Reader:
    """See the module. One for each event loop."""

    def __init__(self) -> None:
        self._listeners: set[Listener] = set()
        self._jobs: dict[int, set[_Waiter]] = {}
        self._new: set[int] = set()
        self._versions: set[_Waiter] = set()
        self._task: asyncio.Task[None] | None = None
        self._place: Place | None = None
        self._came = 0.0
        self._hurry = asyncio.Event()

    @property
    def place(self) -> str:
        """Up to where it has told."""
        return str(self._place or "")

    async def join(self, listener: Listener) -> None:
        """Tell it all that is committed from now on, until it leaves. :class:`Unavailable` where the database is away."""
        if self._place is None:
            place = await ask(feed.cursor)
            self._place = self._place or place
        self._listeners.add(listener)
        self._run()

    def leave(self, listener: Listener) -> None:
        """No more of it."""
        self._listeners.discard(listener)

    async def job(self, number: int, version: int, seconds: float) -> None:
        """Return when the job is newer than ``version``, complete or gone, or ``seconds`` are over. :class:`Unavailable` as
        soon as the database is away."""
        waiter = _Waiter(version)
        self._jobs.setdefault(number, set()).add(waiter)
        self._new.add(number)  # it may have changed since the caller looked
        try:
            await self._woken(waiter, seconds)
        finally:
            self._jobs[number].discard(waiter)
            if not self._jobs[number]:
                del self._jobs[number]

    async def directory(self, version: str, seconds: float) -> None:
        """Return when the read model shows an entry of this version, or ``seconds`` are over. :class:`Unavailable` as soon as the
        database is away."""
        waiter = _Waiter(version)
        self._versions.add(waiter)
        try:
            await self._woken(waiter, seconds)
        finally:
            self._versions.discard(waiter)

    async def _woken(self, waiter: _Waiter, seconds: float) -> None:
        self._came = asyncio.get_running_loop().time()
        self._hurry.set()
        self._run()
        try:
            async with asyncio.timeout(seconds):
                await waiter.woken.wait()
        except TimeoutError:
            pass
        if waiter.away is not None:
            raise waiter.away

    def _runs(self) -> bool:
        return self._task is not None and not self._task.done()

    def _run(self) -> None:
        if not self._runs():
            self._task = asyncio.create_task(self._look())

    async def _look(self) -> None:
        """As long as anybody waits."""
        while self._listeners or self._jobs or self._versions:
            self._hurry.clear()
            place, waited, new = self._place, frozenset(self._jobs), frozenset(self._new)
            self._new.clear()
            try:
                seen = await ask(partial(_see, place, waited, new, directory=bool(self._versions)))
            except Unavailable as error:
                self._wake_all(error)  # asking again would take them as long again; streams miss nothing
            except Exception:
                log.exception("reading the feed failed; it is tried again")
                self._new |= new
            else:
                self._place = (
                    seen.place if self._place is place else self._place
                )  # somebody may have joined before the first look
                self._tell(seen)
                if len(seen.news) == feed.READ:
                    continue
            await self._pause()
        self._place = None

    def _tell(self, seen: _Seen) -> None:
        for news in seen.news:
            for listener in self._listeners:
                listener.offer(news)
        for number, version in seen.jobs.items():
            for waiter in self._jobs.get(number, ()):
                if version > int(waiter.version):
                    waiter.woken.set()
        for waiter in self._versions:
            if seen.directory >= str(waiter.version):
                waiter.woken.set()

    def _wake_all(self, away: Unavailable) -> None:
        for waiters in (*self._jobs.values(), self._versions):
            for waiter in waiters:
                waiter.away = away
                waiter.woken.set()

    async def _pause(self) -> None:
        waited = asyncio.get_running_loop().time() - self._came
        try:
            async with asyncio.timeout(min(max(waited * LOOK_GROWTH, LOOK_FIRST), LOOK_LAST)):
                await self._hurry.wait()
        except TimeoutError:
            pass


OVER = 2**62
"""The version of a job that does not change any more."""


def _see(place: Place | None, waited: Collection[int], new: Collection[int], *, directory: bool) -> _Seen:
    """One look. ``waited``: numbers of jobs that somebody waits for; ``new``: those that are looked at whatever the feed says."""
    news, place = feed.read(place) if place is not None else ([], feed.cursor())
    told = {int(each.key) for each in news if each.kind == "job"}
    asked = list(told.intersection(waited) | set(new))
    rows = Job.objects.filter(pk__in=asked).values_list("pk", "version", "state") if asked else ()
    jobs = dict.fromkeys(asked, OVER)
    jobs |= {number: OVER if state == JobState.COMPLETE else version for number, version, state in rows}
    return _Seen(news, place, jobs, watermark.version() if directory else "")
