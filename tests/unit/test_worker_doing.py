"""Calls that do not return: what is said of them and when, that they hold up nobody else, and how one is killed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from tests.executor_kit import Node, eventually
from tests.worker_kit import order
from vmcloud.domain.messages import Progress
from vmcloud.domain.vocabulary import Kind, Outcome, StepVerb
from workers import doing as doing_module
from workers import executor as executor_module
from workers.doing import Doing
from workers.drivers.simulated import plan_fault

pytestmark = pytest.mark.unit


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def said(doing: Doing, clock: Clock, until: int) -> list[tuple[int, str]]:
    """Each complaint up to that second, and when it was made."""
    found = []
    for second in range(int(clock.now), until):
        clock.now = float(second)
        if words := doing.complaint():
            found.append((second, words))
    return found


def test_a_call_is_named_once_it_lasts_and_then_at_growing_distances() -> None:
    clock = Clock()
    doing = Doing(order(kind=Kind.LXC), lambda: 0, clock)
    doing.carries_out("")
    told = said(doing, clock, 100)
    assert [second for second, _ in told] == [10, 20, 40, 80] and doing.hung
    assert told[0][1] == "hung in lxc.start for 10 s" and told[-1][1] == "hung in lxc.start for 80 s"
    doing.begins("inspect")
    assert not doing.hung and said(doing, clock, 105) == []
    assert said(doing, clock, 120)[0][1] == "hung in lxc.inspect for 10 s"


def test_a_graceful_stop_gives_the_guest_its_grace_first() -> None:
    for force, first in ((False, 40), (True, 10)):
        clock = Clock()
        doing = Doing(order(verb=StepVerb.STOP, force=force, grace=30.0), lambda: 0, clock)
        doing.carries_out("")
        doing.begins("stop")
        assert said(doing, clock, 60)[0][0] == first


def test_what_is_no_call_of_the_driver_does_not_bear_its_name() -> None:
    for name in ("prologue", "undo stop", "lane lock"):
        clock = Clock()
        doing = Doing(order(), lambda: 0, clock)
        doing.begins(name)
        assert said(doing, clock, 12)[0][1] == f"hung in {name} for 10 s"


def test_the_tools_that_a_call_waits_for_are_named() -> None:
    clock = Clock()
    code = "import subprocess; subprocess.run(['sleep', '60'])"
    child = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    try:
        doing = Doing(order(), lambda: child.pid, clock)
        doing.begins("start")

        def words() -> str:
            clock.now += 1000.0
            return doing.complaint()

        assert eventually(lambda: words().endswith("s, in sleep (S)"))
    finally:
        os.killpg(child.pid, 9)
        child.wait()


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    monkeypatch.setattr(doing_module, "PATIENCE", 0.1)
    monkeypatch.setattr(executor_module, "LOOK", 0.05)
    made = Node(tmp_path)
    yield made
    made.close()


def hung(node: Node, job: int) -> list[str]:
    return [
        each.name for each in node.ears.heard if isinstance(each, Progress) and each.job == job and each.name.startswith("hung")
    ]


def another(number: int) -> UUID:
    return UUID(int=number << 96)


def test_guests_that_hang_are_reported_and_hold_up_no_other(node: Node) -> None:
    slots = node.executor._slots
    plan_fault(node.guests, "define", "hang", slots)
    for number in range(1, slots + 1):
        node.take(order(number, verb=StepVerb.CREATE, ve=another(number)))
    assert eventually(lambda: all(hung(node, number) for number in range(1, slots + 1)))
    assert hung(node, 1)[0].startswith("hung in simulated.define for ")
    node.take(order(99, verb=StepVerb.CREATE, ve=another(99)))
    assert node.result(99).outcome is Outcome.OK, "all places are taken by what hangs, and it runs"
    for number in range(1, slots + 1):
        node.executor.cancel((number, 1))
        assert node.result(number).outcome is Outcome.CANCELLED


def test_a_call_that_hangs_is_killed_by_order_and_begins_again(node: Node) -> None:
    plan_fault(node.guests, "define", "hang", 1)
    node.take(order(1, verb=StepVerb.CREATE))
    assert eventually(lambda: hung(node, 1))
    node.executor.signal((1, 1))
    assert node.result(1).outcome is Outcome.OK
    row = node.journal.step((1, 1))
    assert row is not None and row.starts == 2 and "was killed by order" in row.deaths[0]
    node.executor.signal((1, 1))  # there is nobody any more
