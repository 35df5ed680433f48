"""Snapshots by REST: what is listed, asked for and refused; and what the server makes of the jobs."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.test_api_v1 import refused
from tests.web import Web, web

pytestmark = pytest.mark.unit
__all__ = ["web"]
KEPT = [{"name": "new", "job": 9, "at": 200.5}, {"name": "old", "job": 3, "at": 100.0}]


def jobs() -> list[Any]:
    from vmcloud.fleet.models import Job

    return list(Job.objects.order_by("id"))


def test_a_ve_shows_its_snapshots_oldest_first(web: Web) -> None:
    web.ve("one", snapshots=KEPT)
    shown = web.call("GET", "/ves/one/snapshots").json()
    assert [each["name"] for each in shown["items"]] == ["old", "new"] and shown["next"] is None
    assert shown["items"][1] == {"name": "new", "job": 9, "at": "1970-01-01T00:03:20.500+00:00"}
    assert web.call("GET", "/ves/one/snapshots?limit=1000").json() == shown
    assert web.call("GET", "/ves/one").json()["snapshots"] == shown["items"]
    from vmcloud.api.schemas import ves

    ves.SnapshotPage.model_validate(shown)


def test_each_is_a_job_that_names_what_is_meant(web: Web) -> None:
    web.ve("one", snapshots=KEPT)
    assert web.call("POST", "/ves/one/snapshots", {"name": "third"}).status_code == 202
    assert web.call("POST", "/ves/one/revert", {"snapshot": "old"}).status_code == 202
    assert web.call("DELETE", "/ves/one/snapshots/old").status_code == 202
    assert [(job.verb, job.args) for job in jobs()] == [
        ("snapshot", {"snapshot": {"name": "third"}}),
        ("revert", {"snapshot": KEPT[1]}),
        ("delete-snapshot", {"snapshot": KEPT[1]}),
    ]


def test_what_open_jobs_will_have_done_counts(web: Web) -> None:
    web.ve("one", snapshots=KEPT)
    first = web.call("POST", "/ves/one/snapshots", {"name": "third"}).json()
    problem = refused(web.call("POST", "/ves/one/snapshots", {"name": "third"}), 409, "name-taken", "snapshot")
    assert f"job {first['id']} takes it" in problem["why"]
    web.call("POST", "/ves/one/revert", {"snapshot": "third"})
    assert jobs()[-1].args == {"snapshot": {"name": "third", "job": first["id"], "at": 0.0}}
    web.call("DELETE", "/ves/one/snapshots/old")
    refused(web.call("POST", "/ves/one/revert", {"snapshot": "old"}), 404, "not-found", "snapshot")
    assert web.call("POST", "/ves/one/snapshots", {"name": "old"}).status_code == 202


def test_a_job_that_has_ended_and_is_not_shown_yet_counts_if_it_ended_well(web: Web) -> None:
    from vmcloud.fleet.models import Job

    row = web.ve("one", snapshots=KEPT[:1])
    about = {"ve": row.uuid, "owner": "admin", "state": "E", "created_at": 1.0, "verb": "snapshot"}
    Job.objects.create(args={"snapshot": {"name": "good"}}, outcome="ok", **about)
    Job.objects.create(args={"snapshot": {"name": "bad"}}, outcome="failed", **about)
    Job.objects.create(args={"snapshot": KEPT[0]}, outcome="ok", **{**about, "verb": "delete-snapshot"})
    assert web.call("POST", "/ves/one/revert", {"snapshot": "good"}).status_code == 202
    refused(web.call("POST", "/ves/one/revert", {"snapshot": "bad"}), 404)
    refused(web.call("POST", "/ves/one/revert", {"snapshot": "new"}), 404)
    assert web.call("POST", "/ves/one/snapshots", {"name": "bad"}).status_code == 202


def test_the_same_key_is_done_once(web: Web) -> None:
    web.ve("one")
    ids = {
        web.call("POST", "/ves/one/snapshots", {"name": "a"}, **{"Idempotency-Key": "k"}).json()["id"],
        web.call("POST", "/ves/one/snapshots", {"name": "a"}, **{"Idempotency-Key": "k"}).json()["id"],
    }
    assert len(ids) == 1 and len(jobs()) == 1


@pytest.mark.parametrize("name", ["", "A", "a b", "-a", "a" * 64, 7, None, ["a"], "ä"])
def test_bad_names_are_refused(web: Web, name: Any) -> None:
    web.ve("one")
    refused(web.call("POST", "/ves/one/snapshots", {"name": name}), 400, "invalid", "snapshot")
    assert jobs() == []


def test_refusals_say_what_there_is(web: Web) -> None:
    web.ve("one", snapshots=KEPT)
    problem = refused(web.call("POST", "/ves/one/revert", {"snapshot": "x"}), 404, "not-found", "snapshot")
    assert problem["why"] == "it has: new, old"
    refused(web.call("DELETE", "/ves/one/snapshots/x"), 404, "not-found", "snapshot")
    problem = refused(web.call("POST", "/ves/one/snapshots", {"name": "old"}), 409, "name-taken", "snapshot")
    assert "taken 1970-01-01" in problem["why"]
    refused(web.call("POST", "/ves/one/snapshots", {"name": "a", "memory": True}), 400, "invalid", "memory")
    refused(web.call("POST", "/ves/one/snapshots", {}), 400, "invalid", "snapshot")
    refused(web.call("POST", "/ves/none/snapshots", {"name": "a"}), 404, "not-found", "ve")
    web.ve("two")
    assert refused(web.call("POST", "/ves/two/revert", {"snapshot": "x"}), 404)["why"] == "it has none"
    assert jobs() == []


def test_no_more_than_a_number_of_them(web: Web) -> None:
    web.ve("one", snapshots=[{"name": f"s{n}", "job": n, "at": 100.0 - n} for n in range(31)])
    assert web.call("POST", "/ves/one/snapshots", {"name": "last"}).status_code == 202
    problem = refused(web.call("POST", "/ves/one/snapshots", {"name": "more"}), 409, "too-many-snapshots")
    assert "32" in problem["why"] and "delete-snapshot one s30" in problem["todo"]


def test_a_kind_that_can_not_says_so(web: Web) -> None:
    web.ve("vm", kind="kvm", snapshots=KEPT)
    for response in (
        web.call("POST", "/ves/vm/snapshots", {"name": "a"}),
        web.call("POST", "/ves/vm/revert", {"snapshot": "old"}),
        web.call("DELETE", "/ves/vm/snapshots/old"),
    ):
        refused(response, 422, "impossible")


def test_a_suspended_ve_is_not_reverted_and_one_being_deleted_is_left_alone(web: Web) -> None:
    web.ve("one", snapshots=KEPT, desired="suspended", observed_state="suspended")
    refused(web.call("POST", "/ves/one/revert", {"snapshot": "old"}), 409, "conflict", "ve")
    web.ve("two", snapshots=KEPT, desired="absent")
    refused(web.call("POST", "/ves/two/snapshots", {"name": "a"}), 409, "conflict", "ve")


def test_others_do_not_see_them(web: Web) -> None:
    web.ve("one", snapshots=KEPT)
    token = web.user("eve")
    for response in (
        web.call("GET", "/ves/one/snapshots", token=token),
        web.call("POST", "/ves/one/snapshots", {"name": "a"}, token=token),
        web.call("DELETE", "/ves/one/snapshots/old", token=token),
    ):
        refused(response, 404)


def test_the_admin_shows_them(web: Web) -> None:
    from django.contrib.auth.models import User
    from django.test.client import Client

    row = web.ve("one", snapshots=KEPT)
    client = Client()
    client.force_login(User.objects.get(username="admin"))
    text = client.get(f"/admin/fleet/ve/{row.pk}/change/").content.decode()
    assert ">old<" in text and 'title="1970-01-01' in text


def test_a_job_waits_until_its_snapshot_is_shown(web: Web) -> None:
    """A list under way at the step's end may show the generation, and the snapshots from before."""
    from vmcloud.domain import verbs
    from vmcloud.fleet.models import VE, Job
    from vmcloud.fleet.server.finish import Picture, ended

    def missing(job: Job) -> str:
        return verbs.of(job.verb).missing(ended(job), job.ve, Picture([job]))

    row = web.ve("one", observed_node="node-1", observed_epoch=1, observed_sequence=5, observed_generation=2, snapshots=[])
    result = {"node": "node-1", "mark": [1, 6], "seen": {"state": "running", "generation": 2}}
    about = {"ve": row.uuid, "owner": "admin", "outcome": "ok", "result": result, "created_at": 1.0}
    taking = Job.objects.create(verb="snapshot", args={"snapshot": {"name": "a"}}, **about)
    assert missing(taking) == "snapshot a"
    VE.objects.filter(pk=row.pk).update(snapshots=[{"name": "a", "job": taking.pk, "at": 1.0}])
    assert missing(taking) == ""
    removing = Job.objects.create(verb="delete-snapshot", args={"snapshot": {"name": "a", "job": taking.pk, "at": 1.0}}, **about)
    assert missing(removing) == "snapshot a gone"
    VE.objects.filter(pk=row.pk).update(snapshots=[{"name": "a", "job": 99, "at": 1.0}])
    assert missing(removing) == ""


