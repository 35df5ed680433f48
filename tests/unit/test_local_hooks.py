"""What the doctor says of hooks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vmcloud.config import Config, NodeSettings
from vmcloud.local import checks_hooks

pytestmark = pytest.mark.unit


def put(path: Path, mode: int = 0o755) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(mode)


def said(config: Config) -> list[tuple[str, str, str]]:
    return [(level, detail, fix) for _, level, detail, fix in checks_hooks.hooks(config.data, config)]


@pytest.mark.skipif(os.geteuid() != 0, reason="hooks belong to root")
def test_what_would_not_run_or_is_never_called_is_told_with_its_remedy(tmp_path: Path) -> None:
    config = Config(data=tmp_path, node=NodeSettings(name="n1"))
    assert said(config) == [("OK", "none", "")]
    for name in ("hooks/submit", "hooks/job.ended/10-mail", "hooks/all/log", "node/n1/hooks/prologue"):
        put(tmp_path / name)
    assert said(config) == [("OK", "4", "")]
    put(tmp_path / "node/n1/hooks/epilogue", 0o777)
    put(tmp_path / "node/n1/hooks/prolog")
    put(tmp_path / "hooks/job.end/x")
    put(tmp_path / "hooks/filter")
    found = {detail.replace(f"{tmp_path}/", ""): fix.replace(f"{tmp_path}/", "") for _, detail, fix in said(config)}
    assert found == {
        "hooks/filter is never called; the filter is submit": "",
        "hooks/job.end is never called: no type of events has this name": "",
        "the hook node/n1/hooks/epilogue may be written by others than its owner": "chmod go-w node/n1/hooks/epilogue",
        "node/n1/hooks/prolog is never called; known are prologue and epilogue": "",
    }
