"""``vmcloud webhook``: what is asked, what is printed where, and the exit codes."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from tests.cli_kit import Cloud, Run, cloud, run

pytestmark = pytest.mark.unit
__all__ = ["cloud", "run"]
HOOK = {
    "id": 3,
    "url": "https://example.org/hook",
    "types": ["job.ended"],
    "project": None,
    "description": "",
    "owner": "admin",
    "enabled": True,
    "reason": "",
    "waiting": 0,
    "failed": 0,
    "failures": 2,
    "failing_since": "2026-01-01T00:00:00.000+00:00",
    "next_try": None,
    "last": None,
    "last_code": 500,
    "created": "2026-01-01T00:00:00.000+00:00",
}


def delivery(state: str, attempts: int, code: int | None = None) -> dict[str, Any]:
    about = {"id": 9, "event": "test-1", "type": "webhook.test", "at": HOOK["created"], "next_try": None, "ended": None}
    return {**about, "state": state, "attempts": attempts, "code": code, "error": "" if state == "delivered" else "500 no"}


def test_a_new_one_prints_its_number_and_tells_its_secret_apart(cloud: Cloud, run: Run) -> None:
    cloud.answers["POST /webhooks"] = (201, {**HOOK, "secret": "whsec_abc"})
    code, out, err = run("webhook", "add", "https://example.org/hook", "--type", "job.ended", "--type", "node.*")
    assert (code, out) == (0, "3\n") and "whsec_abc" in err
    assert cloud.asked[-1].json == {"url": "https://example.org/hook", "types": ["job.ended", "node.*"]}


def test_a_secret_of_ones_own_comes_by_standard_input(cloud: Cloud, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud.answers["POST /webhooks"] = (201, {**HOOK, "secret": "whsec_mine"})
    monkeypatch.setattr("sys.stdin", io.StringIO("whsec_mine\n"))
    code, out, err = run("webhook", "add", "https://example.org/hook", "--secret-stdin")
    assert (code, out, err) == (0, "3\n", "") and cloud.asked[-1].json["secret"] == "whsec_mine"


def test_why_one_fails_is_in_the_list(cloud: Cloud, run: Run) -> None:
    cloud.answers["GET /webhooks"] = {"items": [HOOK], "next": None}
    code, out, _ = run("webhook", "list", "-o", "wide")
    assert code == 0 and "2 attempts failed since" in out and "500" in out
    assert json.loads(run("webhook", "list", "-o", "json")[1]) == [HOOK]


@pytest.mark.parametrize(("last", "code"), [(delivery("delivered", 1, 204), 0), (delivery("waiting", 1, 500), 1)])
def test_a_test_waits_for_its_first_attempt_and_says_how_it_went(cloud: Cloud, run: Run, last: dict[str, Any], code: int) -> None:
    cloud.answers["POST /webhooks/3/test"] = (202, delivery("waiting", 0))
    cloud.answers["GET /webhooks/3/deliveries/9"] = [delivery("waiting", 0), last]
    ended, out, _ = run("webhook", "test", "3")
    assert ended == code and str(last["code"]) in out


def test_each_operand_is_altered_and_what_fails_is_said(cloud: Cloud, run: Run) -> None:
    cloud.answers["PATCH /webhooks/3"] = HOOK
    code, out, err = run("webhook", "set", "3", "4", "--enabled", "--type", "")
    assert (code, out) == (1, "") and "webhook 3 is altered" in err and "4" in err
    assert cloud.asked[0].json == {"enabled": True, "types": []}
    assert run("webhook", "set", "3")[0] == 2
    cloud.answers["DELETE /webhooks/3"] = (204, None)
    assert run("webhook", "delete", "3")[0] == 0


def test_what_was_sent_is_shown(cloud: Cloud, run: Run) -> None:
    cloud.answers["GET /webhooks/3/deliveries"] = {"items": [delivery("failed", 12, 500)], "next": None}
    code, out, _ = run("webhook", "deliveries", "3", "--limit", "5")
    assert code == 0 and "webhook.test" in out and "12" in out and cloud.asked[-1].query == {"limit": "5"}
