"""The admin: a door to the services. What is shown, who sees it, and that it writes no row itself."""

from __future__ import annotations

import re
from typing import Any
from uuid import uuid4

import pytest

from tests.admin_kit import FORM, HOSTILE, LISTS, admin, ann, client_of, event, job, jobs, words
from tests.web import Web, web

__all__ = ["admin", "ann", "web"]
pytestmark = pytest.mark.unit


# ------------------------------------------------------------------------------------------------------------------- the lists


@pytest.mark.parametrize("page", LISTS)
def test_each_list_shows_and_can_not_be_written(web: Web, admin: Any, page: str) -> None:
    web.ve("web-1")
    assert admin.get(f"/admin/fleet/{page}/").status_code == 200
    assert admin.get(f"/admin/fleet/{page}/add/").status_code == (200 if page in ("ve", "queuerow") else 403)


@pytest.mark.parametrize("page", [page for page in LISTS if page != "queuerow"])
def test_an_empty_list_says_what_to_do_next(web: Web, admin: Any, page: str) -> None:
    from vmcloud.fleet.models import Image, Node

    Image.objects.all()._raw_delete("default")
    Node.objects.all()._raw_delete("default")
    assert re.search(r"No (VEs|jobs|nodes|images|orphans|events)( yet)?<", words(admin, f"fleet/{page}/"))
    assert "match<" in words(admin, f"fleet/{page}/?q=nothing-is-called-so") or page == "stray"


def test_a_longer_list_takes_no_more_queries(web: Web, admin: Any) -> None:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    def asked(path: str) -> int:
        with CaptureQueriesContext(connection) as found:
            words(admin, path)
        return len(found)

    def grow(count: int) -> None:
        for _ in range(count):
            row = web.ve(f"ve-{uuid4().hex[:8]}")
            job(ve=row.uuid, ve_name=row.name)
            event("said", ve=row.uuid, ve_name=row.name)

    grow(2)
    before = {page: asked(page) for page in ("fleet/ve/", "fleet/job/", "fleet/event/", "")}
    grow(40)
    assert {page: asked(page) for page in before} == before


def test_ves_are_counted_and_found_by_derived_status(web: Web, admin: Any) -> None:
    web.ve("good")
    web.ve("bad", observed_state="crashed", error="init died")
    job(ve=web.ve("coming", observed_state="stopped").uuid)
    text = words(admin, "fleet/ve/")
    assert re.search(r'All <span class="vmc-count">3</span>', text)
    for word in ("running", "crashed", "starting"):
        assert re.search(rf'status={word}"[^>]*><span[^>]*>{word}</span> <span class="vmc-count">1<', text), word
    found = words(admin, "fleet/ve/?status=starting")
    assert "coming" in found and ">good<" not in found


def test_search_filter_sort_and_pages(web: Web, admin: Any) -> None:
    rows = [web.ve(f"ve-{number:03}", memory_mib=64 + number, node="node-1" if number % 2 else "") for number in range(60)]
    assert "page 1 of 2" in words(admin, "fleet/ve/")
    assert "ve-059" in words(admin, "fleet/ve/?p=2")
    assert "60 VEs" in words(admin, "fleet/ve/") and "1 VE<" in words(admin, "fleet/ve/?q=ve-007")
    assert "1 VE<" in words(admin, f"fleet/ve/?q={str(rows[3].uuid)[:13]}")
    web.ve("deadbeef", node="")
    assert "1 VE<" in words(admin, "fleet/ve/?q=deadbeef")
    assert "30 VEs" in words(admin, "fleet/ve/?node=node-1")
    sorted_by_size = words(admin, "fleet/ve/?o=-5")
    assert sorted_by_size.index("ve-059") < sorted_by_size.index("ve-058")


@pytest.mark.parametrize("query", ["p=999999", "p=x", "o=99", "status=nonsense", "nonsense=1", "node__name__regex=(((", "q=%00"])
def test_a_nonsensical_address_is_no_failure(web: Web, admin: Any, query: str) -> None:
    assert admin.get(f"/admin/fleet/ve/?{query}").status_code in (200, 302, 400)


# --------------------------------------------------------------------------------------------------------------------- one page


def test_a_ves_page_says_its_status_and_why(web: Web, admin: Any) -> None:
    row = web.ve("web-1", observed_state="crashed", error="init died")
    text = words(admin, f"fleet/ve/{row.pk}/change/")
    assert ">crashed<" in text and "init died" in text
    assert "Save" not in text


