"""A job that breaks a turn is set aside, with its reason where people see it; the turn goes on, and no later one meets it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from tests.leader_kit import Scene, record
from tests.web import Web, web
from vmcloud.directory import port

pytestmark = pytest.mark.unit
__all__ = ["web"]


def job(**fields: Any) -> Any:
    from vmcloud.fleet.models import Job

    about = {"verb": "stop", "owner": "ann", "ve": uuid4(), "ve_name": "web", "created_at": 1.0, **fields}
    return Job.objects.create(**about)


def told(row: Any) -> str:
    from vmcloud.fleet.models import JobEvent

    return "\n".join(JobEvent.objects.filter(job=row).values_list("text", flat=True))


def breaks_over(bad: Any, original: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with a defect that shows at one job only."""

    def function(context: Any, subject: Any, *args: Any, **named: Any) -> Any:
        if getattr(subject, "job_id", getattr(subject, "pk", None)) == bad.pk:
            raise AttributeError("a defect\nin two lines")
        return original(context, subject, *args, **named)

    return function


def broken(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, bad: Any) -> None:
    from vmcloud.fleet.server.context import at_hand

    monkeypatch.setattr(module, name, at_hand(breaks_over(bad, getattr(module, name).__wrapped__)))


def ready(web: Web) -> Scene:
    """A leader to which the watch has told all there is."""
    scene = Scene(web)
    scene.sync()
    return scene


