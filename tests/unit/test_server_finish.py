"""The end of a job, and what goes with it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from tests.web import Web, web

pytestmark = pytest.mark.unit
__all__ = ["web"]


class Leader:
    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        yield


@pytest.mark.parametrize(("verb", "outcome", "kept"), [("delete", "ok", 0), ("delete", "failed", 1), ("start", "ok", 1)])
def test_the_count_of_the_rules_tries_goes_with_its_ve(web: Web, verb: str, outcome: str, kept: int) -> None:
    """Found by a fault campaign (seed 22): what the rules deleted left it behind for ever."""
    from vmcloud.fleet.models import Budget, Job
    from vmcloud.fleet.server import finish
    from vmcloud.fleet.server.context import Context
    from vmcloud.fleet.server.projection import Projection

    ve = uuid4()
    Budget.objects.create(ve=ve, rule="R12", tries=1)
    about = {"owner": "server", "origin": "reconcile:R12", "ve": ve, "kind": "simulated", "created_at": 1.0, "exiting_at": 2.0}
    job = Job.objects.create(verb=verb, state="E", outcome=outcome, settled=True, **about)
    parts: Any = (None, web.directory, None, Leader(), Projection())
    finish.run(Context(*parts))
    job.refresh_from_db()
    assert job.state == "C" and Budget.objects.count() == kept
