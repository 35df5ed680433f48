"""`vmcloud ve list` of 100 VEs: what a person waits for, from typing to the prompt."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from .measure import Report, Wishes
from .scene import scene


def run(report: Report, wishes: Wishes) -> None:
    """The command as installed, beside an interpreter that does nothing."""
    ves = wishes.size(100, 5)
    with scene(simulate=2) as made:
        jobs = [made.create(f"ve{number:03}", kind="simulated", power="stopped") for number in range(ves)]
        for job in jobs:
            made.finish(job)
        token = (made.cloud.data / "secrets" / "admin-token").read_text().strip()
        env = {**os.environ, "VMCLOUD_URL": made.cloud.url, "VMCLOUD_TOKEN": token}
        listing = [sys.executable, "-m", "vmcloud.cli", "ve", "list"]
        for number in range(-2, wishes.repetitions(30)):
            nothing, _ = _timed([sys.executable, "-c", "pass"], env)
            seconds, said = _timed(listing, env)
            assert said.count("ve0") >= ves, said
            if number >= 0:
                report.add("an interpreter that does nothing", nothing)
                report.add(f"vmcloud ve list, {ves} VEs", seconds)
        report.series[f"vmcloud ve list, {ves} VEs"].target = 0.3


def _timed(argv: list[str], env: dict[str, str]) -> tuple[float, str]:
    began = time.monotonic()
    said = subprocess.run(argv, env=env, capture_output=True, text=True, check=True).stdout
    return time.monotonic() - began, said
