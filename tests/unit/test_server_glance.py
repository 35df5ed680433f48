"""What one statement says of all that there is to do is what the model's own words say."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from tests.web import Web, web

pytestmark = pytest.mark.unit
__all__ = ["web"]

NOTHING = {"ending": False, "changed": False, "come": False, "cancelled": False, "first": False}


@pytest.mark.parametrize(
    ("fields", "seen"),
    [
        ({"state": "E"}, {"ending"}),
        ({"state": "C"}, set()),
        ({"state": "Q"}, {"first"}),
        ({"state": "Q", "behind": True}, set()),
        ({"state": "Q", "size": 3}, set()),
        ({"state": "H", "to_review": True}, {"changed"}),
        ({"state": "B", "size": 3, "to_review": True}, {"changed"}),
        ({"state": "H", "to_review": True, "cancel_requested_at": 5.0}, {"cancelled"}),
        ({"state": "W", "not_before": 99.0}, {"come"}),
        ({"state": "W", "not_before": 101.0}, set()),
        ({"state": "R", "cancel_requested_at": 5.0}, {"cancelled"}),
        ({"state": "R", "size": 3, "cancel_requested_at": 5.0}, set()),
        ({"state": "C", "to_review": True, "cancel_requested_at": 5.0}, set()),
    ],
)
def test_a_glance_sees_what_there_is_to_do(web: Web, fields: dict[str, Any], seen: set[str]) -> None:
    from vmcloud.fleet.models import Job
    from vmcloud.fleet.server import glance

    assert asdict(glance.look(100.0)) == NOTHING
    Job.objects.create(owner="ann", verb="start", created_at=1.0, **fields)
    assert asdict(glance.look(100.0)) == {**NOTHING, **dict.fromkeys(seen, True)}
