"""Commands about this machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli_kit import Cloud, Run, cloud, run

pytestmark = pytest.mark.unit
__all__ = ["cloud", "run"]


def test_passwd_refuses_in_few_words(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.toml").write_text("")
    here = ("--data", str(tmp_path))
    code, _, err = run("passwd", "vmcloud", "--create", "--generate", *here)
    assert code == 1 and "'vmcloud' can not be a user's name" in err
    assert run("passwd", "ann", "--admin", *here)[0] == 2
    assert run("passwd", "ann", "--generate", "--password-stdin", *here)[0] == 2
    monkeypatch.setattr("os.geteuid", lambda: tmp_path.stat().st_uid + 1)
    code, _, err = run("passwd", "--generate", *here)
    assert code == 1 and "sudo vmcloud passwd" in err and len(err.splitlines()) == 2


def test_doctor_is_for_root(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 65534)
    code, out, err = run("doctor", "--data", str(tmp_path))
    assert (code, out) == (1, "") and "Run doctor as root" in err


@pytest.mark.parametrize(("mode", "level"), [(0, "WARN"), (1, "OK"), (2, "WARN"), (None, "OK")])
def test_doctor_looks_at_overcommit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int | None, level: str) -> None:
    from vmcloud.local import checks

    monkeypatch.setattr(checks, "_number", lambda path: mode)
    [(_, found, _, fix)] = checks.overcommit(tmp_path, None)
    assert found == level and ("vm.overcommit_memory=1" in fix) == (level == "WARN")


def test_purge_without_an_answer_removes_nothing(cloud: Cloud, run: Run, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("")
    command = [sys.executable, "-m", "vmcloud.cli", "down", "--purge", "--data", str(tmp_path)]
    done = subprocess.run(command, input="", capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1 and "nothing was removed" in done.stderr and "--yes" in done.stderr
    code, _, err = run("down", "--purge", "--yes", "--data", str(tmp_path / "none"))
    assert code == 0 and "nothing to remove" in err
    code, _, err = run("status", "--data", str(tmp_path / "none"))
    assert code == 1 and f"vmcloud up --data {tmp_path}/none" in err
