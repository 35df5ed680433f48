"""The admin: a door to the services. What is shown, what its forms and actions ask for, and that it writes no row itself."""

from __future__ import annotations

from typing import Any

import pytest

from tests.web import Web, web  # noqa: F401 - a fixture

pytestmark = pytest.mark.unit

PAGES = ["ve", "job", "node", "image", "stray"]


@pytest.fixture
def admin(web: Web) -> Any:  # noqa: F811
    from django.contrib.auth.models import User
    from django.test.client import Client

    user = User.objects.get(username="admin")
    user.is_staff = user.is_superuser = True
    user.save()
    client = Client()
    client.force_login(user)
    return client


def jobs() -> list[tuple[str, str, str]]:
    from vmcloud.fleet.models import Job

    return [(job.verb, job.ve_name, job.origin) for job in Job.objects.order_by("id")]


@pytest.mark.parametrize("page", PAGES)
def test_each_list_shows_and_can_not_be_written(web: Web, admin: Any, page: str) -> None:  # noqa: F811
    web.ve("web-1")
    assert admin.get(f"/admin/fleet/{page}/").status_code == 200
    assert admin.get(f"/admin/fleet/{page}/add/").status_code == (200 if page == "ve" else 403)


def test_a_ves_page_says_its_status_and_why(web: Web, admin: Any) -> None:  # noqa: F811
    row = web.ve("web-1", observed_state="crashed", error="init died")
    text = admin.get(f"/admin/fleet/ve/{row.pk}/change/").content.decode()
    assert "error" in text and "init died" in text
    assert "Save" not in text


def test_the_create_form_makes_a_job_and_a_second_sending_of_it_none(web: Web, admin: Any) -> None:  # noqa: F811
    form = {
        "name": "web-2",
        "project": "main",
        "kind": "lxc",
        "image": "busybox",
        "vcpus": 1,
        "memory_mib": 64,
        "power": "running",
        "restart": "on-failure",
        "node": "",
        "description": "",
        "key": "form-1",
    }
    for _ in range(2):
        assert admin.post("/admin/fleet/ve/add/", form).status_code == 302
    assert jobs() == [("create", "web-2", "admin")]


@pytest.mark.parametrize(("field", "value", "words"), [("name", "a;b", "DNS label"), ("memory_mib", "999999", "MiB")])
def test_a_refusal_is_shown_in_words(web: Web, admin: Any, field: str, value: str, words: str) -> None:  # noqa: F811
    form = {"name": "web-2", "project": "main", "kind": "lxc", "image": "busybox", "vcpus": 1, "memory_mib": 64}
    form |= {"power": "running", "restart": "never", "key": "form-2", field: value}
    answer = admin.post("/admin/fleet/ve/add/", form)
    assert answer.status_code == 200
    assert words in answer.content.decode()
    assert jobs() == []


def test_stop_asks_first_and_then_makes_a_job_for_each(web: Web, admin: Any) -> None:  # noqa: F811
    rows = [web.ve("web-1"), web.ve("web-2")]
    chosen = {"action": "stop_action", "_selected_action": [str(row.pk) for row in rows]}
    asked = admin.post("/admin/fleet/ve/", chosen)
    assert "web-1" in asked.content.decode() and jobs() == []
    admin.post("/admin/fleet/ve/", {**chosen, "confirmed": "yes"})
    assert jobs() == [("stop", "web-1", "admin"), ("stop", "web-2", "admin")]


def test_markup_in_words_of_others_is_shown_as_text(web: Web, admin: Any) -> None:  # noqa: F811
    web.ve("web-1", observed_state="crashed", error="<script>alert(1)</script>")
    for path in ("/admin/fleet/ve/", "/admin/fleet/ve/?q=<script>"):
        assert "<script>alert" not in admin.get(path).content.decode()


def test_nobody_else_sees_it_and_forged_requests_are_refused(web: Web) -> None:  # noqa: F811
    from django.test.client import Client

    stranger = Client()
    assert stranger.get("/admin/fleet/ve/").status_code == 302
    assert Client(enforce_csrf_checks=True).post("/admin/fleet/ve/add/", {}).status_code in (302, 403)


def test_the_read_model_can_not_be_written_by_hand(web: Web, admin: Any) -> None:  # noqa: F811
    from vmcloud.fleet.models import ReadOnlyError

    row = web.ve("web-1")
    with pytest.raises(ReadOnlyError):
        row.save()
    with pytest.raises(ReadOnlyError):
        row.delete()
