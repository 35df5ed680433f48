"""The two ends of a session, joined: the person's websocket and the one that the VE's node opens.

- ``/api/v1/sessions/<job>``: the person, ``Authorization: Bearer <token>``. While nothing is there yet it is told why.
- ``/api/v1/sessions/<job>/node``: the node, ``Authorization: Ticket <text>``, let in once and only when the person is there.

What one says the other is told, message by message (:mod:`vmcloud.domain.session`): the next is read when the other end has taken
the one before, so that neither can flood the web part. Both ends must reach the same web process; where there are several, the
proxy in front of them chooses by the path.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from dataclasses import dataclass, field
from typing import Any

from vmcloud.domain.errors import Conflict, Invalid, NotFound, Problem, Unauthenticated, Unavailable, VmcloudError
from vmcloud.domain.session import SUBPROTOCOL, Channel, Frame, Status
from vmcloud.fleet.services import sessions, tickets

from .auth import person
from .bodies import App, Event, Receive, Scope, Send
from .problems import note_refusal, send_problem
from .reader import Reader
from .threads import ask

log = logging.getLogger(__name__)

_PATH = re.compile(r"/api/v1/sessions/(\d{1,18})(/node)?")
PERSON_SECONDS = 10.0
"""How long a node's end waits for the person's."""
LOOK_SECONDS = 60.0
"""Between two looks at why the node is not there yet, where the job does not change meanwhile."""
AWAY_SECONDS = 0.5
"""The same where the job database is away."""
AHEAD = 16
"""Messages that a person may be ahead of the node."""
PROBE_SECONDS = 5.0
"""Between two looks at whether the person is still there, while the node takes none of what they say."""
CLOSE_SECONDS = 5.0
"""What an end that takes nothing is given to be told that it is over."""
ABANDON_SECONDS = 15.0
"""What a node is given to end a session after its person has left, before it is ordered to."""
POLICY = 1008
"""RFC 6455, 7.4.1: a message that goes against the rules."""


class Sessions:
    """ASGI middleware for websockets; everything else goes on to ``app``."""

    def __init__(self, app: App, reader: Reader) -> None:
        self._app, self._reader = app, reader
        self._open: dict[int, _Pair] = {}
        self._opened = asyncio.Event()
        """Set, and made anew, whenever a person has come."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection."""
        if scope["type"] != "websocket":
            await self._app(scope, receive, send)
            return
        await receive()  # websocket.connect
        try:
            found = _PATH.fullmatch(scope["path"])
            if found is None:
                raise NotFound("there is nothing here for a websocket", where="path")
            scheme, credential = _credential(scope)
            end = self._node if found[2] else self._person
            await end(int(found[1]), scheme, credential, _End(scope, receive, send))
        except VmcloudError as error:
            await _refuse(scope, send, error)

    async def _person(self, job: int, scheme: str, token: str, end: _End) -> None:
        await ask(lambda: sessions.demand(_bearer(scheme, token), job))
        if job in self._open:
            raise Conflict(f"session {job} has its person already", where="session", code="taken")
        pair = self._open[job] = _Pair(end)
        self._opened.set()
        self._opened = asyncio.Event()
        try:
            await end.accept()
            tasks: list[asyncio.Task[Any]] = [
                asyncio.create_task(each()) for each in (pair.read_person, pair.probe_person, pair.over.wait, pair.tell_node)
            ]
            try:
                await self._wait(job, pair, tasks[0])
                if pair.node is not None:
                    await asyncio.wait(tasks[:3], return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
        finally:
            pair.over.set()
            del self._open[job]
            await end.close()

    async def _wait(self, job: int, pair: _Pair, reading: asyncio.Task[None]) -> None:
        """Until the node is there, telling the person what is waited for; or until nothing will come."""
        told = ""
        while pair.node is None and not reading.done() and not pair.person.gone:
            pause = LOOK_SECONDS
            try:
                found = await ask(lambda: sessions.progress(job))
            except Unavailable as error:
                found, pause = sessions.Progress(reason=error.problem.what), AWAY_SECONDS
            if found.over is not None:
                await pair.person.send(Status(problem=found.over).encode())
                return
            if found.reason != told:
                told = found.reason
                await pair.person.send(Status(waiting=told).encode())
            changed = asyncio.create_task(self._reader.job(job, found.version, pause) if found.version else asyncio.sleep(pause))
            joined = asyncio.create_task(pair.joined.wait())
            try:
                await asyncio.wait((changed, joined, reading), return_when=asyncio.FIRST_COMPLETED)
            finally:
                changed.cancel()
                joined.cancel()

    async def _node(self, job: int, scheme: str, ticket: str, end: _End) -> None:
        if scheme != "ticket":
            raise Unauthenticated("a ticket is needed", where="Authorization", todo="The order for a session carries one.")
        await ask(lambda: tickets.redeem_session(ticket, job))
        pair = await self._person_of(job)
        if pair.node is not None:
            raise Conflict(f"session {job} has its node already", where="session", code="taken")
        pair.node = end  # before anything is awaited: nobody else is let in
        tasks: list[asyncio.Task[Any]] = []
        try:
            await end.accept()
            pair.joined.set()
            tasks = [asyncio.create_task(each()) for each in (pair.read_node, pair.over.wait)]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            left = not tasks[0].done()
        finally:
            for task in tasks:
                task.cancel()
            pair.over.set()
            await end.close()
        if left:
            # A node that waits for its program to take input reads no farewell.
            await asyncio.sleep(ABANDON_SECONDS)
            await ask(lambda: sessions.abandon(job))

    async def _person_of(self, job: int) -> _Pair:
        """The person's half, which may be a moment behind: it is opened when the job's number is known."""
        try:
            async with asyncio.timeout(PERSON_SECONDS):
                while job not in self._open:
                    await self._opened.wait()
        except TimeoutError:
            raise NotFound(f"nobody came for session {job}", where="session") from None
        return self._open[job]


class _End:
    """One websocket."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._offered, self._receive, self._send = scope.get("subprotocols", ()), receive, send
        self._open = False
        self._lock = asyncio.Lock()

    async def accept(self) -> None:
        # One that was not offered may not be chosen (RFC 6455, 4.2.2).
        chosen = SUBPROTOCOL if SUBPROTOCOL in self._offered else None
        await self._send({"type": "websocket.accept", "subprotocol": chosen})
        self._open = True

    async def send(self, message: bytes) -> None:
        """Returns when the other side's buffers have room; silently where it is gone."""
        async with self._lock:
            if self._open:
                try:
                    await self._send({"type": "websocket.send", "bytes": message})
                except (OSError, RuntimeError):  # uvicorn says so in both ways
                    self._open = False

    async def receive(self) -> bytes | None:
        """The next message; None at the end."""
        event: Event = await self._receive()
        if event["type"] != "websocket.receive":
            self._open = False
            return None
        found: bytes = event.get("bytes") or (event.get("text") or "").encode()
        return found

    @property
    def gone(self) -> bool:
        """Whether the other side is known to be gone."""
        return not self._open

    async def close(self) -> None:
        with contextlib.suppress(OSError, RuntimeError):
            async with asyncio.timeout(CLOSE_SECONDS), self._lock:
                if self._open:
                    self._open = False
                    await self._send({"type": "websocket.close", "code": 1000})


@dataclass
class _Pair:
    """A session's two ends. ``over``: one of them is gone, or all is said."""

    person: _End
    node: _End | None = None
    joined: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    said: asyncio.Queue[bytes] = field(default_factory=lambda: asyncio.Queue(AHEAD))

    async def read_person(self) -> None:
        """Hear the person, from the beginning on: so it is noticed when they leave."""
        while (message := await self.person.receive()) is not None:
            await self.said.put(message)

    async def probe_person(self) -> None:
        """Notice a person who leaves while no more is read of them because the node takes nothing: an empty word shows it."""
        while not self.person.gone:
            await asyncio.sleep(PROBE_SECONDS)
            if self.said.full():
                await self.person.send(Status().encode())

    async def tell_node(self) -> None:
        """What the person says goes to the node once that is there."""
        await self.joined.wait()
        assert self.node is not None
        while True:
            await self.node.send(await self.said.get())

    async def read_node(self) -> None:
        """What the node says goes to the person. One that falls silent without a last word gets one put in its mouth."""
        assert self.node is not None
        while (message := await self.node.receive()) is not None:
            await self.person.send(message)
            if _last_word(message):
                return
        lost = Problem("lost", "the connection to the node broke", todo="Look at the node: `vmcloud node list`; then try again.")
        await self.person.send(Status(problem=lost).encode())


def _last_word(message: bytes) -> bool:
    try:
        frame = Frame.decode(message)
        return frame.channel is Channel.STATUS and Status.decode(frame.data).over
    except Invalid:
        return False


def _credential(scope: Scope) -> tuple[str, str]:
    """Scheme (lower case) and text of the Authorization header. No cookie counts: a page of somebody else's could send it."""
    headers = {name.lower(): value for name, value in scope["headers"]}
    scheme, _, text = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    return scheme.lower(), text.strip()


def _bearer(scheme: str, token: str) -> Any:
    if scheme != "bearer":
        raise Unauthenticated("who are you?", where="Authorization", todo="Log in: `vmcloud login`.")
    return person(token)


async def _refuse(scope: Scope, send: Send, error: VmcloudError) -> None:
    """Answer the handshake with a problem document (ASGI's extension for that, which uvicorn has)."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        note_refusal(scope, error)
        await send({"type": "websocket.close", "code": POLICY})
        return
    await send_problem(scope, send, error, protocol="websocket.http")
