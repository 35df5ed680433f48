"""The pages of webhooks: what is shown, what the form and the buttons do, and for whom."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.test_admin import HOSTILE, client_of
from tests.web import Web, web

pytestmark = pytest.mark.unit
__all__ = ["web"]
LIST = "/admin/fleet/webhook/"


@pytest.fixture
def admin(web: Web) -> Any:
    return client_of("admin", superuser=True)


def only() -> Any:
    from vmcloud.fleet.webhook_models import Webhook

    return Webhook.objects.get()


def test_one_is_made_by_the_form_and_its_secret_is_shown_once(web: Web, admin: Any) -> None:
    assert b"No webhooks yet" in admin.get(LIST).content
    made = admin.post(f"{LIST}new/", {"url": "https://example.org/hook", "types": "job.ended, node.*"}, follow=True)
    row = only()
    assert row.types == ["job.ended", "node.*"] and row.secret.encode() in made.content
    again = admin.get(f"{LIST}{row.pk}/change/")
    assert row.secret.encode() not in again.content and b"https://example.org/hook" in again.content
    assert b"job.ended, node.*" in admin.get(LIST).content


@pytest.mark.parametrize(("field", "value"), [("url", "ftp://x/"), ("types", "job.nothing"), ("project", "a b")])
def test_what_is_refused_is_said_beside_its_field(web: Web, admin: Any, field: str, value: str) -> None:
    page = admin.post(f"{LIST}new/", {"url": "https://example.org/", field: value})
    assert page.status_code == 200 and f'id="id_{field}-wrong"'.encode() in page.content


def test_its_buttons_do_what_they_say_and_nothing_by_a_look(web: Web, admin: Any) -> None:
    number = web.call("POST", "/webhooks", {"url": "https://example.org/hook", "description": HOSTILE}).json()["id"]
    for verb in ("test", "enable", "disable"):
        assert admin.get(f"{LIST}{number}/{verb}/").status_code == 405
    admin.post(f"{LIST}{number}/test/")
    page = admin.get(f"{LIST}{number}/change/")
    assert b"webhook.test" in page.content and HOSTILE.encode() not in page.content
    admin.post(f"{LIST}{number}/disable/")
    assert only().enabled is False
    refused = admin.post(f"{LIST}{number}/test/", follow=True)
    assert b"is disabled" in refused.content
    admin.post(f"{LIST}{number}/enable/")
    assert only().enabled is True
    assert b"Remove webhook" in admin.post(f"{LIST}{number}/delete/").content and only()
    admin.post(f"{LIST}{number}/delete/", {"confirmed": "yes"})
    assert b"No webhooks yet" in admin.get(LIST).content


def test_others_webhooks_are_not_there(web: Web, admin: Any) -> None:
    number = web.call("POST", "/webhooks", {"url": "https://example.org/hook"}).json()["id"]
    ann = client_of("ann", superuser=False)
    assert b"example.org" not in ann.get(LIST).content
    for address in ("change", "test", "delete"):
        assert ann.post(f"{LIST}{number}/{address}/", {"confirmed": "yes"}).status_code in (404, 405)
    assert only()
