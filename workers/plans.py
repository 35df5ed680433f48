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
remove-image     remove the image            none: part of it may be gone
rename           rename                      rename back
copy             copy, start if wanted       delete the copy (the executor frees its address)
migrate-prepare  make an empty place         remove the place
migrate-send     send                        keep the guest: it is as it was before
migrate-receive  complete the guest          remove the place
migrate-activate activate                    none: there is no way back
migrate-clean    delete the guest sent       none: it stays wanted
migrate-discard  remove the place            none: this is an undo itself, of prepare and receive
migrate-keep     keep the guest              none: this is an undo itself, of send
===============  ==========================  =============================================================

A snapshot is known by its name and by the job that took it: an order about one that is gone touches none that was taken later
under its name.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast
from uuid import UUID

from vmcloud.domain.errors import VmcloudError
from vmcloud.domain.messages import Snapshot, StepOrder
from vmcloud.domain.vocabulary import Desired, Observed, StepVerb

from .drivers.base import (
    Adopter,
    BadRequest,
    Copier,
    Driver,
    DriverError,
    Freezer,
    Guest,
    GuestRef,
    Migrator,
    NoImage,
    NoSuchGuest,
    Renamer,
    Report,
    Snapshotter,
    Unsupported,
)
from .images import ImageStore, ordered_sum

MIGRATION = frozenset(verb for verb in StepVerb if verb.startswith("migrate-"))
"""The steps of a guest's way from one node to another."""
FROM_BEFORE = (StepVerb.STOP, StepVerb.RESTART, StepVerb.SUSPEND, StepVerb.REVERT)
"""Verbs whose plan depends on the state in which the guest was found."""


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
    if order.verb is StepVerb.REMOVE_IMAGE:
        return (Phase("remove image", lambda: tools.images.remove(ordered_sum(order))),)
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
            define = Phase("define", lambda: _define(driver, guest, order, tools), lambda: _remove(driver, guest))
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
        case StepVerb.RENAME:
            return (_renaming(order, driver),)
        case StepVerb.COPY:
            guest = _needed(work.guest, order)
            copy = _copying(order, guest, driver, tools)
            return (copy, start) if order.args.get("power") == Desired.RUNNING else (copy,)
        case _ if order.verb in MIGRATION:
            return (_migration(work, driver, tools),)
    raise Unsupported(order.verb, f"a node has no step called {order.verb}")


def _ref(order: StepOrder) -> GuestRef:
    if order.ve is None:
        raise BadRequest(order.verb, "the order is about no VE")
    return GuestRef(order.ve, order.native)


def _renaming(order: StepOrder, driver: Driver) -> Phase:
    if not isinstance(driver, Renamer):
        raise Unsupported(order.verb, f"a guest of kind {order.kind} can not be given another name on this node")
    renamer, ref, native = cast(Renamer, driver), _ref(order), str(order.args.get("native") or "")
    back = GuestRef(ref.ve, native)
    return Phase("rename", lambda: renamer.rename(ref, native), lambda: renamer.rename(back, ref.native))


def _copying(order: StepOrder, guest: Guest, driver: Driver, tools: Tools) -> Phase:
    if not isinstance(driver, Copier):
        raise Unsupported(order.verb, f"a guest of kind {order.kind} can not be copied on this node")
    copier = cast(Copier, driver)
    try:
        source = GuestRef(UUID(str(order.args["source"]["ve"])), str(order.args["source"]["native"]))
        snapshot = Snapshot.from_json(order.args["snapshot"]).name if order.args.get("snapshot") else ""
    except (VmcloudError, LookupError, TypeError, ValueError) as error:
        raise BadRequest(order.verb, f"the order does not say what is to be copied: {error}") from error
    copy = lambda: copier.copy(source, guest, snapshot=snapshot, report=tools.report)  # noqa: E731 - as its undo
    return Phase("copy", copy, lambda: _remove(driver, guest))


def _migration(work: Work, driver: Driver, tools: Tools) -> Phase:
    order = work.order
    if not isinstance(driver, Migrator):
        raise Unsupported(order.verb, f"guests of kind {order.kind} can not be migrated on this node")
    migrator, ref, live = cast(Migrator, driver), _ref(order), bool(order.args.get("live", False))
    match order.verb:
        case StepVerb.MIGRATE_PREPARE:
            guest = _needed(work.guest, order)
            prepare = partial(migrator.prepare, guest, live=live, report=tools.report)
            return Phase("prepare", prepare, lambda: migrator.discard(ref))
        case StepVerb.MIGRATE_SEND:
            send = partial(migrator.send, ref, live=live, grace=float(order.args.get("grace", 30.0)), report=tools.report)
            return Phase("send", lambda: {"state": send()}, lambda: migrator.keep(ref))
        case StepVerb.MIGRATE_RECEIVE:
            guest, state = _needed(work.guest, order), order.args.get("state")
            if not isinstance(state, dict):
                raise BadRequest(order.verb, "the order has nothing to be received")
            receive = partial(migrator.receive, guest, state, tools.report)
            return Phase("receive", receive, lambda: migrator.discard(ref))
        case StepVerb.MIGRATE_ACTIVATE:
            power = _power(order)
            return Phase("activate", lambda: migrator.activate(ref, power=power))
        case StepVerb.MIGRATE_CLEAN:
            return Phase("clean", lambda: migrator.clean(ref))
        case StepVerb.MIGRATE_DISCARD:
            return Phase("discard", lambda: migrator.discard(ref))
    return Phase("keep", lambda: migrator.keep(ref))


def _power(order: StepOrder) -> Desired:
    try:
        return Desired(str(order.args["power"]))
    except (LookupError, ValueError) as error:
        raise BadRequest(order.verb, "the order does not say which power is wanted afterwards") from error


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


def _remove(driver: Driver, guest: Guest) -> None:
    """Delete what was made of a guest, and never one of another VE that has its name."""
    seen = driver.inspect(guest.native)
    if seen is None or seen.ve == guest.ve:
        driver.delete(guest.native)


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
