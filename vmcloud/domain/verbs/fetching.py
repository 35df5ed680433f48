"""The step that brings an image to a node, which several verbs begin with."""

from __future__ import annotations

from ..records import ImageRecord
from ..steps import StepPlan

TIMEOUT = 3600.0
"""Seconds that fetching an image may take."""
ATTEMPTS = 5
"""How often a fetch is tried whose failure is worth another try."""
FETCH = "fetch"


def fetch_step(image: ImageRecord, node: str) -> StepPlan:
    """Fetch ``image`` to ``node``; jobs that need the same image there wait for each other."""
    args = {"image": image.name, "sha256": image.sha256, "size": image.size}
    lane = f"image:{image.sha256}@{node}"
    return StepPlan(FETCH, FETCH, node, lane, args, timeout=TIMEOUT, retries=ATTEMPTS - 1)
