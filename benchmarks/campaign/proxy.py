"""A TCP proxy between a part and what it speaks to: it delays, tears connections in the middle of a message, falls silent."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from collections.abc import Coroutine
from typing import Any

CHUNK = 1 << 16


class Link:
    """One address that is passed on to another. Its state is set from any thread; the proxy's own looks at it."""

    def __init__(self, name: str, target: int) -> None:
        self.name, self.target, self.port = name, target, 0
        self.late = 0.0
        """Seconds that each piece is delayed, at most."""
        self.silent = False
        """Nothing is passed on and nothing is closed: half-open."""
        self.deaf = False
        """What is asked arrives; what is answered is thrown away."""
        self.tear_after = -1
        """Bytes of the next piece that are passed on before all connections are reset; -1: all is passed on."""
        self._open: set[asyncio.StreamWriter] = set()

    async def serve(self) -> None:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._pass_on, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def end(self) -> None:
        """Listen no more, and reset what is connected."""
        self._server.close()
        for each in list(self._open):
            _reset(each)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            _reset(writer)
            return
        self._open |= {writer, back}
        try:
            await asyncio.gather(self._pump(reader, back), self._pump(there, writer, back=True))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._open -= {writer, back}
            for each in (writer, back):
                each.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, back: bool = False) -> None:
        try:
            while data := await reader.read(CHUNK):
                if back and self.deaf:
                    continue
                while self.silent:
                    await asyncio.sleep(0.02)
                if self.late:
                    await asyncio.sleep(random.uniform(0, self.late))
                if self.tear_after >= 0:
                    data, self.tear_after = data[: self.tear_after], -1
                    writer.write(data)
                    await writer.drain()
                    for each in list(self._open):
                        _reset(each)
                    raise ConnectionResetError
                writer.write(data)
                await writer.drain()
            writer.write_eof()
        except OSError:
            writer.close()
            raise


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close at once and let the other end know that something was lost."""
    plug = writer.get_extra_info("socket")
    if plug is not None:
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Proxy:
    """All links, in one thread of their own."""

    def __init__(self) -> None:
        self.links: dict[str, Link] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()

    def link(self, name: str, target: int) -> int:
        """Make one; the port that leads to ``target``."""
        made = self.links[name] = Link(name, target)
        self._do(made.serve())
        return made.port

    def mend(self) -> None:
        """All links are as they should be."""
        for each in self.links.values():
            each.late, each.silent, each.deaf, each.tear_after = 0.0, False, False, -1

    def close(self) -> None:
        """End the thread; whoever is connected is cut off."""
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    async def _end(self) -> None:
        for each in self.links.values():
            each.end()
        work = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(5)
