"""Reconcile: every cell of desired × observed × job, and properties that hold for any picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmcloud.domain.reconcile import (
    BUDGET,
    POISONED,
    Action,
    DeleteStray,
    NodeView,
    Report,
    Rule,
    RunVerb,
    StrayView,
    VEView,
    Want,
    claims,
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
    acts = TABLE[cell] is not None and TABLE[cell] != ("R2", "report") and cell != (A, Observed.UNKNOWN)
    assert outline(one(ve(desired, observed, elsewhere=("n2",)))) == (TABLE[cell] if acts else ("R5", "report"))


def test_a_claim_of_another_node_never_keeps_a_ve_from_being_mended() -> None:
    """Anybody who knows a VE's UUID and has a node could keep it down: it crashed and stayed so while the claim was repeated."""
    crashed = ve(R, Observed.CRASHED, elsewhere=("n2",))
    plan = compute([crashed], [], [UP], now=0.0)
    assert [outline(action) for action in plan] == [("R1", "start")]
    told = claims([crashed], plan)
    assert [(report.rule, report.reason) for report in told] == [(Rule.R5, "seen on n2, placed on n1")], "and it is told loudly"
    running = ve(R, Observed.RUNNING, elsewhere=("n2",))
    plan = compute([running], [], [UP], now=0.0)
    assert outline(plan[0]) == ("R5", "report") and claims([running], plan) == (), "told once"


@pytest.mark.parametrize("gainsaid", [{"misses": 1}, {"observed": Observed.UNKNOWN}, {"observed": None}])
def test_a_claim_counts_where_the_ves_own_node_does_not_show_it(gainsaid: dict[str, Any]) -> None:
    """The guest may well have been moved by hand: to start it once more would make two of it."""
    view = replace(ve(R, Observed.CRASHED, elsewhere=("n2",), restart=Restart.ALWAYS), **gainsaid)
    assert outline(one(view)) == ("R5", "report")


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


def test_a_guest_on_two_nodes_is_deleted_on_one_after_the_other() -> None:
    twice = [StrayView(node, "x-1", UUID(int=9), buried=True) for node in ("n1", "n2")]
    nodes = [UP, replace(UP, name="n2")]
    assert [outline(each) for each in compute([], twice, nodes, now=0)] == [("R12", "delete")]
    assert [outline(each) for each in compute([], twice[1:], nodes, now=0)] == [("R12", "delete")]


def test_what_killed_its_executor_is_not_started_again_by_a_rule() -> None:
    poisoned = one(ve(R, Observed.CRASHED, tries=POISONED))
    assert isinstance(poisoned, Report) and poisoned.reason == "the last job killed what carried it out"


def test_a_fix_does_not_count_tries() -> None:
    """Who asks for it wants it now, however often it was tried and however short ago."""
    spent = {"tries": BUDGET, "next_try": 99.0}
    assert outline(one(ve(R, Observed.CRASHED, **spent), fix=True)) == ("R1", "start")
    assert outline(one(ve(A, Observed.STOPPED, **spent), fix=True)) == ("R12", "delete")
    assert outline(one(ve(R, Observed.SUSPENDED, **spent), fix=True)) == ("R2", "resume")
    buried = StrayView("n1", "x-1", UUID(int=9), buried=True, tries=BUDGET, next_try=99.0)
    assert outline(compute([], [buried], [UP], now=0, fix=True)[0]) == ("R12", "delete")


def test_what_did_not_start_is_not_called_a_crash() -> None:
    action = one(ve(R, Observed.STOPPED, ran=False, restart=Restart.NEVER))
    assert isinstance(action, Want) and "did not start" in action.reason


def test_what_is_not_placed_is_nobodys_business() -> None:
    for desired in Desired:
        assert one(replace(ve(desired, None), node="")) is None


