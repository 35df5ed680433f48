"""The submit filter: what it is told, that it may refuse, and that nothing passes where it does not decide."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.web import Web, web

pytestmark = pytest.mark.unit
__all__ = ["web"]


@pytest.fixture
def put(web: Web, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Install a filter."""
    from dataclasses import replace

    from vmcloud.config import HookSettings
    from vmcloud.fleet import ports

    cloud = replace(ports.cloud(), hooks=HookSettings(submit_seconds=1.0))
    monkeypatch.setattr(ports, "cloud", lambda: cloud)
    cloud.hook_folder.mkdir(mode=0o755)

    def install(text: str, mode: int = 0o755) -> Path:
        path = cloud.hook_folder / "submit"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(mode)
        return path

    return install


def jobs() -> int:
    from vmcloud.fleet.models import Job

    return Job.objects.count()


def test_it_is_told_all_of_a_request_and_lets_it_pass(web: Web, put: Callable[..., Path]) -> None:
    path = put('cat > "$0.told"; echo "$1 $2" > "$0.arguments"')
    web.ve("one")
    made = web.call("POST", "/ves/one/stop", {"force": True, "job": {"priority": 5}}, token=None)
    assert made.status_code == 202
    told = json.loads(path.with_name("submit.told").read_text())
    assert told == {
        "verb": "stop",
        "owner": "admin",
        "admin": True,
        "origin": "api",
        "project": "main",
        "ve": "one",
        "node": "node-1",
        "args": {"force": True, "grace": 10.0, "job": {"priority": 5}},
    }
    assert path.with_name("submit.arguments").read_text() == "stop admin\n"


def test_what_it_refuses_is_never_a_job_and_its_words_are_the_reason(web: Web, put: Callable[..., Path]) -> None:
    put("echo not on; echo Fridays >&2; exit 255")
    web.ve("one")
    requests = [
        ("POST", "/ves", {"name": "new", "image": "busybox"}),
        ("POST", "/ves/one/stop", None),
        ("POST", "/nodes/node-1/cordon", None),
    ]
    for request in requests:
        refused = web.call(*request)
        assert refused.status_code == 403 and refused.json()["code"] == "submit-filter", request
        assert refused.json()["why"] == "not on; Fridays"
    assert jobs() == 0 and web.directory.ves() == []


def test_of_many_each_is_asked_for(web: Web, put: Callable[..., Path]) -> None:
    put('grep -q \'"ve": "two"\' && { echo not two; exit 1; }; exit 0')
    for name in ("one", "two"):
        web.ve(name)
    made = web.call("POST", "/jobs", {"requests": [{"verb": "stop", "ve": name} for name in ("one", "two")]}).json()
    assert "not two" in json.dumps(made) and jobs() == 1


def test_what_was_accepted_before_is_answered_without_asking_again(web: Web, put: Callable[..., Path]) -> None:
    web.ve("one")
    first = web.call("POST", "/ves/one/stop", **{"Idempotency-Key": "k"}).json()
    put("exit 1")
    assert web.call("POST", "/ves/one/stop", **{"Idempotency-Key": "k"}).json()["id"] == first["id"]


@pytest.mark.parametrize(
    ("text", "mode", "why"),
    [
        ("sleep 1000", 0o755, "did not end in 1 s"),
        ("kill -9 $$", 0o755, "was killed by SIGKILL"),
        ("exit 0", 0o777, "may be written by others"),
        ("exit 0", 0o644, "may not be executed"),
        ("head -c 20000000 /dev/zero; sleep 1000", 0o755, "did not end in 1 s"),
    ],
)
def test_where_it_does_not_decide_nothing_passes(web: Web, put: Callable[..., Path], text: str, mode: int, why: str) -> None:
    put(text, mode)
    web.ve("one")
    began = time.monotonic()
    refused = web.call("POST", "/ves/one/stop")
    assert refused.status_code == 503 and refused.json()["code"] == "submit-filter-failed" and why in refused.json()["why"]
    assert jobs() == 0 and time.monotonic() - began < 5


def test_a_bad_first_line_is_named(web: Web, put: Callable[..., Path]) -> None:
    put("").write_text("#!/no/such/interpreter\n")
    web.ve("one")
    assert "interpreter" in web.call("POST", "/ves/one/stop").json()["why"]


def test_without_one_everything_passes(web: Web) -> None:
    web.ve("one")
    assert web.call("POST", "/ves/one/stop").status_code == 202