def test_a_job_that_has_not_begun_is_held_and_the_others_are_admitted(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    from vmcloud.fleet.models import Event
    from vmcloud.fleet.server import admit

    scene = ready(web)
    bad, good = job(state="W", to_review=True, holds="u"), job(state="H", holds="", to_review=True)
    broken(monkeypatch, admit, "_admit", bad)
    scene.turn()
    bad.refresh_from_db()
    assert (bad.state, bad.holds, bad.to_review) == ("H", "us", False)
    assert "AttributeError: a defect" in bad.reason and "see its history" in bad.reason
    assert "Traceback" in told(bad) and "in two lines" in told(bad)
    assert f"job {bad.pk} was set aside" in Event.objects.get(job=bad.pk).text
    scene.turn()
    good.refresh_from_db()
    assert good.state != "H", "the transaction was undone for both, and done again for the other"
    version = bad.version
    next_leader = ready(web)
    for _ in range(6):
        next_leader.turn()
    bad.refresh_from_db()
    assert bad.version == version, "the next leader does not meet it"


def test_a_job_that_can_not_be_begun_is_held(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    from vmcloud.fleet.server import schedule

    scene = ready(web)
    bad = job(state="Q")

    def begin(self: Any, each: Any) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(schedule.Turn, "_begin", begin)
    scene.turn()
    bad.refresh_from_db()
    assert (bad.state, bad.holds) == ("H", "s") and "RuntimeError: a defect" in bad.reason


def test_a_job_that_has_begun_fails_and_its_node_is_told(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    from vmcloud.fleet.models import Step
    from vmcloud.fleet.server import orders

    scene = ready(web)
    bad, good = (job(state="R", started_at=2.0, node="node-1") for _ in range(2))
    for each in (bad, good):
        Step.objects.create(job=each, number=1, verb="stop", node="node-1", lane=f"ve:{each.ve}", state="sent", sent_at=3.0)
    broken(monkeypatch, orders, "order", bad)
    scene.turn()
    bad.refresh_from_db()
    assert (bad.state, bad.outcome, bad.error["code"]) == ("E", "failed", "internal")
    assert bad.result["left"][0]["node"] == "node-1" and "Traceback" in told(bad)
    assert bad.steps.get().outcome == "abandoned"
    for _ in range(6):
        scene.turn()
    sent = {(type(each).__name__, each.job) for each in scene.orders.sent}
    assert ("CancelOrder", bad.pk) in sent and ("StepOrder", good.pk) in sent
    good.refresh_from_db()
    assert good.state == "R"


def test_a_job_whose_end_can_not_be_recorded_is_closed_as_failed(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    from vmcloud.fleet.server import finish

    scene = ready(web)
    bad = job(state="E", outcome="ok", result={"undone": False}, exiting_at=3.0, settled=True)
    after = job(state="Q", ve=bad.ve, behind=True)
    broken(monkeypatch, finish, "_shown", bad)
    scene.turn()
    bad.refresh_from_db()
    after.refresh_from_db()
    assert (bad.state, bad.outcome, bad.result["ended"], after.behind) == ("C", "failed", "ok", False)
    assert "its work was over (ok)" in bad.reason


def test_a_word_that_can_not_be_taken_in_fails_its_job_and_no_other(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else its node is asked again, and says it again, for ever."""
    from vmcloud.domain.messages import Accepted
    from vmcloud.fleet.models import Event, Step
    from vmcloud.fleet.server import replies
    from vmcloud.fleet.server.inbox import Report

    scene = ready(web)
    bad, good = (job(state="R", started_at=2.0, node="node-1") for _ in range(2))
    for each in (bad, good):
        Step.objects.create(job=each, number=1, verb="stop", node="node-1", lane=f"ve:{each.ve}", state="sent", sent_at=3.0)
    broken(monkeypatch, replies, "_about_step", bad)
    for _ in range(2):
        for each in (bad, good):
            said = Accepted(job=each.pk, step=1, attempt=1, node="node-1", at=1e9, running=True)
            scene.come(Report("server.node-1", said.to_json()))
        scene.take_in()
    bad.refresh_from_db()
    assert (bad.state, bad.outcome) == ("E", "failed") and good.steps.get().state == "running"
    assert Event.objects.filter(text__contains="could not be taken in").count() == 1
    assert list(scene.context.heard) == ["node-1"]


def test_a_ve_that_breaks_a_rule_is_left_alone_by_all_rules(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    from vmcloud.domain.reconcile import BUDGET
    from vmcloud.fleet.models import Accepted, Budget, Event, Job, Liveness
    from vmcloud.fleet.server import mend, wanted
    from vmcloud.fleet.server.quarantine import stage

    scene, ves = Scene(web), [uuid4(), uuid4()]
    for number, ve in enumerate(ves):
        web.ve(f"v{number}", uuid=ve, node="node-1", observed_state="crashed", observed_node="node-1")
        wish = wanted.wish_of(record(ve, f"v{number}")).to_json()
        Accepted.objects.create(ve=ve, name=f"v{number}", project="main", generation=1, wish=wish)
        scene.come(port.Malformed("cn=x", "kept as it is", ve))
    scene.sync()
    scene.context.foreign.clear()
    original = mend._run_verb

    def run_verb(context: Any, action: Any, by: Any) -> Any:
        if action.ve == ves[0]:
            raise IndexError("a defect")
        return original(context, action, by)

    monkeypatch.setattr(mend, "_run_verb", run_verb)
    Liveness.objects.update(heard_at=scene.now)
    stage(scene.context, mend.run)
    assert Budget.objects.get(ve=ves[0]).tries >= BUDGET and "IndexError: a defect" in Event.objects.get(ve=ves[0]).text
    stage(scene.context, mend.run)
    assert list(Job.objects.filter(origin__startswith="reconcile").values_list("ve", flat=True)) == [ves[1]]


def test_a_part_that_breaks_over_nothing_that_can_be_set_aside_is_told_once_and_the_others_go_on(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vmcloud.fleet.models import Event
    from vmcloud.fleet.server import foreign, liveness

    scene, ran = ready(web), list[int]()

    def defect(context: Any) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(foreign, "run", defect)
    monkeypatch.setattr(liveness, "tell", lambda context: ran.append(1))
    for _ in range(3):
        scene.turn()
    assert len(ran) == 3
    assert Event.objects.filter(text__contains="ZeroDivisionError").count() == 1


def test_an_error_of_the_database_is_nobodys_fault(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    from django.db import OperationalError

    from vmcloud.fleet.server import admit
    from vmcloud.fleet.server.context import at_hand

    scene, waiting = ready(web), job(state="H", to_review=True)

    def away(context: Any, each: Any, verdict: Any) -> bool:
        raise OperationalError("away")

    monkeypatch.setattr(admit, "_admit", at_hand(away))
    with pytest.raises(OperationalError):
        scene.turn()
    waiting.refresh_from_db()
    assert waiting.holds == "" and waiting.to_review
