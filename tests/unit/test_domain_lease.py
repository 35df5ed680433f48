"""Leases: what a request may say of one, how far one is, and what the rules do at its end."""

from __future__ import annotations

import math
from typing import Any
from uuid import UUID

import pytest

from vmcloud.domain.errors import Invalid
from vmcloud.domain.lease import NO_LEASE, Lease, Stage, duration, fields, to_come
from vmcloud.domain.queueing import Entry, Filling, Queue, refusal
from vmcloud.domain.reconcile import BUDGET, NodeView, Report, Rule, RunVerb, VEView, compute, leases
from vmcloud.domain.spec import Spec
from vmcloud.domain.vocabulary import Desired, Kind, LeaseAction, NodeState, Observed, Restart, Verb

pytestmark = pytest.mark.unit

NOW = 1_800_000_000.0
HOUR = 3600.0
UP = NodeView("n1", NodeState.UP)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (None, NO_LEASE),
        ({"for": 3600}, {"lease_end": NOW + 3600}),
        ({"for": 0.5 + 3600}, {"lease_end": NOW + 3601}),
        ({"until": "2027-01-16T08:00:00Z"}, {"lease_end": 1_800_086_400.0}),
        ({"for": 60, "action": "delete", "grace": 0}, {"lease_end": NOW + 60, "lease_action": "delete", "lease_grace": 0}),
        ({"action": "delete"}, {"lease_action": "delete"}),
    ],
)
def test_what_may_be_said(asked: Any, found: dict[str, Any]) -> None:
    assert fields(asked, NOW) == found


@pytest.mark.parametrize(
    ("asked", "where"),
    [
        ({}, "lease"),
        ("8h", "lease"),
        (7, "lease"),
        ({"for": 60, "until": "2030-01-01T00:00:00Z"}, "lease"),
        ({"length": 60}, "lease"),
        ({"for": 0}, "lease.for"),
        ({"for": -5}, "lease.for"),
        ({"for": 1e300}, "lease.for"),
        ({"for": math.inf}, "lease.for"),
        ({"for": math.nan}, "lease.for"),
        ({"for": True}, "lease.for"),
        ({"for": "8h"}, "lease.for"),
        ({"until": "2001-01-01T00:00:00Z"}, "lease.until"),
        ({"until": "9999-12-31T23:59:59Z"}, "lease.until"),
        ({"until": "soon"}, "lease.until"),
        ({"until": 5}, "lease.until"),
        ({"for": 60, "action": "explode"}, "lease.action"),
        ({"for": 60, "grace": -1}, "lease.grace"),
        ({"for": 60, "grace": 10**12}, "lease.grace"),
    ],
)
def test_what_may_not(asked: Any, where: str) -> None:
    with pytest.raises(Invalid) as caught:
        fields(asked, NOW)
    assert caught.value.problem.where == where


def test_a_lease_counts_from_when_its_job_may_begin() -> None:
    assert fields({"for": 60}, NOW, NOW + HOUR) == {"lease_end": NOW + HOUR + 60}


def test_its_stages_and_their_words() -> None:
    lease = Lease(NOW, LeaseAction.DELETE, 600)
    stages = [
        (-2 * HOUR, Stage.FAR),
        (-HOUR, Stage.SOON),
        (-1, Stage.SOON),
        (0, Stage.OVER),
        (599, Stage.OVER),
        (600, Stage.LAST),
    ]
    assert [lease.stage(NOW + after, NOW - 3600) for after, _ in stages] == [stage for _, stage in stages]
    assert Lease().stage(NOW) is Stage.FAR and not Lease().over(NOW)
    assert lease.words(NOW - 2 * HOUR) == ""
    assert lease.words(NOW - 60) == (
        "its lease ends at 2027-01-15 08:00:00 UTC: then it is stopped; it is deleted at 2027-01-15 08:10:00 UTC"
    )
    assert "deleted at 2027-01-15 08:10:00 UTC unless it is renewed" in lease.words(NOW)
    assert "not started until it is renewed" in Lease(NOW).words(NOW)
    assert len({lease.words(NOW - left) for left in (3000, 2000, 10)}) == 1, "the same words all the time: one event"


def test_an_end_is_to_come_when_it_is_given() -> None:
    to_come(0.0, NOW)
    to_come(NOW + 1, NOW)
    for end in (NOW, NOW - 1, NOW + 400 * 366 * 86400):
        with pytest.raises(Invalid):
            to_come(end, NOW)


def test_durations_are_said_in_two_units_at_most() -> None:
    said = {0: "0 s", 59: "59 s", 60: "1 min", 3661: "1 h 1 min", 86400: "1 day", 180061: "2 days 2 h"}
    assert {seconds: duration(seconds) for seconds in said} == said


def test_a_queue_bounds_and_gives_leases() -> None:
    lab = Queue.parse("lab", {"max_lease": 7200, "default_lease": 3600})
    assert lab.lease == 3600 and Queue("q").lease == 0 and Queue.parse("q", {"max_lease": 60}).lease == 60
    cases = {None: "", 7200.0: "", 7201.0: "at most 2 h", math.inf: "without end"}
    for asked, word in cases.items():
        found = refusal(lab, Entry("ann", lease=asked), Filling())
        assert (word in found) if word else not found
    assert not refusal(Queue("q"), Entry("ann", lease=math.inf), Filling())
    for bad in ({"max_lease": 10, "default_lease": 20}, {"max_lease": -1}, {"default_lease": 10**12}, {"max_lease": 1.5}):
        with pytest.raises(Invalid):
            Queue.parse("q", bad)


