"""Reconcile: what to do about the difference between what is wanted and what was seen. Pure, level-triggered.

The rules are those of the design's table, tried in its order; the first that matches decides. The plan holds at most one action
per VE, depends on no order of its input, and is empty again once it has been carried out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from uuid import UUID

from .clocks import TOLERANCE
from .lease import FOREVER, Lease, Stage
from .status import MISSES_UNTIL_LOST
from .vocabulary import Desired, Drift, LeaseAction, NodeState, Observed, Restart, Verb

BUDGET = 5
"""How often one rule may try to mend one VE before it is left in ``error``."""
POISONED = BUDGET + 1
"""Tries that are counted where a step killed what carried it out: no rule asks for it again, a person may."""
BACKOFF = (2.0, 300.0)
"""Seconds before the second try, doubled each time, and the most."""
VANISHED_GUESTS = 3
VANISHED_SHARE = 0.30
"""R9: at least this many guests, and more than this share, gone from one list."""


class Rule(StrEnum):
    """The rules by their names in the design."""

    R1 = "R1"
    R2 = "R2"
    R3 = "R3"
    R4 = "R4"
    R5 = "R5"
    R6 = "R6"
    R7 = "R7"
    R8 = "R8"
    R9 = "R9"
    R10 = "R10"
    R11 = "R11"
    R12 = "R12"
    R13 = "R13"
    R14 = "R14"


@dataclass(frozen=True)
class NodeView:
    """A node as reconcile sees it. ``vanished``: R9's condition held in its last list."""

    name: str
    state: NodeState
    maintenance: bool = False
    vanished: bool = False


@dataclass(frozen=True)
class VEView:
    """A recorded VE: what is wanted, what was seen, what is under way, and what was tried.

    ``ran``: it is known to have run since it was last wanted to, so that seen stopped means that it shut itself down.
    ``observed`` None: never seen. ``shape_differs``: its sizes are not those wanted. ``next_try`` in seconds since the epoch.
    ``lease_told``: since when it is told that its lease ends; 0: it is not.
    """

    ve: UUID
    name: str
    node: str
    desired: Desired
    observed: Observed | None
    restart: Restart = Restart.ON_FAILURE
    drift: Drift = Drift.REPORT
    under_way: bool = False
    misses: int = 0
    elsewhere: tuple[str, ...] = ()
    shape_differs: bool = False
    tries: int = 0
    next_try: float = 0.0
    ran: bool = True
    lease: Lease = FOREVER
    lease_told: float = 0.0


@dataclass(frozen=True)
class StrayView:
    """A guest seen where it does not belong. ``buried``: its UUID has a tombstone. ``recorded``: its UUID has an entry."""

    node: str
    native: str
    ve: UUID | None
    buried: bool = False
    recorded: bool = False
    under_way: bool = False
    tries: int = 0
    next_try: float = 0.0


@dataclass(frozen=True)
class RunVerb:
    """Make a job. ``force`` and ``grace`` (seconds) are those of a stop."""

    rule: Rule
    ve: UUID
    verb: Verb
    reason: str
    force: bool = False
    grace: float = 10.0


@dataclass(frozen=True)
class Want:
    """Change what is wanted to what the guest's own shutdown meant."""

    rule: Rule
    ve: UUID
    desired: Desired
    reason: str


@dataclass(frozen=True)
class DeleteStray:
    """A guest of a deleted VE is still there: delete it again."""

    rule: Rule
    node: str
    native: str
    ve: UUID
    reason: str


@dataclass(frozen=True)
class Report:
    """Nothing to do but to say so: about a VE, about a guest that is none (``native``), or, of R6 and R9, about all of a node."""

    rule: Rule
    node: str
    ve: UUID | None
    name: str
    reason: str
    native: str = ""


Action = RunVerb | Want | DeleteStray | Report
Plan = tuple[Action, ...]


def _pauses(next_try: float, now: float) -> bool:
    """Whether it is not yet time to try again. No pause is that long where the clock was set back since."""
    return now < next_try <= now + BACKOFF[1] + TOLERANCE


def backoff(tries: int) -> float:
    """Seconds to wait after the given number of tries."""
    return min(BACKOFF[0] * 2.0 ** max(0, tries - 1), BACKOFF[1])


