"""Lanes: order of acceptance, one at a time, and a lock that outlives its worker."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.lanes import LaneLocks, Lanes

pytestmark = pytest.mark.unit


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans())))
def test_in_each_lane_one_at_a_time_in_order_of_acceptance(script: list[tuple[str, bool]]) -> None:
    lanes: Lanes[tuple[str, int]] = Lanes()
    busy: list[str] = []
    taken: list[tuple[str, int]] = []
    for number, (lane, end_one) in enumerate(script):
        lanes.add((lane, number), lane, number)
        if end_one and busy:
            lanes.release(busy.pop(0))
        if (found := lanes.take()) is not None:
            key, lane = found
            assert lane not in busy
            busy.append(lane)
            taken.append(key)
    while busy:
        lanes.release(busy.pop())
        while (found := lanes.take()) is not None:
            busy.append(found[1])
            taken.append(found[0])
    assert len(taken) == len(script)
    for lane in "abc":
        numbers = [number for name, number in taken if name == lane]
        assert numbers == sorted(numbers)


def test_a_lane_is_held_until_its_last_copy_is_closed(tmp_path: Path) -> None:
    locks = LaneLocks(tmp_path)
    held = locks.hold("ve:1")
    assert held is not None and locks.hold("ve:1") is None and locks.hold("ve:2") is not None
    inherited = os.dup(held)
    os.close(held)
    assert LaneLocks(tmp_path).hold("ve:1") is None  # the next worker's start does not remove it
    os.close(inherited)
    assert locks.hold("ve:1") is not None