def test_a_ves_page_tells_events_and_jobs_in_one_line_of_time(web: Web, admin: Any) -> None:
    from vmcloud.fleet.models import JobEvent

    row = web.ve("web-1", refusal="nobody may")
    event("it was killed", ve=row.uuid, at=2000.0)
    for at, text in ((1000.0, "submitted"), (3000.0, "complete: ok")):
        JobEvent.objects.create(job=job(ve=row.uuid), at=at, text=text)
    text = words(admin, f"fleet/ve/{row.pk}/change/")
    assert text.index("complete: ok") < text.index("it was killed") < text.index("submitted")
    assert "A change from outside was refused" in text and "nobody may" in text


def test_a_nodes_page_says_what_it_holds(web: Web, admin: Any) -> None:
    from vmcloud.fleet.models import Stray

    web.ve("web-1", memory_mib=256)
    Stray.objects.bulk_create([Stray(key="x", node="node-1", native="by-hand", kind="lxc", state="running")])
    text = words(admin, "fleet/node/node-1/change/")
    assert "256 MiB placed of 768 MiB" in text and "web-1" in text and "by-hand" in text


def test_the_start_page_says_what_needs_a_person(web: Web, admin: Any) -> None:
    from vmcloud.fleet.models import Liveness, Stray

    web.ve("web-1", observed_state="crashed", error="init died")
    Stray.objects.bulk_create([Stray(key="x", node="node-1", native="by-hand", kind="lxc", state="running")])
    text = words(admin, "")
    assert "init died" in text and "by-hand" in text
    Liveness.objects.all().update(heard_at=1.0)
    assert "node node-1" in words(admin, "")


def test_what_is_not_there_is_404(web: Web, admin: Any) -> None:
    for path in (f"fleet/ve/{uuid4()}/change/", "fleet/ve/x/change/", "fleet/job/999/change/", "fleet/node/none/change/"):
        words(admin, path, 404)
    row = web.ve("web-1")
    words(admin, f"fleet/ve/{row.pk}/revert/none/", 404)


# ------------------------------------------------------------------------------------------------------------ forms and actions


def test_only_verbs_that_fit_are_offered(web: Web) -> None:
    from vmcloud.domain.vocabulary import Desired, Observed, Verb
    from vmcloud.fleet.services.offers import fitting, misfit

    seen = {state: fitting(web.ve(f"ve-{state}", observed_state=state)) for state in Observed}
    assert Verb.START not in seen[Observed.RUNNING] and Verb.STOP in seen[Observed.RUNNING]
    assert Verb.START in seen[Observed.STOPPED] and Verb.SUSPEND not in seen[Observed.STOPPED]
    assert Verb.RESUME in seen[Observed.SUSPENDED]
    assert all(Verb.DELETE in verbs for verbs in seen.values()), "delete always fits"
    assert fitting(web.ve("never", observed_state="")) == (Verb.DELETE,)
    gone = web.ve("gone", desired=Desired.ABSENT)
    assert fitting(gone) == (Verb.DELETE,) and misfit(gone, Verb.START) == "it is being deleted"


def test_looking_changes_nothing(web: Web, admin: Any) -> None:
    """A GET never asks for anything, whatever its address says."""
    row = web.ve("web-1", snapshots=[{"name": "old", "job": 1, "at": 1.0}])
    for path in (
        "stop",
        "start",
        "restart",
        "suspend",
        "resume",
        "delete",
        "revert/old",
        "delete-snapshot/old",
        "alter",
        "snapshot",
    ):
        assert admin.get(f"/admin/fleet/ve/{row.pk}/{path}/?confirmed=yes&key=x").status_code == 200, path
    assert admin.get("/admin/fleet/node/node-1/cordon/").status_code == 405
    open_job = job()
    admin.get(f"/admin/fleet/job/{open_job.pk}/cancel/?confirmed=yes")
    open_job.refresh_from_db()
    assert open_job.cancel_requested_at is None
    assert jobs() == [("start", "", "api")]


