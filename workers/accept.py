"""Accepting orders: check the envelope, write the journal, answer. Milliseconds; nothing is carried out here.

The journal is the truth about what this node was told. What an order leads to is decided by :func:`decide_step` and
:func:`decide_cancel`, pure functions of the order and of what the journal knows:

==================================  ==============================================================================
a step that is                      is answered by
==================================  ==============================================================================
unknown                             ``accepted``; it is in the journal
accepted or running, same attempt   ``accepted`` again, saying which
accepted or running, later attempt  the same, under the new number: it is the same work and its effect comes once, so
                                    its result speaks for the attempt that the server now waits for
done, same attempt                  its stored result
done, later attempt                 ``accepted``: it is carried out anew
any, earlier attempt                ``refused`` (stale)
known as another order              as if unknown: the server's numbers begin again after a restore of its database. What
                                    the other order began is stopped and undone
new, generation passed by           ``refused`` (stale), unless it is a delete without a generation: that is of a guest whose
                                    VE is wanted no more
new, on a deleted VE                ``refused`` (gone), unless it is a delete, or removes what a migration left: that ends well
                                    once more; or prepares for the VE to come from another node, where it lives on
==================================  ==============================================================================

A cancel of a step that was never heard of leaves a cancelled result in the journal: should the step still arrive, late, that
result is its answer. A cancel after the end is answered by the result: it came too late.

``accepted`` is held back for a moment (:data:`workers.reporter.DELAY`): of a step that has ended by then, the result is the
answer.

A fetch that waits or runs is asked for again with a fresh ticket: that is the one it begins with.
"""

from __future__ import annotations

import base64
import functools
import json
import logging
import sqlite3
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from vmcloud import faults
from vmcloud.dispatch.envelope import Opened, Order, Untrusted, open_sealed
from vmcloud.domain.errors import Invalid
from vmcloud.domain.messages import Accepted, CancelOrder, Mark, Message, Refused, RelistOrder, Result, SignalOrder, StepOrder
from vmcloud.domain.vocabulary import SESSION_STEPS, Outcome, StepVerb

from .journal import Journal, Key, Presence, State, StepRow, VERow

log = logging.getLogger(__name__)
faults.declare("worker", "worker.accept.received", "worker.accept.journalled")

ON_DELETED = frozenset(
    {StepVerb.DELETE, StepVerb.MIGRATE_PREPARE, StepVerb.MIGRATE_DISCARD, StepVerb.MIGRATE_CLEAN},
)
"""Steps that are taken also for a VE that was deleted on this node."""
ANY_GENERATION = SESSION_STEPS | {StepVerb.MIGRATE_DISCARD}
"""Steps that bring about nothing that is wanted of a VE. What a migration left is removed however late that is asked for."""
TELLING = ("sha256", "snapshot", "native", "source")
"""Arguments by which two orders of one number are known apart; others, such as a ticket, may be fresh each time."""
NOTHING_SHOWN = Mark(0, 0)
"""The mark of a result that no sighting belongs to: every observation is later."""


@dataclass(frozen=True)
class Take:
    """Write the order to the journal and carry it out. ``instead``: of another one that has not ended."""

    instead: bool = False


@dataclass(frozen=True)
class Going:
    """It is in the journal already. ``adopt``: under a later attempt's number or with fresh arguments from now on."""

    running: bool
    adopt: bool = False


@dataclass(frozen=True)
class Replay:
    """It has ended: say its result again."""

    result: Result


@dataclass(frozen=True)
class Refuse:
    """Do not take it."""

    code: str
    message: str


@dataclass(frozen=True)
class NeverRun:
    """It has not begun: write down that it never will."""


@dataclass(frozen=True)
class Stop:
    """It runs: stop it and undo."""


