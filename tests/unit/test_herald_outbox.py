"""What webhooks are to be told, and how it goes: the outbox in SQL."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.web import Web, web
from vmcloud.config import WebhookSettings
from vmcloud.domain.vocabulary import EventType

pytestmark = pytest.mark.unit
__all__ = ["web"]
QUICK = WebhookSettings(pause=10.0, patience=100.0)


def hook(web: Web, token: str | None = None, **fields: Any) -> int:
    made = web.call("POST", "/webhooks", {"url": "https://example.org/hook", **fields}, token=token)
    assert made.status_code == 201, made.content
    number: int = made.json()["id"]
    return number


def job(web: Web, name: str, **fields: Any) -> Any:
    """A job as the leader would leave it; it is on the feed."""
    from vmcloud.fleet.models import Job

    web.ve(name)
    number = web.call("POST", f"/ves/{name}/stop").json()["id"]
    row = Job.objects.get(pk=number)
    row.change(**fields)
    return row


def gathered() -> Any:
    """A reader that has told all there is."""
    from vmcloud.fleet.herald import outbox
    from vmcloud.fleet.herald.gather import Line
    from vmcloud.fleet.services import webhooks

    line = Line(webhooks.LINE)
    happenings, place = line.news()
    if place is not None:
        outbox.keep(happenings, line, place)
    return line


def waiting(number: int) -> list[str]:
    from vmcloud.fleet.webhook_models import Delivery

    return list(Delivery.objects.filter(webhook=number).order_by("id").values_list("type", flat=True))


def test_a_job_is_told_from_its_begin_to_its_end_and_once(web: Web) -> None:
    number, now = hook(web), time.time()
    row = job(web, "one", state="R", started_at=now + 1)
    gathered()
    row.change(state="C", outcome="ok", ended_at=now + 2)
    gathered()
    gathered()
    assert waiting(number) == ["job.queued", "job.begun", "job.ended"]
    (bundle,) = _due(now + 10)
    told = [json.loads(each.body) for each in bundle.messages]
    assert [each.event for each in bundle.messages] == [each["id"] for each in told]
    assert told[2]["data"]["outcome"] == "ok" and "args" not in told[2]["data"] and "." not in told[2]["id"]


def test_what_happened_before_a_webhook_was_made_is_not_told(web: Web) -> None:
    row = job(web, "one")
    number = hook(web)
    row.change(started_at=time.time() + 1)
    gathered()
    assert waiting(number) == ["job.begun"]


def test_a_job_that_came_into_its_queue_long_after_it_was_asked_for_is_told_as_queued(web: Web) -> None:
    """An array that claims many names: its parts are older than what the feed first says of them."""
    from vmcloud.fleet.models import Job
    from vmcloud.fleet.services import arrays
    from vmcloud.fleet.webhook_models import Webhook

    number, now = hook(web), time.time()
    Webhook.objects.update(created_at=now - 1000)
    part = Job.objects.create(owner="ann", verb="create", ve_name="one", state="Q", created_at=now - 500)
    arrays.note_submitted([part])
    gathered()
    assert waiting(number) == ["job.queued"]
    part.change(state="R", started_at=now + 1)
    gathered()
    assert waiting(number) == ["job.queued", "job.begun"]


def test_what_was_told_long_ago_is_not_told_again(web: Web) -> None:
    from vmcloud.fleet.models import Job, JobEvent
    from vmcloud.fleet.webhook_models import Webhook

    number, now = hook(web), time.time()
    Webhook.objects.update(created_at=now - 1000)
    old = Job.objects.create(owner="ann", verb="stop", ve_name="one", state="R", created_at=now - 500, started_at=now - 400)
    JobEvent.objects.create(job=old, at=now - 500, text="submitted")
    old.change(state="C", outcome="ok", ended_at=now)
    gathered()
    assert waiting(number) == ["job.ended"]


def test_only_what_was_asked_for_and_may_be_known_is_told(web: Web) -> None:
    from vmcloud.fleet.services import events

    ann = web.user("ann")
    of_ann, of_jobs, elsewhere, of_nodes = (
        hook(web, ann),
        hook(web, types=["job.*"]),
        hook(web, project="other"),
        hook(web, types=["node.*"]),
    )
    job(web, "one")
    now = time.time() + 1
    events.note(EventType.NODE, "node node-1 is down: nothing was heard of it in time", at=now, node="node-1")
    events.note(EventType.NODE, f"node node-1 {events.HEARD_AGAIN}", at=now, node="node-1")
    events.note(EventType.ORPHAN, "seen", at=now, node="node-1")
    events.note(EventType.STATE, "ended by itself", at=now, owner="ann", project="main", ve_name="x")
    gathered()
    assert waiting(of_jobs) == ["job.queued"] and waiting(elsewhere) == []
    assert sorted(waiting(of_nodes)) == ["node.down", "node.up"]
    assert sorted(waiting(of_ann)) == ["node.down", "node.up", "ve.state"]


def _due(now: float, busy: tuple[int, ...] = ()) -> list[Any]:
    from vmcloud.fleet.herald import outbox

    return outbox.due(now, busy, 8)


def _tried(number: int, *answers: Any, settings: WebhookSettings = QUICK) -> Any:
    """Have the next messages of a webhook end so; the webhook then."""
    from vmcloud.fleet.herald import outbox
    from vmcloud.fleet.webhook_models import Webhook

    (bundle,) = [each for each in _due(4e9) if each.webhook == number]
    outbox.record(number, list(zip(bundle.messages, answers, strict=False)), settings)
    return Webhook.objects.get(pk=number)


def _filled(web: Web, count: int = 3) -> int:
    number = hook(web)
    for each in range(count):
        job(web, f"v{each}")
    gathered()
    return number


def test_after_a_failure_all_wait_and_the_message_that_failed_comes_last(web: Web) -> None:
    from vmcloud.fleet.herald.post import Answer
    from vmcloud.fleet.webhook_models import Delivery

    number = _filled(web)
    first, second, third = (each.event for each in _due(4e9)[0].messages)
    row = _tried(number, Answer(204), Answer(500, "500 no"))
    assert (row.failures, row.last_code, row.enabled) == (1, 500, True) and row.next_at > time.time() + 7
    assert _due(time.time()) == [] and _due(4e9, (number,)) == []
    assert [each.event for each in _due(4e9)[0].messages] == [third, second]
    row = _tried(number, Answer(200), Answer(200))
    assert (row.failures, row.failing_since, row.next_at) == (0, None, 0.0)
    assert set(Delivery.objects.values_list("state", "attempts")) == {("delivered", 1), ("delivered", 2)}
    assert first


def test_a_message_that_is_never_taken_is_given_up(web: Web) -> None:
    from vmcloud.domain.webhooks import ATTEMPTS
    from vmcloud.fleet.herald.post import Answer
    from vmcloud.fleet.webhook_models import Delivery

    number = _filled(web, 1)
    for _ in range(ATTEMPTS):
        _tried(number, Answer(None, "no answer"))
    row = Delivery.objects.get()
    assert (row.state, row.attempts, row.error, row.code) == ("failed", ATTEMPTS, "no answer", None) and _due(4e9) == []


def test_who_fails_for_long_or_says_gone_is_disabled_and_why_is_shown(web: Web) -> None:
    from vmcloud.fleet.herald.post import Answer
    from vmcloud.fleet.webhook_models import Webhook

    number = _filled(web)
    _tried(number, Answer(500, "500 no"))
    Webhook.objects.update(failing_since=time.time() - 101)
    _tried(number, Answer(500, "500 no"))
    shown = web.call("GET", f"/webhooks/{number}").json()
    assert shown["enabled"] is False and shown["reason"].endswith("the last answer was: 500 no") and shown["waiting"] == 0
    assert web.call("POST", f"/webhooks/{number}/test").json()["why"] == shown["reason"]
    again = web.call("PATCH", f"/webhooks/{number}", {"enabled": True}).json()
    assert (again["enabled"], again["reason"], again["failures"]) == (True, "", 0)
    web.call("POST", f"/webhooks/{number}/test")
    assert "410" in _tried(number, Answer(410, "410 Gone")).reason


def test_a_receiver_that_asks_for_time_gets_it(web: Web) -> None:
    from vmcloud.fleet.herald.post import Answer

    assert _tried(_filled(web), Answer(503, "503", after=900.0)).next_at > time.time() + 890


def test_what_waits_and_what_is_kept_is_bounded(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    from vmcloud.fleet.herald import outbox
    from vmcloud.fleet.webhook_models import Delivery

    number = _filled(web, 5)
    monkeypatch.setattr(outbox, "WAITING_MAX", 3)
    monkeypatch.setattr(outbox, "KEPT_EACH", 1)
    outbox.prune(time.time())
    assert Delivery.objects.filter(state="waiting").count() == 3
    assert [row.error for row in Delivery.objects.filter(state="failed")] == ["more than 3 messages waited"]
    outbox.prune(time.time() + outbox.KEPT + 10)
    assert set(Delivery.objects.values_list("state", flat=True)) == {"waiting"} and number


def test_a_webhook_of_a_user_who_is_gone_is_disabled(web: Web) -> None:
    from django.contrib.auth.models import User

    from vmcloud.fleet.webhook_models import Webhook

    number = hook(web, web.user("ann"))
    web.call("POST", f"/webhooks/{number}/test")
    User.objects.filter(username="ann").update(is_active=False)
    assert _due(4e9) == [] and "log in" in Webhook.objects.get(pk=number).reason


def test_changes_that_webhooks_were_not_told_of_are_kept_for_a_day(web: Web) -> None:
    from vmcloud.fleet.models import Change
    from vmcloud.fleet.services import feed, webhooks

    hook(web)
    job(web, "one", started_at=time.time())
    now = time.time()
    feed.prune(now + 2 * feed.KEPT, untold=webhooks.told())
    kept = Change.objects.count()
    gathered()
    feed.prune(now + 2 * feed.KEPT, untold=webhooks.told())
    assert kept == 2 and Change.objects.count() == 1


# --------------------------------------------------------------------------------------------------------------- the door


def test_a_secret_is_told_once_and_a_url_has_no_password(web: Web) -> None:
    made = web.call("POST", "/webhooks", {"url": "https://example.org/hook"}).json()
    assert made["secret"].startswith("whsec_") and "secret" not in web.call("GET", f"/webhooks/{made['id']}").json()
    for wrong in (
        {},
        [],
        {"url": "ftp://x/"},
        {"url": "http://a:b@example.org/"},
        {"url": "http://example.org/", "secret": "x"},
        {"url": 5},
    ):
        assert web.call("POST", "/webhooks", wrong).status_code == 400, wrong
    assert web.call("PATCH", f"/webhooks/{made['id']}", {}).status_code == 400
    assert web.call("PATCH", f"/webhooks/{made['id']}", {"types": ["job.ended"]}).json()["types"] == ["job.ended"]
    assert web.call("DELETE", f"/webhooks/{made['id']}").status_code == 204
    assert web.call("GET", f"/webhooks/{made['id']}").status_code == 404
    assert web.call("GET", "/webhooks/99999999999999999999").status_code in (400, 404)


def test_everybody_has_their_own(web: Web) -> None:
    ann, bob = web.user("ann"), web.user("bob")
    number = hook(web, ann)
    assert web.call("GET", f"/webhooks/{number}", token=bob).status_code == 404
    assert web.call("DELETE", f"/webhooks/{number}", token=bob).status_code == 404
    assert [each["id"] for each in web.call("GET", "/webhooks").json()["items"]] == [number]
    for _ in range(19):
        hook(web, ann)
    full = web.call("POST", "/webhooks", {"url": "https://example.org/"}, token=ann)
    assert full.status_code == 409 and "20 webhooks" in full.json()["what"]


def test_private_addresses_are_refused_to_users_at_once(web: Web) -> None:
    ann = web.user("ann")
    for url in ("http://127.0.0.1/", "http://[::1]:80/", "https://10.0.0.1/hook"):
        refused = web.call("POST", "/webhooks", {"url": url}, token=ann)
        assert (refused.status_code, refused.json()["where"]) == (400, "url"), url
        assert web.call("POST", "/webhooks", {"url": url}).status_code == 201
    number = hook(web, ann)
    assert web.call("PATCH", f"/webhooks/{number}", {"url": "http://127.0.0.1/"}, token=ann).status_code == 400
    assert web.call("POST", "/webhooks", {"url": "http://169.254.169.254/"}).status_code == 400


def test_a_message_that_is_not_there_is_no_failure_of_ours(web: Web) -> None:
    number = hook(web)
    assert web.call("GET", f"/webhooks/{number}/deliveries/7").status_code == 404
    sent = web.call("POST", f"/webhooks/{number}/test")
    assert sent.status_code == 202 and web.call("GET", sent["Location"].removeprefix("/api/v1")).json()["type"] == "webhook.test"
