"""The leader and arrays: which parts may begin, what their beginnings and ends mean for the whole, and what is read for it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from tests.web import Web, queries, web

pytestmark = pytest.mark.unit
__all__ = ["web"]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch, web: Web) -> None:
    """The leader's turns are taken by hand."""
    from vmcloud.fleet.services import waiting

    monkeypatch.setattr(waiting, "DECIDE_SECONDS", 0.0)


class Scene:
    """A leader's context, and as many VEs as are asked for."""

    def __init__(self, web: Web, ves: int = 10) -> None:
        from vmcloud.fleet.server.context import Context
        from vmcloud.fleet.server.projection import Projection

        class Leader:
            @contextlib.contextmanager
            def transaction(self) -> Iterator[None]:
                yield

        self.web, self.now = web, 4e9
        config: Any = SimpleNamespace(intervals=SimpleNamespace(claim=30.0, complete=5.0))
        parts: Any = (config, web.directory, None, Leader(), Projection())
        self.context = Context(*parts, clock=lambda: self.now)
        for index in range(ves):
            web.ve(f"web-{index}")

    def ask(self, array: str, verb: str = "start", **terms: Any) -> Any:
        from vmcloud.fleet.models import Job

        answer = self.web.call("POST", f"/ves/web-%25i/{verb}", {"job": {"array": array, **terms}})
        assert answer.status_code == 202, answer.json()
        return Job.objects.get(pk=answer.json()["id"])

    def admit(self) -> None:
        from vmcloud.fleet.server import admit

        admit.run(self.context)

    def finish(self) -> None:
        from vmcloud.fleet.server import finish

        finish.run(self.context)

    def batch(self) -> list[int]:
        """The indices of the parts that a cycle looks at."""
        from vmcloud.fleet.server import arrays, schedule

        slots = arrays.Slots()
        found = schedule._batch(self.context, schedule.Lines(), slots)
        slots.remember(self.context)
        return [job.index for job in found]

    def begin(self, array: Any, *indices: int) -> None:
        from vmcloud.fleet.models import Job
        from vmcloud.fleet.server import arrays

        rows = list(Job.objects.filter(array=array.pk, index__in=indices))
        Job.change_all(rows, state="R", started_at=self.now)
        arrays.note(self.context, rows)

    def end(self, array: Any, *indices: int, outcome: str = "ok") -> None:
        from vmcloud.domain.vocabulary import Outcome
        from vmcloud.fleet.models import Job

        for job in Job.objects.filter(array=array.pk, index__in=indices):
            self.context.exit(job, Outcome(outcome), result={"never_ran": outcome != "ok"})
        self.finish()
        array.refresh_from_db()


def states(array: Any) -> str:
    from vmcloud.fleet.models import Job

    return "".join(Job.objects.filter(array=array.pk).order_by("index").values_list("state", flat=True))


def test_no_more_parts_are_looked_at_than_may_begin(web: Web) -> None:
    scene = Scene(web)
    array = scene.ask("0-9%3")
    assert scene.batch() == [0, 1, 2]
    scene.context.part_cursors.clear()
    scene.begin(array, 0, 1)
    assert scene.batch() == [2]
    scene.begin(array, 2)
    assert scene.batch() == [] and not scene.context.part_cursors
    scene.end(array, 1)
    assert scene.batch() == [3]


def test_parts_that_can_not_begin_give_others_their_turn(web: Web) -> None:
    scene = Scene(web)
    scene.ask("0-9%3")
    assert scene.batch() == [0, 1, 2] and scene.context.again
    assert scene.batch() == list(range(3, 10)), "none of the first could, so it looks further"
    assert scene.batch() == [0, 1, 2], "and begins anew at the end"


def test_an_array_beside_others_keeps_their_turns(web: Web) -> None:
    from vmcloud.fleet.models import Job

    scene = Scene(web)
    scene.ask("0-4%2", priority=0)
    late = web.call("POST", "/ves/web-9/stop", {"job": {"priority": 5}}).json()["id"]
    free = scene.ask("5-7", verb="stop", priority=3)
    batch = scene.batch()
    assert batch == [None, 5, 6, 7, 0, 1] and Job.objects.get(pk=late).index is None and free.size == 3


def test_thousands_that_wait_for_a_slot_cost_a_cycle_nothing(web: Web) -> None:
    scene = Scene(web, 1000)
    few = scene.ask("0-9%3")
    asked = queries(scene.batch)
    many = scene.ask("0-999%3", verb="stop")
    scene.begin(many, 0, 1, 2)
    scene.begin(few, 0, 1, 2)
    assert scene.batch() == [] and queries(scene.batch) <= asked


def test_an_array_begins_with_its_first_part_and_ends_as_the_sum_of_all(web: Web) -> None:
    scene = Scene(web)
    array = scene.ask("0-3")
    version = array.version
    scene.begin(array, 0, 2)
    array.refresh_from_db()
    assert (array.state, array.started_at) == ("B", scene.now) and array.version > version
    scene.end(array, 0, 2)
    assert array.state == "B"
    scene.begin(array, 1, 3)
    scene.end(array, 1, outcome="failed")
    scene.end(array, 3, outcome="cancelled")
    assert (array.state, array.outcome) == ("C", "failed")
    assert array.result == {"parts": {"states": {"X": 4}, "outcomes": {"cancelled": 1, "failed": 1, "ok": 2}}}
    assert array.error["what"] == "2 of 4 parts did not end well: 1 cancelled, 1 failed, 2 ok" and array.error["code"] == "parts"
    texts = [event["text"] for event in web.call("GET", f"/jobs/{array.pk}/events").json()["items"]]
    assert sum(text.startswith("complete: failed") for text in texts) == 1
    assert array.pk in scene.context.touched


