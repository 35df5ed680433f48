"""The admin's pages of jobs: what they say, and every verb that they offer."""

from __future__ import annotations

import re
from typing import Any
from uuid import uuid4

import pytest

from tests.admin_kit import admin, ann, job, jobs, words
from tests.web import Web, web

__all__ = ["admin", "ann", "web"]
pytestmark = pytest.mark.unit


def test_a_jobs_page_says_what_why_and_what_to_do(web: Web, admin: Any) -> None:
    from vmcloud.fleet.models import Step

    error = {"code": "x", "what": "it broke", "why": "of age", "todo": "Buy another."}
    failed = job(state="C", outcome="failed", error=error, ended_at=1e9 + 2)
    Step.objects.create(job=failed, number=1, verb="start", node="node-1", lane="ve:x", state="running", phase="copy", percent=40)
    text = words(admin, f"fleet/job/{failed.pk}/change/")
    for said in ("it broke", "of age", "Buy another.", "copy 40 %", "failed"):
        assert said in text


def test_jobs_are_cancelled_and_nodes_cordoned(web: Web, admin: Any) -> None:
    open_job = job()
    for _ in range(2):
        admin.post(f"/admin/fleet/job/{open_job.pk}/cancel/", {"confirmed": "yes"})
    open_job.refresh_from_db()
    assert open_job.cancel_requested_at is not None and open_job.events.count() == 1
    admin.post("/admin/fleet/node/node-1/cordon/")
    assert jobs()[-1][0] == "cordon"


def test_a_job_that_has_not_begun_is_held_and_released_and_one_that_failed_asked_for_again(
    web: Web,
    admin: Any,
    monkeypatch: Any,
) -> None:
    from vmcloud.fleet.services import waiting

    monkeypatch.setattr(waiting, "DECIDE_SECONDS", 0.0)
    row = web.ve("web-1")
    queued = job(ve=row.uuid, ve_name="web-1")
    page = f"fleet/job/{queued.pk}"
    assert ">Hold<" in words(admin, f"{page}/change/") and ">Begin now<" in words(admin, f"{page}/change/")
    admin.post(f"/admin/{page}/hold/")
    queued.refresh_from_db()
    assert queued.holds == "u" and ">Release<" in words(admin, f"{page}/change/")
    admin.post(f"/admin/{page}/release/")
    queued.refresh_from_db()
    assert queued.holds == ""
    failed = job(ve=row.uuid, ve_name="web-1", verb="stop", state="C", outcome="failed")
    for _ in range(2):
        admin.post(f"/admin/fleet/job/{failed.pk}/retry/", {"key": "again"})
    assert jobs()[2:] == [("stop", "web-1", "admin")]
    for word in ("hold", "release", "run", "retry"):
        assert admin.get(f"/admin/{page}/{word}/").status_code == 405


def waiting_job(web: Web, **fields: Any) -> Any:
    """A job that has not begun."""
    return job(ve=web.ve(f"ve-{uuid4().hex[:6]}").uuid, ve_name="a", queue="main", rank=1.0, **fields)


def post(client: Any, made: Any, word: str, **data: Any) -> Any:
    answer = client.post(f"/admin/fleet/job/{made.pk}/{word}/", data, follow=True)
    assert answer.status_code == 200
    made.refresh_from_db()
    return answer.content.decode()


def buttons(client: Any, made: Any) -> set[str]:
    """The verbs that its page offers, by their addresses."""
    return set(re.findall(rf"/admin/fleet/job/{made.pk}/(\w+)/", words(client, f"fleet/job/{made.pk}/change/"))) - {"change"}


