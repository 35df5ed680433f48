"""Actions: what is asked for, what is printed where, and the exit code."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.cli_kit import HANG_UP, Cloud, Run, cloud, job, run, step

pytestmark = pytest.mark.unit
__all__ = ["cloud", "run"]


def test_an_action_prints_the_number_on_stdout_and_words_on_stderr(cloud: Cloud, run: Run) -> None:
    cloud.answers["POST /ves/web-1/start"] = (202, job())
    assert run("ve", "start", "web-1") == (0, "12\n", "job 12 start web-1: queued\n")
    request = cloud.asked[0]
    assert len(request.headers["Idempotency-Key"]) == 32 and request.headers["User-Agent"].startswith("vmcloud-cli")


def test_one_operand_fails_and_the_others_are_done(cloud: Cloud, run: Run) -> None:
    no_b = {"what": "no VE is called 'b'", "code": "not-found", "todo": "Look."}
    cloud.answers["POST /jobs"] = {"items": [{"job": job(1, "stop")}, {"problem": no_b}, {"job": job(3, "stop")}]}
    code, out, err = run("ve", "stop", "a", "b", "c", "--force", "--grace", "1m")
    assert (code, out) == (1, "1\n3\n") and "vmcloud: b: no VE is called 'b'" in err
    assert {each["args"]["grace"] for each in cloud.asked[0].json["requests"]} == {60.0}


def test_several_names_are_one_request_each_with_its_key(cloud: Cloud, run: Run) -> None:
    cloud.answers["POST /jobs"] = [
        HANG_UP,
        lambda request: {"items": [{"job": job(n)} for n, _ in enumerate(request.json["requests"])]},
    ]
    names = [f"web-{number}" for number in range(700)]
    assert run("ve", "delete", *names, "--idempotency-key", "k", "--priority", "3")[0] == 0
    lost, first, second = (request.json["requests"] for request in cloud.asked)
    assert lost == first and (len(first), len(second)) == (500, 200)
    wanted = {"verb": "delete", "ve": "web-699", "project": "main", "args": {"job": {"priority": 3}}, "key": "k:web-699"}
    assert second[-1] == wanted


def test_an_array_is_asked_for_by_its_pattern_and_called_by_its_number(cloud: Cloud, run: Run) -> None:
    how = {"indices": "0-99", "size": 100, "slots": 5, "states": {"Q": 90, "R": 5, "X": 5}, "outcomes": {"failed": 1, "ok": 4}}
    made = job(41, "start", state="B", ref="41[]", ve_name="web-%i", array=how)
    cloud.answers["POST /ves/web-%25i/start"] = cloud.answers["POST /ves"] = (202, made)
    code, out, err = run("ve", "start", "web-%i", "--array", "0-99%5")
    assert (code, out) == (0, "41[]\n") and "90 Q, 5 R, 5 X (1 failed, 4 ok), at most 5 at once" in err
    assert cloud.asked[0].json == {"job": {"array": "0-99%5"}}
    run("ve", "create", "web-%03i", "-i", "busybox", "--array", "9,1-3")
    assert cloud.asked[1].json["name"] == "web-%03i" and cloud.asked[1].json["job"] == {"array": "1-3,9"}


def test_operands_given_twice_are_asked_for_once(cloud: Cloud, run: Run) -> None:
    cloud.answers["POST /ves/a/start"] = (202, job(1, ve_name="a"))
    code, out, err = run("ve", "start", "a", "a")
    assert (code, out) == (0, "1\n") and "a was given 2 times" in err and len(cloud.asked) == 1


def test_with_several_operands_each_job_is_named_first(cloud: Cloud, run: Run) -> None:
    names = (("a", 1), ("b", 2))
    cloud.answers["POST /jobs"] = {"items": [{"job": job(number, ve_name=name)} for name, number in names]}
    for name, number in names:
        cloud.answers[f"GET /jobs/{number}"] = [job(number, ve_name=name), job(number, ve_name=name, state="C", version=2)]
    assert run("ve", "start", "a", "b", "--wait")[2].splitlines() == [
        "job 1 start a: queued",
        "job 2 start b: queued",
        "job 1 start a: ok in 1.5 s",
        "job 2 start b: ok in 1.5 s",
    ]


def test_a_running_step_is_told_once(cloud: Cloud, run: Run) -> None:
    running = step("running", "unpack", 0)
    cloud.answers["GET /jobs/12"] = [
        job(state="R", version=2, steps=[running], reason="create on node-1: unpack 0 %"),
        job(state="R", version=3, steps=[running], reason="create on node-1: unpack"),
        job(state="C", version=4),
    ]
    assert run("job", "wait", "12")[2].splitlines() == [
        "job 12 start web-1: running, unpack 0 %",
        "job 12 start web-1: ok in 1.5 s",
    ]


def test_create_sends_only_what_was_given(cloud: Cloud, run: Run) -> None:
    cloud.answers["POST /ves"] = (202, job(verb="create"))
    run("ve", "create", "hello", "--image", "busybox")
    assert cloud.asked[0].json == {"name": "hello", "image": "busybox", "project": "main"}
    run(
        *("ve", "create", "hello", "-i", "busybox", "-k", "simulated", "--vcpus", "2", "-m", "1G", "--disk", "0", "-n", "n1"),
        *("--power", "stopped", "--restart", "always", "--description", "mine", "--privileged", "-p", "other"),
    )
    assert cloud.asked[1].json == {
        "name": "hello",
        "image": "busybox",
        "kind": "simulated",
        "vcpus": 2,
        "memory_mib": 1024,
        "disk_mib": 0,
        "node": "n1",
        "power": "stopped",
        "restart": "always",
        "description": "mine",
        "privileged": True,
        "project": "other",
    }


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        (("ve", "restart", "x"), "POST /ves/x/restart"),
        (("ve", "suspend", "x"), "POST /ves/x/suspend"),
        (("ve", "resume", "x"), "POST /ves/x/resume"),
        (("ve", "resize", "x", "-m", "64"), "PATCH /ves/x"),
        (("ve", "alter", "x", "--restart", "never"), "POST /ves/x/alter"),
        (("ve", "delete", "x"), "DELETE /ves/x"),
        (("node", "cordon", "x"), "POST /nodes/x/cordon"),
        (("node", "uncordon", "x"), "POST /nodes/x/uncordon"),
        (("job", "cancel", "7"), "POST /jobs/7/cancel"),
        (("job", "cancel", "7", "--force"), "POST /jobs/7/cancel"),
        (("job", "rerun", "7"), "POST /jobs/7/rerun"),
        (("job", "signal", "7", "KILL"), "POST /jobs/7/signal"),
        (("ve", "lease", "a", "+8h"), "POST /ves/a/alter"),
    ],
)
def test_each_command_asks_for_its_action(cloud: Cloud, run: Run, arguments: tuple[str, ...], asked: str) -> None:
    cloud.answers[asked] = (202, job())
    assert run(*arguments)[:2] == (0, "12\n")


def test_json_of_an_action_is_the_job(cloud: Cloud, run: Run) -> None:
    cloud.answers["DELETE /ves/x"] = (202, job(verb="delete"))
    assert json.loads(run("ve", "delete", "x", "-o", "json")[1])["id"] == 12
    cloud.answers["POST /jobs"] = {"items": [{"job": job(number, "delete")} for number in (12, 13)]}
    assert [each["id"] for each in json.loads(run("ve", "delete", "x", "y", "-o", "json")[1])] == [12, 13]


def test_an_import_streams_a_file(cloud: Cloud, run: Run, tmp_path: Path) -> None:
    archive = tmp_path / "a.tar"
    archive.write_bytes(os.urandom(3 << 20))
    cloud.answers["PUT /images/tiny"] = (202, job(verb="import", ve_name=None, args={"image": "tiny"}))
    assert run("image", "import", "tiny", str(archive), "--description", "d")[:2] == (0, "12\n")
    assert cloud.asked[0].body == archive.read_bytes()
    assert cloud.asked[0].query == {"kind": "lxc", "description": "d"}
    code, out, err = run("image", "import", "tiny", str(tmp_path / "none"))
    assert (code, out) == (1, "") and "cannot be read" in err
