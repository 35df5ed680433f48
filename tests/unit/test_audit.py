"""The audit: every refusal is written down where an auditor reads it, and nobody fills the disk by being refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.web import Web, web

pytestmark = pytest.mark.unit
__all__ = ["web"]


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What other tests were refused is not ours."""
    from tests import web as kit

    kit._setup()
    from vmcloud.fleet.services import audit

    monkeypatch.setattr(audit, "_gatherer", audit.Gatherer())
    yield


def rows(**wanted: Any) -> list[Any]:
    from vmcloud.fleet.audit_models import Audit
    from vmcloud.fleet.services import audit

    audit.flush()
    return list(Audit.objects.filter(**wanted).order_by("id"))


def test_a_refusal_by_rest_says_who_from_where_what_and_why(web: Web) -> None:
    token = web.user("bob")
    assert web.call("POST", "/queues", {"name": "mine"}, token=token).status_code == 403
    [row] = rows()
    assert (row.door, row.who, row.source, row.what) == ("rest", "bob", "127.0.0.1", "POST /api/v1/queues")
    assert "administrator" in row.why and not row.allowed


def test_a_request_without_a_known_token_is_written_down(web: Web) -> None:
    assert web.call("GET", "/ves", token="vmc_wrong").status_code == 401
    [row] = rows()
    assert (row.door, row.who, row.what) == ("rest", "", "GET /api/v1/ves")


def test_logins_right_and_wrong_by_token_and_by_form_are_written_down(web: Web) -> None:
    from django.contrib.auth.models import User

    web.user("bob", password="right-and-long")
    User.objects.filter(username="bob").update(is_staff=True)
    for word in ("wrong", "right-and-long"):
        web.client.post("/api/v1/tokens", {"username": "bob", "password": word, "name": "t"}, content_type="application/json")
        web.client.post("/admin/login/", {"username": "bob", "password": word})
    told = [(row.who, row.what, row.allowed) for row in rows(door="login")]
    assert sorted(told) == sorted(
        [
            ("bob", "get a token", False),
            ("bob", "get a token", True),
            ("bob", "log in to the pages", False),
            ("bob", "log in to the pages", True),
        ]
    )
    assert all(row.source == "127.0.0.1" for row in rows(door="login"))
    assert rows(door="rest") == [], "once each"


def test_looking_for_others_things_is_written_down(web: Web) -> None:
    web.ve("anns", owner="ann")
    token = web.user("bob")
    assert web.call("GET", "/ves/anns", token=token).status_code == 404
    batch = {"requests": [{"verb": "stop", "ve": "anns"}]}
    assert web.call("POST", "/jobs", batch, token=token).status_code in (200, 202, 207)
    [row] = rows(door="rights")
    assert (row.who, row.what, row.count) == ("bob", "VE anns", 2)


def test_a_webhook_to_an_address_of_ours_is_written_down(web: Web) -> None:
    token = web.user("bob")
    assert web.call("POST", "/webhooks", {"url": "http://127.0.0.1:9/x"}, token=token).status_code == 400
    [row] = rows(door="webhook")
    assert row.who == "bob" and "127.0.0.1" in row.what and row.why


def test_a_flood_from_one_source_is_a_few_rows_and_a_count(web: Web) -> None:
    from vmcloud.fleet.services import audit

    for number in range(5000):
        audit.denied(audit.Door.REST, f"GET /api/v1/{number}", "no", source="192.0.2.7")
    found = rows()
    assert len(found) == audit.PER_SOURCE + 1 and sum(row.count for row in found) == 5000


def test_a_flood_from_many_sources_is_bounded_too(web: Web) -> None:
    from vmcloud.fleet.services import audit

    for number in range(20_000):
        audit.denied(audit.Door.LOGIN, "get a token", "no", source=f"2001:db8::{number:x}", who=f"u{number}")
    found = rows()
    assert len(found) == audit.PER_MINUTE + 1 and sum(row.count for row in found) == 20_000


def test_a_refusal_writes_nothing_while_the_request_waits(web: Web) -> None:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    from vmcloud.fleet.services import audit

    with CaptureQueriesContext(connection) as asked:
        audit.denied(audit.Door.REST, "GET /x", "no", source="192.0.2.7")
    assert len(asked) == 0