def ve(desired: Desired, observed: Observed | None, **more: Any) -> VEView:
    lease = more.pop("lease", Lease(NOW, LeaseAction.DELETE, 600))
    more.setdefault("lease_told", NOW - 60)
    return VEView(ve=UUID(int=1), name="web", node="n1", desired=desired, observed=observed, lease=lease, **more)


def act(view: VEView, after: float, node: NodeView = UP) -> tuple[str, bool] | None:
    plan = compute([view], [], [node], now=NOW + after)
    assert len(plan) <= 1 and all(each.rule is Rule.R13 for each in plan if isinstance(each, RunVerb))
    return next(((each.verb.value, each.force) for each in plan if isinstance(each, RunVerb)), None)


R, S, F, A = Desired.RUNNING, Desired.STOPPED, Desired.SUSPENDED, Desired.ABSENT


@pytest.mark.parametrize(
    ("desired", "observed", "at_the_end", "at_last"),
    [
        (R, Observed.RUNNING, ("stop", False), ("delete", False)),
        (R, Observed.CRASHED, ("stop", False), ("delete", False)),
        (R, Observed.STOPPED, ("stop", False), ("delete", False)),
        (F, Observed.SUSPENDED, ("stop", False), ("delete", False)),
        (S, Observed.RUNNING, ("stop", False), ("delete", False)),
        (S, Observed.STOPPED, None, ("delete", False)),
        (R, Observed.UNKNOWN, None, None),
        (R, None, None, None),
    ],
)
def test_the_end_of_a_lease(
    desired: Desired, observed: Observed | None, at_the_end: tuple[str, bool] | None, at_last: tuple[str, bool] | None
) -> None:
    view = ve(desired, observed, restart=Restart.ALWAYS)
    assert act(view, 0) == at_the_end and act(view, 600) == at_last
    assert act(ve(desired, observed, under_way=True), 0) is None, "a job under way is left alone"
    assert act(view, 0, NodeView("n1", NodeState.DOWN)) is None


def test_nothing_is_done_last_before_it_was_told_for_the_grace() -> None:
    """As after a server was away for long, and with an entry out of a backup."""
    long_ago = 10**6
    assert act(ve(R, Observed.RUNNING, lease_told=0.0), long_ago) == ("stop", False)
    assert act(ve(S, Observed.STOPPED, lease_told=0.0), long_ago) is None
    told = ve(S, Observed.STOPPED, lease_told=NOW + long_ago)
    assert act(told, long_ago + 599) is None and act(told, long_ago + 600) == ("delete", False)
    [report] = leases([told], now=NOW + long_ago + 5)
    assert "it is deleted at 2027-01-26 21:56:40 UTC unless" in report.reason


def test_what_policy_stop_does_last_is_by_force() -> None:
    lease = Lease(NOW, LeaseAction.STOP, 600)
    assert act(ve(R, Observed.RUNNING, lease=lease), 0) == ("stop", False)
    assert act(ve(R, Observed.RUNNING, lease=lease), 600) == ("stop", True)
    assert act(ve(S, Observed.STOPPED, lease=lease), 10**6) is None
    [action] = compute([ve(R, Observed.RUNNING, lease=Lease(NOW, LeaseAction.STOP, 5))], [], [UP], now=NOW)
    assert isinstance(action, RunVerb) and action.grace == 5, "a guest is asked no longer than the grace"


def test_what_is_wanted_absent_is_no_lease_any_more() -> None:
    [action] = compute([ve(A, Observed.RUNNING)], [], [UP], now=NOW + 10**6)
    assert isinstance(action, RunVerb) and (action.rule, action.verb) == (Rule.R12, Verb.DELETE)
    assert leases([ve(A, Observed.RUNNING)], now=NOW) == ()


def test_what_does_not_help_is_not_tried_for_ever() -> None:
    [report] = compute([ve(R, Observed.RUNNING, tries=BUDGET)], [], [UP], now=NOW)
    assert isinstance(report, Report) and report.rule is Rule.R13


def test_it_is_told_beside_all_that_is_planned() -> None:
    drifted = ve(S, Observed.RUNNING)
    [report] = leases([drifted], now=NOW - 60)
    assert "its lease ends" in report.reason and report.ve == drifted.ve
    assert leases([drifted], now=NOW - 2 * HOUR) == () == leases([ve(R, Observed.RUNNING, lease=Lease())], now=NOW)


def test_a_spec_keeps_its_lease() -> None:
    spec = Spec(kind=Kind.SIMULATED, image="i", lease_end=NOW, lease_action=LeaseAction.DELETE, lease_grace=60)
    assert Spec.parse(spec.to_json()) == spec and spec.lease == Lease(NOW, LeaseAction.DELETE, 60)
    assert spec.altered({"lease_end": NOW + 5}).lease == Lease(NOW + 5, LeaseAction.DELETE, 60)
    assert spec.resized({"vcpus": 2}).lease == spec.lease
    for bad in ({"lease_end": -1}, {"lease_end": 1e300}, {"lease_end": "x"}, {"lease_action": "x"}, {"lease_grace": -1}):
        with pytest.raises(Invalid):
            Spec.parse({**spec.to_json(), **bad})
