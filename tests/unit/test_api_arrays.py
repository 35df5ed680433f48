"""Arrays by the API: made as a whole or not at all, shown as one, steered as one and by parts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.web import Web, queries, web

pytestmark = pytest.mark.unit
__all__ = ["web"]


@pytest.fixture(autouse=True)
def no_leader(monkeypatch: pytest.MonkeyPatch, web: Web) -> None:
    """Nobody draws the consequences here; nobody is waited for."""
    from vmcloud.fleet.services import waiting

    monkeypatch.setattr(waiting, "DECIDE_SECONDS", 0.0)


def start(web: Web, array: str = "0-9%5", **terms: Any) -> Any:
    return web.call("POST", "/ves/web-%25i/start", {"job": {"array": array, **terms}})


@pytest.fixture
def ten(web: Web) -> Web:
    for index in range(10):
        web.ve(f"web-{index}")
    return web


def test_an_array_is_one_job_and_its_parts_are_jobs(ten: Web) -> None:
    from vmcloud.api.schemas import jobs

    answer = start(ten)
    job = answer.json()
    assert answer.status_code == 202, job
    jobs.JobOut.model_validate(job)
    assert (job["ref"], job["state"], job["ve_name"], job["part_of"]) == (f"{job['id']}[]", "Q", "web-%i", None)
    assert job["array"] == {"indices": "0-9", "size": 10, "slots": 5, "states": {"Q": 10}, "outcomes": {}}
    assert [each["id"] for each in ten.call("GET", "/jobs").json()["items"]] == [job["id"]]
    assert len(ten.call("GET", "/jobs?expand=true").json()["items"]) == 11
    some = ten.call("GET", f"/jobs?array={job['id']}&indices=3,7-8").json()["items"]
    assert [(each["ref"], each["index"], each["ve_name"]) for each in some] == [
        (f"{job['id']}[{index}]", index, f"web-{index}") for index in (8, 7, 3)
    ]
    part = ten.call("GET", f"/jobs/{job['id']}%5B7%5D").json()
    assert part["id"] == some[1]["id"] and part["reason"] == f"waits for a slot: 5 of {job['ref']} may run at once"
    jobs.JobFullOut.model_validate(part)
    assert ten.call("GET", f"/jobs/{part['id']}/events").json()["items"][0]["text"] == "submitted by admin through api"
    assert ten.call("GET", "/jobs?ve=web-7").json()["items"][0]["ref"] == f"{job['id']}[7]"


def test_a_larger_array_takes_hardly_more_queries(ten: Web) -> None:
    for index in range(10, 210):
        ten.ve(f"web-{index}")
    small = queries(lambda: start(ten, "0-9"))
    assert queries(lambda: start(ten, "0-209")) <= small + 20, "rows are written many at a time"


def test_an_array_of_creates_claims_all_names_or_none(web: Web) -> None:
    from vmcloud.fleet.models import Job

    body = {"name": "db-%02i", "image": "busybox", "memory_mib": 16, "job": {"array": "8-11"}}
    job = web.call("POST", "/ves", body).json()
    assert sorted(each.name for each in web.directory.ves()) == ["db-08", "db-09", "db-10", "db-11"]
    rows = {each.pk: each for each in Job.objects.filter(array=job["id"])}
    assert all(rows[each.job].ve == each.ve and rows[each.job].state == "Q" for each in web.directory.ves())
    refused = web.call("POST", "/ves", {**body, "job": {"array": "11-20"}})
    assert (refused.status_code, refused.json()["code"]) == (409, "name-taken") and "'db-11'" in refused.json()["what"]
    assert Job.objects.count() == 5 and "db-12" in str(web.call("POST", "/ves", {**body, "job": {"array": "12"}}).json())


def test_the_same_key_is_the_same_array(ten: Web) -> None:
    body = {"job": {"array": "0-9"}}
    first, again = (ten.call("POST", "/ves/web-%25i/stop", body, **{"Idempotency-Key": "k"}).json() for _ in range(2))
    assert first["id"] == again["id"] and len(ten.call("GET", "/jobs?expand=true").json()["items"]) == 11
    other = ten.call("POST", "/ves/web-%25i/stop", {"job": {"array": "0-8"}}, **{"Idempotency-Key": "k"})
    assert (other.status_code, other.json()["code"]) == (409, "key-reused")


@pytest.mark.parametrize(
    ("path", "body", "status", "where"),
    [
        ("/ves/web-%25i/start", {"job": {"array": "0-1000000000"}}, 400, "job.array"),
        ("/ves/web-%25i/start", {"job": {"array": "0-999999"}}, 400, "job.array"),
        ("/ves/web-%25i/start", {"job": {"array": "9-0"}}, 400, "job.array"),
        ("/ves/web-%25i/start", {"job": {"array": "0-9%0"}}, 400, "job.array"),
        ("/ves/web-%25i/start", {"job": {"array": "0,0"}}, 400, "job.array"),
        ("/ves/web-%25i/start", {"job": {"array": 9}}, 400, "job.array"),
        ("/ves/web-1/start", {"job": {"array": "0-9"}}, 400, "ve"),
        ("/ves/web-%25i/start", {}, 404, "ve"),
        ("/ves/web-%25i/start", {"job": {"array": "5-15"}}, 404, "ve"),
        ("/ves/web-%25i/exec", {"argv": ["ls"], "job": {"array": "0-9"}}, 400, "job"),
        ("/ves", {"name": "x", "image": "busybox", "job": {"array": "0-9"}}, 400, "name"),
        ("/ves", {"name": "x-%i", "image": "busybox"}, 400, "name"),
        ("/ves", {"name": "x-%i", "image": "none", "job": {"array": "0-9"}}, 422, "image"),
        ("/ves", {"name": "x-%i", "image": "busybox", "job": {"array": "0-9", "depend": "afterokarray:77[]"}}, 404, "job"),
    ],
)
def test_what_can_be_no_array_is_refused_and_leaves_nothing(ten: Web, path: str, body: Any, status: int, where: str) -> None:
    from vmcloud.fleet.models import Job

    answer = ten.call("POST", path, body)
    assert (answer.status_code, answer.json()["where"]) == (status, where), answer.json()
    assert not Job.objects.exists() and not ten.directory.ves()


def test_limits_of_the_cloud_and_of_queues_hold_for_arrays(ten: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    from vmcloud.fleet import ports

    limited = replace(ports.cloud(), max_array_size=8, max_slot_limit=3)
    with monkeypatch.context() as patched:
        patched.setattr(ports, "cloud", lambda: limited)
        assert start(ten, "0-9").json()["code"] == "array-size"
        assert "3 is the limit" in start(ten, "0-7%4").json()["why"]
        assert start(ten, "0-7").json()["array"]["slots"] == 3
    ten.call("PATCH", "/queues/main", {"max_queued": 15})
    refused = start(ten, "0-9")
    assert (refused.status_code, refused.json()["code"]) == (422, "queue") and "10 more were asked" in refused.json()["why"]
    assert start(ten, "0-6").status_code == 202
    assert ten.call("GET", "/queues/main").json()["queued"] == 15


def test_holds_and_terms_reach_the_parts(ten: Web) -> None:
    job = start(ten, hold=True, priority=5).json()
    ref = f"{job['id']}%5B"

    def letters() -> str:
        rows = ten.call("GET", f"/jobs?array={job['id']}").json()["items"]
        return "".join(each["holds"] or "-" for each in reversed(rows))

    assert (job["state"], job["holds"], letters()) == ("H", "u", "u" * 10)
    assert ten.call("POST", f"/jobs/{ref}0-3%5D/release").json()["holds"] == "", "not all of its parts are held"
    assert letters() == "----uuuuuu"
    assert ten.call("POST", f"/jobs/{ref}%5D/hold", {"who": "o"}).json()["holds"] == "o"
    altered = ten.call("PATCH", f"/jobs/{ref}%5D", {"priority": -1, "walltime": 60, "slots": None}).json()
    assert (altered["priority"], altered["array"]["slots"]) == (-1, None)
    rows = ten.call("GET", f"/jobs?array={job['id']}").json()["items"]
    assert {(each["priority"], each["walltime"]) for each in rows} == {(-1, 60.0)}
    assert ten.call("PATCH", f"/jobs/{ref}2%5D", {"priority": -9}).json()["priority"] == -9
    for wrong in ({"slots": 0}, {"slots": "5"}, {"array": "0-3"}):
        assert ten.call("PATCH", f"/jobs/{ref}%5D", wrong).status_code == 400, wrong
    assert ten.call("PATCH", f"/jobs/{ref}2%5D", {"slots": 3}).status_code == 400, "a part has no slots"
    assert ten.call("PATCH", f"/jobs/{ref}2-3%5D", {"depend": "afterok:1"}).status_code == 400
    moved = ten.call("POST", "/queues", {"name": "night"}).json()["name"]
    assert ten.call("POST", f"/jobs/{ref}%5D/move", {"queue": moved}).json()["queue"] == "night"
    assert ten.call("GET", "/queues/night").json()["queued"] == 10


def test_what_is_called_wrong_is_refused_in_words(ten: Web) -> None:
    job = start(ten).json()
    plain = ten.call("POST", "/ves/web-1/stop").json()
    for path, status, word in (
        (f"{job['id']}%5B10%5D", 404, "no job has the number"),
        (f"{plain['id']}%5B%5D", 404, "is no array"),
        (f"{job['id']}%5B0-3%5D", 400, "several jobs"),
        (f"{job['id']}%5B3-0%5D", 400, "backwards"),
        ("41%5B", 400, "is no job"),
    ):
        answer = ten.call("GET", f"/jobs/{path}")
        assert (answer.status_code, word in answer.json()["what"]) == (status, True), answer.json()
    missing = ten.call("POST", f"/jobs/{job['id']}%5B5-12%5D/hold")
    assert missing.status_code == 404 and "has no part 10" in missing.json()["what"]
    assert ten.call("POST", f"/jobs/{job['id']}%5B%5D/order", {"job": plain["id"]}).status_code == 400
    assert ten.call("POST", f"/jobs/{job['id']}%5B3%5D/order", {"job": f"{job['id']}[4]"}).status_code == 202
    for query in ("indices=x", "array=x", "array=1&indices=" + ",".join(str(each) for each in range(0, 500, 2))):
        assert ten.call("GET", f"/jobs?{query}").status_code == 400, query


def test_cancel_is_asked_of_all_or_of_some_that_have_not_ended(ten: Web) -> None:
    job = start(ten).json()
    ten.call("POST", f"/jobs/{job['id']}%5B0-3%5D/cancel")
    rows = ten.call("GET", f"/jobs?array={job['id']}").json()["items"]
    assert [each["cancel_requested"] for each in reversed(rows)] == [True] * 4 + [False] * 6
    assert ten.call("POST", f"/jobs/{job['id']}/cancel").json()["cancel_requested"] is True
    rows = ten.call("GET", f"/jobs?array={job['id']}").json()["items"]
    assert all(each["cancel_requested"] for each in rows)


def test_circles_through_arrays_are_refused(ten: Web) -> None:
    array = start(ten, "0-3", hold=True).json()
    after = ten.call("POST", "/ves/web-5/stop", {"job": {"depend": f"afterok:{array['ref']}"}}).json()
    later = ten.call("POST", "/ves/web-6/stop", {"job": {"depend": f"afterany:{after['id']}"}}).json()
    assert after["depend"] == f"afterok:{array['ref']}" and f"job {array['ref']}" in after["reason"]
    for child in (array["ref"], f"{array['id']}[2]"):
        path = f"/jobs/{child.replace('[', '%5B').replace(']', '%5D')}"
        refused = ten.call("PATCH", path, {"depend": f"afterok:{later['id']}"})
        assert (refused.status_code, refused.json()["code"]) == (409, "cycle"), refused.json()
        assert f"{after['id']} → {array['ref']}" in refused.json()["why"]
    fine = ten.call("PATCH", f"/jobs/{array['id']}%5B2%5D", {"depend": f"afterok:{array['id']}[1]"})
    assert fine.status_code == 202 and fine.json()["depend"] == f"afterok:{array['id']}[1]"
    many = ten.call("POST", "/ves/web-7/stop", {"job": {"depend": f"afterokarray:{array['id']}[][5]"}})
    assert many.status_code == 409 and "has 4 parts" in many.json()["what"]


def test_another_users_array_is_nobodys_business(ten: Web) -> None:
    job, ann = start(ten).json(), ten.user("ann")
    for path in (str(job["id"]), f"{job['id']}%5B%5D", f"{job['id']}%5B3%5D"):
        assert ten.call("GET", f"/jobs/{path}", token=ann).status_code == 404
        assert ten.call("POST", f"/jobs/{path}/cancel", token=ann).status_code == 404
    assert ten.call("GET", f"/jobs?array={job['id']}", token=ann).json()["items"] == []
    assert ten.call("POST", "/ves/web-%25i/start", {"job": {"array": "0-3"}}, token=ann).status_code == 404


# -------------------------------------------------------------------------------------------------------------- admin pages


@pytest.fixture
def admin(ten: Web) -> Any:
    from django.contrib.auth.models import User
    from django.test.client import Client

    client = Client()
    client.force_login(User.objects.get(username="admin"))
    return client


def test_the_list_shows_an_array_as_one_row_and_its_page_leads_to_its_parts(ten: Web, admin: Any) -> None:
    from vmcloud.fleet.models import Job

    job = start(ten).json()
    Job.objects.filter(array=job["id"], index=3).update(state="C", outcome="failed", reason="no room", ended_at=1e9)
    listed = admin.get("/admin/fleet/job/").content.decode()
    assert job["ref"] in listed and "9 Q, 1 X (1 failed), at most 5 at once" in listed and "web-7" not in listed
    page = admin.get(f"/admin/fleet/job/{job['id']}/change/").content.decode()
    assert f"?array={job['id']}" in page and "no room" in page and f"{job['id']}[3]" in page and "web-%i, %i: 0-9" in page
    parts = admin.get(f"/admin/fleet/job/?array={job['id']}").content.decode()
    assert "10 jobs" in parts and f"{job['id']}[7]" in parts
    assert f"{job['id']}[7]" in admin.get("/admin/fleet/job/?q=web-7").content.decode(), "what is looked for is found"
    assert "No jobs" in admin.get("/admin/fleet/job/?array=x").content.decode()
    part = Job.objects.get(array=job["id"], index=7)
    assert job["ref"] in admin.get(f"/admin/fleet/job/{part.pk}/change/").content.decode()


def test_an_arrays_page_steers_all_its_parts(ten: Web, admin: Any) -> None:
    from vmcloud.fleet.models import Job

    job = start(ten).json()
    admin.post(f"/admin/fleet/job/{job['id']}/hold/")
    assert set(Job.objects.filter(array=job["id"]).values_list("holds", flat=True)) == {"u"}
    admin.post(f"/admin/fleet/job/{job['id']}/release/")
    admin.post(f"/admin/fleet/job/{job['id']}/cancel/")
    assert not Job.objects.filter(array=job["id"], cancel_requested_at=None).exists()


def test_the_form_makes_an_array(ten: Web, admin: Any) -> None:
    form = {
        **{"name": "db-%i", "project": "main", "kind": "lxc", "image": "busybox", "vcpus": 1, "memory_mib": 16},
        **{"power": "running", "restart": "on-failure", "node": "", "description": "", "key": "k", "array": "0-2%1"},
    }
    answer = admin.post("/admin/fleet/ve/add/", form, follow=True).content.decode()
    assert sorted(each.name for each in ten.directory.ves()) == ["db-0", "db-1", "db-2"] and "[]" in answer
    wrong = admin.post("/admin/fleet/ve/add/", {**form, "key": "l", "array": "5-1"}).content.decode()
    assert "goes backwards" in wrong
