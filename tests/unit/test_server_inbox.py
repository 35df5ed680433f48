"""The leader's inbox: no error makes it deaf, and it says so if it is."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from tests.web import Web, web

pytestmark = pytest.mark.unit
__all__ = ["web"]


class Receiver:
    """Raises what it is given, then delivers."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors, self.closed, self.added = list(errors), 0, list[str]()

    def add(self, name: str) -> None:
        self.added.append(name)

    def get(self, timeout: float) -> list[tuple[str, Any]]:
        if self.errors:
            raise self.errors.pop(0)
        time.sleep(0.01)
        return [("server.n1", 7)]

    def close(self) -> None:
        self.closed += 1


class Watcher:
    """Fails once, then watches."""

    def __init__(self) -> None:
        self.runs = 0

    def run(self, callback: Any, stop: threading.Event) -> None:
        self.runs += 1
        if self.runs == 1:
            raise KeyError("oops")
        callback("seen")
        stop.wait()


def test_any_error_is_logged_and_tried_again(web: Web) -> None:
    from vmcloud.directory.port import Down
    from vmcloud.fleet.server.inbox import Broker, Inbox, Report

    class Fake(Inbox):
        def __init__(self, receiver: Any) -> None:
            settings = type("Directory", (), {"settings": None, "tree": type("Tree", (), {"suffix": ""})})
            super().__init__(receiver, settings)  # type: ignore[arg-type]
            self._watcher = Watcher()  # type: ignore[assignment]

    receiver = Receiver(ValueError("no JSON"), RecursionError())
    inbox = Fake(receiver)
    assert not inbox.alive()
    inbox.start()
    try:
        items: list[Any] = []
        deadline = time.monotonic() + 5
        while not (Report("server.n1", 7) in items and "seen" in items) and time.monotonic() < deadline:
            items += inbox.take(0.1)
        assert inbox.alive() and receiver.closed == 2
        assert Broker(up=False, reason="no JSON") in items and Broker(up=True) in items
        assert any(isinstance(item, Down) for item in items) and "seen" in items
    finally:
        inbox.stop()
    assert not inbox.alive()


def test_a_dead_thread_shows(web: Web) -> None:
    from vmcloud.fleet.server.inbox import Inbox

    settings: Any = type("Directory", (), {"settings": None, "tree": type("Tree", (), {"suffix": ""})})
    inbox = Inbox(Receiver(), settings)  # type: ignore[arg-type]
    inbox._watcher = Watcher()  # type: ignore[assignment]
    inbox._threads[0].start()
    try:
        assert not inbox.alive()
    finally:
        inbox._stop.set()
        inbox._threads[0].join(5)