def test_a_form_from_elsewhere_is_refused(web: Web) -> None:
    row = web.ve("web-1")
    client = client_of("admin", superuser=True, enforce_csrf_checks=True)
    for path in (f"ve/{row.pk}/stop/", f"ve/{row.pk}/start/", "ve/add/", "ve/", "node/node-1/cordon/"):
        assert client.post(f"/admin/fleet/{path}", {"confirmed": "yes", **FORM}).status_code == 403
    assert jobs() == []


# ------------------------------------------------------------------------------------------------------------------ who may what


def test_who_is_no_administrator_sees_only_what_is_theirs(web: Web, ann: Any) -> None:
    from vmcloud.fleet.models import Stray

    foreign, own = web.ve("secret-ve"), web.ve("own", owner="ann")
    hidden = job(ve=foreign.uuid, ve_name="secret-ve", reason="secret-reason")
    event("secret-event", ve=foreign.uuid, ve_name="secret-ve", owner="admin")
    Stray.objects.bulk_create([Stray(key="x", node="node-1", native="secret-stray", kind="lxc", state="running")])
    for path in (
        "",
        "fleet/ve/",
        "fleet/job/",
        "fleet/event/",
        "fleet/stray/",
        "fleet/node/node-1/change/",
        "fleet/image/busybox/change/",
    ):
        text = words(ann, path)
        assert "secret" not in text, path
    assert "own" in words(ann, "fleet/ve/")
    words(ann, f"fleet/ve/{own.pk}/change/")
    for path in ("change", "stop", "delete", "alter", "snapshot", "revert/old"):
        words(ann, f"fleet/ve/{foreign.pk}/{path}/", 404)
    words(ann, f"fleet/job/{hidden.pk}/change/", 404)
    words(ann, "auth/user/", 403)


def test_nor_can_they_do_anything_to_it(web: Web, ann: Any) -> None:
    foreign = web.ve("foreign")
    hidden = job()
    for path in ("start", "stop", "restart", "suspend", "resume", "delete"):
        assert ann.post(f"/admin/fleet/ve/{foreign.pk}/{path}/", {"confirmed": "yes"}).status_code == 404
        chosen = {"action": f"{path}_action", "_selected_action": [str(foreign.pk), "nonsense"], "confirmed": "yes"}
        assert ann.post("/admin/fleet/ve/", chosen).status_code in (200, 302, 404)
    assert ann.post(f"/admin/fleet/job/{hidden.pk}/cancel/").status_code == 404
    ann.post("/admin/fleet/node/node-1/cordon/")
    ann.post("/admin/fleet/node/", {"action": "cordon_action", "_selected_action": ["node-1"]})
    assert jobs() == [("start", "", "api")]


def test_nobody_else_sees_it(web: Web) -> None:
    from django.contrib.auth.models import User
    from django.test.client import Client

    stranger = Client()
    assert stranger.get("/admin/fleet/ve/").status_code == 302
    User.objects.create_user("plain", password="x")
    stranger.login(username="plain", password="x")
    assert stranger.get("/admin/fleet/ve/").status_code == 302, "who is no staff"
    assert client_of("vmcloud", superuser=True).get("/admin/").status_code == 302, "the cloud's own name"


def test_passwords_are_tried_so_often_only(web: Web) -> None:
    """The counters are those of REST: who was stopped there is stopped here."""
    from django.test.client import Client

    client = Client()
    form = {"username": "admin", "password": "a guess"}
    for _ in range(10):
        assert "Please enter the correct" in client.post("/admin/login/", form).content.decode()
    right = client.post("/admin/login/", {**form, "password": "secret-of-admin"})
    assert right.status_code == 200 and "too many tries" in right.content.decode()
    assert web.call("POST", "/tokens", form, token="").status_code == 429


# ----------------------------------------------------------------------------------------------------------------- what is said


