"""Which verbs fit a VE as it is: what pages offer. A door that offers less than all still asks the services, which decide."""

from __future__ import annotations

from vmcloud.domain.kinds import KINDS
from vmcloud.domain.vocabulary import Desired, Kind, Observed, Verb
from vmcloud.fleet.models import VE

_SEEN: dict[str, tuple[Verb, ...]] = {
    Observed.RUNNING: (Verb.STOP, Verb.RESTART, Verb.SUSPEND),
    Observed.SUSPENDED: (Verb.RESUME, Verb.STOP),
    Observed.STARTING: (Verb.STOP,),
    Observed.STOPPING: (Verb.STOP,),
    Observed.STOPPED: (Verb.START,),
    Observed.CRASHED: (Verb.START, Verb.STOP),
    Observed.UNKNOWN: (Verb.START, Verb.STOP, Verb.RESTART),
}
"""What changes the power of a VE that was last seen so."""


def fitting(row: VE) -> tuple[Verb, ...]:
    """In the order in which they are shown; alter stands for resize too: one form has both. Nothing but delete fits what was
    never seen or is being deleted."""
    if row.desired == Desired.ABSENT or not row.observed_state:
        return (Verb.DELETE,)
    wanted = [*_SEEN.get(row.observed_state, ()), Verb.ALTER, Verb.SNAPSHOT, Verb.DELETE]
    if row.observed_state == Observed.STOPPED and row.desired == Desired.RUNNING:
        wanted.insert(1, Verb.STOP)
    able = KINDS[Kind(row.kind)].verbs
    return tuple(verb for verb in wanted if verb in able)


def misfit(row: VE, verb: Verb) -> str:
    """Why ``verb`` does not fit, in words; empty if it does."""
    if verb in fitting(row):
        return ""
    if row.desired == Desired.ABSENT:
        return "it is being deleted"
    if not row.observed_state:
        return "it was not seen yet"
    if verb not in KINDS[Kind(row.kind)].verbs:
        return f"a VE of kind {row.kind} cannot {verb}"
    return f"it is {row.observed_state}"