# The whole table: every cell with everything that can stand beside it. First match wins, in the order of the design.
BESIDE = [
    {},
    *({"restart": restart} for restart in Restart),
    {"drift": Drift.APPLY},
    {"shape_differs": True},
    {"shape_differs": True, "drift": Drift.APPLY},
    {"misses": 1},
    {"misses": 2},
    {"ran": False},
    {"tries": BUDGET},
    {"next_try": 99.0},
    {"under_way": True},
    {"elsewhere": ("n9",)},
]
NODES = {
    "up": UP,
    "down": replace(UP, state=NodeState.DOWN),
    "unknown": replace(UP, state=NodeState.UNKNOWN),
    "vanished": replace(UP, vanished=True),
    "maintenance": replace(UP, maintenance=True),
    "not recorded": None,
}
UNCERTAIN = (None, Observed.UNKNOWN, Observed.STARTING, Observed.STOPPING)


def expected(view: VEView, node: NodeView | None, fix: bool) -> tuple[str, str] | None:
    """The design's table once more, read line by line; slower and plainer than the code."""
    apply = fix or view.drift is Drift.APPLY
    gainsaid = view.observed in UNCERTAIN or view.misses > 0

    def act(rule: str, verb: str) -> tuple[str, str] | None:
        if fix:
            return rule, verb
        return (rule, "report") if view.tries >= BUDGET else None if view.next_try else (rule, verb)

    lines: list[tuple[bool, tuple[str, str] | None]] = [
        (node is None or node.state is not NodeState.UP, ("R6", "report")),
        (bool(node and node.vanished), ("R9", "report")),
        (bool(node and node.maintenance), None),
        (bool(view.elsewhere) and (view.under_way or (gainsaid and view.desired is not A)), ("R5", "report")),
        (view.under_way, None),
        (view.misses >= 2 and view.desired is not A, ("R3", "report")),
        (view.desired is A and view.observed in (None, *set(Observed) - set(UNCERTAIN)), act("R12", "delete")),
        (view.observed in UNCERTAIN, None),
        (view.desired is R and view.observed in (Observed.STOPPED, Observed.CRASHED), r1(view, act)),
        (view.desired is R and view.observed is Observed.SUSPENDED, act("R2", "resume") if apply else ("R2", "report")),
        (view.desired is S and view.observed in (Observed.RUNNING, F_SEEN), act("R2", "stop") if apply else ("R2", "report")),
        (view.desired is F and view.observed is Observed.RUNNING, act("R2", "suspend") if apply else ("R2", "report")),
        (view.desired is F and view.observed in (Observed.STOPPED, Observed.CRASHED), ("R11", "stopped")),
        (view.shape_differs, act("R8", "resize") if apply else ("R8", "report")),
    ]
    then = next((then for when, then in lines if when), None)
    looked_at = node is not None and node.state is NodeState.UP and not node.vanished and not node.maintenance
    claimed = bool(view.elsewhere) and looked_at and (then is None or then[1] == "report")
    return ("R5", "report") if claimed else then


F_SEEN = Observed.SUSPENDED


def r1(view: VEView, act: Callable[[str, str], tuple[str, str] | None]) -> tuple[str, str] | None:
    """R1's last column."""
    meant = view.observed is Observed.STOPPED and view.ran
    match view.restart:
        case Restart.NEVER:
            return "R1", "stopped"
        case Restart.ON_FAILURE if meant:
            return "R1", "stopped"
    return act("R1", "start")


@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize("observed", [None, *Observed])
@pytest.mark.parametrize("desired", list(Desired))
def test_every_cell_with_everything_beside_it(desired: Desired, observed: Observed | None, node: str) -> None:
    for first in BESIDE:
        for second in BESIDE:
            view = ve(desired, observed, **{**first, **second})
            for fix in (False, True):
                plan = compute([view], [], [there] if (there := NODES[node]) else [], now=10.0, fix=fix)
                found = outline(plan[0]) if plan else None
                assert found == expected(view, there, fix), (view, node, fix)


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
    ran=st.booleans(),
)
stray_views = st.builds(
    StrayView,
    node=st.sampled_from(["n1", "n2"]),
    native=st.sampled_from(["x-1", "y-2", "z-3"]),
    ve=st.none() | st.integers(2**65, 2**65 + 3).map(lambda number: UUID(int=number)),
    buried=st.booleans(),
    recorded=st.booleans(),
    under_way=st.booleans(),
    tries=st.integers(0, BUDGET),
    next_try=st.sampled_from([0.0, 50.0]),
)
worlds = st.tuples(
    st.lists(ve_views, max_size=8, unique_by=lambda view: view.ve),
    st.lists(stray_views, max_size=4, unique_by=lambda view: (view.node, view.native)),
    st.lists(nodes_views, max_size=2, unique_by=lambda view: view.name),
)
World = tuple[list[VEView], list[StrayView], list[NodeView]]
ACTS = (RunVerb, Want, DeleteStray)


