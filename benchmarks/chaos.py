"""A campaign of faults, and whether every promise held (docs/reliability.md). ``--minutes``, ``--seed``; ``--replay`` a log."""

from __future__ import annotations

import time

from .campaign import drive, plan
from .campaign.world import world
from .measure import Report, Wishes


def run(report: Report, wishes: Wishes) -> None:
    """One campaign; the report has failed where the checker found a violation."""
    quiet = wishes.size(30.0, 3.0)  # seconds without work and faults before the checker looks
    seconds, seed = wishes.size(wishes.minutes * 60, 4.0), wishes.seed or int(time.time())
    acts = plan.read(wishes.replay) if wishes.replay else plan.make(seed, seconds, pause=wishes.size(1.75, 0.5))
    print(f"seed {seed}: {len(acts)} acts in {acts[-1].at:.0f} s", flush=True)
    with world() as made:
        log = drive.Log(wishes.log)
        log.note(seed=seed, seconds=seconds)
        outcome = drive.hold(made, acts, seed, quiet=quiet, tell=lambda text: print(f"  {text}", flush=True), log=log)
    for line in outcome.table():
        report.note(line.strip())
    report.result = outcome.to_json()
    report.failed = bool(outcome.violations)