def test_stored_markup_is_text_on_every_page(web: Web, admin: Any) -> None:
    from vmcloud.fleet.models import Image, JobEvent, Node, QueueRow, Step, Stray

    QueueRow.objects.create(name="batch", data={"users": [HOSTILE], "labels": [HOSTILE]})
    row = web.ve(
        "web-1", observed_state="crashed", error=HOSTILE, refusal=HOSTILE, owner=HOSTILE, addresses=[HOSTILE], mac=HOSTILE[:17]
    )
    type(row).objects.filter(pk=row.pk).update(spec={**row.spec, "description": HOSTILE})
    bad = job(
        ve=row.uuid, ve_name=HOSTILE, reason=HOSTILE, args={"spec": {HOSTILE: HOSTILE}}, error={"what": HOSTILE, "todo": HOSTILE}
    )
    JobEvent.objects.create(job=bad, at=1.0, text=HOSTILE)
    Step.objects.create(job=bad, number=1, verb="start", node="node-1", lane=HOSTILE, phase=HOSTILE, percent=1, state="running")
    event(HOSTILE, ve=row.uuid, ve_name=HOSTILE, node="node-1")
    Stray.objects.bulk_create([Stray(key="x", node="node-1", native=HOSTILE, kind="lxc", state="running")])
    Node.objects.filter(pk="node-1").update(description=HOSTILE, labels=[HOSTILE], software=HOSTILE, address=HOSTILE)
    Image.objects.filter(pk="busybox").update(description=HOSTILE)
    pages = [f"fleet/{page}/" for page in LISTS]
    pages += ["", f"fleet/ve/{row.pk}/change/", f"fleet/ve/{row.pk}/delete/", f"fleet/job/{bad.pk}/change/"]
    pages += ["fleet/queuerow/batch/change/", "fleet/queuerow/batch/set/"]
    pages += ["fleet/node/node-1/change/", "fleet/image/busybox/change/", "fleet/ve/?q=<script>alert(3)</script>"]
    for page in pages:
        text = words(admin, page)
        assert "<script>alert" not in text and "<img src=x" not in text, page
        assert "&lt;script" in text or page.endswith("/delete/"), page


def test_pages_allow_no_script_but_ours(web: Web, admin: Any) -> None:
    from django.test.client import Client

    for answer in (admin.get("/admin/fleet/ve/"), Client().get("/admin/login/"), admin.get("/api/v1/docs")):
        policy = answer.headers["Content-Security-Policy"]
        assert "script-src 'self';" in policy and "unsafe-eval" not in policy
        text = answer.content.decode()
        assert not re.search(r"<script(?![^>]*(src|application/json))", text), "a script within the page"
        assert not re.search(r"\son[a-z]+=", text) and not re.search(r"(src|href)=\"(https?:)?//", text)


def test_a_page_that_follows_leaves_messages_for_the_next_load(web: Web, admin: Any) -> None:
    row = web.ve("web-1")
    admin.post(f"/admin/fleet/ve/{row.pk}/stop/", {"confirmed": "yes"})
    path = f"/admin/fleet/ve/{row.pk}/change/"
    assert "Asked for" not in admin.get(path, headers={"X-Live": "1"}).content.decode()
    assert "Asked for" in admin.get(path).content.decode()


def test_a_page_says_where_the_feed_was_before_it_looked(web: Web, admin: Any) -> None:
    from vmcloud.fleet.services import feed

    web.ve("web-1")
    feed.changed("ve", "x")
    assert f'data-after="{feed.cursor()}"' in words(admin, "fleet/ve/")


def test_the_read_model_can_not_be_written_by_hand(web: Web, admin: Any) -> None:
    from vmcloud.fleet.models import ReadOnlyError

    row = web.ve("web-1")
    with pytest.raises(ReadOnlyError):
        row.save()
    with pytest.raises(ReadOnlyError):
        row.delete()


@pytest.mark.parametrize(
    ("amount", "said"),
    [(0, "0 MiB"), (512, "512 MiB"), (1024, "1 GiB"), (1536, "1.5 GiB"), (262144, "256 GiB"), (1 << 21, "2 TiB")],
)
def test_memory_is_said_in_units_that_people_know(web: Web, amount: int, said: str) -> None:
    from vmcloud.fleet.templatetags.cloud import mib

    assert mib(amount) == said


def test_page_and_script_say_times_in_the_same_words(web: Web) -> None:
    from pathlib import Path

    import vmcloud.fleet
    from vmcloud.fleet.templatetags.cloud import ago

    said = [ago(seconds) for seconds in (0, 4, 5, 89, 90, 5399, 5400, 129599, 129600, 864000)]
    assert said == [
        "now",
        "now",
        "5 s ago",
        "89 s ago",
        "2 min ago",
        "90 min ago",
        "2 h ago",
        "36 h ago",
        "2 days ago",
        "10 days ago",
    ]
    script = (Path(vmcloud.fleet.__file__).parent / "static/fleet/live.js").read_text()
    assert '[[90, 1, "s"], [5400, 60, "min"], [129600, 3600, "h"]]' in script
