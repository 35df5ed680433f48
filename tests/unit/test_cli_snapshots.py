"""``vmcloud ve snapshot|snapshots|revert|delete-snapshot``: what is asked, and what is printed."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import click
import pytest

from tests.cli_kit import Cloud, cloud, job
from vmcloud.cli import snapshot
from vmcloud.cli.main import main

pytestmark = pytest.mark.unit
__all__ = ["cloud"]
KEPT = {
    "items": [
        {"name": "old", "job": 3, "at": "2026-11-21T10:15:00.000+00:00"},
        {"name": "new", "job": 9, "at": "2026-11-21T11:15:00.000+00:00"},
    ],
    "next": None,
}


def test_a_snapshot_has_a_name_given_or_made_from_the_time(cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    cloud.answers["POST /ves/web-1/snapshots"] = (202, job(12, "snapshot"))
    assert main(["ve", "snapshot", "web-1", "before"]) == 0
    assert main(["ve", "snapshot", "web-1", "-p", "other"]) == 0
    first, second = cloud.asked
    assert first.json == {"name": "before"} and first.query == {"project": "main"} and first.headers["Idempotency-Key"]
    assert re.fullmatch(r"s\d{8}-\d{6}", second.json["name"]) and second.query == {"project": "other"}
    assert capsys.readouterr().out == "12\n12\n"
    assert snapshot.default_name(datetime(2026, 11, 21, 10, 15, tzinfo=UTC)) == "s20261121-101500"


def test_they_are_listed_in_every_form(cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    cloud.answers["GET /ves/web-1/snapshots"] = KEPT
    assert main(["ve", "snapshots", "web-1"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].split() == ["NAME", "AGE", "AT", "JOB"] and table[1].startswith("old") and table[2].startswith("new")
    assert main(["ve", "snapshots", "web-1", "-o", "name"]) == 0
    assert capsys.readouterr().out == "old\nnew\n"
    for form in ("wide", "json", "yaml"):
        assert main(["ve", "snapshots", "web-1", "-o", form]) == 0
        assert "old" in capsys.readouterr().out


def test_revert_and_delete_name_the_snapshot(cloud: Cloud) -> None:
    cloud.answers["POST /ves/web-1/revert"] = (202, job(13, "revert"))
    cloud.answers["DELETE /ves/web-1/snapshots/a"] = (202, job(14, "delete-snapshot"))
    cloud.answers["DELETE /ves/web-1/snapshots/b"] = (202, job(15, "delete-snapshot"))
    assert main(["ve", "revert", "web-1", "a"]) == 0
    assert main(["ve", "delete-snapshot", "web-1", "a", "b", "a"]) == 0
    assert [(each.method, each.path) for each in cloud.asked] == [
        ("POST", "/ves/web-1/revert"),
        ("DELETE", "/ves/web-1/snapshots/a"),
        ("DELETE", "/ves/web-1/snapshots/b"),
    ]
    assert cloud.asked[0].json == {"snapshot": "a"}


def test_a_refusal_is_said_and_the_others_are_done(cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    refusal = {"what": "VE 'web-1' has no snapshot 'x'", "code": "not-found", "why": "it has: a"}
    cloud.answers["DELETE /ves/web-1/snapshots/x"] = (404, refusal)
    cloud.answers["DELETE /ves/web-1/snapshots/a"] = (202, job(14, "delete-snapshot"))
    assert main(["ve", "delete-snapshot", "web-1", "x", "a"]) == 1
    said = capsys.readouterr()
    assert said.out == "14\n" and "no snapshot 'x'" in said.err and "it has: a" in said.err


def test_names_of_snapshots_complete(cloud: Cloud) -> None:
    cloud.answers["GET /ves/web-1/snapshots"] = KEPT
    for command in (snapshot.revert, snapshot.delete_snapshot):
        context = click.Context(command)
        context.params = {"ve": "web-1"}
        name = command.params[1]
        assert [each.value for each in name.shell_complete(context, "")] == ["old", "new"]
        assert [each.value for each in name.shell_complete(context, "o")] == ["old"]
    context.params["names"] = ("old",)
    assert [each.value for each in name.shell_complete(context, "")] == ["new"]


@pytest.mark.parametrize("command", ["snapshot", "snapshots", "revert", "delete-snapshot"])
def test_help_has_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ve", command, "--help"]) == 0
    assert f"vmcloud ve {command} web-1" in capsys.readouterr().out
