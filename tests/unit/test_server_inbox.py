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
            items = inbox.look(0.1, beyond=len(items))
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


def deaf() -> Any:
    """An inbox whose threads do not run."""
    from vmcloud.fleet.server.inbox import Inbox

    settings: Any = type("Directory", (), {"settings": None, "tree": type("Tree", (), {"suffix": ""})})
    return Inbox(Receiver(), settings)  # type: ignore[arg-type]


def test_what_came_stays_until_it_is_acknowledged(web: Web) -> None:
    inbox = deaf()
    for item in "abc":
        inbox._put(item)
    assert inbox.look(0.0) == inbox.look(0.0) == ["a", "b", "c"]
    inbox.acknowledge(2)
    inbox._put("d")
    assert inbox.look(0.0) == ["c", "d"]
    assert inbox.look(0.01, beyond=2) == ["c", "d"]


def test_who_waits_is_woken_by_what_comes_and_by_an_interruption(web: Web) -> None:
    inbox = deaf()
    threading.Timer(0.05, lambda: inbox._put("a")).start()
    began = time.monotonic()
    assert inbox.look(20.0) == ["a"]
    threading.Timer(0.05, inbox.interrupt).start()
    assert inbox.look(20.0, beyond=1) == ["a"]
    assert time.monotonic() - began < 10


def test_a_broker_that_is_heard_for_the_first_time_is_told(web: Web) -> None:
    """From then on the silence of a node counts."""
    from vmcloud.fleet.server.inbox import Broker

    inbox = deaf()
    inbox._threads[0].start()
    try:
        assert inbox.look(5.0)[0] == Broker(up=True)
    finally:
        inbox.interrupt()
        inbox._threads[0].join(5)


def test_one_entry_that_nobody_can_read_does_not_end_the_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the watch would begin anew, meet it again, and show nothing of all the others for ever."""
    from vmcloud.directory import codec, watch
    from vmcloud.directory.port import Malformed

    def decode(dn: str, attributes: Any) -> Any:
        raise AttributeError("a defect")

    monkeypatch.setattr(codec, "decode", decode)
    settings: Any = None
    told = list(
        watch.Watcher(settings, "dc=x").entry("entry-uuid", "cn=x", {"vmcUUID": [b"00000000-0000-4000-8000-000000000001"]})
    )
    assert len(told) == 1 and isinstance(told[0], Malformed)
    assert str(told[0].ve).endswith("1") and "a defect" in told[0].reason


def test_the_herald_is_looked_after_whatever_a_look_meets(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    from vmcloud.fleet import ports
    from vmcloud.fleet.server import heralding

    keeper, looks = heralding.HeraldKeeper(ports.cloud(), "this", 1), list[int]()

    def look() -> None:
        looks.append(1)
        if len(looks) == 1:
            raise ValueError("a defect")
        keeper._ending.set()

    monkeypatch.setattr(keeper, "_look", look)
    monkeypatch.setattr(heralding, "LOOK", 0.01)
    keeper.start()
    keeper._thread.join(5)
    assert len(looks) == 2
