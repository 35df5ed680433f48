"""The node's end of a session, with a web part and a program of the test's own."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from tests.worker_kit import order
from vmcloud.domain.session import Channel, Frame
from vmcloud.domain.vocabulary import StepVerb
from workers import conversation
from workers.drivers.base import Driver, Runner
from workers.drivers.session import Session
from workers.spoken import Spoken

MUCH = 1 << 19
"""More than a pipe holds."""


class Deaf(Session):
    """A program that takes no input and says nothing until it is ended."""

    stderr = None

    def __init__(self) -> None:
        self._input, self.stdin = os.pipe()
        self.stdout, self._output = os.pipe()
        self.ended = threading.Event()

    def resize(self, rows: int, columns: int) -> None:
        pass

    def close_stdin(self) -> None:
        pass

    def wait(self) -> int:
        assert self.ended.wait(60)
        return 129

    def hang_up(self) -> None:
        self.ended.set()

    def close(self) -> None:
        super().close()
        os.close(self._input)
        os.close(self._output)


class Runs(Runner):
    def __init__(self, session: Session) -> None:
        self._session = session

    def exec(self, native: str, argv: Any, *, environment: Any, tty: bool) -> Session:
        return self._session


def held(session: Session, web: Callable[[ServerConnection], Awaitable[None]]) -> Spoken:
    """Hold a session whose other end does what ``web`` does."""

    async def hold() -> Spoken:
        async with serve(web, "127.0.0.1", 0, ping_interval=None, compression=None) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            wanted = order(verb=StepVerb.EXEC, argv=["x"], url=f"ws://127.0.0.1:{port}/", ticket="t")
            driver: Driver = Runs(session)  # type: ignore[assignment]
            return await asyncio.wait_for(conversation._converse(driver, wanted, lambda close: None), 20)

    return asyncio.run(hold())


def test_a_program_that_takes_no_input_is_ended_when_the_person_leaves() -> None:
    session = Deaf()

    async def leave(line: ServerConnection) -> None:
        await line.send(Frame(Channel.STDIN, bytes(MUCH)).encode())

    assert held(session, leave) == Spoken()
    assert session.ended.is_set()


class Talks(Deaf):
    """A program that says :data:`MUCH` and ends."""

    def wait(self) -> int:
        os.set_blocking(self._output, True)
        left = MUCH * 8
        while left:
            left -= os.write(self._output, bytes(min(left, 1 << 16)))
        return 0


def test_who_pauses_is_not_taken_for_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "PING_SECONDS", 0.05)
    heard = 0

    async def pause(line: ServerConnection) -> None:
        nonlocal heard
        line.transport.pause_reading()
        await asyncio.sleep(1.0)
        line.transport.resume_reading()
        async for message in line:
            frame = Frame.decode(message)
            heard += len(frame.data) if frame.channel is Channel.STDOUT else 0

    assert held(Talks(), pause) == Spoken(exit_code=0)
    assert heard == MUCH * 8
