"""Interleavings that the model test found (:mod:`tests.model`), each as the shortest way to it; named by what must hold.

``at`` is the effect of the first one's call (a statement or a commit outside of a transaction, a call of the directory, a
message) before which the second one acts; all the promises of ``docs/reliability.md`` are looked at after each step and at rest.
"""

from __future__ import annotations

import pytest

from tests.model.machine import scene
from tests.model.requests import Request

pytestmark = [pytest.mark.unit, pytest.mark.engine]

STOP = Request("stop")


@pytest.mark.parametrize("at", range(1, 10))
def test_who_is_held_while_the_leader_admits_it_stays_held(at: int) -> None:
    with scene(Request("stop", terms={"hold": True})) as cloud:
        cloud.lead(call="turn", first=True)
        cloud.lead_while_somebody_asks(first=Request("release"), call="admit", then=Request("hold"), at=at, job=0)
        cloud.lead(call="turn", first=True)


@pytest.mark.parametrize("what", ["hold", "cancel"])
@pytest.mark.parametrize("at", [1, 3, *range(5, 19)])
def test_who_is_held_or_cancelled_while_the_leader_schedules_it_does_not_begin(at: int, what: str) -> None:
    with scene(STOP) as cloud:
        cloud.lead_while_somebody_asks(first=Request("alter"), call="schedule", then=Request(what), at=at, job=0)
        cloud.all_goes_well(leads=True)


@pytest.mark.parametrize("at", range(1, 8))
def test_who_waits_for_another_try_while_somebody_puts_it_back_is_not_cancelled(at: int) -> None:
    with scene(STOP) as cloud:
        cloud.lead(call="turn", first=True)
        cloud.all_goes_well(leads=False)
        cloud.end_step(which=0, how="requeue", copies=1)
        cloud.ask_while_the_leader_acts(request=Request("rerun"), call="turn", at=at)


def test_one_failure_of_a_fetch_that_is_said_five_times_is_one_attempt() -> None:
    with scene(Request("create", ve=2, kind="lxc")) as cloud:
        cloud.lead(call="turn", first=True)
        cloud.all_goes_well(leads=False)
        cloud.end_step(which=0, how="again", copies=5)
        cloud.lead(call="turn", first=True)
