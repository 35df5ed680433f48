"""Reconcile: every cell of desired × observed × job, and properties that hold for any picture."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmcloud.domain.reconcile import (
    BUDGET,
    Action,
    DeleteStray,
    NodeView,
    Report,
    Rule,
    RunVerb,
    StrayView,
    VEView,
    Want,
    compute,
)
from vmcloud.domain.vocabulary import Desired, Drift, NodeState, Observed, Restart, Verb

pytestmark = pytest.mark.unit

UP = NodeView("n1", NodeState.UP)
R, S, F, A = Desired.RUNNING, Desired.STOPPED, Desired.SUSPENDED, Desired.ABSENT


def ve(desired: Desired, observed: Observed | None, **more: object) -> VEView:
    return VEView(ve=UUID(int=1), name="web", node="n1", desired=desired, observed=observed, **more)  # type: ignore[arg-type]


def one(view: VEView, node: NodeView = UP, now: float = 0.0, fix: bool = False) -> Action | None:
    plan = compute([view], [], [node], now=now, fix=fix)
    assert len(plan) <= 1
    return plan[0] if plan else None


# What happens in each cell with no job under way, restart on-failure, drift report: (rule, verb or wanted state or "report").
TABLE: dict[tuple[Desired, Observed | None], tuple[str, str] | None] = {
    (R, None): None,
    (R, Observed.RUNNING): None,
    (R, Observed.STOPPED): ("R1", "stopped"),
    (R, Observed.CRASHED): ("R1", "start"),
    (R, Observed.SUSPENDED): ("R2", "report"),
    (R, Observed.STARTING): None,
    (R, Observed.STOPPING): None,
    (R, Observed.UNKNOWN): None,
    (S, None): None,
    (S, Observed.RUNNING): ("R2", "report"),
    (S, Observed.STOPPED): None,
    (S, Observed.CRASHED): None,
    (S, Observed.SUSPENDED): ("R2", "report"),
    (S, Observed.STARTING): None,
    (S, Observed.STOPPING): None,
    (S, Observed.UNKNOWN): None,
    (F, None): None,
    (F, Observed.RUNNING): ("R2", "report"),
    (F, Observed.STOPPED): ("R11", "stopped"),
    (F, Observed.CRASHED): ("R11", "stopped"),
    (F, Observed.SUSPENDED): None,
    (F, Observed.STARTING): None,
    (F, Observed.STOPPING): None,
    (F, Observed.UNKNOWN): None,
    (A, None): ("R12", "delete"),
    (A, Observed.RUNNING): ("R12", "delete"),
    (A, Observed.STOPPED): ("R12", "delete"),
    (A, Observed.CRASHED): ("R12", "delete"),
    (A, Observed.SUSPENDED): ("R12", "delete"),
    (A, Observed.STARTING): None,
    (A, Observed.STOPPING): None,
    (A, Observed.UNKNOWN): None,
}


def outline(action: Action | None) -> tuple[str, str] | None:
    match action:
        case None:
            return None
        case RunVerb(rule=rule, verb=verb):
            return rule.value, verb.value
        case Want(rule=rule, desired=desired):
            return rule.value, desired.value
        case DeleteStray(rule=rule):
            return rule.value, "delete"
        case Report(rule=rule):
            return rule.value, "report"


def test_the_table_is_whole() -> None:
    assert set(TABLE) == {(desired, observed) for desired in Desired for observed in (None, *Observed)}


@pytest.mark.parametrize("cell", TABLE, ids=lambda cell: f"{cell[0]}-{cell[1]}")
def test_each_cell(cell: tuple[Desired, Observed | None]) -> None:
    desired, observed = cell
    assert outline(one(ve(desired, observed))) == TABLE[cell]
    assert one(ve(desired, observed, under_way=True)) is None, "R7: a job under way is left alone"
    assert one(ve(desired, observed), replace(UP, maintenance=True)) is None, "R10: maintenance observes only"
    for state in (NodeState.DOWN, NodeState.UNKNOWN):
        assert outline(one(ve(desired, observed), replace(UP, state=state))) == ("R6", "report")
    assert outline(one(ve(desired, observed), replace(UP, vanished=True))) == ("R9", "report")
    assert outline(one(ve(desired, observed, elsewhere=("n2",)))) == ("R5", "report")


def test_restart_policies() -> None:
    stopped, crashed = Observed.STOPPED, Observed.CRASHED
    assert outline(one(ve(R, stopped, restart=Restart.ALWAYS))) == ("R1", "start")
    assert outline(one(ve(R, crashed, restart=Restart.ALWAYS))) == ("R1", "start")
    assert outline(one(ve(R, stopped, restart=Restart.NEVER))) == ("R1", "stopped")
    assert outline(one(ve(R, crashed, restart=Restart.NEVER))) == ("R1", "stopped")


def test_what_never_ran_did_not_shut_itself_down() -> None:
    """A start that failed, or a wish from outside: tried again within the budget, not taken for the guest's own will."""
    assert outline(one(ve(R, Observed.STOPPED, ran=False))) == ("R1", "start")
    assert outline(one(ve(R, Observed.STOPPED, ran=False, tries=BUDGET))) == ("R1", "report")


