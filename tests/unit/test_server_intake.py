"""What comes to the leader is taken in once, whole, and not lost, wherever the database fails."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from tests.leader_kit import SPEC, Scene, failing, record, rolled_back
from tests.web import Web, web
from vmcloud.directory import port
from vmcloud.domain.records import NodeRecord
from vmcloud.domain.vocabulary import Desired

pytestmark = pytest.mark.unit
__all__ = ["web"]

OURS, THEIRS, GONE, UNTOLD, BROKEN = (UUID(f"00000000-0000-4000-8000-00000000000{number}") for number in range(5))
LATER = "20300101000000.000002Z#000000#000#000000"


def accepted(ve: UUID, name: str, **fields: Any) -> Any:
    from vmcloud.fleet.models import Accepted
    from vmcloud.fleet.server import wanted

    wish = wanted.wish_of(record(ve, name)).to_json()
    return Accepted.objects.create(ve=ve, name=name, project="main", generation=1, wish=wish, **fields)


def result(job: int) -> dict[str, Any]:
    from vmcloud.domain.messages import Mark, Result
    from vmcloud.domain.vocabulary import Outcome

    said = Result(job=job, step=1, attempt=1, node="node-1", at=1e9, outcome=Outcome.OK, mark=Mark(1, 1))
    found: dict[str, Any] = said.to_json()
    return found


def world(web: Web) -> tuple[Scene, Any]:
    """A leader to which comes: an entry of ours, one that somebody changed, one that is gone, one that can not be read, a node,
    the end of a step, the broker, and that the watch has told all."""
    from vmcloud.fleet.models import Job, Step
    from vmcloud.fleet.server.inbox import Broker, Report

    scene = Scene(web)
    for ve, name in ((OURS, "ours"), (THEIRS, "theirs"), (GONE, "gone"), (UNTOLD, "untold"), (BROKEN, "broken")):
        accepted(ve, name)
    for ve, name in ((GONE, "gone"), (UNTOLD, "untold"), (BROKEN, "broken")):
        web.ve(name, uuid=ve, node="node-1")
    about = {"verb": "stop", "owner": "ann", "ve": OURS, "ve_name": "ours", "node": "node-1"}
    job = Job.objects.create(state="R", created_at=1.0, started_at=2.0, **about)
    Step.objects.create(job=job, number=1, verb="stop", node="node-1", lane="ve:x", state="running", sent_at=3.0)
    changed = replace(record(THEIRS, "theirs"), spec=replace(SPEC, memory_mib=96), version=LATER)
    scene.come(
        Broker(up=True),
        Report("server.node-1", result(job.pk)),
        port.Changed(NodeRecord("node-2")),
        port.Changed(record(OURS, "ours")),
        port.Changed(changed),
        port.Removed("ve", str(GONE)),
        port.Malformed("cn=broken", "no number", BROKEN),
        port.Synced(),
    )
    return scene, job


def state(scene: Scene, job: Any) -> dict[str, Any]:
    """All that is known afterwards: in SQL and in memory."""
    from vmcloud.fleet.models import VE, Accepted, Event, Job, JobEvent, Lease, Liveness, Node, Step, Watermark

    context = scene.context
    job.refresh_from_db()
    return {
        "ves": {row["name"]: row for row in VE.objects.values()},
        "nodes": sorted(Node.objects.values_list("name", flat=True)),
        "accepted": list(Accepted.objects.order_by("ve").values("ve", "generation", "wish", "writing")),
        "job": (job.state, job.outcome, {**(job.result or {}), "job": 0}, job.reason, job.version),
        "history": list(JobEvent.objects.values_list("text", flat=True)),
        "jobs": Job.objects.count(),
        "steps": list(Step.objects.values("state", "outcome", "percent")),
        "events": list(Event.objects.order_by("id").values_list("type", "text")),
        "heard": list(Liveness.objects.values_list("node", "heard_at")),
        "watermark": list(Watermark.objects.values_list("version", "synced_at")),
        "listens": Lease.objects.get(name="server").listens_since,
        "foreign": set(context.foreign),
        "suspects": set(context.suspects),
        "vanished": {ve: node for ve, (node, _) in context.vanished.items()},
        "changed": set(context.changed),
        "noted": dict(context.heard),
        "entries": [context.entries.get(ve) for ve in (OURS, THEIRS, GONE, BROKEN)],
        "projection": (context.projection.synced, context.projection.down, context.projection.whole, context.projection._version),
        "again": context.again,
        "left": scene.inbox.look(0.0),
        "asked": [type(each).__name__ for each in scene.orders.sent],
    }


def test_wherever_the_database_fails_nothing_is_lost_and_nothing_counts_twice(web: Web) -> None:
    from django.db import OperationalError

    with rolled_back():
        scene, job = world(web)
        scene.take_in()
        right = state(scene, job)
    assert right["ves"].keys() == {"ours", "theirs", "broken"} and right["job"][:2] == ("E", "ok")
    assert right["suspects"] == {THEIRS, BROKEN} and right["vanished"] == {GONE: "node-1", UNTOLD: ""}
    assert right["projection"] == (True, "", True, LATER) and right["left"] == [] and right["listens"] == scene.now
    at = 0
    while True:
        at += 1
        with rolled_back():
            scene, job = world(web)
            with failing(at) as faults:
                try:
                    scene.take_in()
                except OperationalError:
                    before = state(scene, job)
                    if before["left"]:
                        assert len(before["left"]) == 8 and not before["foreign"] and not before["noted"]
                        assert before["projection"] == (False, "", False, "") and not any(before["entries"])
                    scene.take_in()
            found = state(scene, job)
            if not faults.happened:
                assert found == right
                break
            # What is said after the commit may be left out: it comes about by itself.
            assert {**found, "asked": 0} == {**right, "asked": 0}, f"statement {at}"
    assert at > 20, "the faults were between all statements"


def test_a_batch_that_was_undone_for_the_sake_of_another_is_taken_in_as_if_for_the_first_time(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The transaction fails at its very end, as by a deadlock."""
    from django.db import OperationalError

    from vmcloud.fleet.server import wanted

    scene, job = world(web)
    original, failures = wanted.learn, [OperationalError("undone")]

    def learn(*args: Any) -> None:
        original(*args)
        if failures:
            raise failures.pop()

    monkeypatch.setattr(wanted, "learn", learn)
    with pytest.raises(OperationalError):
        scene.take_in()
    assert not scene.context.projection.whole and scene.context.projection._version == ""
    scene.take_in()
    found = state(scene, job)
    assert "untold" not in found["ves"], "what vanished while nobody watched is forgotten all the same"
    assert found["projection"] == (True, "", True, LATER)