@given(worlds, st.booleans(), st.randoms())
def test_one_action_per_ve_and_no_dependence_on_order(world: World, fix: bool, random: Random) -> None:
    views, strays, nodes = world
    plan = compute(views, strays, nodes, now=10.0, fix=fix)
    acted = [action.ve for action in plan if isinstance(action, ACTS)]
    assert len(acted) == len(set(acted))
    about = [
        action.ve for action in plan if not (isinstance(action, DeleteStray) or (isinstance(action, Report) and action.native))
    ]
    assert len(about) == len(set(about)), "one word about each VE"
    shuffled = [list(each) for each in (views, strays, nodes)]
    for each in shuffled:
        random.shuffle(each)
    assert compute(shuffled[0], shuffled[1], shuffled[2], now=10.0, fix=fix) == plan  # type: ignore[arg-type]
    assert compute(views, strays, nodes, now=10.0, fix=fix) == plan, "it remembers nothing"


@given(worlds, st.booleans())
def test_nothing_is_done_where_nobody_knows(world: World, fix: bool) -> None:
    views, strays, nodes = world
    up = {node.name for node in nodes if node.state is NodeState.UP and not node.maintenance}
    acted = [action for action in compute(views, strays, nodes, now=10.0, fix=fix) if isinstance(action, ACTS)]
    known = {view.ve: view for view in views}
    for action in acted:
        if isinstance(action, DeleteStray):
            assert action.node in up
            continue
        view = known[action.ve]
        assert view.node in up and not view.under_way
        assert not view.elsewhere or not view.misses or view.desired is A, "a claim counts where its own node gainsays nothing"
        assert view.observed not in (Observed.UNKNOWN, Observed.STARTING, Observed.STOPPING)


@given(worlds, st.booleans())
def test_a_plan_carried_out_leaves_nothing_to_do(world: World, fix: bool) -> None:
    """Once for each rule that may follow another: power first, then the size; one guest of two with one UUID, then the other."""
    rounds = 0
    while acted := [action for action in compute(*world, now=100.0, fix=fix) if isinstance(action, ACTS)]:
        after = carried_out(world, acted)
        again = [action for action in compute(*after, now=100.0, fix=fix) if isinstance(action, ACTS)]
        assert not {(action.rule, key(action)) for action in acted} & {(action.rule, key(action)) for action in again}
        world, rounds = after, rounds + 1
        assert rounds <= 3


def key(action: Action) -> tuple[str, str]:
    return (action.node, action.native) if isinstance(action, DeleteStray) else ("", str(action.ve))


def carried_out(world: World, actions: list[Action]) -> World:
    """The world after each action did what it is for."""
    views, strays, nodes = {view.ve: view for view in world[0]}, {(each.node, each.native): each for each in world[1]}, world[2]
    seen = {Verb.START: Observed.RUNNING, Verb.RESUME: Observed.RUNNING, Verb.STOP: Observed.STOPPED, Verb.SUSPEND: F_SEEN}
    for action in actions:
        match action:
            case Want(ve=ve, desired=desired):
                views[ve] = replace(views[ve], desired=desired)
            case RunVerb(ve=ve, verb=Verb.DELETE):
                del views[ve]
            case RunVerb(ve=ve, verb=Verb.RESIZE):
                views[ve] = replace(views[ve], shape_differs=False)
            case RunVerb(ve=ve, verb=verb):
                views[ve] = replace(views[ve], observed=seen[verb])
            case DeleteStray(node=node, native=native):
                del strays[node, native]
    return list(views.values()), list(strays.values()), nodes


def test_rules_are_spelt_as_in_the_design() -> None:
    assert [rule.value for rule in Rule] == [f"R{number}" for number in range(1, 15)]
