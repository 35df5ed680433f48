"""Jobs: waiting for them, and when they may run."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime

import pytest

from tests.cli_kit import HANG_UP, Answer, Cloud, Request, Run, cloud, job, run, step

pytestmark = pytest.mark.unit
__all__ = ["cloud", "run"]


# --------------------------------------------------------------------------------------------------------------- waiting


def test_wait_says_each_change_once_and_ends_well(cloud: Cloud, run: Run) -> None:
    cloud.answers["POST /ves"] = (202, job(verb="create"))
    cloud.answers["GET /jobs/12"] = [
        job(verb="create", version=2),
        job(verb="create", state="R", version=3, steps=[step("sent")]),
        job(verb="create", state="R", version=4, steps=[step("running", "unpack", 40)]),
        job(verb="create", state="R", version=4, steps=[step("running", "unpack", 40)]),
        job(verb="create", state="C", version=9, steps=[step("done", outcome="ok")]),
    ]
    code, out, err = run("ve", "create", "web-1", "-i", "busybox", "--wait")
    assert (code, out) == (0, "12\n")
    assert err.splitlines() == [
        "job 12 create web-1: queued",
        "job 12 create web-1: running, sent to node-1",
        "job 12 create web-1: running, unpack 40 %",
        "job 12 create web-1: ok in 1.5 s",
    ]
    assert [request.query.get("version") for request in cloud.asked[1:]] == [None, "2", "3", "4", "4"]


def test_wait_for_a_job_that_fails_says_why_and_exits_1(cloud: Cloud, run: Run) -> None:
    cloud.answers["POST /ves/web-1/start"] = (202, job())
    error = {"code": "lxc", "what": "no such bridge", "why": "vmcloud0 is missing", "todo": "Run vmcloud doctor."}
    cloud.answers["GET /jobs/12"] = job(state="C", version=5, outcome="failed", error=error)
    code, out, err = run("ve", "start", "web-1", "-w")
    assert (code, out) == (1, "12\n")
    assert err.splitlines() == [
        "vmcloud: job 12 start web-1: failed",
        "  why: no such bridge: vmcloud0 is missing",
        "  do: Run vmcloud doctor.",
    ]


def test_timeout_ends_the_waiting_only(cloud: Cloud, run: Run) -> None:
    cloud.answers["GET /jobs/12"] = job(reason="node-1 is down")
    code, _, err = run("job", "wait", "12", "--timeout", "0.1")
    assert code == 1 and "not complete after 0.1 s" in err and "node-1 is down" in err and "vmcloud job wait 12" in err


def test_waiting_survives_a_restart_of_the_web_part(cloud: Cloud, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    cloud.answers["GET /jobs/12"] = [job(), *[HANG_UP] * 4, job(state="C", version=2)]
    code, _, err = run("job", "wait", "12")
    assert code == 0 and "trying again" in err and err.endswith("job 12 start web-1: ok in 1.5 s\n")


def test_watch_prints_steps_and_logs_print_events(cloud: Cloud, run: Run) -> None:
    cloud.answers["GET /jobs/12"] = [
        job(state="R", version=2, steps=[step("running", "unpack", 40)]),
        job(state="C", version=3, steps=[step("done", outcome="ok")]),
    ]
    assert run("job", "watch", "12") == (
        0,
        "job 12 start web-1: running\n  step 1 create on node-1: running, unpack 40 %\n"
        "  step 1 create on node-1: ok\njob 12 start web-1: ok in 1.5 s\n",
        "",
    )
    cloud.answers["GET /jobs/12/events"] = {"items": [{"id": 1, "at": "then", "text": "submitted"}], "next": None}
    assert run("job", "logs", "12") == (0, "then  submitted\n", "")
    assert run("job", "logs", "12", "-f") == (0, "then  submitted\n", "")


def test_cancel_and_wait_is_a_success_when_it_is_cancelled(cloud: Cloud, run: Run) -> None:
    cloud.answers["POST /jobs/12/cancel"] = (202, job(cancel_requested=True))
    cloud.answers["GET /jobs/12"] = job(state="C", outcome="cancelled", version=3)
    code, out, err = run("job", "cancel", "12", "--wait")
    assert (code, out) == (0, "12\n") and "cancelled in 1.5 s" in err


def test_ctrl_c_leaves_the_job_and_says_so(cloud: Cloud) -> None:
    waiting = threading.Event()

    def slow(request: Request) -> Answer:
        if request.query.get("wait"):
            waiting.set()
            time.sleep(1.5)
        return 200, job()

    cloud.answers["POST /ves/web-1/start"] = (202, job())
    cloud.answers["GET /jobs/12"] = slow
    command = [sys.executable, "-m", "vmcloud.cli", "ve", "start", "web-1", "--wait"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert waiting.wait(20)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (130, "12\n")
    assert "job 12 goes on" in err and "vmcloud job cancel 12" in err and "Traceback" not in err


# --------------------------------------------------------------------------------------------------------- when jobs run


def test_when_a_job_may_run_travels_with_the_request(cloud: Cloud, run: Run) -> None:
    cloud.answers["POST /ves/web-1/stop"] = cloud.answers["POST /ves"] = cloud.answers["DELETE /ves/web-1"] = job(12)
    options = ("--priority", "-5", "--depend", "afterok:3,on:2", "--walltime", "5m", "--retries", "2", "--hold")
    for command in (("ve", "stop", "web-1"), ("ve", "create", "web-1", "-i", "busybox"), ("ve", "delete", "web-1")):
        assert run(*command, *options)[0] == 0
        body = json.loads(cloud.asked[-1].body)
        assert body["job"] == {"priority": -5, "depend": "afterok:3,on:2", "walltime": 300.0, "retries": 2, "hold": True}
    assert run("ve", "stop", "web-1")[0] == 0 and "job" not in json.loads(cloud.asked[-1].body or b"{}")


@pytest.mark.parametrize("when", ["+2h", "18:00", "0:30", "2030-01-31T18:00", "2030-01-31T18:00:00+02:00"])
def test_times_to_come_are_told_with_their_offset(cloud: Cloud, run: Run, when: str) -> None:
    cloud.answers["POST /ves/web-1/stop"] = job(12)
    assert run("ve", "stop", "web-1", "--at", when)[0] == 0
    told = datetime.fromisoformat(json.loads(cloud.asked[-1].body)["job"]["not_before"])
    assert told.tzinfo is not None and told > datetime.now(UTC)


@pytest.mark.parametrize(
    "arguments",
    [
        ("ve", "stop", "web-1", "--at", "soon"),
        ("ve", "stop", "web-1", "--at", "25:00"),
        ("ve", "stop", "web-1", "--priority", "2000"),
        ("ve", "stop", "web-1", "--depend", "afterok"),
        ("ve", "stop", "web-1", "--retries", "-1"),
        ("job", "alter", "12"),
        ("job", "alter", "12", "--hold"),
        ("job", "hold", "12", "--who", "me"),
        ("job", "hold", "12[9-1]"),
        ("job", "watch", "12[0-9]"),
        ("job", "alter", "12[]", "--slots", "0"),
        ("ve", "stop", "web-%i", "--array", "0-9%0"),
        ("ve", "stop", "web-%i", "--array", "9-0"),
        ("ve", "stop", "web-%i", "--array", "0-99999999999"),
        ("job", "order", "12"),
    ],
)
def test_wrong_terms_are_refused_before_anything_is_asked(cloud: Cloud, run: Run, arguments: tuple[str, ...]) -> None:
    code, _, err = run(*arguments)
    assert code == 2 and err.startswith("vmcloud: ") and cloud.asked == []


def test_jobs_that_have_not_begun_are_changed(cloud: Cloud, run: Run) -> None:
    held = job(12, state="H", reason="held by its user")
    cloud.answers |= {f"POST /jobs/12/{verb}": held for verb in ("hold", "release", "run", "retry", "order")}
    cloud.answers["PATCH /jobs/12"] = held
    for arguments, method, body in (
        (("hold", "12", "--who", "o"), "POST", {"who": "o"}),
        (("release", "12"), "POST", {"who": "u"}),
        (("run", "12"), "POST", None),
        (("retry", "12"), "POST", None),
        (("alter", "12", "--priority", "3"), "PATCH", {"priority": 3}),
    ):
        code, out, err = run("job", *arguments)
        assert (code, out) == (0, "12\n") and "held by its user" in err
        assert (cloud.asked[-1].method, json.loads(cloud.asked[-1].body or b"null")) == (method, body)
    assert run("job", "order", "12", "13")[0] == 0 and json.loads(cloud.asked[-1].body) == {"job": "13"}
    assert run("job", "hold", "12", "99")[0] == 1, "not every one worked"


def test_arrays_and_their_parts_are_called_as_in_torque(cloud: Cloud, run: Run) -> None:
    how = {"indices": "0-9", "size": 10, "slots": None, "states": {"H": 10}, "outcomes": {}}
    held = job(41, state="H", ref="41[]", array=how)
    ended = [job(50 + index, state="C", ref=f"41[{index}]", part_of=41, index=index) for index in range(3)]
    for path in ("41%5B%5D", "41%5B7%5D", "41%5B0-2%5D"):
        cloud.answers |= {f"POST /jobs/{path}/{verb}": held for verb in ("hold", "cancel")}
    cloud.answers |= {"PATCH /jobs/41%5B%5D": held, "GET /jobs/41%5B%5D": held}
    cloud.answers["GET /jobs"] = {"items": ended[::-1], "next": None}
    cloud.answers |= {f"GET /jobs/41%5B{index}%5D": each for index, each in enumerate(ended)}
    code, out, err = run("job", "hold", "41[]", "41[7]", "41[0-2]")
    assert (code, out) == (0, "41[]\n" * 3) and "10 H" in err
    assert run("job", "alter", "41[]", "--slots", "none")[0] == 0 and cloud.asked[-1].json == {"slots": None}
    assert run("job", "cancel", "41[0-2]", "--wait")[0] == 0
    assert [request.query for request in cloud.asked if request.path == "/jobs"] == [
        {"array": "41", "indices": "0-2", "limit": "1000"}
    ]
    table = run("job", "list", "--array", "41[]")[1].splitlines()
    assert table[1].split()[:2] == ["41[2]", "X"], "what has ended of an array is X"
    code, _, err = run("job", "wait", "41[0-3]")
    assert code == 1 and "there are 3 of these parts" in err


def test_why_is_said_in_lines_and_nodes_with_the_same_reason_together(cloud: Cloud, run: Run) -> None:
    causes = [{"what": "room", "text": "no node takes it now", "todo": "Wait."}]
    nodes = [{"name": name, "reason": why} for name, why in (("n1", "3 GiB short"), ("n2", "3 GiB short"), ("n4", "cordoned"))]
    queue = {"name": "main", "queued": 2, "running": 1, "limits": {"max_running": 1}, "ahead": 1}
    found = {"id": 12, "ref": "12", "state": "Q", "state_name": "queued", "reason": "no room", "outcome": None, "causes": causes}
    cloud.answers["GET /jobs/12/why"] = {**found, "nodes": nodes, "queue": queue}
    for words in (("why", "12"), ("job", "why", "12")):
        code, out, err = run(*words)
        assert (code, err) == (0, "")
        assert out.splitlines() == [
            "job 12 is queued: no room",
            "  no node takes it now",
            "    do: Wait.",
            "  n1, n2: 3 GiB short",
            "  n4: cordoned",
            "  queue main: 2 queued, 1 running, max running 1; 1 before it",
        ]
    assert json.loads(run("why", "12", "-o", "json")[1])["nodes"] == nodes
