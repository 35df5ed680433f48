"""What runs in the child processes of the executor, one call each, and nothing else: they can hang, crash and be killed.

Children come from multiprocessing's fork server, which has this module and the drivers loaded and knows neither Celery nor the
journal. A child leads a process group of its own, so that its tools die with it. It dies with its worker: the read end of a
pipe (*lifeline*), whose write end only the worker has, is armed to kill the group when it closes (F_SETSIG with SIGKILL, so that
no Python code needs to run; fcntl(2)). Until the kernel has really ended it, it holds the lane's lock.
"""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import reduction
from multiprocessing.connection import Connection
from typing import Any

from vmcloud.config import Config
from vmcloud.domain.messages import Seen, StepOrder
from vmcloud.domain.vocabulary import Kind

from .drivers.base import CannotLook, Driver, Report
from .drivers.registry import make_driver
from .images import make_images
from .metering import metered
from .plans import Tools, Work
from .steps import carry_out, take_back

FRESH = 2.0
"""Seconds for which a driver is used again: what it knows of the machine may change."""


class Handed:
    """An open file, handed to a child. In the child, :attr:`number` is its own copy."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _receive, (reduction.DupFd(self.number),)


def _receive(duplicate: Any) -> Handed:
    return Handed(duplicate.detach())


@dataclass(frozen=True)
class Place:
    """Where a child works: node, kind (None: no guest is concerned) and settings."""

    config: Config
    node: str
    kind: Kind | None

    def driver(self) -> Driver | None:
        """A fresh driver."""
        return make_driver(self.kind, self.config, self.node) if self.kind is not None else None


def step(place: Place, pipe: Connection, lifeline: Handed) -> None:
    """Wait for work (see :func:`hand`), carry it out or take it back, and again, until nobody needs this child. Says on ``pipe``:
    ("report", name, percent), ("found", state), ("look",), which is answered, and last ("ended", Ended). The lane stays open, and
    with it locked, until right before that last word, or until the process is dead."""
    _arm(lifeline)

    def report(name: str, percent: int) -> None:
        pipe.send(("report", name, percent))

    def look() -> None:
        pipe.send(("look",))
        pipe.recv()

    driver, looked = None, float("-inf")
    images = make_images(place.config, place.node, simulated=False)
    while True:
        try:
            lane = reduction.recv_handle(pipe)
            work, undo = pipe.recv()
        except (EOFError, OSError):
            return
        if time.monotonic() - looked > FRESH:
            driver, looked = place.driver(), time.monotonic()
        tools = Tools(driver, images, report, look, lambda state: pipe.send(("found", state)))
        ended = (take_back if undo else carry_out)(work, tools)
        os.close(lane)
        pipe.send(("ended", ended))


def hand(pipe: Connection, work: Work, undo: bool, lane: int) -> None:
    """Give the child at the other end its work, and a copy of the lane's open file. OSError if it is dead."""
    reduction.send_handle(pipe, lane, None)
    pipe.send((work, undo))


def session(place: Place, order: StepOrder, pipe: Connection, lifeline: Handed) -> None:
    """Hold a session, and say on ``pipe`` how it ended (:class:`~workers.spoken.Spoken`)."""
    _arm(lifeline)
    from .conversation import converse  # only where there are sessions: it brings asyncio and a websocket client

    driver = place.driver()
    assert driver is not None
    pipe.send(converse(driver, order))


def list_guests(place: Place, natives: tuple[str, ...], pipe: Connection, lifeline: Handed) -> None:
    """Say on ``pipe`` every guest of a kind and then what they use, or those in ``natives`` that are there; a sentence where the
    driver can not look."""
    _arm(lifeline)
    driver = place.driver()
    assert driver is not None
    try:
        if natives:
            pipe.send([seen for seen in map(driver.inspect, natives) if seen is not None])
        else:
            pipe.send(list(driver.list()))
            pipe.send(metered(driver))
    except CannotLook as error:
        pipe.send(error.problem().sentence())


def events(place: Place, pipe: Connection, lifeline: Handed) -> None:
    """Say on ``pipe`` each :class:`~vmcloud.domain.messages.Seen` and :class:`~workers.drivers.base.Gone` as it happens; ends
    where the source is lost. Before a look it says ("wanted", native), which is answered."""
    _arm(lifeline)

    def wanted(native: str) -> bool:
        pipe.send(("wanted", native))
        return bool(pipe.recv())

    driver = place.driver()
    assert driver is not None
    try:
        for seen in driver.events(wanted):
            pipe.send(seen)
    except CannotLook as error:
        pipe.send(error.problem().sentence())


def fingerprint(place: Place, pipe: Connection, lifeline: Handed) -> None:
    """Say on ``pipe`` what the driver found on this machine."""
    _arm(lifeline)
    driver = place.driver()
    assert driver is not None
    pipe.send(driver.fingerprint())


def _arm(lifeline: Handed) -> None:
    """Lead a process group, and die with the worker."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    fcntl.fcntl(lifeline.number, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(lifeline.number, getattr(fcntl, "F_SETSIG", 10), signal.SIGKILL)
    flags = fcntl.fcntl(lifeline.number, fcntl.F_GETFL)
    fcntl.fcntl(lifeline.number, fcntl.F_SETFL, flags | os.O_ASYNC | os.O_NONBLOCK)
    if _closed(lifeline.number):  # the worker died before it was armed
        os._exit(1)


def _closed(number: int) -> bool:
    try:
        return os.read(number, 1) == b""
    except BlockingIOError:
        return False


__all__ = ["Handed", "Place", "Report", "Seen", "StepOrder", "events", "fingerprint", "hand", "list_guests", "session", "step"]