@pytest.mark.parametrize(
    ("verb", "outcome", "state", "ended", "ran"),
    [
        ("start", "ok", "running", 50.0, True),
        ("start", "failed", "stopped", 50.0, False),
        ("start", "ok", "running", 150.0, False),
        ("stop", "failed", "running", 50.0, True),
        ("revert", "ok", "running", 50.0, True),
        ("revert", "failed", "stopped", 150.0, False),
        ("revert", "failed", "running", 50.0, True),
        ("snapshot", "failed", "running", 50.0, True),
        ("snapshot", "ok", "running", 150.0, True),
    ],
)
def test_a_guests_own_shutdown_is_told_from_a_job_that_left_it_stopped(
    web: Web, verb: str, outcome: str, state: str, ended: float, ran: bool
) -> None:
    from vmcloud.fleet.models import Job
    from vmcloud.fleet.services.reconcile import ran as ran_before

    row = web.ve("one", observed_state="stopped", since=100.0)
    about = {"ve": row.uuid, "owner": "admin", "state": "C", "created_at": 1.0}
    Job.objects.create(verb="create", outcome="ok", ended_at=10.0, result={"seen": {"state": "running"}}, **about)
    last = Job.objects.create(verb=verb, outcome=outcome, ended_at=ended, result={"seen": {"state": state}}, **about)
    row.job = last.pk
    assert ran_before(row) is ran


def test_what_never_ran_says_nothing_about_a_guest(web: Web) -> None:
    """A refused change by LDAP, a job cancelled in the queue, a new description: the start before them counts."""
    from vmcloud.fleet.models import Job
    from vmcloud.fleet.services.reconcile import ran as ran_before

    row = web.ve("one", observed_state="stopped", since=100.0)
    about = {"ve": row.uuid, "owner": "admin", "state": "C", "created_at": 1.0}
    Job.objects.create(verb="start", outcome="ok", ended_at=50.0, result={"seen": {"state": "running"}}, **about)
    for verb, outcome in (("delete", "failed"), ("stop", "cancelled"), ("alter", "ok")):
        never = {"never_ran": True, "undone": True} if outcome != "ok" else None
        row.job = Job.objects.create(verb=verb, outcome=outcome, ended_at=150.0, result=never, **about).pk
        assert ran_before(row)


def test_no_migration_is_missing(web: Web) -> None:
    from django.core.management import call_command

    call_command("makemigrations", "--check", "--dry-run", verbosity=0)