def test_a_parents_failure_cancels_all_parts_with_a_message(web: Web) -> None:
    from vmcloud.fleet.models import Job

    scene = Scene(web)
    parent = scene.ask("0-3", verb="stop")
    child = scene.ask("4-9", depend=f"afterokarray:{parent.ref}")
    after = web.call("POST", "/ves/web-9/stop", {"job": {"depend": f"afterany:{child.ref}"}}).json()["id"]
    assert states(child) == "HHHHHH" and child.state == "H"
    part = Job.objects.get(array=child.pk, index=4)
    assert part.reason == f"waits for job {parent.ref} (afterokarray)"
    scene.begin(parent, 0)
    scene.end(parent, 0, outcome="failed")
    scene.admit()
    assert states(child) == "EEEEEE"
    scene.finish()
    child.refresh_from_db()
    assert (child.state, child.outcome, states(child)) == ("C", "cancelled", "CCCCCC")
    assert "0 of its 4 parts ended ok, 1 did not" in child.reason
    scene.admit()
    assert Job.objects.get(pk=after).state == "Q"


def test_parts_begin_when_what_the_array_waits_for_is_met(web: Web) -> None:
    scene = Scene(web)
    parent = scene.ask("0-1", verb="stop")
    child = scene.ask("2-5%2", depend=f"afterstartarray:{parent.ref}[1]")
    web.call("POST", f"/jobs/{child.pk}%5B3%5D/hold")
    scene.begin(parent, 0)
    scene.admit()
    child.refresh_from_db()
    assert (child.state, states(child)) == ("Q", "QHQQ"), "the one that is held by itself stays so"
    scene.begin(child, 2)
    web.call("POST", f"/jobs/{child.pk}/hold")
    scene.admit()
    child.refresh_from_db()
    assert (child.state, states(child)) == ("H", "RHHH")
    web.call("POST", f"/jobs/{child.pk}/release")
    scene.admit()
    child.refresh_from_db()
    assert (child.state, states(child)) == ("B", "RQQQ")


def test_the_time_of_an_array_comes_for_all_its_parts(web: Web) -> None:
    scene = Scene(web)
    array = scene.ask("0-2", not_before="2030-01-01")
    assert states(array) == "WWW"
    scene.now = 1_893_456_001.0
    scene.admit()
    array.refresh_from_db()
    assert (array.state, states(array)) == ("Q", "QQQ")


def test_hundreds_are_held_and_cancelled_in_few_queries(web: Web) -> None:
    from vmcloud.fleet.server import schedule

    scene = Scene(web, 400)
    array = scene.ask("0-399")
    assert queries(lambda: web.call("POST", f"/jobs/{array.pk}/hold")) < 60
    assert queries(scene.admit) < 60
    assert states(array) == "H" * 400
    web.call("POST", f"/jobs/{array.pk}/cancel")
    assert queries(lambda: schedule._stop_cancelled(scene.context)) < 60
    assert states(array) == "E" * 400
    scene.finish()
    array.refresh_from_db()
    assert (array.state, array.outcome, states(array)) == ("C", "cancelled", "C" * 400)


@pytest.mark.parametrize("claimed", [3, 2])
def test_an_array_whose_request_broke_off_is_queued_or_dropped_as_a_whole(web: Web, claimed: int) -> None:
    from django.db.models import Q

    from vmcloud.fleet.models import Job, JobLane
    from vmcloud.fleet.server import sweep_claims

    scene = Scene(web)
    body = {"name": "db-%i", "image": "busybox", "memory_mib": 16, "job": {"array": "0-2"}}
    number = web.call("POST", "/ves", body).json()["id"]
    Job.objects.filter(Q(pk=number) | Q(array=number)).update(state="-", created_at=scene.now - 60)
    JobLane.objects.all().delete()
    for record in web.directory.ves()[claimed:]:
        web.directory.remove_ve(record)
    sweep_claims.sweep(scene.context)
    left = list(Job.objects.order_by("id").values_list("state", flat=True))
    assert left == (["Q"] * 4 if claimed == 3 else [])


def test_a_part_says_what_its_array_waits_for_and_that_its_slots_are_taken(web: Web) -> None:
    scene = Scene(web)
    parent = scene.ask("0-1", verb="stop")
    child = scene.ask("2-9%3", depend=f"afterokarray:{parent.ref}[1]")

    def causes(index: int) -> dict[str, str]:
        found = web.call("GET", f"/jobs/{child.pk}%5B{index}%5D/why").json()["causes"]
        return {cause["what"]: cause["text"] for cause in found}

    assert causes(9)["dependency"] == f"it waits for job {parent.ref} (afterokarray, 1 parts), which is queued"
    scene.begin(parent, 0)
    scene.end(parent, 0)
    scene.admit()
    scene.begin(child, 2, 3, 4)
    assert causes(9)["slots"] == f"of its array {child.ref} as many parts run as may at once: 3"
    assert "dependency" not in causes(9)
