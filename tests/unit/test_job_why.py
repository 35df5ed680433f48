"""Why a job is where it is: every cause by name, with what lets it go on."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.web import Web, web

__all__ = ["web"]
pytestmark = pytest.mark.unit


@pytest.fixture
def led(web: Web) -> Web:
    """A server leads, and the node is up."""
    from vmcloud.fleet.models import Lease, Liveness

    Lease.objects.update_or_create(name="server", defaults={"holder": "h", "expires": time.time() + 60})
    Liveness.objects.update_or_create(node="node-1", defaults={"heard_at": time.time()})
    return web


def ask(web: Web, verb: str = "stop", ve: str = "a", **terms: Any) -> int:
    """A job on a VE, as somebody would ask for it."""
    from vmcloud.fleet.models import VE

    if not VE.objects.filter(name=ve).exists():
        web.ve(ve)
    number: int = web.call("POST", f"/ves/{ve}/{verb}", {"job": terms} if terms else {}).json()["id"]
    return number


def change(number: int, **fields: Any) -> None:
    from vmcloud.fleet.models import Job

    Job.objects.filter(pk=number).update(**fields)


def why(web: Web, number: int) -> dict[str, tuple[str, str]]:
    """By word, the text of each cause and what lets it go on."""
    answer = web.call("GET", f"/jobs/{number}/why").json()
    return {each["what"]: (each["text"], each["todo"]) for each in answer["causes"]}


def test_all_that_keeps_a_job_from_beginning_is_said_at_once(led: Web) -> None:
    first = ask(led)
    number = ask(led, hold=True, depend=f"afterok:{first}", not_before="2030-01-01T00:00:00Z")
    found = why(led, number)
    assert found["hold"] == ("it is held by its user", f"`vmcloud job release {number}`")
    assert f"waits for job {first} (afterok), which is queued" in found["dependency"][0]
    assert "2030-01-01 00:00:00 UTC at the earliest" in found["time"][0]
    led.call("POST", f"/jobs/{number}/hold", {"who": "o"})
    assert "vmcloud job why" in found["dependency"][1]


def test_what_comes_first_on_the_same_ve_and_in_the_queue(led: Web) -> None:
    jobs = [ask(led, verb) for verb in ("stop", "restart", "stop")]
    change(jobs[0], state="R", started_at=1.0)
    found = why(led, jobs[2])
    assert found["lane"][0] == f"on the same VE come first: job {jobs[0]} (stop, running), job {jobs[1]} (restart, queued)"
    queue = led.call("GET", f"/jobs/{jobs[2]}/why").json()["queue"]
    assert (queue["name"], queue["running"], queue["queued"], queue["ahead"]) == ("main", 1, 2, 1)


def test_limits_of_its_queue(led: Web) -> None:
    led.call("PATCH", "/queues/main", {"max_user_running": 1})
    running, waiting = ask(led, ve="a"), ask(led, ve="b")
    change(running, state="R", started_at=1.0)
    text, todo = why(led, waiting)["queue"]
    assert text == "admin runs 1 jobs of queue main, 1 are allowed" and f"vmcloud job run {waiting}" in todo
    assert led.call("GET", f"/jobs/{waiting}/why").json()["queue"]["limits"] == {"max_user_running": 1}
    led.call("PATCH", "/queues/main", {"started": False})
    assert why(led, waiting)["queue"][0] == "queue main is stopped"


def test_a_node_that_is_down_is_named_with_when_it_was_heard(led: Web) -> None:
    from vmcloud.fleet.models import Liveness

    Liveness.objects.filter(node="node-1").update(heard_at=time.time() - 180)
    number = ask(led)
    assert why(led, number)["node"][0] == "node node-1, where the VE is, is down; it was heard 3 min ago"


def test_each_node_says_why_it_takes_no_new_ve(led: Web) -> None:
    from vmcloud.fleet.models import Liveness, Node

    about = {"kinds": ["lxc"], "cpus": 8, "memory_mib": 2048, "software": "0.1.0"}
    made = [
        Node(name="node-2", **about),
        Node(name="node-4", cordoned=True, description="disk swap", **{**about, "memory_mib": 99_999}),
    ]
    Node.objects.bulk_create(made)
    for name in ("node-2", "node-4"):
        Liveness.objects.create(node=name, heard_at=time.time())
    led.ve("big", node="node-2", memory_mib=1700)
    number = led.call("POST", "/ves", {"name": "new", "image": "busybox", "memory_mib": 1700}).json()["id"]
    answer = led.call("GET", f"/jobs/{number}/why").json()
    reasons = {node["name"]: node["reason"] for node in answer["nodes"]}
    assert reasons["node-2"] == "1.57 GiB short" and reasons["node-4"] == "cordoned: disk swap"
    assert "1700 MiB asked" in reasons["node-1"]
    text, todo = why(led, number)["room"]
    assert text == "no node takes it now"
    assert todo == "It begins once node-2 has 1.57 GiB more free, or after `vmcloud node uncordon node-4`."


def test_nobody_leads(web: Web) -> None:
    from vmcloud.fleet.models import Lease

    Lease.objects.all().delete()
    assert "no server leads" in why(web, ask(web))["server"][0]


def test_a_job_under_way_says_where_and_what_ends_it(led: Web) -> None:
    from vmcloud.fleet.models import Step

    number, now = ask(led), time.time()
    change(number, state="R", started_at=now - 100, walltime=400.0)
    about = {"job_id": number, "verb": "stop", "node": "node-1", "lane": "ve:x", "sent_at": now - 90}
    step = Step.objects.create(number=1, state="sent", sent_count=3, **about)
    assert why(led, number)["step"][0] == "stop was sent to node node-1 3 times, which has not taken it yet"
    phase = "hung in lxc.stop for 40 s"
    Step.objects.filter(pk=step.pk).update(state="running", accepted_at=now - 60, phase=phase)
    text, todo = why(led, number)["hung"]
    assert text == f"node node-1 has had stop for 1 min, {phase}" and f"vmcloud job signal {number} KILL" in todo
    assert "in 5 min" in why(led, number)["walltime"][0] or "in 4 min" in why(led, number)["walltime"][0]
    change(number, cancel_requested_at=now - 30)
    assert f"vmcloud job cancel {number} --force" in why(led, number)["cancel"][1]
    change(number, state="E", outcome="ok", reason="waits until the directory shows it: stopped")
    assert "complete when the directory shows" in why(led, number)["directory"][0]


def test_ends_say_what_to_do_next(led: Web) -> None:
    number = ask(led)
    change(number, state="C", outcome="ok")
    assert why(led, number) == {"ended": ("it ended well", "")}
    change(number, outcome="failed", error={"code": "x", "what": "the disk is full", "todo": "Make room."})
    text, todo = why(led, number)["ended"]
    assert "the disk is full" in text and todo == "Make room."
    change(number, outcome="cancelled", error=None, result={"never_ran": True})
    text, todo = why(led, number)["ended"]
    assert "It never ran." in text and f"vmcloud job retry {number}" in todo


def test_of_a_job_that_one_may_not_see_nothing_is_said(led: Web) -> None:
    number = ask(led)
    assert led.call("GET", f"/jobs/{number}/why", token=led.user("ann")).status_code == 404
    assert led.call("GET", "/jobs/99999/why").status_code == 404
