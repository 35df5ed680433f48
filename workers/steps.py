"""What each verb means on a node: a plan, as data, of phases with their undo.

A plan is carried out in order; where a phase fails, it and those before it are undone in reverse. Every phase may find its work
half done or done, by an earlier start of the same step. This module is all that a child process needs besides the driver: it
knows no journal, no queue and no clock.

===============  ==========================  =============================================================
verb             phases                      undo
===============  ==========================  =============================================================
create           define, start if wanted     delete the guest (the executor frees its address)
start            start                       none: that it runs stays wanted
stop             stop                        start again, if it ran
restart          stop, start                 start again, if it ran
suspend          freeze                      thaw, if it ran
resume           thaw                        none
resize           apply                       apply the old sizes
snapshot         snapshot                    delete the snapshot, unless it is another job's
revert           check; if it ran: stop by   start again, if it ran
                 force; revert; start again
delete-snapshot  delete the snapshot         none: part of it may be gone
delete           delete                      none: it stays wanted
adopt            adopt                       make it an orphan again
fetch            download, unpack            remove the download; the image store keeps nothing half unpacked
===============  ==========================  =============================================================

A snapshot is known by its name and by the job that took it: an order about one that is gone touches none that was taken later
under its name.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, cast

from vmcloud import faults
from vmcloud.domain.errors import Problem, VmcloudError
from vmcloud.domain.messages import Seen, Snapshot, StepOrder
from vmcloud.domain.vocabulary import Desired, Observed, StepVerb
from vmcloud.domain.wire import check_output

from .drivers.base import (
    Adopter,
    BadRequest,
    CannotLook,
    Driver,
    DriverError,
    Freezer,
    Guest,
    NoImage,
    NoSuchGuest,
    Report,
    Snapshotter,
    Unsupported,
)
from .images import ImageStore

log = logging.getLogger(__name__)
faults.declare("worker", "worker.undo", "worker.step.acted")


FROM_BEFORE = (StepVerb.STOP, StepVerb.RESTART, StepVerb.SUSPEND, StepVerb.REVERT)
"""Verbs whose plan depends on the state in which the guest was found."""


class Interrupted(Exception):
    """The step was cancelled or its time is up; only drivers that are not isolated raise it, others are killed."""


@dataclass(frozen=True)
class Work:
    """One step with all that it needs. ``old`` is the guest as it was before a resize; ``before`` the state in which the step's
    first start found it (empty: not looked yet)."""

    order: StepOrder
    guest: Guest | None = None
    old: Guest | None = None
    before: str = ""


@dataclass(frozen=True)
class Tools:
    """What a plan works with. ``look`` is called right before the guest is looked at for the last time; ``found`` tells the
    state in which the guest was before anything was done."""

    driver: Driver | None
    images: ImageStore
    report: Report
    look: Callable[[], None]
    found: Callable[[str], None]


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


@dataclass(frozen=True)
class Phase:
    """One part of a plan. ``do`` may answer with what the guest was found to be, or with what the step gives to later ones."""

    name: str
    do: Callable[[], Guest | dict[str, Any] | None]
    undo: Callable[[], object] | None = None


def plan(work: Work, tools: Tools) -> tuple[Phase, ...]:
    """The phases of ``work``. :class:`Unsupported` where this node can not do it at all."""
    order, native = work.order, work.order.native
    if order.verb is StepVerb.FETCH:
        return (Phase("fetch", lambda: tools.images.fetch(order, tools.report), lambda: tools.images.sweep(order)),)
    driver = tools.driver
    if driver is None:
        raise Unsupported(order.verb, f"this node has no driver for kind {order.kind}")
    ran = work.before in (Observed.RUNNING, Observed.STARTING)
    restart = (lambda: driver.start(native)) if ran else None
    start = Phase("start", lambda: driver.start(native))
    force, grace = bool(order.args.get("force", False)), float(order.args.get("grace", 30.0))
    stop = Phase("stop", lambda: driver.stop(native, force=force, grace=grace), restart)
    match order.verb:
        case StepVerb.CREATE:
            guest = _needed(work.guest, order)
            define = Phase("define", lambda: _define(driver, guest, order, tools), lambda: driver.delete(native))
            return (define, start) if order.args.get("power") == Desired.RUNNING else (define,)
        case StepVerb.START:
            return (start,)
        case StepVerb.STOP:
            return (stop,)
        case StepVerb.RESTART:
            return (stop, start)
        case StepVerb.SUSPEND | StepVerb.RESUME:
            if not isinstance(driver, Freezer):
                raise Unsupported(order.verb, f"kind {order.kind} can not be suspended on this node")
            freezer = cast(Freezer, driver)
            if order.verb is StepVerb.RESUME:
                return (Phase("thaw", lambda: freezer.thaw(native)),)
            return (Phase("freeze", lambda: freezer.freeze(native), (lambda: freezer.thaw(native)) if ran else None),)
        case StepVerb.RESIZE:
            guest, old = _needed(work.guest, order), work.old
            return (Phase("apply", lambda: _apply(driver, guest), (lambda: _apply(driver, old)) if old else None),)
        case StepVerb.SNAPSHOT | StepVerb.REVERT | StepVerb.DELETE_SNAPSHOT:
            return _about_snapshot(work, driver, tools)
        case StepVerb.DELETE:
            return (Phase("delete", lambda: driver.delete(native, tools.report)),)
        case StepVerb.ADOPT:
            return (_adoption(order, _needed(work.guest, order), driver, tools),)
    raise Unsupported(order.verb, f"a node has no step called {order.verb}")


def _adoption(order: StepOrder, guest: Guest, driver: Driver, tools: Tools) -> Phase:
    if not isinstance(driver, Adopter):
        raise Unsupported(order.verb, f"guests of kind {order.kind} can not be adopted on this node")
    adopter, orphan, asked = cast(Adopter, driver), str(order.args.get("orphan") or ""), dict(order.args.get("sizes") or {})
    spec = replace(guest.spec, vcpus=int(asked.get("vcpus", 0)), memory_mib=int(asked.get("memory_mib", 0)))
    wanted = replace(guest, spec=spec)
    return Phase("adopt", lambda: adopter.adopt(orphan, wanted, tools.report), lambda: adopter.disown(order.native, orphan))


def _about_snapshot(work: Work, driver: Driver, tools: Tools) -> tuple[Phase, ...]:
    order, native = work.order, work.order.native
    if not isinstance(driver, Snapshotter):
        raise Unsupported(order.verb, f"kind {order.kind} can keep no snapshots on this node")
    keeper, meant = cast(Snapshotter, driver), _meant(order)

    def remove() -> None:
        if (kept := _kept(driver, order, meant.name)) is None or kept.job == meant.job:
            keeper.delete_snapshot(native, meant.name)  # also what a snapshot that did not come to its end left

    def forget() -> None:
        with contextlib.suppress(NoSuchGuest):
            remove()

    def check() -> None:
        kept = _kept(driver, order, meant.name)
        if kept is None or kept.job != meant.job:
            raise BadRequest(order.verb, f"the snapshot {meant.name!r} that was meant is there no more")

    if order.verb is StepVerb.SNAPSHOT:
        return (Phase("snapshot", lambda: keeper.snapshot(native, meant, tools.report), forget),)
    if order.verb is StepVerb.DELETE_SNAPSHOT:
        return (Phase("delete snapshot", remove),)
    if work.before == Observed.SUSPENDED:
        todo = "Resume it, or stop it, first."
        raise BadRequest(order.verb, f"{native} is suspended", stderr="what it has in memory is not in the snapshot", todo=todo)
    first, back = Phase("check", check), Phase("revert", lambda: keeper.revert(native, meant.name, tools.report))
    if work.before not in (Observed.RUNNING, Observed.STARTING):
        return first, back
    start = Phase("start", lambda: driver.start(native))
    return first, Phase("stop", lambda: driver.stop(native, force=True, grace=0.0), start.do), back, start


def _meant(order: StepOrder) -> Snapshot:
    try:
        return Snapshot.from_json(order.args["snapshot"])
    except (VmcloudError, LookupError, TypeError, ValueError) as error:
        raise BadRequest(order.verb, f"the order names no snapshot: {error}") from error


def _kept(driver: Driver, order: StepOrder, name: str) -> Snapshot | None:
    """The guest's snapshot of this name. Raises :class:`NoSuchGuest`, :class:`CannotLook`."""
    seen = driver.inspect(order.native)
    if seen is None:
        raise NoSuchGuest(order.verb, f"there is no guest {order.native}")
    return next((each for each in seen.snapshots if each.name == name), None)


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
    if driver is None or order.verb is StepVerb.FETCH:
        return None
    try:
        return driver.inspect(order.native)
    except CannotLook as error:
        return Seen(
            native=order.native,
            kind=order.kind or driver.kind,
            state=Observed.UNKNOWN,
            ve=order.ve,
            error=error.problem().sentence(),
        )


