"""``vmcloud ve list --orphans`` and ``vmcloud ve adopt``: what is asked, printed and refused."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cli_kit import Cloud, cloud, job
from vmcloud.cli.main import main

pytestmark = pytest.mark.unit
__all__ = ["cloud"]

ORPHAN: dict[str, Any] = {
    "name": "node-1/Old.web",
    "node": "node-1",
    "native": "Old.web",
    "kind": "lxc",
    "status": "orphan",
    "reason": "recorded nowhere; adopt it or leave it",
    "observed": "stopped",
    "ve": None,
    "vcpus": None,
    "memory_mib": 64,
    "addresses": [],
    "mac": None,
    "since": None,
}


@pytest.mark.parametrize("option", [["--orphans"], ["--status", "orphan"]])
def test_orphans_are_listed_by_the_name_under_which_they_are_adopted(
    cloud: Cloud, capsys: pytest.CaptureFixture[str], option: list[str]
) -> None:
    late = {**ORPHAN, "name": "node-1/late", "status": "deleting"}
    cloud.answers["GET /strays"] = {"items": [ORPHAN, late], "next": None}
    assert main(["ve", "list", *option, "--node", "node-1", "-o", "name"]) == 0
    assert capsys.readouterr().out == "node-1/Old.web\n" + ("node-1/late\n" if option == ["--orphans"] else "")
    assert cloud.asked[0].query["node"] == "node-1" and "project" not in cloud.asked[0].query
    assert main(["ve", "list", *option]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].split()[:2] == ["NAME", "STATUS"] and "64M" in table[1].replace(" ", "")


def test_adopt_asks_for_what_was_given_and_nothing_else(cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    cloud.answers["POST /strays/node-1/Old.web/adopt"] = (202, job(12, "adopt"))
    assert main(["ve", "adopt", "node-1/Old.web", "--name", "web-9"]) == 0
    assert main(["ve", "adopt", "node-1/Old.web", "--name", "web-9", "-m", "1G", "--owner", "ann", "-p", "other"]) == 0
    first, second = cloud.asked
    assert first.json == {"name": "web-9", "project": "main"} and first.headers["Idempotency-Key"]
    assert second.json == {"name": "web-9", "project": "other", "memory_mib": 1024, "owner": "ann"}
    assert capsys.readouterr().out == "12\n12\n"


@pytest.mark.parametrize("operand", ["web", "/web", "node-1/", "node-1/a/b"])
def test_what_is_no_orphans_name_is_refused_before_anybody_is_asked(
    cloud: Cloud, capsys: pytest.CaptureFixture[str], operand: str
) -> None:
    assert main(["ve", "adopt", operand, "--name", "web-9"]) == 2
    assert main(["ve", "adopt", "node-1/web"]) == 2
    assert main(["ve", "list", "--orphans", "--owner", "ann"]) == 2
    assert "NODE/NAME" in capsys.readouterr().err and not cloud.asked


def test_names_of_orphans_are_completed(
    cloud: Cloud, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.answers["GET /strays"] = {"items": [ORPHAN], "next": None}
    monkeypatch.setenv("_VMCLOUD_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "vmcloud ve adopt node-1/O")
    monkeypatch.setenv("COMP_CWORD", "3")
    with pytest.raises(SystemExit):
        main([])
    assert "plain,node-1/Old.web" in capsys.readouterr().out
