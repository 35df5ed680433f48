"""The archive: which jobs go there and when, that each is there whole and nowhere else, and that every door still finds it."""

from __future__ import annotations

import time
from typing import Any
from uuid import uuid4

import pytest

from tests.web import Web, web
from vmcloud.config import Keep

pytestmark = pytest.mark.unit
__all__ = ["web"]
DAY = 86400.0
NOW = 1_800_000_000.0


def ended(days: float, *, verb: str = "start", outcome: str = "ok", owner: str = "admin", **fields: Any) -> Any:
    """A job that ended so many days ago, with a step, two lines of history and something that it waited for."""
    from vmcloud.fleet.models import Job, JobEvent, JobLink, Step

    at = NOW - days * DAY
    about = {"state": "C", "settled": True, "outcome": outcome, "created_at": at - 2, "started_at": at - 1, "ended_at": at}
    job = Job.objects.create(verb=verb, owner=owner, **{"ve_name": "web", "node": "node-1", **about, **fields})
    Step.objects.create(job=job, number=1, verb=verb, node="node-1", lane=f"ve:{job.ve}", state="done", result={"seen": 1})
    JobLink.objects.create(job=job, type="afterok", other=4711)
    for text in ("submitted by admin through api", "complete: ok"):
        JobEvent.objects.create(job=job, at=at, text=text)
    return job


def archived(*jobs: Any) -> int:
    from vmcloud.fleet.services import archive

    return archive.take([job.pk for job in jobs])


def due(**keep: Any) -> list[int]:
    from vmcloud.fleet.services import archive

    return archive.due(NOW, Keep(**keep), 100)


def test_what_ended_long_ago_is_due_the_oldest_first(web: Web) -> None:
    young, old, oldest = ended(89), ended(91), ended(200)
    assert due() == [oldest.pk, old.pk]
    assert due(jobs_days=300) == [] and young.pk in due(jobs_days=1)


def test_too_many_are_due_too_unless_they_have_just_ended(web: Web) -> None:
    jobs = [ended(1) for _ in range(5)]
    fresh = ended(0.01)
    assert due(jobs_most=3) == [job.pk for job in jobs[:3]]
    assert due(jobs_most=0) == [job.pk for job in jobs] and fresh.pk not in due(jobs_most=0)


def test_what_goes_on_and_the_last_job_of_a_ve_stay(web: Web) -> None:
    from vmcloud.fleet.models import Job

    ended(200, settled=False)
    Job.objects.create(verb="stop", owner="admin", state="H", created_at=NOW - 300 * DAY)
    last = ended(200)
    web.ve("web", job=last.pk)
    assert due() == []


def test_a_job_comes_back_from_the_archive_as_it_was(web: Web) -> None:
    from vmcloud.fleet.models import ArchivedJob, Job, JobEvent, JobLink, Step
    from vmcloud.fleet.services import archive, views

    job = ended(100, ve=uuid4(), args={"force": True}, error={"code": "x", "what": "é\u2028"}, outcome="failed", priority=7)
    before = views.job_json(Job.objects.get(pk=job.pk), full=True)
    lines = [(each.at, each.text) for each in job.events.all()]
    assert archived(job) == 1
    assert not any(model.objects.exists() for model in (Job, Step, JobEvent, JobLink))
    found = archive.find(pk=job.pk)
    assert found is not None and views.job_json(found, full=True) == {**before, "archived": True}
    assert [(each.at, each.text) for each in found.events.all()] == lines
    assert len(bytes(ArchivedJob.objects.get().content)) < 600


def test_every_door_finds_an_archived_job(web: Web) -> None:
    one, two = ended(100), ended(100, verb="stop", owner="ann", outcome="failed")
    archived(one, two)
    ann = web.user("ann")
    assert web.call("GET", "/jobs").json()["items"] == []
    assert [job["id"] for job in web.call("GET", "/jobs?archived=true").json()["items"]] == [two.pk, one.pk]
    assert [job["id"] for job in web.call("GET", "/jobs?archived=true&verb=start&ve=web").json()["items"]] == [one.pk]
    assert [job["id"] for job in web.call("GET", "/jobs?archived=true", token=ann).json()["items"]] == [two.pk]
    page = web.call("GET", "/jobs?archived=true&limit=1").json()
    assert [job["id"] for job in web.call("GET", f"/jobs?archived=true&cursor={page['next']}").json()["items"]] == [one.pk]
    shown = web.call("GET", f"/jobs/{one.pk}").json()
    assert (shown["state"], shown["archived"], len(shown["steps"])) == ("C", True, 1)
    texts = [line["text"] for line in web.call("GET", f"/jobs/{one.pk}/events").json()["items"]]
    assert texts == ["submitted by admin through api", "complete: ok"]
    assert web.call("GET", f"/jobs/{one.pk}", token=ann).status_code == 404
    assert web.call("GET", f"/jobs/{one.pk}?wait=20&version=0").status_code == 200
    assert web.call("POST", f"/jobs/{one.pk}/cancel").json()["state"] == "C"
    refused = web.call("POST", f"/jobs/{one.pk}/hold")
    assert (refused.status_code, refused.json()["what"]) == (409, f"job {one.pk} is complete")


def test_the_page_of_an_archived_job_is_there(web: Web) -> None:
    from django.contrib.auth.models import User

    job = ended(100, reason="why it ended so")
    archived(job)
    web.client.force_login(User.objects.get(username="admin"))
    page = web.client.get(f"/admin/fleet/job/{job.pk}/change/")
    assert page.status_code == 200 and b"why it ended so" in page.content and b"submitted by admin through api" in page.content
    assert web.client.get(f"/admin/fleet/job/{job.pk + 1}/change/").status_code == 404


