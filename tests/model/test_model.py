"""The model test: random interleavings of all that can happen to the engine; after each the promises hold.

The services, the functions of the leader's turn and SQL are real; directory, broker and nodes are models that this test moves
(:mod:`tests.model.engine`, :mod:`tests.model.nodes`). What may happen is in :mod:`tests.model.machine`, what must hold then in
:mod:`tests.model.promises`. In continuous integration the same few examples are tried each time, within a time budget. By hand,
for as long as one wants::

    VMCLOUD_MODEL_SECONDS=600 python -m pytest -q tests/model --hypothesis-seed=7
    VMCLOUD_MODEL_SECONDS=600 VMCLOUD_MODEL_STEPS=80 python -m pytest -q tests/model --hypothesis-seed=7 --database postgres

With ``VMCLOUD_MODEL_HUNT=1`` a failure only ends its example, so that others are found beside it. Each sort of failure is printed
as the shortest program that still leads to it: the rules that were followed. What it shows becomes a test of its own in
``tests/unit``.
"""

from __future__ import annotations

import os
import time

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.machine import Engine, kind_of, shortest, told

pytestmark = [pytest.mark.scenario, pytest.mark.engine, pytest.mark.timeout(0)]

BUDGET = 40.0
"""Seconds in continuous integration."""
ASKED = os.environ.get("VMCLOUD_MODEL_SECONDS")
HUNTING = bool(os.environ.get("VMCLOUD_MODEL_HUNT"))
STEPS = int(os.environ.get("VMCLOUD_MODEL_STEPS", "30"))


def test_whatever_happens_in_whatever_order_the_promises_hold() -> None:
    class Bounded(Engine):
        deadline = time.monotonic() + float(ASKED or BUDGET)
        hunting = HUNTING

    asked = settings(
        max_examples=int(5 * float(ASKED)) if ASKED else 100,
        stateful_step_count=STEPS,
        derandomize=not ASKED,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
        report_multiple_bugs=False,
    )
    Engine.failures.clear()
    try:
        run_state_machine_as_test(Bounded, settings=asked)
    finally:
        different = {kind_of(error): (program, error) for program, error in reversed(Engine.failures)}
        for program, error in different.values():
            steps, found = shortest(program, error)
            print(f"\n{kind_of(error)} ({sum(kind_of(each) == kind_of(error) for _, each in Engine.failures)} times)")
            print(f"{told(steps)}\n{found}\n")
    assert not Engine.failures