def compute(
    ves: Iterable[VEView], strays: Iterable[StrayView], nodes: Iterable[NodeView], *, now: float, fix: bool = False
) -> Plan:
    """The plan, in the order of names. ``fix``: somebody asks for it now, so every ``drift: report`` is read as ``apply``, and
    neither a spent budget nor a pause between two tries counts."""
    known = {node.name: node for node in nodes}
    actions: list[Action] = []
    for ve in sorted(ves, key=lambda each: (each.name, str(each.ve))):
        action = _about_ve(ve, known.get(ve.node), now, fix)
        if action is not None:
            actions.append(action)
    deleted: set[UUID] = set()
    for stray in sorted(strays, key=lambda each: (each.node, each.native)):
        action = _about_stray(stray, known.get(stray.node), now, fix)
        if isinstance(action, DeleteStray):
            if action.ve in deleted:
                continue  # one lane, one job: the other guest of this UUID comes after it
            deleted.add(action.ve)
        if action is not None:
            actions.append(action)
    return tuple(actions)


def _report(rule: Rule, ve: VEView, reason: str) -> Report:
    return Report(rule, ve.node, ve.ve, ve.name, reason)


def _about_ve(ve: VEView, node: NodeView | None, now: float, fix: bool) -> Action | None:
    if not ve.node:
        return None
    if node is None or node.state is not NodeState.UP:
        state = node.state if node else "not recorded"
        return _report(Rule.R6, ve, f"node {ve.node} is {state}")
    if node.vanished:
        return _report(Rule.R9, ve, f"many guests vanished from node {ve.node} at once")
    if node.maintenance:
        return None
    if ve.elsewhere:
        own = _on_its_node(ve, now, fix) if _not_gainsaid(ve) else None
        return own if isinstance(own, RunVerb | Want) else _claimed(ve)
    return _on_its_node(ve, now, fix)


def _not_gainsaid(ve: VEView) -> bool:
    """Whether what another node says of the VE is only its word: the VE's own node shows it in its list, or nobody wants it.

    A node could name any VE, and must not keep the rules from mending it where it is placed. Where its own node does not show
    it, the claim may well be true, and to start the VE once more would make two of it."""
    seen = ve.observed in (Observed.RUNNING, Observed.STOPPED, Observed.SUSPENDED, Observed.CRASHED)
    return (seen and not ve.misses) or ve.desired is Desired.ABSENT


def _claimed(ve: VEView) -> Report:
    return _report(Rule.R5, ve, f"seen on {', '.join(ve.elsewhere)}, placed on {ve.node}")


def claims(ves: Iterable[VEView], plan: Plan) -> tuple[Report, ...]:
    """What is to be told of claims by other nodes, beside a plan that mends the same VEs."""
    mended = {action.ve for action in plan if isinstance(action, RunVerb | Want)}
    return tuple(_claimed(ve) for ve in ves if ve.elsewhere and ve.ve in mended)


def _on_its_node(ve: VEView, now: float, fix: bool) -> Action | None:
    """What is due on the node that the VE is placed on, which is up."""
    if ve.under_way:
        return None
    if ve.misses >= MISSES_UNTIL_LOST and ve.desired is not Desired.ABSENT:
        return _report(Rule.R3, ve, f"not in {ve.misses} full lists of {ve.node} in a row")
    if ve.observed is None or ve.observed in (Observed.UNKNOWN, Observed.STARTING, Observed.STOPPING):
        # Wanted absent and never seen: what is left of a create that broke off.
        return _budgeted(ve, Rule.R12, Verb.DELETE, now, fix) if ve.desired is Desired.ABSENT and ve.observed is None else None
    return _about_seen(ve, ve.observed, now, fix)


def leases(ves: Iterable[VEView], *, now: float) -> tuple[Report, ...]:
    """What is to be told of leases, beside the plan: those that end soon, and those that are over while their VE is there."""
    leased = (ve for ve in ves if ve.lease.end and ve.node and ve.desired is not Desired.ABSENT)
    told = ((ve, ve.lease.words(now, ve.lease_told or now)) for ve in leased)
    return tuple(_report(Rule.R13, ve, words) for ve, words in told if words)


