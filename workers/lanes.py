"""Lanes: one step at a time per resource, in order of acceptance.

Inside the worker :class:`Lanes` decides what may begin. Across the death of a worker :class:`LaneLocks` does: the child that
carries out a step inherits the lane's locked file, so while it lives no later worker begins a step in that lane.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import heapq
import os
from collections import deque
from pathlib import Path
from typing import Generic, TypeVar

K = TypeVar("K")


class Lanes(Generic[K]):
    """What waits, by lane. Pure; the caller locks."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[tuple[int, K]]] = {}
        self._ready: list[tuple[int, str]] = []
        self._busy: set[str] = set()

    def add(self, key: K, lane: str, sequence: int) -> None:
        """``key`` waits in ``lane``; ``sequence`` grows with acceptance."""
        line = self._waiting.setdefault(lane, deque())
        line.append((sequence, key))
        if len(line) == 1 and lane not in self._busy:
            heapq.heappush(self._ready, (sequence, lane))

    def take(self) -> tuple[K, str] | None:
        """The longest waiting (key, lane) whose lane is free; the lane is busy from now on."""
        if not self._ready:
            return None
        _, lane = heapq.heappop(self._ready)
        line = self._waiting[lane]
        _, key = line.popleft()
        if not line:
            del self._waiting[lane]
        self._busy.add(lane)
        return key, lane

    def waits(self, key: K) -> bool:
        """Whether ``key`` waits in any lane."""
        return any(key == other for line in self._waiting.values() for _, other in line)

    def give_back(self, key: K, lane: str, sequence: int) -> None:
        """What was taken could not begin: it waits again, before all others of its lane."""
        self._busy.discard(lane)
        self._waiting.setdefault(lane, deque()).appendleft((sequence, key))
        self._ready = [each for each in self._ready if each[1] != lane]
        heapq.heapify(self._ready)
        heapq.heappush(self._ready, (sequence, lane))

    def release(self, lane: str) -> None:
        """The step that had ``lane`` has ended."""
        self._busy.discard(lane)
        if lane in self._waiting:
            heapq.heappush(self._ready, (self._waiting[lane][0][0], lane))


class LaneLocks:
    """One lock file per lane (flock: it belongs to the open file, so a child that inherits it holds it too)."""

    def __init__(self, folder: Path) -> None:
        """Lock files that nobody holds are removed: only at this moment is it certain that nobody is about to."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        for path in folder.iterdir():
            held = _lock(path)
            if held is not None:
                with contextlib.suppress(OSError):
                    path.unlink()
                os.close(held)

    def hold(self, lane: str) -> int | None:
        """An open file that holds the lane until it and all its copies are closed; None while somebody else holds it."""
        return _lock(self._folder / hashlib.sha256(lane.encode()).hexdigest()[:32])


def _lock(path: Path) -> int | None:
    opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(opened)
        return None
    return opened
