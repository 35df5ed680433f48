"""Lists and what is looked at by name: pages, filters, forms."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cli_kit import TOKEN, Cloud, Run, cloud, job, run, ve
from vmcloud.domain.queueing import Queue

pytestmark = pytest.mark.unit
__all__ = ["cloud", "run"]


def test_a_list_is_read_page_by_page(cloud: Cloud, run: Run) -> None:
    pages = {"": {"items": [ve("a")], "next": "c1"}, "c1": {"items": [ve("b")], "next": None}}
    cloud.answers["GET /ves"] = lambda request: pages[request.query.get("cursor", "")]
    assert run("ve", "list", "-o", "name") == (0, "a\nb\n", "")
    assert cloud.asked[0].query == {"project": "main", "limit": "1000"}
    assert cloud.asked[0].headers["Authorization"] == f"Bearer {TOKEN}"


def test_filters_and_projects_are_asked_for(cloud: Cloud, run: Run) -> None:
    cloud.answers["GET /ves"] = {"items": [ve("a")], "next": None}
    assert run("ve", "list", "-A", "--node", "node-1", "--kind", "lxc", "--status", "stopped", "-o", "json")[:2] == (0, "[]\n")
    assert cloud.asked[0].query == {"project": "*", "limit": "1000", "node": "node-1", "kind": "lxc"}


def test_every_list_has_every_form(cloud: Cloud, run: Run) -> None:
    node = {
        "name": "node-1",
        "state": "up",
        "cordoned": True,
        "maintenance": False,
        "kinds": ["lxc"],
        "ves": 1,
        "cpus": 4,
        "memory_mib": 1024,
        "memory_placed_mib": 0,
        "heard": None,
        "reason": "",
        "disk_mib": 1,
        "guests_seen": 1,
        "simulated": False,
        "address": None,
        "version": "0.1",
        "labels": [],
        "description": "",
    }
    image = {"name": "busybox", "kind": "lxc", "size": 5, "sha256": "a" * 64, "description": ""}
    queue = {"name": "main", "queued": 1, "running": 0, **Queue("main", max_vcpus=4).to_json()}
    lists = {"ve": [ve("a")], "node": [node], "image": [image], "job": [job(state="C")], "queue": [queue]}
    for word, items in lists.items():
        cloud.answers[f"GET /{word}s"] = {"items": items, "next": None}
        assert json.loads(run(word, "list", "-o", "json")[1]) == items
        for form in ("table", "wide", "yaml", "name"):
            code, out, err = run(word, "list", "-o", form)
            assert (code, err) == (0, "") and out
    assert "up, cordoned" in run("node", "list")[1]


def test_show_goes_on_after_a_failure(cloud: Cloud, run: Run) -> None:
    cloud.answers["GET /ves/b"] = ve("b")
    code, out, err = run("ve", "show", "a", "b", "-o", "name")
    assert (code, out) == (1, "b\n") and err == "vmcloud: a: no /ves/a here\n  do: Look.\n"


def test_a_filter_that_finds_nothing_says_why(cloud: Cloud, run: Run) -> None:
    cloud.answers["GET /ves"] = cloud.answers["GET /jobs"] = {"items": [], "next": None}
    for arguments in (("ve", "list", "--node", "nix"), ("job", "list", "--node", "nix")):
        code, out, err = run(*arguments)
        assert (code, out) == (1, "") and "no node is called 'nix'" in err
    code, _, err = run("ve", "list", "-p", "nope")
    assert code == 0 and "project 'nope' has no VE" in err
    cloud.answers["GET /events"] = {"items": [], "next": None}
    code, out, err = run("ve", "events", "x3")
    assert (code, out) == (1, "") and "'x3'" in err


def test_events_are_jobs_and_what_no_job_tells(cloud: Cloud, run: Run) -> None:
    def happened(number: int, at: str, text: str, **fields: Any) -> dict[str, Any]:
        about = {"project": "main", "ve": "u", "ve_name": "web-1", "node": "node-1", "job": None}
        return {"id": number, "at": f"2026-01-01T00:00:{at}.000+00:00", "type": "state", "text": text, **about, **fields}

    cloud.answers["GET /jobs"] = {
        "items": [job(1, created="2026-01-01T00:00:01.000+00:00", state="C", outcome="ok")],
        "next": None,
    }
    told = [happened(2, "03", "other", project="other"), happened(1, "02", "crashed on node node-1, before running")]
    cloud.answers["GET /events"] = {"items": told, "next": None}
    code, out, _ = run("ve", "events", "web-1")
    lines = [line.split(maxsplit=2)[1:] for line in out.splitlines()[1:]]
    assert code == 0 and [line[0] for line in lines] == ["state", "job"]
    assert lines[0][1].startswith("crashed on node node-1, before running") and lines[1][1].startswith("start: ok")
    assert [each["job"] for each in json.loads(run("ve", "events", "web-1", "-o", "json")[1])] == [None, 1]


def test_events_are_those_of_the_project(cloud: Cloud, run: Run) -> None:
    cloud.answers["GET /events"] = {"items": [], "next": None}
    cloud.answers["GET /jobs"] = {"items": [job(3), job(2, project="other"), job(1)], "next": None}
    assert run("ve", "events", "web-1", "-o", "name")[:2] == (0, "3\n1\n")
    assert run("ve", "events", "web-1", "-o", "name", "--limit", "1")[:2] == (0, "3\n")
    assert run("ve", "events", "web-1", "-o", "name", "-p", "other")[:2] == (0, "2\n")


def test_what_a_drain_would_do_is_shown_before_it_is_asked_for(cloud: Cloud, run: Run) -> None:
    about = {"project": "main", "kind": "simulated", "memory_mib": 64, "live": True}
    moves = [
        {"ve": "1", "name": "web-1", "to": "node-2", "reason": "", **about},
        {"ve": "2", "name": "web-2", "to": None, "reason": "a VE of kind lxc cannot migrate", **about},
    ]
    cloud.answers["GET /nodes/node-1/moves"] = {"items": moves}
    code, out, _ = run("node", "moves", "node-1")
    assert code == 0 and "node-2" in out and "a VE of kind lxc cannot migrate" in out
    assert json.loads(run("node", "moves", "node-1", "-o", "json")[1]) == moves
