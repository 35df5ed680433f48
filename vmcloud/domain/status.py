"""What people are shown: one pure function over what is wanted, what was seen, and what is under way."""

from __future__ import annotations

from dataclasses import dataclass

from . import verbs
from .vocabulary import Desired, NodeState, Observed, Status

MISSES_UNTIL_LOST = 2
"""A VE is lost when this many full lists in a row did not show it."""


@dataclass(frozen=True)
class Situation:
    """Everything that a VE's status depends on. ``observed`` is None for a VE never seen; ``verb`` is that of its open job, empty
    where it has none."""

    desired: Desired
    observed: Observed | None
    node: str
    node_state: NodeState
    verb: str = ""
    misses: int = 0
    elsewhere: tuple[str, ...] = ()
    error: str = ""
    gave_up: bool = False


@dataclass(frozen=True)
class Shown:
    """A status and why it is that, in words."""

    status: Status
    reason: str = ""


_MATCH = {
    Desired.RUNNING: Observed.RUNNING,
    Desired.STOPPED: Observed.STOPPED,
    Desired.SUSPENDED: Observed.SUSPENDED,
}


def derive(situation: Situation) -> Shown:
    """The status of a recorded VE. First match wins; the order says which truth matters most to a person."""
    s = situation
    if s.elsewhere and s.observed is not None:
        return Shown(Status.DUPLICATE, f"also seen on {', '.join(s.elsewhere)}")
    if s.elsewhere:
        return Shown(Status.WRONG_NODE, f"seen on {', '.join(s.elsewhere)}, placed on {s.node or 'no node'}")
    if s.desired is Desired.ABSENT:
        return Shown(Status.DELETING, s.error)
    if s.observed is None:
        if s.error:
            return Shown(Status.ERROR, s.error)
        return Shown(Status.PENDING, "not placed yet" if not s.node else f"not seen on {s.node} yet")
    if s.node_state is not NodeState.UP:
        return Shown(Status.UNKNOWN, f"node {s.node} is {s.node_state}; last seen {s.observed}")
    if s.misses >= MISSES_UNTIL_LOST:
        return Shown(Status.LOST, f"{s.misses} full lists of {s.node} in a row did not show it")
    if s.verb in verbs.registry() and (meanwhile := verbs.of(s.verb).status(s.desired, s.observed)) is not None:
        return Shown(meanwhile)
    if not s.verb and _MATCH[s.desired] is not s.observed:
        wanted = f"wanted {s.desired}, seen {s.observed}"
        if s.gave_up:
            return Shown(Status.ERROR, f"{wanted}; tried in vain" + (f": {s.error}" if s.error else ""))
        if s.error and s.observed is not Observed.CRASHED:
            return Shown(Status.ERROR, s.error)
        return Shown(Status(s.observed), s.error or wanted)
    return Shown(Status(s.observed))
