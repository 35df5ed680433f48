"""What VEs use: from the driver to the digest, to one column, to REST and to a Prometheus."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID, uuid4

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.unit.test_api_v1 import refused
from tests.unit.test_worker_observer import Node
from tests.unit.test_worker_observer import node as node_of_worker
from tests.web import Web, web
from tests.worker_kit import VE
from vmcloud.domain.messages import Digest, Mark, NodeFacts, Usage, parse
from vmcloud.domain.vocabulary import Kind
from workers.drivers.base import CannotLook, Meter
from workers.metering import metered

pytestmark = pytest.mark.unit
__all__ = ["node_of_worker", "web"]
FACTS = NodeFacts((Kind.LXC,), 4, 1024, 0, "0")


def used(ve: UUID = VE, cpu: float = 10.0, memory: int = 1 << 20) -> Usage:
    return Usage(ve, cpu, memory, 2 * memory, 3, 4, 5, 6, 7)


def digest(*usage: Usage, at: float = 1000.0, sequence: int = 1, node: str = "node-1") -> Digest:
    said = Digest(node, Mark(1, sequence), at, len(usage), FACTS, usage=usage)
    heard = parse(said.to_json())
    assert heard == said
    return said


# ------------------------------------------------------------------------------------------------------------------- worker


def test_the_full_list_brings_what_the_guests_use(node_of_worker: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.hands.metered", lambda driver: metered(answering([used()])))
    assert node_of_worker.digest().usage == (used(),)


@pytest.mark.parametrize("error", [CannotLook("usage", "no"), OSError("no"), KeyError("x")])
def test_a_meter_that_fails_spoils_no_list(node_of_worker: Node, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    monkeypatch.setattr("workers.hands.metered", lambda driver: metered(answering(error)))
    said = node_of_worker.digest()
    assert said.full and said.usage == ()


def test_what_is_no_meter_has_no_usage() -> None:
    nothing: Any = object()
    assert metered(nothing).usage == () and metered(nothing).trouble == ""


def answering(said: Any) -> Any:
    """A driver that answers so when it is asked what its guests use."""

    class Answers(Meter):
        def usage(self) -> Any:
            if isinstance(said, Exception):
                raise said
            return said

    return Answers()


def test_a_child_that_hangs_or_dies_in_metering_has_listed_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from workers import child, hands

    guests = ["a guest"]
    for target in (_hangs, _dies):
        place: Any = child.Place(None, "n1", Kind.LXC)  # type: ignore[arg-type]
        isolated = hands.Isolated(place, patience=5.0)
        monkeypatch.setattr(hands, "METERING", 0.2)
        monkeypatch.setattr(child, "list_guests", target)
        listed = isolated.list()
        assert listed.guests == guests and listed.metered.usage == () and listed.metered.trouble
    monkeypatch.setattr(child, "list_guests", _can_not_look)
    with pytest.raises(CannotLook):
        isolated.list()


def _hangs(place: Any, natives: tuple[str, ...], pipe: Any, lifeline: Any) -> None:
    import time

    from workers.child import _arm

    _arm(lifeline)
    pipe.send(["a guest"])
    time.sleep(60)


def _dies(place: Any, natives: tuple[str, ...], pipe: Any, lifeline: Any) -> None:
    pipe.send(["a guest"])


def _can_not_look(place: Any, natives: tuple[str, ...], pipe: Any, lifeline: Any) -> None:
    pipe.send("can not look")


# ------------------------------------------------------------------------------------------------------------------- server


def keep(*digests: Digest) -> dict[str, Any]:
    from vmcloud.fleet.services import usage

    kept: dict[str, Any] = {}
    for each in digests:
        kept = usage.newest(kept, each)
    return kept


def test_the_newest_is_kept_with_the_processor_time_before(web: Web) -> None:
    row = web.ve("one")
    kept = keep(digest(used(row.uuid, 10.0)), digest(used(row.uuid, 13.0), at=1015.0), digest(used(row.uuid, 13.5), at=1015.2))
    assert kept["before"] == {"at": 1000.0, "cpu": {str(row.uuid): 10.0}}, "too soon to be told apart: the one before stays"
    assert kept["ves"][str(row.uuid)]["cpu_seconds"] == 13.5 and "ve" not in kept["ves"][str(row.uuid)]
    assert keep(digest(used(row.uuid)), digest(at=1015.0)) == {}


def test_a_node_can_not_speak_for_anothers_ve(web: Web) -> None:
    mine, other = web.ve("one"), web.ve("two", node="node-2")
    assert set(keep(digest(used(mine.uuid), used(other.uuid), used(uuid4())))["ves"]) == {str(mine.uuid)}


def store(web: Web, *digests: Digest, heard_at: float | None = None) -> None:
    from vmcloud.fleet.models import Liveness

    Liveness.objects.filter(node="node-1").update(usage=keep(*digests), heard_at=heard_at or time.time())


def test_usage_by_rest(web: Web) -> None:
    from vmcloud.api.schemas import ves

    row, _ = web.ve("one"), web.ve("two", observed_state="stopped")
    store(web, digest(used(row.uuid, 10.0)), digest(used(row.uuid, 13.0), at=1015.0))
    shown = web.call("GET", "/ves/one/usage").json()
    assert shown["usage"]["cpu_percent"] == 20.0 and shown["usage"]["at"] == "1970-01-01T00:16:55.000+00:00"
    assert shown["usage"]["memory_bytes"] == 1 << 20 and shown["memory_mib"] == 128
    listed = web.call("GET", "/usage").json()
    ves.UsagePage.model_validate(listed)
    assert listed["items"] == [shown, {**listed["items"][1], "name": "two", "usage": None}]
    refused(web.call("GET", "/usage?nonsense=1"), 400)
    refused(web.call("GET", "/ves/one/usage", token=web.user("eve")), 404)
    assert web.call("GET", "/usage", token=web.user("mallory")).json()["items"] == []


def test_a_ve_that_was_started_anew_has_no_share_yet(web: Web) -> None:
    row = web.ve("one")
    store(web, digest(used(row.uuid, 10.0)), digest(used(row.uuid, 1.0), at=1015.0))
    assert web.call("GET", "/ves/one/usage").json()["usage"]["cpu_percent"] is None


def test_of_a_node_that_is_not_up_nothing_is_known(web: Web) -> None:
    row = web.ve("one")
    store(web, digest(used(row.uuid)), heard_at=1000.0)
    assert web.call("GET", "/ves/one/usage").json()["usage"] is None
    samples = scrape(web)
    assert not any(name.startswith("vmcloud_ve_") for name, _ in samples)
    assert samples["vmcloud_node_up", ("node-1",)] == 0
    assert samples["vmcloud_node_heard_timestamp_seconds", ("node-1",)] == 1000.0
    assert ("vmcloud_node_guests", ("node-1",)) not in samples


# ------------------------------------------------------------------------------------------------------------------ metrics


def scrape(web: Web) -> dict[tuple[str, tuple[str, ...]], float]:
    response = web.client.get("/metrics", headers={"Authorization": f"Bearer {web.token}"})
    assert response.status_code == 200 and response["Content-Type"].startswith("text/plain; version=")
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(response.content.decode())
        for sample in family.samples
    }


def test_what_a_prometheus_reads(web: Web) -> None:
    from vmcloud.fleet.models import Job

    row = web.ve("one", owner='o"w\\n')
    store(web, digest(used(row.uuid, 10.5)))
    for state, outcome in (("Q", ""), ("C", "ok"), ("C", "ok"), ("C", "failed")):
        Job.objects.create(owner="admin", verb="start", state=state, outcome=outcome, created_at=1.0)
    samples = scrape(web)
    labels = ("lxc", "node-1", 'o"w\\n', "main", "one")  # in the order of their names: kind, node, owner, project, ve
    expected = {
        "vmcloud_ve_cpu_seconds_total": 10.5,
        "vmcloud_ve_memory_bytes": 1 << 20,
        "vmcloud_ve_memory_peak_bytes": 2 << 20,
        "vmcloud_ve_disk_read_bytes_total": 3,
        "vmcloud_ve_disk_written_bytes_total": 4,
        "vmcloud_ve_network_received_bytes_total": 5,
        "vmcloud_ve_network_sent_bytes_total": 6,
        "vmcloud_ve_processes": 7,
    }
    for name, value in expected.items():
        assert samples[name, labels] == value
    node = {
        "up": 1,
        "heard_timestamp_seconds": pytest.approx(time.time(), abs=60),
        "guests": 0,
        "ves": 1,
        "cpus": 4,
        "memory_capacity_bytes": 1 << 30,
        "memory_placed_bytes": 128 << 20,
        "cordoned": 0,
    }
    for name, value in node.items():
        assert samples[f"vmcloud_node_{name}", ("node-1",)] == value
    assert samples["vmcloud_jobs", ("queued",)] == 1 and samples["vmcloud_jobs", ("running",)] == 0
    assert samples["vmcloud_jobs_completed_total", ("ok",)] == 2 and samples["vmcloud_jobs_completed_total", ("failed",)] == 1


def test_metrics_are_an_administrators(web: Web) -> None:
    refused(web.client.get("/metrics"), 401)
    refused(web.client.get("/metrics", headers={"Authorization": "Basic YWRtaW46eA=="}), 401)
    refused(web.client.get("/metrics", headers={"Authorization": "Bearer wrong"}), 401)
    refused(web.client.get("/metrics", headers={"Authorization": f"Bearer {web.user('eve')}"}), 403)
    refused(web.client.post("/metrics", headers={"Authorization": f"Bearer {web.token}"}), 405)


def test_a_digest_writes_its_usage_with_what_it_writes_anyway(web: Web) -> None:
    from vmcloud.fleet.models import Liveness
    from vmcloud.fleet.server import replies
    from vmcloud.fleet.server.inbox import Report

    class Context:
        clock = staticmethod(lambda: 1000.0)
        again = False
        heard: ClassVar[dict[str, float]] = {}

        class config:
            class intervals:
                clock_skew, resend = 30.0, 1.0

    row = web.ve("one")
    context: Any = Context()
    for sequence, memory in ((2, 5), (1, 9)):
        said = digest(used(row.uuid, memory=memory), sequence=sequence)
        replies.handle(context, [Report("server.node-1", said.to_json())])
    assert Liveness.objects.get(node="node-1").usage["ves"][str(row.uuid)]["memory_bytes"] == 5, "the late one counts nothing"
