"""Which verbs fit a VE as it is: what pages offer. A door that offers less than all still asks the services, which decide."""

from __future__ import annotations

from vmcloud.domain import verbs
from vmcloud.domain.vocabulary import Desired, Kind, Observed
from vmcloud.fleet.models import VE

DELETE = "delete"
STOP = "stop"


def fitting(row: VE) -> tuple[str, ...]:
    """In the order in which they are shown; alter stands for resize too: one form has both. Nothing but delete fits what was
    never seen or is being deleted."""
    return tuple(verb.name for verb in verbs.about("ve") if not misfit(row, verb.name))


def misfit(row: VE, name: str) -> str:
    """Why a verb does not fit, in words; empty if it does."""
    if name == DELETE:
        return ""
    if row.desired == Desired.ABSENT:
        return "it is being deleted"
    if not row.observed_state:
        return "it was not seen yet"
    if name not in verbs.able(Kind(row.kind)):
        return f"a VE of kind {row.kind} cannot {name}"
    did_not_start = name == STOP and row.observed_state == Observed.STOPPED and row.desired == Desired.RUNNING
    fits = did_not_start or Observed(row.observed_state) in verbs.of(name).fits
    return "" if fits else f"it is {row.observed_state}"
