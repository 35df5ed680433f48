"""The admin's pages of queues: what they show, and the form that makes and alters one."""

from __future__ import annotations

from typing import Any

import pytest

from tests.admin_kit import HOSTILE, admin, ann, job, words
from tests.web import Web, web

__all__ = ["admin", "ann", "web"]
pytestmark = pytest.mark.unit

NEW: dict[str, Any] = {
    "key": "k",
    "name": "batch",
    "enabled": "yes",
    "started": "yes",
    "priority": 3,
    "max_running": 2,
    "max_user_running": 1,
    "max_queued": 0,
    "max_user_queued": 0,
    "min_vcpus": 0,
    "max_vcpus": 4,
    "min_memory_mib": 64,
    "max_memory_mib": 0,
    "default_lease": "8h",
    "max_lease": "30d",
    "users": "ann, bob",
    "routes": "",
    "labels": "ssd rack=1",
}


def queue(name: str = "batch") -> Any:
    from vmcloud.fleet.services import queues

    return queues.get(name)


def test_the_list_shows_every_queue_with_its_counts_and_limits(web: Web, admin: Any, ann: Any) -> None:
    admin.post("/admin/fleet/queuerow/add/", NEW)
    job(queue="batch", state="R", ve_name="x"), job(queue="batch", ve_name="y")
    for client in (admin, ann):
        shown = words(client, "fleet/queuerow/")
        assert "main" in shown and "batch" in shown and "1 of 2" in shown
        assert "of one user run 1" in shown and "ann, bob" in shown and "lease at most 30 days" in shown
    assert "Make a queue" in words(admin, "fleet/queuerow/") and "Make a queue" not in words(ann, "fleet/queuerow/")


def test_a_queue_is_made_and_altered_by_the_same_form(web: Web, admin: Any) -> None:
    admin.post("/admin/fleet/queuerow/add/", NEW)
    made = queue()
    assert (made.priority, made.max_running, made.users, made.labels) == (3, 2, ("ann", "bob"), ("ssd", "rack=1"))
    assert (made.default_lease, made.max_lease) == (8 * 3600, 30 * 86400)
    shown = words(admin, "fleet/queuerow/batch/set/")
    assert 'value="8h"' in shown and 'value="30d"' in shown and 'value="ann bob"' in shown and 'name="name"' not in shown
    admin.post("/admin/fleet/queuerow/batch/set/", {**NEW, "users": "", "max_lease": "", "default_lease": "", "started": "no"})
    assert (queue().users, queue().max_lease, queue().started, queue().max_running) == ((), 0, False, 2)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("name", "No Label", "name"),
        ("name", "main", "is taken"),
        ("max_lease", "soon", "This is no time"),
        ("default_lease", "60d", "above max_lease"),
        ("min_vcpus", 9, "above max_vcpus"),
        ("routes", "nowhere", "no queue is called"),
        ("priority", 5000, "less than or equal"),
        ("users", HOSTILE, "main"),
    ],
)
def test_what_can_not_be_is_said_beside_its_field(web: Web, admin: Any, field: str, value: Any, said: str) -> None:
    answer = admin.post("/admin/fleet/queuerow/add/", {**NEW, field: value}, follow=True)
    text = answer.content.decode()
    assert answer.status_code == 200 and said.lower() in text.lower() and "<script>alert" not in text


def test_a_queues_page_has_its_jobs_and_its_switches(web: Web, admin: Any, ann: Any) -> None:
    mine = job(queue="main", ve_name="hers", owner="ann")
    other = job(queue="main", ve_name="his", owner="bob")
    shown = words(admin, "fleet/queuerow/main/change/")
    assert f"/admin/fleet/job/{mine.pk}/" in shown and f"/admin/fleet/job/{other.pk}/" in shown
    theirs = words(ann, "fleet/queuerow/main/change/")
    assert f"/admin/fleet/job/{mine.pk}/" in theirs and f"/admin/fleet/job/{other.pk}/" not in theirs and "/stop/" not in theirs
    for word, field, value in (("stop", "started", False), ("disable", "enabled", False), ("start", "started", True)):
        assert admin.get(f"/admin/fleet/queuerow/main/{word}/").status_code == 405
        admin.post(f"/admin/fleet/queuerow/main/{word}/")
        assert getattr(queue("main"), field) is value
    admin.post("/admin/fleet/queuerow/main/remove/")
    assert words(admin, "fleet/queuerow/main/change/").count("no jobs") == 1, "it has jobs, so it stays as it is"


def test_an_empty_queue_is_removed_after_a_question(web: Web, admin: Any) -> None:
    from vmcloud.domain.errors import NotFound

    admin.post("/admin/fleet/queuerow/add/", NEW)
    assert "Remove queue batch?" in words(admin, "fleet/queuerow/batch/remove/")
    admin.post("/admin/fleet/queuerow/batch/remove/")
    with pytest.raises(NotFound):
        queue()
    admin.post("/admin/fleet/queuerow/main/stop/")
    admin.post("/admin/fleet/queuerow/main/remove/")
    assert queue("main").started and "main" in words(admin, "fleet/queuerow/"), "the default one has its defaults again"


def test_only_administrators_change_queues(web: Web, ann: Any) -> None:
    for word in ("stop", "disable", "remove", "set"):
        answer = ann.post(f"/admin/fleet/queuerow/main/{word}/", NEW)
        assert answer.status_code in (302, 403)
    assert ann.get("/admin/fleet/queuerow/main/set/").status_code == 403 == ann.get("/admin/fleet/queuerow/add/").status_code
    assert queue("main").started and queue("main").enabled


def test_a_lease_is_set_and_taken_away_by_a_form(web: Web, admin: Any) -> None:
    from vmcloud.fleet.models import Job

    row = web.ve("web-1")
    form = {"key": "k", "length": "8h", "action": "delete", "grace": "30m"}
    admin.post(f"/admin/fleet/ve/{row.uuid}/lease/", form)
    args = Job.objects.get().args
    assert (args["lease_action"], args["lease_grace"]) == ("delete", 1800) and args["lease_end"] > 1e9
    admin.post(f"/admin/fleet/ve/{row.uuid}/lease/", {**form, "key": "k2", "length": "none"})
    assert Job.objects.order_by("-id").first().args["lease_end"] == 0.0
    for field, value, said in (("length", "soon", "no time"), ("length", "0", "out of range"), ("grace", "999d", "out of range")):
        text = admin.post(f"/admin/fleet/ve/{row.uuid}/lease/", {**form, "key": "k3", field: value}).content.decode()
        assert said in text
