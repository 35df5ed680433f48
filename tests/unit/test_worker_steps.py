"""How a plan is carried out, whatever its verb."""

from __future__ import annotations

from typing import Any

import pytest

from tests.worker_kit import order
from vmcloud.domain.wire import OUTPUT_BYTES_MAX
from workers import steps
from workers.plans import Phase, Tools, Work
from workers.steps import carry_out

pytestmark = pytest.mark.unit


class Nothing:
    """A driver of which only looks are asked."""

    def inspect(self, native: str) -> None:
        return None


def ended(monkeypatch: pytest.MonkeyPatch, *phases: Phase) -> steps.Ended:
    """How a step with these phases ends."""
    monkeypatch.setattr(steps, "plan", lambda work, tools: phases)
    driver: Any = Nothing()
    images: Any = None
    return carry_out(Work(order()), Tools(driver, images, lambda name, percent: None, lambda: None, lambda state: None))


def test_what_phases_give_is_the_steps_output(monkeypatch: pytest.MonkeyPatch) -> None:
    found = ended(monkeypatch, Phase("one", lambda: {"a": 1}), Phase("two", lambda: None), Phase("three", lambda: {"b": [2]}))
    assert found.error is None and found.output == {"a": 1, "b": [2]}


def test_an_output_that_is_too_long_fails_the_step_and_undoes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    undone: list[str] = []
    phase = Phase("send", lambda: {"a": "x" * OUTPUT_BYTES_MAX}, lambda: undone.append("send"))
    found = ended(monkeypatch, phase)
    assert found.error is not None and found.error.code == "too-large" and found.undone and undone == ["send"]
    assert found.output == {} and not found.retryable


def test_what_phases_give_together_is_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    half = "x" * (OUTPUT_BYTES_MAX * 2 // 3)
    found = ended(monkeypatch, Phase("one", lambda: {"a": half}), Phase("two", lambda: {"b": half}))
    assert found.error is not None and found.error.code == "too-large"
