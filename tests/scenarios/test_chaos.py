"""Random work while random parts are killed, frozen and cut off; then quiet, and a checker that knows nothing of the product.

``./benchmarks/run chaos`` is the same for as long as one likes, with any seed; it writes down what it did, and replays that.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.campaign import drive, plan
from benchmarks.campaign.world import world

SEED = int(os.environ.get("VMCLOUD_TEST_SEED", "8"))


def campaign(seconds: float, *, pause: float, quiet: float) -> None:
    kept = Path(os.environ.get("VMCLOUD_TEST_LOG", os.devnull))
    with kept.open("w") as file, world() as made:
        outcome = drive.hold(
            made, plan.make(SEED, seconds, pause=pause), SEED, quiet=quiet, tell=print, log=drive.Log(file.write)
        )
    print("\n".join(outcome.table()))
    assert not outcome.violations, outcome.violations
    assert outcome.taken > seconds and sum(outcome.faults.values()) > seconds / 6, "the campaign did next to nothing"


@pytest.mark.scenario
@pytest.mark.engine
@pytest.mark.timeout(240)
def test_nothing_is_lost_or_doubled() -> None:
    campaign(float(os.environ.get("VMCLOUD_TEST_SECONDS", "15")), pause=0.8, quiet=4.0)


@pytest.mark.scenario
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_nothing_is_lost_or_doubled_in_five_minutes() -> None:
    campaign(300.0, pause=1.5, quiet=30.0)
