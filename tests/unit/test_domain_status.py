"""Status: what people are shown, and why."""

from __future__ import annotations

import pytest

from vmcloud.domain.status import Situation, derive
from vmcloud.domain.vocabulary import Desired, NodeState, Observed, Status, Verb

pytestmark = pytest.mark.unit


def shown(**facts: object) -> str:
    base: dict[str, object] = {
        "desired": Desired.RUNNING,
        "observed": Observed.RUNNING,
        "node": "n1",
        "node_state": NodeState.UP,
        **facts,
    }
    return derive(Situation(**base)).status.value  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ({}, "running"),
        ({"observed": None}, "pending"),
        ({"observed": None, "error": "no space"}, "error"),
        ({"desired": Desired.ABSENT}, "deleting"),
        ({"node_state": NodeState.DOWN}, "unknown"),
        ({"misses": 2}, "lost"),
        ({"elsewhere": ("n2",)}, "duplicate"),
        ({"elsewhere": ("n2",), "observed": None}, "wrong-node"),
        ({"verb": Verb.START, "observed": Observed.STOPPED}, "starting"),
        ({"verb": Verb.STOP}, "stopping"),
        ({"desired": Desired.STOPPED}, "running"),
        ({"observed": Observed.CRASHED}, "crashed"),
        ({"observed": Observed.CRASHED, "error": "killed by signal 9"}, "crashed"),
        ({"observed": Observed.CRASHED, "error": "killed by signal 9", "gave_up": True}, "error"),
        ({"observed": Observed.STOPPED, "error": "start failed"}, "error"),
        ({"observed": Observed.STOPPED, "gave_up": True}, "error"),
        ({"desired": Desired.SUSPENDED, "observed": Observed.SUSPENDED}, "suspended"),
    ],
)
def test_derived_status(facts: dict[str, object], status: str) -> None:
    assert shown(**facts) == status


def test_every_picture_has_a_status_and_odd_ones_a_reason() -> None:
    for desired in Desired:
        for observed in (None, *Observed):
            for state in NodeState:
                for verb in (None, *Verb):
                    result = derive(Situation(desired, observed, "n1", state, verb))
                    assert result.status in Status
    odd = derive(Situation(Desired.STOPPED, Observed.RUNNING, "n1", NodeState.UP))
    assert odd.reason == "wanted stopped, seen running"