def _lease_over(ve: VEView, seen: Observed, now: float, fix: bool) -> Action | None:
    """What is due once a lease is over; None where nothing is."""
    reason, last = ve.lease.words(now, ve.lease_told or now), ve.lease.stage(now, ve.lease_told) is Stage.LAST
    if last and ve.lease.action is LeaseAction.DELETE:
        return _budgeted(ve, Rule.R13, Verb.DELETE, now, fix, reason)
    alive = Desired.RUNNING, Desired.SUSPENDED
    if ve.desired not in alive and seen not in (Observed.RUNNING, Observed.SUSPENDED):
        return None
    action = _budgeted(ve, Rule.R13, Verb.STOP, now, fix, reason)
    return replace(action, force=last, grace=ve.lease.asked_seconds) if isinstance(action, RunVerb) else action


def _about_seen(ve: VEView, seen: Observed, now: float, fix: bool) -> Action | None:
    """Rules on a VE whose state is certain."""
    if ve.desired is not Desired.ABSENT and ve.lease.over(now):
        return _lease_over(ve, seen, now, fix)
    match ve.desired, seen:
        case Desired.ABSENT, _:
            return _budgeted(ve, Rule.R12, Verb.DELETE, now, fix)
        case Desired.RUNNING, Observed.STOPPED | Observed.CRASHED:
            return _stopped_though_wanted(ve, seen, now, fix)
        case Desired.RUNNING, Observed.SUSPENDED:
            return _drifted(ve, Rule.R2, Verb.RESUME, "seen suspended, wanted running", now, fix)
        case Desired.STOPPED, Observed.RUNNING | Observed.SUSPENDED:
            return _drifted(ve, Rule.R2, Verb.STOP, f"seen {seen}, wanted stopped", now, fix)
        case Desired.SUSPENDED, Observed.RUNNING:
            return _drifted(ve, Rule.R2, Verb.SUSPEND, "seen running, wanted suspended", now, fix)
        case Desired.SUSPENDED, Observed.STOPPED | Observed.CRASHED:
            return Want(Rule.R11, ve.ve, Desired.STOPPED, "a suspended guest does not survive a reboot; it is stopped now")
    if ve.shape_differs:
        return _drifted(ve, Rule.R8, Verb.RESIZE, "its size is not the one wanted", now, fix)
    return None


def _stopped_though_wanted(ve: VEView, seen: Observed, now: float, fix: bool) -> Action | None:
    own_shutdown = seen is Observed.STOPPED and ve.ran
    if ve.restart is Restart.NEVER or (ve.restart is Restart.ON_FAILURE and own_shutdown):
        why = "shut itself down" if own_shutdown else "crashed" if seen is Observed.CRASHED else "did not start"
        return Want(Rule.R1, ve.ve, Desired.STOPPED, f"the guest {why}; restart policy {ve.restart}")
    return _budgeted(ve, Rule.R1, Verb.START, now, fix)


def _budgeted(ve: VEView, rule: Rule, verb: Verb, now: float, fix: bool, reason: str = "") -> Action | None:
    if not fix and ve.tries >= BUDGET:
        tried = "the last job killed what carried it out" if ve.tries >= POISONED else f"{ve.tries} times {verb} did not help"
        return _report(rule, ve, tried)
    if not fix and _pauses(ve.next_try, now):
        return None
    return RunVerb(rule, ve.ve, verb, reason or f"wanted {ve.desired}, seen {ve.observed or 'nothing'}")


def _drifted(ve: VEView, rule: Rule, verb: Verb, reason: str, now: float, fix: bool) -> Action | None:
    if ve.drift is Drift.APPLY or fix:
        return _budgeted(ve, rule, verb, now, fix)
    return _report(rule, ve, reason)


def _about_stray(stray: StrayView, node: NodeView | None, now: float, fix: bool) -> Action | None:
    if node is None or node.state is not NodeState.UP or node.maintenance or stray.recorded or stray.under_way:
        return None  # a recorded VE on the wrong node is reported with the VE itself (R5)
    if stray.ve is None or not stray.buried:
        return Report(Rule.R4, stray.node, stray.ve, "", "recorded nowhere; adopt it or delete it by hand", stray.native)
    if not fix and stray.tries >= BUDGET:
        return Report(Rule.R12, stray.node, stray.ve, "", f"{stray.tries} times delete did not help", stray.native)
    if not fix and _pauses(stray.next_try, now):
        return None
    return DeleteStray(Rule.R12, stray.node, stray.native, stray.ve, "its VE was deleted, the guest is still there")
