"""Lanes: who comes after whom on the same VE, and who is looked at when one has left."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.web import Web, web

pytestmark = pytest.mark.unit
__all__ = ["web"]


@pytest.fixture
def ve() -> UUID:
    return uuid4()


def job(ve: UUID | None, state: str = "Q", rank: float = 0.0, **fields: Any) -> Any:
    from vmcloud.fleet.models import Job

    return Job.objects.create(
        **{"owner": "ann", "verb": "start", "created_at": 1.0, "ve": ve, "state": state, "rank": rank, **fields}
    )


def test_each_job_comes_after_the_one_directly_before_it(web: Web, ve: UUID) -> None:
    from vmcloud.fleet.server.lanes import before_each

    late, early, other = job(ve, rank=2.0), job(ve, rank=1.0), job(uuid4())
    assert before_each([late, early, other]) == {late.pk: early.pk}
    runs = job(ve, "R", rank=3.0)
    assert before_each([late, early]) == {late.pk: early.pk, early.pk: runs.pk}


@pytest.mark.parametrize(
    ("fields", "holds"),
    [
        ({"state": "R"}, True),
        ({"state": "E"}, True),
        ({"state": "W", "tries": 1}, True),
        ({"state": "W"}, False),
        ({"state": "H"}, False),
        ({"state": "C"}, False),
        ({"state": "R", "verb": "console"}, False),
    ],
)
def test_what_holds_a_lane(web: Web, ve: UUID, fields: dict[str, Any], holds: bool) -> None:
    from vmcloud.fleet.server.lanes import before_each

    first, second = job(ve, **fields), job(ve)
    assert before_each([second]) == ({second.pk: first.pk} if holds else {})


def test_when_one_has_left_the_next_is_looked_at_and_no_other(web: Web, ve: UUID) -> None:
    from vmcloud.fleet.models import Job
    from vmcloud.fleet.server import lanes

    second, first = job(ve, rank=2.0, behind=True), job(ve, rank=1.0, behind=True)
    elsewhere, nowhere = job(uuid4(), behind=True), job(None, behind=True, verb="import")

    def looked_at() -> set[int]:
        return set(Job.objects.filter(behind=False).values_list("pk", flat=True))

    lanes.free([])
    assert looked_at() == set()
    lanes.free([ve])
    assert looked_at() == {first.pk}
    lanes.free([None])
    assert looked_at() == {first.pk, nowhere.pk}
    assert set(Job.objects.filter(behind=True).values_list("pk", flat=True)) == {second.pk, elsewhere.pk}