def test_the_same_again_is_counted_in_the_same_row_until_its_minute_is_over(web: Web) -> None:
    from vmcloud.fleet.audit_models import Audit
    from vmcloud.fleet.services import audit

    gatherer, key = audit.Gatherer(), ("rest", "bob", "", "GET /x", "no", False)
    for now in (100.0, 101.0, 159.0):
        gatherer.note(key, now)
        gatherer.write()
    assert [(row.count, row.at, row.last_at) for row in Audit.objects.all()] == [(3, 100.0, 159.0)]
    gatherer.note(key, 161.0)
    gatherer.note(key, 230.0)  # what was not written when the minute ended is not lost
    gatherer.write()
    assert [row.count for row in Audit.objects.order_by("at")] == [3, 1, 1]


def test_what_can_not_be_written_now_is_written_later(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    from django.db import OperationalError

    from vmcloud.fleet.audit_models import Audit
    from vmcloud.fleet.services import audit

    def away(*args: Any, **kwargs: Any) -> None:
        raise OperationalError("away")

    audit.denied(audit.Door.REST, "GET /x", "no")
    with monkeypatch.context() as patched, pytest.raises(OperationalError):
        patched.setattr(Audit, "save", away)
        audit.flush()
    [row] = rows()
    assert row.count == 1


def test_no_text_of_an_attacker_stops_the_audit(web: Web) -> None:
    from vmcloud.fleet.services import audit

    audit.denied(audit.Door.LOGIN, "x" * 5000, "\0" * 900, who="\ud800bob\0", source="s" * 500)
    [row] = rows()
    assert (len(row.what), len(row.source)) == (200, 64) and "\0" not in row.who + row.why


def test_only_administrators_read_it_with_filters_and_pages(web: Web) -> None:
    from vmcloud.fleet.services import audit

    audit.denied(audit.Door.NODE, "message on server.n1", "not JSON", source="server.n1")
    audit.granted(audit.Door.LOGIN, "get a token", who="ann", source="192.0.2.7")
    assert len(rows()) == 2
    assert web.call("GET", "/audit", token=web.user("bob")).status_code == 403
    items = web.call("GET", "/audit").json()["items"]
    assert [item["door"] for item in items] == ["login", "node"] and items[1]["why"] == "not JSON"
    assert [item["door"] for item in web.call("GET", "/audit?allowed=false&door=node").json()["items"]] == ["node"]
    assert web.call("GET", "/audit?nonsense=1").status_code == 400
    assert web.call("GET", "/audit?allowed=perhaps").status_code == 400


def test_a_burst_is_told_on_the_start_page_in_metrics_and_to_doctor(web: Web) -> None:
    from vmcloud.fleet.admin import start
    from vmcloud.fleet.services import audit
    from vmcloud.fleet.services.accounts import Actor

    root = Actor("root", is_admin=True)
    assert not [each for each in start.context(root)["trouble"] if each["what"] == "a burst"]
    audit.denied(audit.Door.LOGIN, "get a token", "no", source="192.0.2.7", count=audit.BURST)
    audit.flush()
    [burst] = [each for each in start.context(root)["trouble"] if each["what"] == "a burst"]
    assert "login 50" in burst["why"]
    assert not [each for each in start.context(Actor("bob"))["trouble"] if each["what"] == "a burst"]
    assert web.call("GET", "/audit/recent").json()["refusals"] == {"login": audit.BURST}
    metrics = web.client.get("/metrics", headers={"Authorization": f"Bearer {web.token}"}).content.decode()
    assert f'vmcloud_recent_refusals{{door="login"}} {audit.BURST}.0' in metrics


def test_the_page_is_for_administrators(web: Web) -> None:
    from django.contrib.auth.models import User

    from vmcloud.fleet.services import audit

    audit.denied(audit.Door.NODE, "message on server.n1", "not JSON", source="server.n1")
    audit.flush()
    web.client.force_login(User.objects.create_superuser("root2"))
    page = web.client.get("/admin/fleet/audit/")
    assert page.status_code == 200 and "not JSON" in page.content.decode()
    web.user("bob")
    web.client.force_login(User.objects.get(username="bob"))
    assert web.client.get("/admin/fleet/audit/").status_code in (302, 403)


def test_old_rows_and_too_many_rows_are_forgotten(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    from vmcloud.fleet.audit_models import Audit
    from vmcloud.fleet.services import audit

    Audit.objects.bulk_create([Audit(at=float(at), last_at=float(at), door="rest", what="x") for at in range(20)])
    audit.prune(5.0)
    assert Audit.objects.count() == 15
    monkeypatch.setattr(audit, "ROWS_MAX", 10)
    audit.prune(5.0)
    assert [row.at for row in Audit.objects.order_by("at")] == [float(at) for at in range(10, 20)]
