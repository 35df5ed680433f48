"""The plan as people see it, and asking for it to be carried out: who may, which part, and that nothing else happens."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.web import Web, web

pytestmark = pytest.mark.unit
__all__ = ["web"]


def plan(web: Web, query: str = "") -> list[dict[str, Any]]:
    response = web.call("GET", f"/reconcile{query}")
    assert response.status_code == 200, response.content
    found: list[dict[str, Any]] = response.json()["items"]
    return found


def brief(items: list[dict[str, Any]]) -> list[tuple[str, str, str, str | None]]:
    return [(each["rule"], each["name"], each["action"], each["fix"]) for each in items]


def test_all_as_it_is_wanted_is_an_empty_plan(web: Web) -> None:
    web.ve("one")
    assert plan(web) == []


def test_each_item_says_what_is_done_and_what_could_be(web: Web) -> None:
    from uuid import uuid4

    from vmcloud.fleet.models import Budget, Misses, Stray

    web.ve("drifts", desired="stopped")
    web.ve("crashed", observed_state="crashed")
    spent = web.ve("spent", observed_state="crashed")
    Budget.objects.create(ve=spent.uuid, rule="R1", tries=5, next_at=time.time() + 250)
    waits = web.ve("waits", observed_state="crashed")
    Budget.objects.create(ve=waits.uuid, rule="R1", tries=1, next_at=time.time() + 250)
    web.ve("asleep", desired="suspended", observed_state="stopped")
    web.ve("large", observed_memory_mib=256)
    web.ve("many", observed_vcpus=2)
    lost = web.ve("lost")
    Misses.objects.create(ve=lost.uuid, node="node-1", count=2)
    about = {"node": "node-1", "kind": "lxc", "state": "running"}
    Stray.objects.bulk_create([Stray(key="node-1/theirs", native="theirs", ve=uuid4(), **about)])
    items = plan(web)
    assert brief(items) == [
        ("R1", "crashed", "start", "start"),
        ("R1", "spent", "report", "start"),
        ("R1", "waits", "wait", "start"),
        ("R2", "drifts", "report", "stop"),
        ("R3", "lost", "report", None),
        ("R4", "node-1/theirs", "report", None),
        ("R8", "large", "report", "resize"),
        ("R8", "many", "report", "resize"),
        ("R11", "asleep", "want-stopped", "want-stopped"),
    ]
    assert items[3] == {
        **{"rule": "R2", "name": "drifts", "project": "main", "node": "node-1", "action": "report", "fix": "stop"},
        **{"ve": items[3]["ve"], "reason": "seen running, wanted stopped"},
    }
    assert "tried a moment ago" in items[2]["reason"]


def test_nothing_is_offered_on_a_node_that_is_not_up(web: Web) -> None:
    from vmcloud.fleet.models import Liveness

    web.ve("drifts", desired="stopped")
    Liveness.objects.update(heard_at=0.0)
    [item] = plan(web)
    assert (item["rule"], item["action"], item["fix"]) == ("R6", "report", None)
    Liveness.objects.update(heard_at=1.0)
    assert plan(web)[0]["rule"] == "R6"


def test_what_nobody_has_accepted_is_not_mended_to(web: Web) -> None:
    """Somebody wrote `stopped` into the entry and the server has not judged it yet: no rule may make it so."""
    from vmcloud.fleet.models import Accepted

    row = web.ve("theirs", desired="stopped")
    wish = {"desired": "running", "spec": row.spec, "owner": row.owner}
    Accepted.objects.create(ve=row.uuid, project="main", name="theirs", generation=row.generation, wish=wish)
    web.ve("by-hand", desired="absent", generation=0)
    assert plan(web) == []


def test_a_part_of_it(web: Web) -> None:
    one = web.ve("one", desired="stopped")
    web.ve("two", desired="stopped")
    assert [each["name"] for each in plan(web, "?ve=two")] == ["two"]
    assert [each["name"] for each in plan(web, f"?ve={one.uuid}")] == ["one"]
    assert len(plan(web, "?node=node-1")) == 2
    for query, status in (("?ve=none", 404), ("?node=none", 404), ("?colour=red", 400), ("?ve=one&project=other", 404)):
        assert web.call("GET", f"/reconcile{query}").status_code == status


def test_asking_is_a_job_for_administrators(web: Web) -> None:
    from vmcloud.fleet.models import Job

    row = web.ve("one", desired="stopped", owner="ann")
    ann = web.user("ann")
    assert web.call("GET", "/reconcile", token=ann).status_code == 403
    assert web.call("POST", "/reconcile", {}, token=ann).status_code == 403
    assert not Job.objects.exists()
    first = web.call("POST", "/reconcile", {"ve": "one"}, **{"Idempotency-Key": "k"})
    assert first.status_code == 202
    job = first.json()
    assert (job["verb"], job["state"], job["args"], job["jobs"]) == ("reconcile", "Q", {"ve": str(row.uuid)}, [])
    assert web.call("POST", "/reconcile", {"ve": "one"}, **{"Idempotency-Key": "k"}).json()["id"] == job["id"]
    assert web.call("POST", "/reconcile", {}, **{"Idempotency-Key": "k"}).status_code == 409
    assert web.call("POST", "/reconcile").status_code == 202, "all of it"
    assert Job.objects.count() == 2 and web.broker.woken
    for wrong in ({"ve": 7}, {"colour": "red"}, []):
        assert web.call("POST", "/reconcile", wrong).status_code == 400
    assert web.call("POST", "/reconcile", {"node": "none"}).status_code == 404


def test_what_a_rule_reports_is_the_reason_that_people_see(web: Web) -> None:
    from vmcloud.fleet.models import Finding

    row = web.ve("large", observed_memory_mib=256)
    about = {"rule": "R8", "ve": row.uuid, "node": "node-1", "subject": "large", "since": 1.0}
    Finding.objects.create(key=f"R8:{row.uuid}", reason="its size is not the one wanted", **about)
    shown = web.call("GET", "/ves/large").json()
    assert (shown["status"], shown["reason"]) == ("running", "its size is not the one wanted")