def decide_step(order: StepOrder, row: StepRow | None, ve: VERow | None) -> Take | Going | Replay | Refuse:
    """What a step order leads to, given what the journal knows of the step and of its VE."""
    if row is not None and (row.order is None or _same(order, row.order)):
        if order.attempt < row.attempt:
            return Refuse("stale", f"attempt {order.attempt} comes after attempt {row.attempt} of the same step")
        if row.state is not State.DONE:
            fresh = order.verb is StepVerb.FETCH and row.order is not None and order.args != row.order.args
            return Going(running=row.state is State.RUNNING, adopt=fresh or order.attempt > row.attempt)
        if order.attempt == row.attempt and row.result is not None:
            return Replay(row.result)
    if ve is not None and order.verb not in ON_DELETED and ve.presence is Presence.DELETED:
        return Refuse("gone", f"VE {order.ve} was deleted on this node")
    unwanted = (order.verb is StepVerb.DELETE and order.generation == 0) or order.verb in ANY_GENERATION
    passed = ve is not None and order.generation < ve.generation_high and not unwanted
    if passed and ve is not None and (ve.presence is not Presence.DELETED or order.verb is StepVerb.MIGRATE_PREPARE):
        return Refuse("stale", f"generation {order.generation} of VE {order.ve} comes after generation {ve.generation_high}")
    return Take(instead=row is not None and row.state is not State.DONE)


def _same(order: StepOrder, other: StepOrder) -> bool:
    """Whether two orders of the same number ask for the same."""
    return _meaning(order) == _meaning(other)


def _meaning(order: StepOrder) -> tuple[object, ...]:
    return order.verb, order.lane, order.ve, order.generation, *(order.args.get(name) for name in TELLING)


def decide_cancel(order: CancelOrder, row: StepRow | None) -> NeverRun | Stop | Replay | Refuse:
    """What a cancel leads to, given what the journal knows of the step."""
    if row is None:
        return NeverRun()
    if order.attempt < row.attempt:
        return Refuse("stale", f"attempt {order.attempt} was followed by attempt {row.attempt}")
    if row.state is State.DONE:
        if order.attempt == row.attempt and row.result is not None:
            return Replay(row.result)
        return NeverRun()
    return Stop() if row.state is State.RUNNING else NeverRun()


class Work(Protocol):
    """Where accepted work goes, and who can stop it."""

    def offer(self, row: StepRow) -> None:
        """There is a step to carry out. Harmless where it waits or runs already."""

    def cancel(self, key: Key) -> None:
        """Stop a running step and undo it."""

    def signal(self, key: Key) -> None:
        """Kill the process of a running step; it begins again."""


class Voice(Protocol):
    """Where answers go."""

    def say(self, message: Message) -> None:
        """Send a report; never blocks."""

    def relist(self) -> None:
        """Send a full list now."""