@pytest.fixture(autouse=True)
def undecided(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody decides about changed jobs here, so nobody is waited for."""
    from vmcloud.fleet.services import waiting

    monkeypatch.setattr(waiting, "DECIDE_SECONDS", 0.0)


def test_each_verb_is_offered_when_it_fits(web: Web, admin: Any, ann: Any) -> None:
    until_it_begins = {"hold", "run", "alter", "move", "order", "cancel"}
    made = waiting_job(web)
    assert buttons(admin, made) == until_it_begins
    made.change(holds="u")
    assert buttons(admin, made) == until_it_begins - {"hold", "run"} | {"release"}
    made.change(holds="", state="R")
    assert buttons(admin, made) == {"rerun", "cancel", "force", "kill"}
    made.change(cancel_requested_at=1.0)
    assert buttons(admin, made) == {"force", "kill"}
    made.change(state="E")
    assert buttons(admin, made) == {"force"}
    made.change(state="C", outcome="failed")
    assert buttons(admin, made) == {"retry"}
    hers = waiting_job(web, owner="ann")
    assert buttons(ann, hers) == until_it_begins - {"run"}
    hers.change(state="R")
    assert buttons(ann, hers) == {"rerun", "cancel"}


def test_terms_are_altered_by_a_form_that_shows_them(web: Web, admin: Any) -> None:
    made = waiting_job(web, priority=5, walltime=60.0)
    shown = words(admin, f"fleet/job/{made.pk}/alter/")
    assert 'value="5"' in shown and 'value="60' in shown
    form = {"key": "k", "priority": 7, "retries": 2, "walltime": "", "not_before": "2030-01-31T18:00Z", "depend": ""}
    post(admin, made, "alter", **form)
    assert (made.priority, made.retries, made.walltime, made.not_before) == (7, 2, None, 1_896_112_800.0)
    again = {**form, "not_before": "2030-01-31T18:00:00.000+00:00"}
    assert "Nothing is different" in post(admin, made, "alter", **again)
    for field, value, said in (("not_before", "2001-01-01", "in the past"), ("depend", f"afterok:{made.pk}", "circle")):
        assert said in post(admin, made, "alter", **{**again, field: value})


def test_a_job_changes_its_queue_and_its_place(web: Web, admin: Any) -> None:
    from vmcloud.fleet.models import QueueRow

    QueueRow.objects.create(name="batch")
    QueueRow.objects.create(name="shut", data={"enabled": False})
    first, second = waiting_job(web), waiting_job(web)
    second.change(rank=2.0)
    post(admin, first, "move", key="k", queue="batch")
    assert first.queue == "batch"
    assert "takes no jobs" in post(admin, first, "move", key="k", queue="shut")
    post(admin, first, "order", key="k", other=second.pk)
    assert first.rank == 2.0
    assert "two different jobs" in post(admin, first, "order", key="k", other=first.pk)
    assert "no job has the number" in post(admin, first, "order", key="k", other=99999)


def test_holds_of_operators_are_released_by_administrators(web: Web, admin: Any, ann: Any) -> None:
    made = waiting_job(web, owner="ann", holds="o")
    assert "operator&#x27;s hold" in words(admin, f"fleet/job/{made.pk}/change/")
    post(ann, made, "release", who="o")
    assert made.holds == "o"
    post(admin, made, "release", who="o")
    assert made.holds == ""


def test_ends_are_asked_about_first(web: Web, admin: Any) -> None:
    made = waiting_job(web, state="R")
    for word, said in (("force", "whatever its node still does"), ("kill", "begins again")):
        assert said in words(admin, f"fleet/job/{made.pk}/{word}/")
    made.refresh_from_db()
    assert (made.ending, made.signal) == ("", ""), "a look changes nothing"
    post(admin, made, "kill")
    post(admin, made, "force")
    assert (made.signal, made.ending) == ("KILL", "force") and made.cancel_requested_at
    other = waiting_job(web, state="R")
    post(admin, other, "rerun")
    assert other.ending == "rerun"


def test_a_page_says_why_and_what_the_job_has_to_do_with(web: Web, admin: Any) -> None:
    from vmcloud.fleet.models import JobLink

    first, made, last = waiting_job(web), waiting_job(web, state="H", holds="u"), waiting_job(web)
    JobLink.objects.create(job=made, type="afterok", other=first.pk)
    JobLink.objects.create(job=last, type="afterany", other=made.pk)
    shown = words(admin, f"fleet/job/{made.pk}/change/")
    assert "It is held by its user" in shown and f"vmcloud job release {made.pk}" in shown
    assert "Comes after" in shown and f"/admin/fleet/job/{first.pk}/change/" in shown
    assert "Comes before" in shown and f"/admin/fleet/job/{last.pk}/change/" in shown
