"""What can not work is refused at once, in words, and leaves no trace: not in SQL, directory, broker, nor on disk."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cloud import Cloud, cloud

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(120)]

GOOD = {"name": "new", "image": "busybox", "kind": "simulated"}


@pytest.fixture(scope="module")
def running() -> Iterator[Cloud]:
    with cloud(simulate=2) as made:
        made.image()
        made.wait(made.ask("POST", "/ves", {**GOOD, "name": "here"}))
        yield made


def traces(running: Cloud) -> dict[str, Any]:
    """Everything in which a refused request could have left something."""
    tables = ("fleet_job", "fleet_ve", "fleet_jobevent")
    rows = {table: running.sql(f"SELECT count(*) FROM {table}") for table in tables}
    directory = running.directory()
    return {
        "sql": rows,
        "directory": sorted((each.project, each.name, each.generation) for each in directory.ves()),
        "projects": directory.projects(),
        "images": sorted(each.name for each in directory.images()),
        "archives": sorted(path.name for path in (running.data / "images").iterdir()),
        "guests": running.simulated_guests(),
    }


REFUSED: list[tuple[str, str, Any, int, str]] = [
    ("POST", "/ves", {**GOOD, "image": "nope"}, 422, "nope"),
    ("POST", "/ves", {**GOOD, "name": "here"}, 409, "taken"),
    ("POST", "/ves", {**GOOD, "memory_mib": 10**7}, 422, "MiB"),
    ("POST", "/ves", {**GOOD, "vcpus": 1000}, 422, "vcpus"),
    ("POST", "/ves", {**GOOD, "memory_mib": 10**30}, 400, "range"),
    ("POST", "/ves", {**GOOD, "kind": "kvm"}, 422, "driver"),
    ("POST", "/ves", {**GOOD, "kind": "lxc"}, 422, "lxc"),
    ("POST", "/ves", {**GOOD, "kind": "docker"}, 400, "docker"),
    ("POST", "/ves", b"{", 400, "JSON"),
    ("POST", "/ves", b"\xff\xfe", 400, ""),
    ("POST", "/ves", b"[1]", 400, "object"),
    ("POST", "/ves", {**GOOD, "name": "../../etc"}, 400, "DNS label"),
    ("POST", "/ves", {**GOOD, "name": "a;reboot"}, 400, "DNS label"),
    ("POST", "/ves", {**GOOD, "name": "x" * 51}, 400, "51"),
    ("POST", "/ves", {**GOOD, "project": "nobody"}, 404, "nobody"),
    ("POST", "/ves", {**GOOD, "node": "elsewhere"}, 404, "elsewhere"),
    ("POST", "/ves", {**GOOD, "colour": "red"}, 400, "colour"),
    ("POST", "/ves", {**GOOD, "description": "\u0000"}, 400, "control"),
    ("POST", "/ves/nosuch/start", {}, 404, "nosuch"),
    ("POST", "/ves/here/explode", {}, 404, ""),
    ("POST", "/ves/here/stop", {"grace": "soon"}, 400, "grace"),
    ("POST", "/ves/here/stop", {"grace": 1e9}, 400, "grace"),
    ("POST", "/ves/here/start", {"force": True}, 400, "force"),
    ("PATCH", "/ves/here", {}, 400, "size"),
    ("PATCH", "/ves/here", {"image": "other"}, 400, "image"),
    ("PATCH", "/ves/here", {"memory_mib": 10**7}, 422, "MiB"),
    ("DELETE", "/ves/nosuch", None, 404, "nosuch"),
    ("POST", "/nodes/nosuch/cordon", {}, 404, "nosuch"),
    ("POST", "/jobs/999/cancel", {}, 404, "999"),
    ("PUT", "/images/Bad_Name", b"x", 400, "DNS label"),
    ("PUT", "/images/busybox", b"another content", 409, "busybox"),
    ("PUT", "/images/empty", b"", 400, "empty"),
    ("GET", "/no/such/thing", None, 404, ""),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "word"), REFUSED, ids=lambda value: str(value)[:40])
def test_refused_without_a_trace(running: Cloud, method: str, path: str, body: Any, status: int, word: str) -> None:
    before = traces(running)
    answer = running.api(method, path, body)
    assert answer.status == status, answer
    assert set(answer.body) >= {"type", "title", "status", "detail"}, "RFC 9457"
    assert word.lower() in json.dumps(answer.body, ensure_ascii=False).lower()
    assert traces(running) == before


def test_the_same_key_is_one_job_and_another_request_under_it_is_refused(running: Cloud) -> None:
    first = running.ask("POST", "/ves/here/start", {}, Idempotency_Key="k1")
    second = running.ask("POST", "/ves/here/start", {}, Idempotency_Key="k1")
    assert first["id"] == second["id"]
    assert running.api("POST", "/ves/here/stop", {}, Idempotency_Key="k1").status == 409
    running.wait(first)


def test_without_a_token_nothing_is_told(running: Cloud) -> None:
    for header in ("", "Bearer nonsense", "Bearer ", "Basic YTpi"):
        answer = running.api("GET", "/ves", Authorization=header)
        assert answer.status == 401, answer


def test_the_command_line_says_what_where_why_and_what_to_do(running: Cloud) -> None:
    done = running.run("ve", "create", "web", "--image", "nope", "--kind", "simulated", check=False)
    assert done.returncode == 1 and done.stdout == ""
    assert "no image is called 'nope'" in done.stderr and "known images: busybox" in done.stderr
    assert "Traceback" not in done.stderr
    done = running.run("ve", "stop", "here", "nosuch", "--wait", check=False)
    assert done.returncode == 1 and done.stdout.strip().isdigit(), "the other operand was still worked on"
    running.wait(running.ask("POST", "/ves/here/start", {}))
