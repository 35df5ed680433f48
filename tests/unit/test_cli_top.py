"""``vmcloud ve top``: VEs by what they use."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.cli_kit import Cloud, cloud
from vmcloud.cli.main import main

pytestmark = pytest.mark.unit
__all__ = ["cloud"]


def ve(name: str, **usage: Any) -> dict[str, Any]:
    fields = {
        "at": "2026-11-21T10:15:00.000+00:00",
        "cpu_seconds": 1.0,
        "cpu_percent": None,
        "memory_bytes": 1 << 20,
        "memory_peak_bytes": 0,
        "disk_read_bytes": 0,
        "disk_written_bytes": 0,
        "received_bytes": 0,
        "sent_bytes": 0,
        "processes": 2,
        **usage,
    }
    about = {"id": name, "name": name, "project": "main", "kind": "lxc", "node": "n1", "owner": "a", "vcpus": 1}
    return {**about, "memory_mib": 64, "usage": fields if usage else None}


def test_what_uses_most_comes_first_and_what_does_not_run_is_left_out(cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    items = [ve("idle", cpu_percent=0.0), ve("off"), ve("busy", cpu_percent=90.0), ve("fat", memory_bytes=1 << 30)]
    cloud.answers["GET /usage"] = {"items": items, "next": None}
    for order, first in (("cpu", "busy"), ("memory", "fat"), ("name", "idle")):
        assert main(["ve", "top", "--sort", order, "-o", "name"]) == 0
        names = capsys.readouterr().out.split()
        assert names[0] == first and set(names) == {"idle", "busy", "fat"}
    assert main(["ve", "top", "-A", "--kind", "lxc"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:5] == ["NAME", "NODE", "CPU%", "CPU-TIME", "MEMORY"]
    assert lines[1].split()[:6] == ["busy", "n1", "90.0", "1.0s", "1.0", "MiB"] and len(lines) == 4
    assert {key: cloud.asked[-1].query[key] for key in ("project", "kind")} == {"project": "*", "kind": "lxc"}
    assert main(["ve", "top", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["name"] == "busy"
