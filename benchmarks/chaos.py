"""A campaign of faults, and whether every promise held (docs/reliability.md). ``--minutes``, ``--seed``; ``--replay`` a log."""

from __future__ import annotations

import time

from .campaign import drive, plan
from .campaign.world import world
from .measure import Report, Wishes

QUIET = 30.0
"""Seconds without work and faults before the checker looks."""


def run(report: Report, wishes: Wishes) -> None:
    """One campaign; the report has failed where the checker found a violation."""
    seconds, seed = wishes.minutes * 60, wishes.seed or int(time.time())
    acts = plan.read(wishes.replay) if wishes.replay else plan.make(seed, seconds)
    print(f"seed {seed}: {len(acts)} acts in {acts[-1].at:.0f} s", flush=True)
    with world() as made:
        log = drive.Log(wishes.log)
        log.note(seed=seed, seconds=seconds)
        outcome = drive.hold(made, acts, seed, quiet=QUIET, tell=lambda text: print(f"  {text}", flush=True), log=log)
    for line in outcome.table():
        report.note(line.strip())
    report.result = outcome.to_json()
    report.failed = bool(outcome.violations)
