"""Jobs that can not begin: what is said of whether they ran."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.web import Web, web

pytestmark = pytest.mark.unit
__all__ = ["web"]


class Leader:
    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        yield


class Empty:
    """A directory in which there is no VE."""

    def find_ve(self, ve: UUID) -> None:
        return None


def cycle() -> None:
    """One turn of the scheduler."""
    from vmcloud.fleet.server import schedule
    from vmcloud.fleet.server.context import Context
    from vmcloud.fleet.server.projection import Projection

    parts: Any = (None, Empty(), None, Leader(), Projection())
    schedule.run(Context(*parts))


@pytest.mark.parametrize(
    ("before", "result"),
    [
        ({}, {"undone": True, "never_ran": True}),
        ({"replans": 1, "undone": True}, {"undone": True, "never_ran": False}),
        ({"replans": 2, "undone": False}, {"undone": False, "never_ran": False}),
    ],
)
def test_a_job_whose_ve_is_gone_when_it_is_to_begin_again_did_run_before(
    web: Web, before: dict[str, Any], result: dict[str, Any]
) -> None:
    """Found by a fault campaign (seed 42): what was tried before was said never to have run."""
    from vmcloud.fleet.models import Job

    about = {"owner": "ann", "ve": uuid4(), "ve_name": "gone", "kind": "simulated", "created_at": 1.0}
    job = Job.objects.create(verb="restart", state="Q", before=before, **about)
    cycle()
    job.refresh_from_db()
    assert (job.state, job.outcome, job.error["code"]) == ("E", "failed", "not-found")
    assert job.result == result