def test_one_entry_that_can_not_be_taken_in_does_not_hold_up_the_others(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    from vmcloud.fleet.models import VE, Event
    from vmcloud.fleet.server import projection

    scene, _ = world(web)
    original = projection.row_of

    def row_of(each: Any) -> Any:
        if getattr(each, "name", "") == "theirs":
            raise AttributeError("a defect")
        return original(each)

    monkeypatch.setattr(projection, "row_of", row_of)
    scene.take_in()
    assert scene.inbox.look(0.0) == [] and scene.context.projection.whole
    assert set(VE.objects.values_list("name", flat=True)) == {"ours", "broken"}
    assert THEIRS in scene.context.foreign, "the rules leave it alone"
    assert "AttributeError: a defect" in Event.objects.get(ve=THEIRS).text


def test_a_leader_is_told_everything_and_writes_only_what_differs(web: Web) -> None:
    from tests.web import queries

    first, batch = Scene(web), [record(UUID(int=number + 1), f"v{number}") for number in range(50)]
    for each in batch:
        accepted(each.ve, each.name)
    first.come(*map(port.Changed, batch))
    first.take_in()
    writes: list[str] = []

    def watched(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith(("INSERT", "UPDATE", "DELETE")):
            writes.append(sql)
        return execute(sql, params, many, context)

    from django.db import connection

    second = Scene(web)
    second.come(*map(port.Changed, batch))
    with connection.execute_wrapper(watched):
        statements = queries(second.take_in)
    assert [sql for sql in writes if "fleet_lease" not in sql] == [] and statements < 15
    seen = replace(batch[0], desired=Desired.STOPPED, version=LATER)
    second.come(port.Changed(seen))
    with connection.execute_wrapper(watched):
        second.take_in()
    assert any("fleet_ve" in sql for sql in writes), "what differs is written"


def test_a_name_that_two_entries_of_one_batch_had_one_after_the_other(web: Web) -> None:
    """The first is renamed back to what its row says: it was deleted by the other's taking of its name, and is written again."""
    from vmcloud.fleet.models import VE

    scene = Scene(web)
    one, other = UUID(int=1), UUID(int=2)
    for ve, name in ((one, "a"), (other, "b")):
        accepted(ve, name)
        scene.come(port.Changed(record(ve, name)))
    scene.take_in()
    moved = [(one, "c"), (other, "a"), (other, "b"), (one, "a")]
    scene.come(*(port.Changed(record(ve, name)) for ve, name in moved))
    scene.take_in()
    assert dict(VE.objects.values_list("pk", "name")) == {one: "a", other: "b"}