class Acceptor:
    """The accepting side of one node. ``skew``: seconds of clock error forgiven."""

    def __init__(
        self,
        node: str,
        key: Ed25519PublicKey,
        journal: Journal,
        work: Work,
        voice: Voice,
        *,
        skew: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._node, self._key, self._journal, self._work, self._voice = node, key, journal, work, voice
        self._skew, self._clock = skew, clock

    def take(self, texts: Iterable[str]) -> None:
        """Take sealed orders. When this returns they are on disk; answers follow after that, never before."""
        faults.point("worker.accept.received")
        orders = [order for order in map(self._open, texts) if order is not None]
        if not orders:
            return
        after: list[Callable[[], None]] = []
        try:
            with self._journal.transaction():
                for order in orders:
                    if isinstance(order, StepOrder):
                        after.append(self._take_step(order))
                    elif isinstance(order, CancelOrder):
                        after.append(self._take_cancel(order))
        except sqlite3.OperationalError as error:
            log.error("the journal takes no orders: %s", error)
            after = [functools.partial(self._refuse, order, error) for order in orders if not isinstance(order, RelistOrder)]
        faults.point("worker.accept.journalled")
        for answer in after:
            answer()
        for order in orders:
            if isinstance(order, SignalOrder):
                self._signal(order)
        if any(isinstance(order, RelistOrder) for order in orders):
            self._voice.relist()

    def _refuse(self, order: Order, error: sqlite3.OperationalError) -> None:
        """Nothing of it was written down, so nothing of it is done; the server asks again."""
        full = "disk is full" in str(error)
        words = "the node's journal has no room on its disk" if full else f"the node's journal can not be written: {error}"
        self._voice.say(self._refused(order, "no-room" if full else "journal", words))

    def _open(self, text: str) -> Order | None:
        try:
            opened: Opened = open_sealed(text, self._key)
        except Untrusted as error:
            log.error("dropped an order: %s", error)
            return None
        except (Invalid, KeyError, TypeError, ValueError) as error:
            code = error.problem.code if isinstance(error, Invalid) else "invalid"
            log.error("refused an order (%s): %s", code, error)
            self._voice.say(Refused(self._node, *_named(text), self._clock(), code, str(error)))
            return None
        refusal = opened.refusal(self._node, self._clock(), self._skew)
        if refusal is None:
            return opened.order
        log.warning("refused an order (%s): %s", *refusal)
        self._voice.say(self._refused(opened.order, *refusal))
        return None

    def _take_step(self, order: StepOrder) -> Callable[[], None]:
        journal, key = self._journal, (order.job, order.step)
        verdict = decide_step(order, journal.step(key), journal.ve(order.ve) if order.ve else None)
        match verdict:
            case Take(instead):
                row = journal.accept(order, self._clock())
                return lambda: self._begin(order, row, instead=instead)
            case Going(running, adopt):
                if adopt:
                    journal.adopt(order)
                known = journal.step(key)
                return lambda: self._go_on(order, known, running=running)
            case Replay(result):
                return lambda: self._replay(result)
            case Refuse(code, message):
                return lambda: self._voice.say(self._refused(order, code, message))

    def _take_cancel(self, order: CancelOrder) -> Callable[[], None]:
        key = order.job, order.step
        verdict = decide_cancel(order, self._journal.step(key))
        match verdict:
            case NeverRun():
                result = Result(
                    node=self._node,
                    job=order.job,
                    step=order.step,
                    attempt=order.attempt,
                    at=self._clock(),
                    outcome=Outcome.CANCELLED,
                    mark=NOTHING_SHOWN,
                    undone=True,
                )
                self._journal.finish(result)
                return lambda: self._voice.say(result)
            case Stop():
                self._journal.cancel(key, order.attempt)
                known = self._journal.step(key)
                return lambda: self._stop(key, known)
            case Replay(result):
                return lambda: self._replay(result)
            case Refuse(code, message):
                return lambda: self._voice.say(self._refused(order, code, message))

    def _signal(self, order: SignalOrder) -> None:
        """A signal is for what runs now; nothing of it is kept."""
        row = self._journal.step((order.job, order.step))
        if row is None or row.state is not State.RUNNING or row.attempt > order.attempt or order.signal != "KILL":
            log.warning("signal %s for step %d.%d finds nobody", order.signal, order.job, order.step)
            return
        self._work.signal(row.key)

    def _begin(self, order: StepOrder, row: StepRow, *, instead: bool) -> None:
        if instead:
            log.warning("step %d.%d is another one now; what the earlier began is undone", *row.key)
            self._work.cancel(row.key)
        self._answer(order, running=False)
        self._work.offer(row)

    def _go_on(self, order: StepOrder, row: StepRow | None, *, running: bool) -> None:
        self._answer(order, running=running)
        if row is not None:
            self._work.offer(row)  # for a step that the executor lost

    def _stop(self, key: Key, row: StepRow | None) -> None:
        self._work.cancel(key)
        if row is not None:
            self._work.offer(row)  # one that the executor lost is undone

    def _answer(self, order: StepOrder, *, running: bool) -> None:
        self._voice.say(Accepted(self._node, order.job, order.step, order.attempt, self._clock(), running))

    def _replay(self, result: Result) -> None:
        self._voice.say(result)
        self._voice.relist()  # the sighting that the result names may have been lost with it; a full list shows it too

    def _refused(self, order: Order, code: str, message: str) -> Refused:
        job, step, attempt = (0, 0, 0) if isinstance(order, RelistOrder) else (order.job, order.step, order.attempt)
        return Refused(self._node, job, step, attempt, self._clock(), code, message)


def _named(text: str) -> tuple[int, int, int]:
    """Job, step and attempt of an order whose signature is right and whose form is strange; zeros where it does not say."""
    try:
        order = json.loads(base64.urlsafe_b64decode(text.partition(".")[0]))["order"]
        return int(order["job"]), int(order["step"]), int(order["attempt"])
    except (ValueError, KeyError, TypeError):
        return 0, 0, 0
