"""Lanes: who comes after whom on the same resource, and who is looked at when one has left."""

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
    from vmcloud.fleet.services import lanes

    made = Job.objects.create(
        **{"owner": "ann", "verb": "start", "created_at": 1.0, "ve": ve, "state": state, "rank": rank, **fields}
    )
    lanes.enter([made])
    return made


def create(image: str, **fields: Any) -> Any:
    return job(uuid4(), verb="create", args={"spec": {"image": image}}, **fields)


def before(*jobs: Any) -> dict[int, int]:
    from vmcloud.fleet.services import lanes

    return {number: other for number, (other, _) in lanes.before([each.pk for each in jobs]).items()}


def test_each_job_comes_after_the_one_directly_before_it(web: Web, ve: UUID) -> None:
    late, early, other = job(ve, rank=2.0), job(ve, rank=1.0), job(uuid4())
    assert before(late, early, other) == {late.pk: early.pk}
    runs = job(ve, "R", rank=3.0)
    assert before(late, early) == {late.pk: early.pk, early.pk: runs.pk}


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
    first, second = job(ve, **fields), job(ve)
    assert before(second) == ({second.pk: first.pk} if holds else {})


def test_a_jobs_place_follows_its_state_and_its_rank(web: Web, ve: UUID) -> None:
    first, second = job(ve, rank=1.0), job(ve, rank=2.0)
    first.change(state="H")
    assert before(second) == {}
    first.change(state="Q")
    assert before(first, second) == {second.pk: first.pk}
    first.change(rank=3.0)
    assert before(first, second) == {first.pk: second.pk}
    first.change(state="R")
    assert before(first, second) == {second.pk: first.pk}


def test_those_that_share_a_lane_have_it_together_and_keep_the_order_with_those_that_do_not(web: Web) -> None:
    one, two = create("busybox", state="R", rank=1.0), create("busybox", rank=2.0)
    removal = job(None, verb="import", args={"image": "busybox"}, rank=3.0)
    three, other = create("busybox", rank=4.0), create("debian", rank=5.0)
    assert before(two, removal, three, other) == {removal.pk: two.pk, three.pk: removal.pk}
    two.change(state="H")
    assert before(removal, three) == {removal.pk: one.pk, three.pk: removal.pk}


def test_when_one_has_left_the_next_is_looked_at_and_no_other(web: Web, ve: UUID) -> None:
    from vmcloud.fleet.models import Job, JobLane
    from vmcloud.fleet.services import lanes

    runs = job(ve, "R")
    second, first = job(ve, rank=2.0, behind=True), job(ve, rank=1.0, behind=True)
    elsewhere = job(uuid4(), behind=True)

    def behind() -> set[int]:
        return set(Job.objects.filter(behind=True).values_list("pk", flat=True))

    lanes.leave([])
    assert behind() == {first.pk, second.pk, elsewhere.pk}
    lanes.leave([runs.pk])
    assert behind() == {second.pk, elsewhere.pk}
    assert not JobLane.objects.filter(job=runs.pk).exists()


def test_when_one_that_had_a_lane_for_itself_has_left_all_that_share_it_are_looked_at(web: Web) -> None:
    from vmcloud.fleet.models import Job
    from vmcloud.fleet.services import lanes

    removal = job(None, "R", verb="import", args={"image": "busybox"})
    sharing = [create("busybox", rank=float(rank), behind=True) for rank in range(3)]
    other = create("debian", behind=True)
    lanes.leave([removal.pk])
    assert set(Job.objects.filter(behind=True).values_list("pk", flat=True)) == {other.pk}
    assert before(*sharing) == {}


def test_thousands_in_one_lane_are_one_statement_and_a_few_rows(web: Web, ve: UUID) -> None:
    from tests.web import queries
    from vmcloud.fleet.models import Job, JobLane

    about = {"owner": "ann", "verb": "start", "created_at": 1.0, "ve": ve}
    made = Job.objects.bulk_create([Job(rank=float(rank), behind=rank > 0, **about) for rank in range(2000)])
    JobLane.objects.bulk_create([JobLane(job=each, lane=f"ve:{ve}", rank=each.rank) for each in made])
    assert before(made[0]) == {} and before(made[-1]) == {made[-1].pk: made[-2].pk}
    assert queries(lambda: before(*made[:200])) == 1
