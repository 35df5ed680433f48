"""Carrying out a plan (:mod:`.plans`): its phases in order; where one fails, it and those before it are undone in reverse.

This module and the plans are all that a child process needs besides the driver: they know no journal, no queue and no clock.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

from vmcloud import faults
from vmcloud.domain.errors import Problem, VmcloudError
from vmcloud.domain.messages import Seen, StepOrder
from vmcloud.domain.vocabulary import Observed, StepVerb
from vmcloud.domain.wire import check_output

from .drivers.base import CannotLook, Driver, DriverError, Guest, Interrupted
from .plans import FROM_BEFORE, Phase, Tools, Work, plan

log = logging.getLogger(__name__)
faults.declare("worker", "worker.undo", "worker.step.acted")


@dataclass(frozen=True)
class Ended:
    """How the work ended. ``seen`` None: the guest is not there; its state is unknown if the driver could not look. ``spec``:
    what an adopted guest was found to be; ``output``: what the step gives to later steps of its job."""

    seen: Seen | None = None
    error: Problem | None = None
    retryable: bool = False
    undone: bool = False
    spec: dict[str, Any] | None = None
    output: dict[str, Any] = field(default_factory=dict)


def carry_out(work: Work, tools: Tools) -> Ended:
    """Do the work, or what is left of it; where it fails, undo. Raises only :class:`Interrupted`."""
    try:
        phases = plan(work, _probe(work, tools))
    except DriverError as error:
        return Ended(seen=_look(work, tools), error=error.problem(), retryable=error.retryable)
    begun: list[Phase] = []
    became: Guest | None = None
    output: dict[str, Any] = {}
    try:
        for phase in phases:
            begun.append(phase)
            tools.report(phase.name, -1)
            match phase.do():
                case Guest() as guest:
                    became = guest
                case dict() as given:
                    output = check_output(output | given)
    except Interrupted:
        raise
    except Exception as error:
        problem, retryable = _problem(work.order, error)
        undone = _undo(begun, tools)
        return Ended(seen=_look(work, tools), error=problem, retryable=retryable, undone=undone)
    faults.point("worker.step.acted")
    return Ended(seen=_look(work, tools), spec=became.spec.to_json() if became else None, output=output)


def take_back(work: Work, tools: Tools) -> Ended:
    """Undo the whole plan, after its execution was killed at an unknown point."""
    try:
        undone = _undo(list(plan(work, tools)), tools)
    except DriverError as error:
        return Ended(seen=_look(work, tools), error=error.problem())
    return Ended(seen=_look(work, tools), undone=undone)


def _probe(work: Work, tools: Tools) -> Tools:
    """Find the guest's state before the first start of a step whose undo depends on it."""
    if work.before or work.order.verb not in FROM_BEFORE or tools.driver is None:
        return tools
    seen = tools.driver.inspect(work.order.native)
    state = str(seen.state) if seen is not None else str(Observed.UNKNOWN)
    object.__setattr__(work, "before", state)
    tools.found(state)
    return tools


def _undo(begun: list[Phase], tools: Tools) -> bool:
    """Undo in reverse; True if there is nothing left that an undo would remove."""
    whole = True
    for phase in reversed(begun):
        if phase.undo is None:
            continue
        faults.point("worker.undo")
        tools.report(f"undo {phase.name}", -1)
        try:
            phase.undo()
        except Interrupted:
            raise
        except Exception:
            log.exception("undoing %s failed", phase.name)
            whole = False
    return whole


def _look(work: Work, tools: Tools) -> Seen | None:
    tools.look()
    order, driver = work.order, tools.driver
    if driver is None or order.verb in (StepVerb.FETCH, StepVerb.REMOVE_IMAGE):
        return None
    try:
        if order.verb is StepVerb.RENAME:
            return _under_either_name(order, driver)
        return driver.inspect(order.native)
    except CannotLook as error:
        return Seen(
            native=order.native,
            kind=order.kind or driver.kind,
            state=Observed.UNKNOWN,
            ve=order.ve,
            error=error.problem().sentence(),
        )


def _under_either_name(order: StepOrder, driver: Driver) -> Seen | None:
    """The VE's guest, whether it was renamed or not."""
    found = (driver.inspect(native) for native in (str(order.args.get("native") or order.native), order.native))
    return next((seen for seen in found if seen is not None and seen.ve == order.ve), None)


def _problem(order: StepOrder, error: Exception) -> tuple[Problem, bool]:
    if isinstance(error, DriverError):
        return error.problem(), error.retryable
    if isinstance(error, VmcloudError):
        return error.problem, error.http_status == 503
    log.exception("step %d.%d (%s) failed in a way that no driver foresaw", order.job, order.step, order.verb)
    return Problem(code="internal", what=f"{type(error).__name__}: {error}", where=str(order.verb)), False
