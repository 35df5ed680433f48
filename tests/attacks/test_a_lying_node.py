"""With all that one node has, its place on the broker, somebody speaks for VEs of others and for what a node can not have."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.cloud import Cloud, cloud
from vmcloud.config import Config
from vmcloud.directory.store import Directory
from vmcloud.dispatch.send import Sender
from vmcloud.domain.messages import Mark, Message, NodeFacts, Result, Seen, Sighting
from vmcloud.domain.records import VERecord
from vmcloud.domain.spec import Spec
from vmcloud.domain.vocabulary import Desired, Kind, Observed, Outcome
from workers.drivers.simulated import outside

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(180)]

LATE = 10**14
"""An epoch after all of the node's own: what is said in it counts until it is said again."""
VICTIM, LIAR = "n-001", "n-002"


@pytest.fixture(scope="module")
def running() -> Iterator[Cloud]:
    with cloud(simulate=2) as made:
        made.image()
        yield made


@pytest.fixture
def lie(running: Cloud) -> Iterator[Callable[..., None]]:
    """Say anything with the credentials of node :data:`LIAR`."""
    sender = Sender(Config.load(running.data), f"node-{LIAR}")
    yield sender.report
    sender.close()


def ve(running: Cloud, name: str, **more: Any) -> dict[str, Any]:
    body = {"name": name, "image": "busybox", "kind": "simulated", "node": VICTIM, "restart": "always", **more}
    assert running.wait(running.ask("POST", "/ves", body))["outcome"] == "ok"
    found: dict[str, Any] = running.ask("GET", f"/ves/{name}")
    return found


def sighting(*guests: Seen, mark: int = 1, facts: NodeFacts | None = None) -> Sighting:
    return Sighting(LIAR, Mark(LATE, mark), time.time(), False, guests, facts=facts)


def test_a_claimed_ve_that_crashed_is_started_again(running: Cloud, lie: Callable[..., None]) -> None:
    shown = ve(running, "victim")
    claimed = Seen("theirs", Kind.SIMULATED, Observed.RUNNING, UUID(shown["id"]))
    lie(sighting(claimed))
    running.until(lambda: running.ask("GET", "/ves/victim")["status"] == "duplicate", 20, "the claim to be shown")
    native = f"victim-{shown['id'][:8]}"

    def jobs() -> list[dict[str, Any]]:
        found = running.ask("GET", "/jobs?ve=victim")["items"]
        return [each for each in found if each["origin"] == "reconcile:R1"]

    outside(running.simulated_file(VICTIM), native, Observed.CRASHED)
    job = running.until(jobs, 20, "the rules to start it again while it is claimed")[0]
    assert running.wait(job)["outcome"] == "ok"
    assert dict(running.simulated_guests())[native] == (VICTIM, "running")
    told = [each["text"] for each in running.ask("GET", "/events?ve=victim&type=rule")["items"]]
    assert [text for text in told if text.startswith("R5: victim: seen on n-002, placed on n-001")], "and it is told"


def test_a_size_that_can_not_be_draws_nothing_and_does_not_harm_the_entry(running: Cloud, lie: Callable[..., None]) -> None:
    def facts(**more: int) -> NodeFacts:
        sizes = {"cpus": 4, "memory_mib": 4096, "disk_mib": 9000, **more}
        return NodeFacts((Kind.SIMULATED,), version="0.1.0", simulated=True, **sizes)

    before = running.ask("GET", f"/nodes/{LIAR}")
    heard = "SELECT node FROM fleet_confirmedcapacity WHERE node = ?"
    running.until(lambda: running.sql(heard, LIAR), 20, "the server to keep what the node had when it was first heard")
    lie(sighting(mark=10, facts=facts(disk_mib=1 << 62)), sighting(mark=11, facts=facts(cpus=1 << 31)))
    lie(sighting(mark=12, facts=facts(cpus=60_000, memory_mib=1 << 29)))
    running.until(lambda: running.ask("GET", f"/nodes/{LIAR}")["cpus"] == 60_000, 20, "what could be to be shown")
    assert running.ask("GET", f"/nodes/{LIAR}")["disk_mib"] == 9000, "the others were not taken, and the entry can be read"
    running.until(lambda: "not counted on" in running.ask("GET", f"/nodes/{LIAR}")["reason"], 20, "the doubt to be shown")
    big = {"name": "big", "image": "busybox", "kind": "simulated", "vcpus": 1000}
    assert before["cpus"] < 1000
    refused = running.api("POST", "/ves", big)
    assert refused.status == 422, refused
    drawn = [ve(running, f"drawn-{number}", node="", memory_mib=64)["node"] for number in range(6)]
    assert set(drawn) != {LIAR}, "it does not draw them all"


def test_results_of_no_job_are_told_and_in_the_audit(running: Cloud, lie: Callable[..., None]) -> None:
    messages: list[Message] = [
        Result(LIAR, 944_000 + number, 1, 1, time.time(), Outcome.OK, Mark(LATE, 9000)) for number in range(200)
    ]
    lie(*messages)
    events = f"/events?type=refused&node={LIAR}"
    [event] = running.until(lambda: running.ask("GET", events)["items"], 20, "it to be told")
    assert "944" in event["text"]
    rows = running.until(lambda: running.ask("GET", f"/audit?door=node&source={LIAR}&limit=1000")["items"], 20, "the audit")
    running.until(lambda: sum(row["count"] for row in audit(running, LIAR)) == 200, 20, "all to be counted")
    assert len(audit(running, LIAR)) <= 21 < len(messages), rows[:3]


def test_a_claim_of_the_webs_identity_is_swept_and_in_the_audit(running: Cloud) -> None:
    config = Config.load(running.data)
    web = Directory.of(config.directory_uri, config.suffix, "web", config.secrets("web")["directory_password"])
    other = running.ask("GET", "/jobs?limit=1")["items"][0]["id"]
    ve = uuid4()
    web.claim(VERecord(ve, "forged", "main", "admin", Spec(Kind.SIMULATED, "busybox"), Desired.RUNNING, 1, other))
    running.until(lambda: running.directory().ve(ve) is None, 30, "it to be swept")
    rows = running.until(lambda: running.ask("GET", "/audit?door=ldap")["items"], 20, "the audit")
    assert "forged" in rows[0]["what"] and rows[0]["who"] == "cn=web"


def test_guesses_are_in_the_audit_and_doctor_tells_of_a_burst(running: Cloud) -> None:
    for number in range(60):
        asked = urllib.request.Request(f"{running.url}/api/v1/ves", headers={"Authorization": f"Bearer vmc_{number}"})
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(asked, timeout=30)
    running.until(lambda: running.ask("GET", "/audit/recent")["burst"], 20, "the burst")

    def guessed() -> list[dict[str, Any]]:
        return [each for each in running.ask("GET", "/audit?door=rest")["items"] if each["what"] == "GET /api/v1/ves"]

    [row] = running.until(guessed, 20, "the guesses to be written down")
    assert (row["source"], row["who"], row["allowed"]) == ("127.0.0.1", None, False)
    assert "GET /api/v1/ves" in running.run("audit", "list", "--door", "rest", "--denied", "-o", "wide").stdout
    found = json.loads(running.run("doctor", "-o", "json", check=False).stdout)
    [check] = [each for each in found if each["name"] == "refusals"]
    assert check["level"] == "WARN" and "refusals within" in check["detail"]


def audit(running: Cloud, source: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = running.ask("GET", f"/audit?source={source}&limit=1000")["items"]
    return found
