"""The way to the cloud: lost requests, tokens, whose cloud."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli_kit import HANG_UP, Cloud, Run, cloud, job, run

pytestmark = pytest.mark.unit
__all__ = ["cloud", "run"]


# --------------------------------------------------------------------------------------------------------- lost requests


def test_a_lost_answer_is_asked_for_again_with_the_same_key(cloud: Cloud, run: Run) -> None:
    cloud.answers["POST /ves/web-1/start"] = [HANG_UP, (202, job())]
    assert run("ve", "start", "web-1")[:2] == (0, "12\n")
    first, second = (request.headers["Idempotency-Key"] for request in cloud.asked)
    assert first == second


def test_a_request_that_is_under_way_is_asked_for_again(cloud: Cloud, run: Run) -> None:
    busy = {"what": "the same request is being worked on", "where": "Idempotency-Key", "code": "conflict"}
    cloud.answers["POST /ves/web-1/start"] = [HANG_UP, (409, busy), (202, job())]
    assert run("ve", "start", "web-1")[:2] == (0, "12\n")


def test_a_password_is_sent_once_only(cloud: Cloud, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud.answers["GET /healthz"] = {"status": "ok"}
    cloud.answers["POST /tokens"] = HANG_UP
    monkeypatch.setattr("sys.stdin", open(os.devnull))  # noqa: PTH123, SIM115
    assert run("login", "--user", "ann", "--password-stdin")[0] == 1
    monkeypatch.setattr("sys.stdin", _Typed("secret\n"))
    assert run("login", "--user", "ann", "--password-stdin")[0] == 3
    assert [request.method for request in cloud.asked].count("POST") == 1


class _Typed:
    def __init__(self, text: str) -> None:
        self._text = text

    def readline(self) -> str:
        return self._text


# ---------------------------------------------------------------------------------------------------------------- access


def test_login_keeps_the_token_private_and_later_commands_use_it(
    cloud: Cloud, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cloud.answers["GET /healthz"] = {"status": "ok"}
    cloud.answers["POST /tokens"] = (201, {"token": "vmc_new"})
    cloud.answers["GET /whoami"] = {"username": "ann", "is_admin": False}
    monkeypatch.setattr("sys.stdin", _Typed("secret\n"))
    code, out, err = run("login", cloud.url, "--user", "ann", "--password-stdin")
    assert (code, out) == (0, "") and "secret" not in err and "vmc_new" not in err
    path = tmp_path / "config" / "vmcloud" / "login.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert cloud.asked[1].json["password"] == "secret" and "Authorization" not in cloud.asked[1].headers
    monkeypatch.delenv("VMCLOUD_URL")
    monkeypatch.delenv("VMCLOUD_TOKEN")
    assert run("whoami", "-o", "name")[:2] == (0, "ann\n")
    assert cloud.asked[-1].headers["Authorization"] == "Bearer vmc_new"


def test_a_token_is_not_sent_to_another_address(cloud: Cloud, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "config" / "vmcloud" / "login.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"url": "http://other.example.org", "token": "vmc_other"}))
    monkeypatch.delenv("VMCLOUD_TOKEN")
    cloud.answers["GET /whoami"] = (401, {"what": "a token is needed", "code": "unauthenticated"})
    code, _, err = run("whoami")
    assert code == 1 and "you are not logged in" in err and "vmcloud login" in err
    assert "Authorization" not in cloud.asked[0].headers


def test_root_uses_the_cloud_of_its_machine(cloud: Cloud, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("VMCLOUD_URL")
    monkeypatch.delenv("VMCLOUD_TOKEN")
    code, _, err = run("whoami")
    assert code == 3 and "no vmcloud is known here" in err and "vmcloud up" in err
    secrets = tmp_path / "nothing" / "secrets"
    secrets.mkdir(parents=True)
    (secrets / "admin-token").write_text("vmc_root\n")
    (secrets.parent / "config.toml").write_text(f'web_url = "{cloud.url}"\n')
    cloud.answers["GET /whoami"] = {"username": "admin", "is_admin": True}
    assert run("whoami", "-o", "name")[:2] == (0, "admin\n")
    assert cloud.asked[-1].headers["Authorization"] == "Bearer vmc_root"


def test_a_broken_login_file_is_explained(cloud: Cloud, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "config" / "vmcloud" / "login.json"
    path.parent.mkdir(parents=True)
    path.write_text("{")
    monkeypatch.delenv("VMCLOUD_TOKEN")
    code, _, err = run("ve", "list")
    assert code == 1 and "login.json cannot be used" in err and "vmcloud login" in err


def test_a_wrong_password_is_called_that(cloud: Cloud, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud.answers["GET /healthz"] = {"status": "ok"}
    cloud.answers["POST /tokens"] = (401, {"what": "no user with this name and password", "code": "unauthenticated"})
    monkeypatch.setattr("sys.stdin", _Typed("wrong\n"))
    code, _, err = run("login", "--user", "ann", "--password-stdin")
    assert code == 1 and "wrong user name or password" in err and "not logged in" not in err


def test_without_a_terminal_nobody_is_asked(cloud: Cloud, tmp_path: Path) -> None:
    cloud.answers["GET /healthz"] = {"status": "ok"}
    (tmp_path / "config.toml").write_text("")
    lines = [["login", "--user", "ann"], ["login"], ["passwd", "--data", str(tmp_path)]]
    for arguments in lines:
        command = [sys.executable, "-m", "vmcloud.cli", *arguments]
        done = subprocess.run(command, input="secret\n", capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 1 and "--password-stdin" in done.stderr and len(done.stderr.splitlines()) == 3