def _define(driver: Driver, guest: Guest, order: StepOrder, tools: Tools) -> None:
    """:class:`NoImage` where the image has gone; a guest that is whole already needs it no more."""
    sha256 = str(order.args.get("image_sha256") or "").lower()
    try:
        if sha256 and sha256 not in tools.images.sums() and driver.inspect(guest.native) is None:
            raise NoImage("create", f"image {sha256[:12]} is not on this node", todo="Fetch the image first.")
        driver.define(tools.images.suited(guest, tools.report), tools.report)
    except (DriverError, OSError) as error:
        if isinstance(error, NoImage) or not sha256 or sha256 in tools.images.sums():
            raise
        if driver.inspect(guest.native) is not None:
            raise
        raise NoImage("create", f"image {sha256[:12]} was removed meanwhile: {error}", todo="Fetch the image first.") from error


def _apply(driver: Driver, guest: Guest) -> None:
    driver.apply(guest)


def _needed(guest: Guest | None, order: StepOrder) -> Guest:
    if guest is None:
        raise Unsupported(order.verb, "the order has no spec")
    return guest


def _problem(order: StepOrder, error: Exception) -> tuple[Problem, bool]:
    if isinstance(error, DriverError):
        return error.problem(), error.retryable
    if isinstance(error, VmcloudError):
        return error.problem, error.http_status == 503
    log.exception("step %d.%d (%s) failed in a way that no driver foresaw", order.job, order.step, order.verb)
    return Problem(code="internal", what=f"{type(error).__name__}: {error}", where=str(order.verb)), False