def test_an_archived_job_can_be_waited_for_and_asked_for_again(web: Web) -> None:
    row = web.ve("web")
    good, bad = (
        ended(100, ve=row.uuid),
        ended(100, ve=row.uuid, verb="stop", outcome="failed", args={"force": True, "grace": 10.0}),
    )
    archived(good, bad)
    job = web.call("POST", "/ves/web/restart", {"job": {"depend": f"afterok:{good.pk},afternotok:{bad.pk}"}})
    assert (job.status_code, job.json()["state"]) == (202, "Q")
    never = web.call("POST", "/ves/web/restart", {"job": {"depend": f"afterok:{bad.pk}"}})
    assert never.status_code == 409
    assert web.call("POST", f"/jobs/{bad.pk}/retry").json()["verb"] == "stop"


def test_a_request_that_is_repeated_after_years_is_the_same_job(web: Web) -> None:
    from vmcloud.fleet.models import Job

    web.ve("web")
    job = web.call("POST", "/ves/web/start", Idempotency_Key="once").json()
    Job.objects.filter(pk=job["id"]).update(state="C", outcome="ok", settled=True, ended_at=NOW - 100 * DAY)
    archived(Job.objects.get(pk=job["id"]))
    assert web.call("POST", "/ves/web/start", Idempotency_Key="once").json()["id"] == job["id"]
    assert web.call("POST", "/ves/web/stop", Idempotency_Key="once").json()["code"] == "key-reused"


def test_counts_of_ended_jobs_never_go_back(web: Web) -> None:
    from vmcloud.fleet.services import archive

    jobs = [ended(2000), ended(100), ended(100, outcome="failed")]

    def told() -> list[str]:
        lines = web.client.get("/metrics", headers={"Authorization": f"Bearer {web.token}"}).content.decode().splitlines()
        return [line for line in lines if line.startswith("vmcloud_jobs_completed_total") and not line.endswith(" 0.0")]

    before = told()
    assert len(before) == 2
    archived(*jobs[:2])
    archived(jobs[2])
    assert told() == before
    assert archive.forget(NOW, Keep(archive_days=0), 100) == 0
    assert archive.forget(NOW, Keep(), 100) == 1
    assert archive.find(pk=jobs[0].pk) is None and archive.find(pk=jobs[1].pk) is not None
    assert told() == before


def test_the_feed_forgets_a_little_at_a_time(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    from vmcloud.fleet.models import Change
    from vmcloud.fleet.services import feed

    monkeypatch.setattr(feed, "PRUNED", 3)
    Change.objects.all().delete()
    now = time.time()
    Change.objects.bulk_create([Change(at=now - 2 * feed.KEPT, kind="job", key=str(number)) for number in range(5)])
    Change.objects.create(at=now, kind="job", key="new")
    feed.prune(now)
    assert Change.objects.count() == 3
    feed.prune(now)
    assert [each.key for each in Change.objects.all()] == ["new"]


def test_an_array_follows_its_parts_and_is_counted_and_called_as_before(web: Web) -> None:
    from vmcloud.fleet.models import Job
    from vmcloud.fleet.services import archive

    array = ended(100, size=3, indices="0-2", state="B", outcome="", ended_at=None, result=None)
    outcomes = ("ok", "failed", "ok")
    parts = [ended(100, array=array.pk, index=index, outcome=outcome, reason=outcome) for index, outcome in enumerate(outcomes)]
    assert due() == [], "some part of it may still run"
    parts_of_it = {"states": {"X": 3}, "outcomes": {"failed": 1, "ok": 2}}
    Job.objects.filter(pk=array.pk).update(state="C", outcome="failed", ended_at=NOW - 100 * DAY, result={"parts": parts_of_it})
    assert due() == [part.pk for part in parts]
    before = web.call("GET", f"/jobs/{array.pk}[]").json()
    assert [part["ref"] for part in before["failed_parts"]] == [f"{array.pk}[1]"]
    archived(parts[1])
    assert web.call("GET", f"/jobs/{array.pk}[]").json() == before, "half of it is archived"
    assert due() == [parts[0].pk, parts[2].pk]
    archived(parts[0], parts[2])
    assert due() == [array.pk]
    archived(array)
    assert web.call("GET", f"/jobs/{array.pk}[]").json() == {**before, "archived": True}
    assert web.call("GET", f"/jobs/{array.pk}[1]").json()["reason"] == "failed"
    listed = web.call("GET", "/jobs?archived=true").json()["items"]
    assert [job["ref"] for job in listed] == [f"{array.pk}[]"]
    of_it = web.call("GET", f"/jobs?archived=true&array={array.pk}[]").json()["items"]
    assert [job["index"] for job in of_it] == [2, 1, 0]
    assert archive.outcomes() == {"failed": 1, "ok": 2}, "an array counts as its parts"
    assert archive.counts([array.pk]) == {array.pk: [("C", "failed", True, 1), ("C", "ok", True, 2)]}
    web.ve("web")
    waits = web.call("POST", "/ves/web/restart", {"job": {"depend": f"afterokarray:{array.pk}[][2],afterany:{array.pk}[]"}})
    assert (waits.status_code, waits.json()["state"]) == (202, "Q")
    assert web.call("POST", f"/jobs/{array.pk}[]/cancel").json()["state"] == "C"
    assert web.call("POST", f"/jobs/{array.pk}[]/hold").status_code == 409
