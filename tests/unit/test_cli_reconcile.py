"""``vmcloud reconcile``: what is shown, what is asked, and the exit codes that scripts test."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cli_kit import Cloud, cloud, job
from vmcloud.cli.main import main

pytestmark = pytest.mark.unit
__all__ = ["cloud"]


def item(name: str = "web-1", rule: str = "R2", action: str = "report", fix: str | None = "stop") -> dict[str, Any]:
    about = {"project": "main", "ve": "u-1", "node": "n1", "reason": "seen running, wanted stopped"}
    return {"rule": rule, "name": name, "action": action, "fix": fix, **about}


def test_the_default_only_looks(cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    cloud.answers["GET /reconcile"] = {"items": [item()]}
    assert main(["reconcile"]) == 4
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["RULE", "NAME", "NODE", "ACTION", "FIX", "REASON"]
    assert lines[1].split()[:5] == ["R2", "web-1", "n1", "report", "stop"]
    assert main(["reconcile", "--dry-run", "--ve", "web-1", "--node", "n1", "-o", "name"]) == 4
    assert capsys.readouterr().out == "web-1\n"
    assert cloud.asked[-1].query == {"ve": "web-1", "project": "main", "node": "n1"}
    assert {request.method for request in cloud.asked} == {"GET"}


def test_nothing_found_is_success(cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    cloud.answers["GET /reconcile"] = {"items": []}
    assert main(["reconcile"]) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "all is as it is wanted\n")
    assert main(["reconcile", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert main(["reconcile", "--fix"]) == 0
    assert capsys.readouterr().out == ""
    assert not [request for request in cloud.asked if request.method == "POST"]


def test_a_fix_prints_the_jobs_that_were_made(cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    cloud.answers["GET /reconcile"] = {"items": [item(), item("web-2")]}
    asked = {**job(7, "reconcile"), "jobs": []}
    cloud.answers["POST /reconcile"] = (202, asked)
    cloud.answers["GET /jobs/7"] = {**asked, "state": "C", "outcome": "ok", "version": 2, "jobs": [8, 9]}
    for number in (8, 9):
        cloud.answers[f"GET /jobs/{number}"] = {**job(number, "stop", "C"), "outcome": "ok", "version": 3}
    assert main(["reconcile", "--fix", "--ve", "web-1", "--idempotency-key", "k", "--wait"]) == 0
    said = capsys.readouterr()
    assert said.out == "8\n9\n" and "job 8 stop" in said.err
    [post] = [request for request in cloud.asked if request.method == "POST"]
    assert post.json == {"ve": "web-1", "project": "main"} and post.headers["Idempotency-Key"] == "k"


def test_what_no_rule_can_mend_is_said_and_counts(cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    cloud.answers["GET /reconcile"] = {"items": [item("n1/theirs", "R4", fix=None)]}
    assert main(["reconcile", "--fix"]) == 4
    said = capsys.readouterr()
    assert "R4 n1/theirs" in said.err and "no rule can mend that" in said.err and said.out == ""
    assert not [request for request in cloud.asked if request.method == "POST"]


def test_a_job_that_fails_is_a_failure(cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    cloud.answers["GET /reconcile"] = {"items": [item()]}
    asked = {**job(7, "reconcile"), "jobs": []}
    cloud.answers["POST /reconcile"] = (202, asked)
    cloud.answers["GET /jobs/7"] = {**asked, "state": "C", "outcome": "ok", "version": 2, "jobs": [8]}
    cloud.answers["GET /jobs/8"] = {**job(8, "stop", "C"), "outcome": "failed", "version": 3, "error": {"what": "it hangs"}}
    assert main(["reconcile", "--fix", "--wait"]) == 1
    assert "it hangs" in capsys.readouterr().err
    assert main(["reconcile", "--fix"]) == 0, "who does not wait does not learn"


@pytest.mark.parametrize("wrong", [["--fix", "--dry-run"], ["--wait"], ["--timeout", "1m"], ["--ve", "no/name"], ["web-1"]])
def test_a_wrong_command_line_asks_nothing(cloud: Cloud, wrong: list[str]) -> None:
    assert main(["reconcile", *wrong]) == 2
    assert not cloud.asked
