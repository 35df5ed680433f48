"""Ends of jobs by REST: cancel and its force, rerun, signals; leases; who may ask."""

from __future__ import annotations

from typing import Any

import pytest

from tests.web import Web, web

__all__ = ["web"]
pytestmark = pytest.mark.unit


def begun(web: Web, **fields: Any) -> Any:
    """A job that runs."""
    from vmcloud.fleet.models import Job

    number = web.call("POST", f"/ves/{web.ve('a').uuid}/stop").json()["id"]
    Job.objects.filter(pk=number).update(**{"state": "R", "started_at": 1.0, **fields})
    return Job.objects.get(pk=number)


def test_force_is_noted_also_after_a_plain_cancel_and_only_of_what_has_begun(web: Web) -> None:
    job = begun(web)
    assert web.call("POST", f"/jobs/{job.pk}/cancel").json()["ending"] is None
    first = web.call("POST", f"/jobs/{job.pk}/cancel", {"force": True})
    assert first.status_code == 202 and first.json()["ending"] == "force"
    web.call("POST", f"/jobs/{job.pk}/cancel", {"force": True})
    texts = [each["text"] for each in web.call("GET", f"/jobs/{job.pk}/events").json()["items"]]
    assert texts.count("end by force asked for by admin") == 1
    waiting = web.call("POST", f"/ves/{job.ve}/start").json()["id"]
    shown = web.call("POST", f"/jobs/{waiting}/cancel", {"force": True}).json()
    assert (shown["cancel_requested"], shown["ending"]) == (True, None), "what has not begun leaves nothing"


@pytest.mark.parametrize("body", [{"force": "yes"}, {"force": 1}, {"hard": True}, [True]])
def test_a_cancel_that_can_not_be_understood_is_refused(web: Web, body: Any) -> None:
    assert web.call("POST", f"/jobs/{begun(web).pk}/cancel", body).status_code == 400


def test_who_may_end_what(web: Web) -> None:
    job, token = begun(web, owner="ann"), web.user("ann")
    assert web.call("POST", f"/jobs/{job.pk}/cancel", {"force": True}, token=token).status_code == 403
    assert web.call("POST", f"/jobs/{job.pk}/signal", {"signal": "KILL"}, token=token).status_code == 403
    assert web.call("POST", f"/jobs/{job.pk}/rerun", token=token).json()["ending"] == "rerun"
    assert web.call("POST", f"/jobs/{job.pk}/signal", {"signal": "TERM"}, token=token).json()["ending"] is None, "now cancelled"
    for path, body in (("cancel", None), ("cancel", {"force": True}), ("rerun", None), ("signal", {"signal": "TERM"})):
        answer = web.call("POST", f"/jobs/{job.pk}/{path}", body, token=web.user(f"bob-{path}-{body is None}"))
        assert answer.status_code in (403, 404)


def test_what_is_not_running_is_not_rerun(web: Web) -> None:
    for fields, word in (
        ({"state": "Q"}, "has not begun"),
        ({"state": "C", "outcome": "failed"}, "vmcloud job retry"),
        ({"state": "E"}, "is ending"),
        ({"state": "R", "verb": "exec"}, "is a session"),
        ({"state": "R", "cancel_requested_at": 2.0}, "was asked for"),
    ):
        from vmcloud.fleet.models import VE

        VE.objects.all().delete()
        answer = web.call("POST", f"/jobs/{begun(web, **fields).pk}/rerun")
        assert answer.status_code == 409 and word in str(answer.json()), answer.json()


def test_a_kill_waits_for_the_leader_and_nonsense_is_refused_in_words(web: Web) -> None:
    job = begun(web)
    assert web.call("POST", f"/jobs/{job.pk}/signal", {"signal": "kill"}).status_code == 202
    job.refresh_from_db()
    assert (job.signal, job.cancel_requested_at) == ("KILL", None)
    for body, status in (({}, 400), ({"signal": 7777}, 400), ({"signal": "resume"}, 409), ({"signal": None}, 400)):
        assert web.call("POST", f"/jobs/{job.pk}/signal", body).status_code == status, body


def test_the_owner_of_a_ve_sees_what_the_rules_do_with_it_and_may_not_end_it(web: Web) -> None:
    from vmcloud.fleet.models import Job

    token = web.user("ann")
    hers, other = web.ve("hers", owner="ann"), web.ve("other")
    made = [
        Job.objects.create(owner="vmcloud", verb="stop", origin="reconcile:R13", ve=row.uuid, ve_name=row.name, created_at=1.0)
        for row in (hers, other)
    ]
    listed = [each["id"] for each in web.call("GET", "/jobs", token=token).json()["items"]]
    assert listed == [made[0].pk]
    assert web.call("GET", f"/jobs/{made[0].pk}", token=token).status_code == 200
    refused = web.call("POST", f"/jobs/{made[0].pk}/cancel", token=token)
    assert refused.status_code == 403 and "cloud's own" in refused.json()["detail"]
    assert web.call("GET", f"/jobs/{made[1].pk}", token=token).status_code == 404


def test_a_renewal_asks_for_the_end_of_what_the_lease_led_to(web: Web) -> None:
    from vmcloud.fleet.models import Job

    row = web.ve("web")
    stop = Job.objects.create(owner="vmcloud", verb="stop", origin="reconcile:R13", ve=row.uuid, ve_name="web", created_at=1.0)
    policy = web.call("POST", "/ves/web/alter", {"lease": {"action": "delete"}})
    assert policy.status_code == 400 and "no lease" in policy.json()["detail"]
    answer = web.call("POST", "/ves/web/alter", {"lease": {"for": 60}})
    assert answer.status_code == 202 and answer.json()["args"]["lease_end"] > 1e9
    stop.refresh_from_db()
    assert stop.cancel_requested_at is not None


@pytest.mark.parametrize(
    "lease", [{"for": 0}, {"for": -1}, {"for": 1e99}, {"until": "2001-01-01"}, "8h", {"grace": -1, "for": 9}]
)
def test_leases_that_can_not_be(web: Web, lease: Any) -> None:
    row = web.ve("web")
    assert web.call("POST", f"/ves/{row.uuid}/alter", {"lease": lease}).status_code == 400
    assert web.call("POST", "/ves", {"name": "new", "image": "busybox", "lease": lease}).status_code == 400


def test_the_stored_fields_of_a_lease_are_not_for_doors(web: Web) -> None:
    row = web.ve("web")
    for name, value in (("lease_end", 1.0), ("lease_action", "delete"), ("lease_grace", 5)):
        for path, body in ((f"/ves/{row.uuid}/alter", {}), ("/ves", {"name": "new", "image": "busybox"})):
            assert web.call("POST", path, {**body, name: value}).status_code == 400


def test_every_part_of_an_array_has_the_lease_that_was_asked_for(web: Web) -> None:
    from vmcloud.fleet.models import Job

    body = {"name": "lab-%i", "image": "busybox", "lease": {"for": 3600, "action": "delete"}, "job": {"array": "0-2"}}
    array = web.call("POST", "/ves", body)
    assert array.status_code == 202, array.json()
    specs = [part.args["spec"] for part in Job.objects.filter(array=array.json()["id"])]
    assert len(specs) == 3 and {spec["lease_action"] for spec in specs} == {"delete"}
    assert len({spec["lease_end"] for spec in specs}) == 1 and specs[0]["lease_end"] > 1e9
