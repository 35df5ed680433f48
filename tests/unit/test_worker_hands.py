"""The children that lay hands on guests: what becomes of one when something else than its step fails."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from multiprocessing import reduction
from pathlib import Path
from typing import Any

import pytest

from workers import child, hands
from workers.hands import Isolated, Stop, Watch
from workers.plans import Work
from workers.steps import Ended

WORK = Work(order=None)  # type: ignore[arg-type]


def isolated() -> Isolated:
    return Isolated(child.Place(None, "n1", None))  # type: ignore[arg-type]


def watch(found: Any = lambda state: None) -> Watch:
    return Watch(lambda name, percent: None, lambda: None, found)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def lane(path: Path) -> int:
    opened = os.open(path / "lane", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return opened


def _tells_and_hangs(place: Any, pipe: Any, lifeline: Any) -> None:
    child._arm(lifeline)
    reduction.recv_handle(pipe)
    pipe.recv()
    pipe.send(("found", "running"))
    time.sleep(60)


def _does_its_step(place: Any, pipe: Any, lifeline: Any) -> None:
    child._arm(lifeline)
    while True:
        held = reduction.recv_handle(pipe)
        pipe.recv()
        os.close(held)
        pipe.send(("ended", Ended()))


def test_a_step_whose_watcher_fails_is_killed_and_frees_its_lane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "step", _tells_and_hangs)
    mine = isolated()

    def full(state: str) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    for each in range(3):
        held = lane(tmp_path)  # fails where the child of the round before still has it
        with pytest.raises(sqlite3.OperationalError):
            mine.carry_out(WORK, watch(full), Stop(30.0), held, undo=False)
        os.close(held)
        if each == 0:
            before = descriptors()
    assert descriptors() == before
    os.close(lane(tmp_path))


def test_a_child_that_could_not_begin_leaves_no_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoProcess:
        def Process(self, **_: Any) -> Any:
            raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(hands._Child, "_server", classmethod(lambda cls: NoProcess()))
    before = descriptors()
    for _ in range(5):
        with pytest.raises(BlockingIOError):
            isolated().fingerprint()
    assert descriptors() == before


def test_a_child_that_was_killed_after_its_step_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "step", _does_its_step)
    mine, held = isolated(), lane(tmp_path)
    assert mine.carry_out(WORK, watch(), Stop(30.0), held, undo=False) == Ended()
    kept = mine._idle[0]
    use_up = kept.use_up

    def late() -> None:
        """A wish that comes between its last word and the moment in which that is counted."""
        kept.kill()
        use_up()

    monkeypatch.setattr(kept, "use_up", late)
    assert mine.carry_out(WORK, watch(), Stop(30.0), held, undo=False) == Ended()
    assert mine._idle == []
    monkeypatch.undo()
    monkeypatch.setattr(child, "step", _does_its_step)
    assert mine.carry_out(WORK, watch(), Stop(30.0), held, undo=False) == Ended()
    os.close(held)
