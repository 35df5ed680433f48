"""One session: a websocket that the worker opens to the web part by ticket, and at its other end a guest's program or console.

The program is started only when the web part has let the ticket in, which it does once and only while the person is there. So
nothing runs for nobody, and nothing twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import AsyncIterator, Callable

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from vmcloud.domain.errors import Invalid, Problem
from vmcloud.domain.messages import StepOrder
from vmcloud.domain.session import CHUNK, MESSAGE_MAX, PING_SECONDS, SUBPROTOCOL, Channel, Frame, Status, parse_window
from vmcloud.domain.vocabulary import StepVerb

from .drivers.base import BadRequest, Driver, DriverError, Runner, ToolFailed, Unsupported
from .drivers.session import Session, read
from .spoken import Spoken

log = logging.getLogger(__name__)

BEGIN_SECONDS = 60.0
"""How long the web part may take to let the ticket in: it waits for the person."""
LAST_WORDS_SECONDS = 0.5
"""After a program's end, silence this long on its output means that there is no more: what it left in the background may hold
the output open for ever."""
FOLLOW_SECONDS = 0.5
"""Between two looks at a boot log that is followed."""


def converse(driver: Driver, order: StepOrder, opened: Callable[[Callable[[], None]], None] = lambda close: None) -> Spoken:
    """Hold the session that ``order`` asks for, to its end. ``opened`` is given a function by which any thread may end it."""
    return asyncio.run(_converse(driver, order, opened))


async def _converse(driver: Driver, order: StepOrder, opened: Callable[[Callable[[], None]], None]) -> Spoken:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    cancel = task.cancel

    def close() -> None:
        with contextlib.suppress(RuntimeError):  # it is over
            loop.call_soon_threadsafe(cancel)

    opened(close)
    try:
        async with _connected(order) as line:
            try:
                return await _hold(driver, order, line)
            except DriverError as error:
                await line.send(Status(problem=error.problem()).encode())
                return Spoken(error=error.problem())
    except DriverError as error:
        return Spoken(error=error.problem())
    except (ConnectionClosed, OSError) as error:
        log.info("session %d: the connection ended: %s", order.job, error)
        return Spoken()
    except asyncio.CancelledError:
        return Spoken(error=Problem("cancelled", "the session was ended by order"))


@contextlib.asynccontextmanager
async def _connected(order: StepOrder) -> AsyncIterator[ClientConnection]:
    """The websocket, let in. :class:`ToolFailed` or :class:`BadRequest` with the web part's words where it is not."""
    url, ticket = str(order.args["url"]), str(order.args["ticket"])
    try:
        line = await connect(
            url,
            additional_headers={"Authorization": f"Ticket {ticket}"},
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            open_timeout=BEGIN_SECONDS,
            max_size=MESSAGE_MAX,
            ping_interval=PING_SECONDS,
            ping_timeout=None,
            compression=None,
            proxy=None,
        )
    except InvalidStatus as error:
        raise BadRequest(str(order.verb), _words(error.response.body) or f"the web part answers {error}") from error
    except (OSError, InvalidHandshake, ValueError) as error:
        raise ToolFailed(str(order.verb), f"the web part does not take the connection: {str(error) or 'no answer'}") from error
    async with line:
        yield line


def _words(body: bytes | bytearray | None) -> str:
    """What a problem document says."""
    try:
        return Problem.from_json(json.loads(body or b"")).sentence()[:600]
    except (ValueError, AttributeError):
        return ""


async def _hold(driver: Driver, order: StepOrder, line: ClientConnection) -> Spoken:
    if order.verb is StepVerb.LOGS:
        return await _logs(driver, order, line)
    session = await asyncio.to_thread(_begin, driver, order)
    exited = asyncio.Event()
    ending = asyncio.create_task(asyncio.to_thread(session.wait))
    ending.add_done_callback(lambda _: exited.set())
    outputs = [(session.stdout, Channel.STDOUT)] + ([(session.stderr, Channel.STDERR)] if session.stderr is not None else [])
    pumps = [asyncio.create_task(_pump(descriptor, channel, line, exited)) for descriptor, channel in outputs]
    feeding = asyncio.create_task(_feed(line, session))
    # Feeding does not see that the line is gone while the program takes no input.
    leaving = asyncio.create_task(line.wait_closed())
    try:
        await asyncio.wait([ending, feeding, leaving], return_when=asyncio.FIRST_COMPLETED)
        if not ending.done():
            return Spoken()
        await asyncio.gather(*pumps)
        code = ending.result()
        await line.send(Status(exit_code=code).encode())
        return Spoken(exit_code=code)
    finally:
        for task in (feeding, leaving, *pumps):
            task.cancel()
        await asyncio.gather(feeding, leaving, *pumps, return_exceptions=True)
        await asyncio.shield(asyncio.to_thread(session.hang_up))
        session.close()