def test_a_spent_budget_reports_and_backoff_waits() -> None:
    assert outline(one(ve(R, Observed.CRASHED, tries=BUDGET))) == ("R1", "report")
    assert one(ve(R, Observed.CRASHED, tries=1, next_try=10.0), now=9.0) is None
    assert outline(one(ve(R, Observed.CRASHED, tries=1, next_try=10.0), now=10.0)) == ("R1", "start")


def test_lost_is_reported_after_two_misses_and_never_created_again() -> None:
    assert one(ve(R, Observed.RUNNING, misses=1)) is None
    assert outline(one(ve(R, Observed.RUNNING, misses=2))) == ("R3", "report")
    assert outline(one(ve(A, Observed.RUNNING, misses=2))) == ("R12", "delete")


def test_drift_is_applied_where_asked() -> None:
    for view in (ve(S, Observed.RUNNING, drift=Drift.APPLY), ve(S, Observed.RUNNING)):
        assert outline(one(view, fix=True)) == ("R2", "stop")
    assert outline(one(ve(R, Observed.RUNNING, shape_differs=True))) == ("R8", "report")
    assert outline(one(ve(R, Observed.RUNNING, shape_differs=True, drift=Drift.APPLY))) == ("R8", "resize")


def test_strays() -> None:
    orphan = StrayView("n1", "x-1", None)
    buried = StrayView("n1", "x-1", UUID(int=9), buried=True)
    assert outline(compute([], [orphan], [UP], now=0)[0]) == ("R4", "report")
    assert outline(compute([], [buried], [UP], now=0)[0]) == ("R12", "delete")
    assert outline(compute([], [replace(buried, tries=BUDGET)], [UP], now=0)[0]) == ("R12", "report")
    assert compute([], [replace(buried, recorded=True)], [UP], now=0) == ()


nodes_views = st.builds(
    NodeView, st.sampled_from(["n1", "n2"]), st.sampled_from(NodeState), maintenance=st.booleans(), vanished=st.booleans()
)
ve_views = st.builds(
    VEView,
    ve=st.integers(1, 2**64).map(lambda number: UUID(int=number)),
    name=st.sampled_from(["a", "b", "c"]),
    node=st.sampled_from(["", "n1", "n2"]),
    desired=st.sampled_from(Desired),
    observed=st.none() | st.sampled_from(Observed),
    restart=st.sampled_from(Restart),
    drift=st.sampled_from(Drift),
    under_way=st.booleans(),
    misses=st.integers(0, 3),
    elsewhere=st.sampled_from([(), ("n9",)]),
    shape_differs=st.booleans(),
    tries=st.integers(0, BUDGET),
    next_try=st.sampled_from([0.0, 50.0]),
)


@given(st.lists(ve_views, max_size=8, unique_by=lambda view: view.ve), st.lists(nodes_views, max_size=2), st.randoms())
def test_one_action_per_ve_and_no_dependence_on_order(views: list[VEView], nodes: list[NodeView], random: object) -> None:
    plan = compute(views, [], nodes, now=10.0)
    acted = [action.ve for action in plan if isinstance(action, RunVerb | Want)]
    assert len(acted) == len(set(acted))
    shuffled = list(views)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert compute(shuffled, [], nodes, now=10.0) == plan
    for view in views:
        if view.observed is Observed.UNKNOWN or view.under_way:
            assert view.ve not in acted


@given(ve_views, st.booleans())
def test_a_plan_carried_out_leaves_nothing_to_do(view: VEView, fix: bool) -> None:
    for action in compute([view], [], [UP, NodeView("n2", NodeState.UP)], now=100.0, fix=fix):
        after = carried_out(view, action)
        if after is not None:
            rest = compute([after], [], [UP, NodeView("n2", NodeState.UP)], now=100.0, fix=fix)
            assert not [each for each in rest if isinstance(each, RunVerb | Want) and each.rule is action.rule]


def carried_out(view: VEView, action: Action) -> VEView | None:
    """The VE after ``action`` did what it is for; None when it is gone."""
    match action:
        case Want(desired=desired):
            return replace(view, desired=desired)
        case RunVerb(verb=Verb.DELETE):
            return None
        case RunVerb(verb=Verb.RESIZE):
            return replace(view, shape_differs=False)
        case RunVerb(verb=verb):
            seen = {Verb.START: Observed.RUNNING, Verb.RESUME: Observed.RUNNING, Verb.STOP: Observed.STOPPED}
            return replace(view, observed=seen.get(verb, Observed.SUSPENDED))
    return view


def test_rules_are_spelt_as_in_the_design() -> None:
    assert [rule.value for rule in Rule] == [f"R{number}" for number in range(1, 13)]