def _begin(driver: Driver, order: StepOrder) -> Session:
    if order.verb is StepVerb.CONSOLE:
        return driver.console(order.native)
    if not isinstance(driver, Runner):
        raise Unsupported(str(order.verb), f"nothing can be run inside a guest of kind {order.kind} on this node")
    argv, environment = [str(word) for word in order.args["argv"]], dict(order.args.get("environment") or {})
    return driver.exec(order.native, argv, environment=environment, tty=bool(order.args.get("tty")))


async def _logs(driver: Driver, order: StepOrder, line: ClientConnection) -> Spoken:
    """What there is; then, if that is wanted, what is added, until the person leaves. A guest's new start begins it anew."""
    told = b""
    leaving = asyncio.create_task(line.wait_closed())
    try:
        while True:
            text = await asyncio.to_thread(driver.boot_log, order.native)
            for piece in _pieces(_added(told, text)):
                await line.send(Frame(Channel.STDOUT, piece).encode())
            told = text
            if not order.args.get("follow"):
                await line.send(Status(exit_code=0).encode())
                return Spoken(exit_code=0)
            done, _ = await asyncio.wait([leaving], timeout=FOLLOW_SECONDS)
            if done:
                return Spoken(exit_code=0)
    finally:
        leaving.cancel()


def _added(before: bytes, now: bytes) -> bytes:
    """What is in ``now`` and was not told. A full log is cut at its front: then the end of what was told is looked for."""
    if now.startswith(before):
        return now[len(before) :]
    tail = before[-256:]
    found = now.rfind(tail) if tail else -1
    return now[found + len(tail) :] if found >= 0 else now


def _pieces(data: bytes) -> list[bytes]:
    return [data[start : start + CHUNK] for start in range(0, len(data), CHUNK)]


async def _pump(descriptor: int, channel: Channel, line: ClientConnection, exited: asyncio.Event) -> None:
    """Send what comes out of the guest, as fast as the person takes it."""
    os.set_blocking(descriptor, False)
    while True:
        if not await _readable(descriptor, exited):
            return
        try:
            data = read(descriptor, CHUNK)
        except BlockingIOError:
            continue
        if not data:
            return
        await line.send(Frame(channel, data).encode())


async def _readable(descriptor: int, exited: asyncio.Event) -> bool:
    """Wait until there is something to read; False once the program is gone and silent."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    waits = [asyncio.ensure_future(each.wait()) for each in (ready, exited)]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        if not ready.is_set():
            await asyncio.wait(waits[:1], timeout=LAST_WORDS_SECONDS)
        return ready.is_set()
    finally:
        loop.remove_reader(descriptor)
        for each in waits:
            each.cancel()


async def _feed(line: ClientConnection, session: Session) -> None:
    """Do what the person's side says until it ends. Input waits until the guest takes it."""
    os.set_blocking(session.stdin, False)
    try:
        async for message in line:
            try:
                frame = Frame.decode(message)
                if frame.channel is Channel.STDIN:
                    await _write(session, frame.data)
                elif frame.channel is Channel.RESIZE:
                    session.resize(*parse_window(frame.data))
                elif frame.channel is Channel.CLOSE:
                    session.close_stdin()
            except Invalid as error:
                log.info("a session's message was dropped: %s", error)
    except ConnectionClosed:
        pass


async def _write(session: Session, data: bytes) -> None:
    """Write all of it; a program that reads no more loses it, as on any pipe."""
    loop = asyncio.get_running_loop()
    while data and session.stdin >= 0:
        try:
            data = data[os.write(session.stdin, data) :]
        except BlockingIOError:
            ready = asyncio.Event()
            loop.add_writer(session.stdin, ready.set)
            try:
                await ready.wait()
            finally:
                loop.remove_writer(session.stdin)
        except OSError:
            return
