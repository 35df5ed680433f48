"""The steps of a job as a graph, and what follows from how they are. Pure: :func:`advance` is the whole life of a step.

A step is carried out on one node, or by the server itself (``node`` empty: a write to the directory). It begins when the steps in
its ``after`` have ended well, with what they gave as what it takes. Where one fails, or the job's end is asked for, what is under
way is cancelled, and then the steps that ended well are undone in reverse, each by a step of its own. Once a step that *commits*
has ended well there is no way back: the job goes on to its end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from uuid import UUID

from .errors import REQUEUE
from .vocabulary import Ending, Outcome

TIMEOUT = 120.0
"""Seconds that a step may run on its node unless its plan says otherwise."""
REQUEUES = 5
"""How often a job is put back into its queue because a node asks for it, also where no retries were asked for."""
REPLANS = 3
"""How often a job is planned anew because something that its node was thought to have was not there."""
NO_IMAGE = "no-image"
"""The code of a step that did not find an image which its node was thought to have."""


class StepState(StrEnum):
    """How far a step is. ``SENT``, ``ACCEPTED`` and ``RUNNING`` hold its lane."""

    PLANNED = "planned"
    SENT = "sent"
    ACCEPTED = "accepted"
    RUNNING = "running"
    DONE = "done"


HOLDING = (StepState.SENT, StepState.ACCEPTED, StepState.RUNNING)


@dataclass(frozen=True)
class Undo:
    """What takes back a step that has ended well: a step on the same node, of the same VE and in the same lane."""

    verb: str
    args: Mapping[str, Any] = field(default_factory=dict)
    timeout: float = TIMEOUT


@dataclass(frozen=True)
class StepPlan:
    """A step to be made."""

    key: str
    """Its name within the job."""
    verb: str
    """A :class:`~.vocabulary.StepVerb`, or a :class:`ServerVerb` where ``node`` is empty."""
    node: str
    """The node that carries it out; empty: the server does."""
    lane: str
    """The resource that it has for itself while it is under way."""
    args: Mapping[str, Any] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    """Keys of the steps that must have ended well before it begins."""
    takes: Mapping[str, str] = field(default_factory=dict)
    """Arguments that earlier steps give: by their names here, ``<key>.<name of the output>``."""
    undo: Undo | None = None
    timeout: float = TIMEOUT
    retries: int = 0
    """How often it is tried again where it failed in a way that is worth another try."""
    commits: bool = False
    """Whether there is no way back once it has ended well."""
    gives_up: bool = False
    """Whether it counts as failed when its node is down: of what nothing comes until a later step of the job asks for it."""
    ve: UUID | None = None
    """The VE that it is about."""
    native: str = ""
    """That VE's name in its hypervisor."""


class ServerVerb(StrEnum):
    """What the server itself can do as a step of a job: one write to the directory, recognised where it was done before."""

    CHANGE_NODE = "change-node"
    ADD_IMAGE = "add-image"
    REMOVE_IMAGE = "forget-image"
    PLACE_VE = "place-ve"
    CLAIM_VE = "claim-ve"
    REMOVE_VE = "remove-ve"
    RENAME_VE = "rename-ve"
    MEND = "mend"
    DRAIN = "drain"


@dataclass(frozen=True)
class StepView:
    """A step as :func:`advance` sees it."""

    number: int
    key: str
    state: StepState
    after: tuple[int, ...] = ()
    outcome: Outcome | None = None
    """How it ended; None while it has not, and where it was given up."""
    attempt: int = 1
    first_attempt: int = 1
    """The number of the attempt with which this plan began."""
    retries: int = 0
    retryable: bool = False
    undone: bool = False
    """Of one that did not end well: whether nothing of it is left."""
    error: str = ""
    """The code of what went wrong."""
    has_undo: bool = False
    undo_of: int | None = None
    """Of a step that undoes another one: that one's number."""
    commits: bool = False
    cancel_sent: bool = False

    @property
    def ok(self) -> bool:
        """Whether it has ended well."""
        return self.state is StepState.DONE and self.outcome is Outcome.OK

    @property
    def may_retry(self) -> bool:
        """Whether it failed and is to be tried again."""
        return self.retryable and self.attempt - self.first_attempt < self.retries


@dataclass(frozen=True)
class JobView:
    """A running job as :func:`advance` sees it."""

    cancelled: bool = False
    """Whether its end was asked for."""
    ending: str = ""
    """How it is to end then (:class:`~.vocabulary.Ending`)."""
    tries: int = 0
    retries: int = 0
    """How often it is to be tried again, as its submitter said."""
    replans: int = 0


@dataclass(frozen=True)
class Send:
    """Begin the step: its place in the graph allows it."""

    number: int


@dataclass(frozen=True)
class Again:
    """Begin another attempt of the step."""

    number: int


@dataclass(frozen=True)
class Cancel:
    """Have the step stopped and undone on its node."""

    number: int


@dataclass(frozen=True)
class TakeBack:
    """Make the step that undoes this one, and begin it."""

    number: int


class Because(StrEnum):
    """Why a job begins anew."""

    RERUN = "rerun"
    RETRY = "retry"
    IMAGE = "image"


@dataclass(frozen=True)
class Anew:
    """The job goes back into its queue, and all of its steps are forgotten. ``number``: the step that led to it."""

    because: Because
    number: int
    undone: bool


@dataclass(frozen=True)
class End:
    """The work of the job is over. ``number``: the step whose result is the job's (0: none)."""

    outcome: Outcome
    number: int
    undone: bool = False


Action = Send | Again | Cancel | TakeBack | Anew | End


def advance(job: JobView, steps: Sequence[StepView]) -> tuple[Action, ...]:
    """What is to be done now about a job that runs; nothing while only answers are waited for. ``steps``: in the order of their
    numbers. The same steps lead to the same actions, so whoever carries them out may be killed and ask again."""
    own = [step for step in steps if step.undo_of is None]
    failed = [step for step in own if step.state is StepState.DONE and not step.ok]
    committed = any(step.commits and step.ok for step in own)
    if again := [step for step in failed if step.may_retry and (committed or not job.cancelled)]:
        return tuple(Again(step.number) for step in again)
    under_way = [step for step in steps if step.state in HOLDING]
    planned = [step for step in own if step.state is StepState.PLANNED]
    if failed or (job.cancelled and not committed and (planned or under_way)):
        return _stop(job, own, steps, failed, under_way, committed)
    done = {step.number for step in own if step.ok}
    if ready := [step for step in planned if done.issuperset(step.after)]:
        return tuple(Send(step.number) for step in ready)
    if under_way or planned:
        return ()
    return (End(Outcome.OK, own[-1].number if own else 0),)


def _stop(
    job: JobView,
    own: Sequence[StepView],
    steps: Sequence[StepView],
    failed: Sequence[StepView],
    under_way: Sequence[StepView],
    committed: bool,
) -> tuple[Action, ...]:
    """End a job that can not, or is not to, go on."""
    if under_way and committed:
        return ()
    if under_way:
        return tuple(Cancel(step.number) for step in under_way if step.undo_of is None and not step.cancel_sent)
    whole = not committed and all(step.undone for step in failed)
    if not committed:
        undoing = {step.undo_of: step for step in steps if step.undo_of is not None}
        for step in reversed([each for each in own if each.has_undo and _left_something(each)]):
            if (undo := undoing.get(step.number)) is None:
                return (TakeBack(step.number),)
            if undo.state is StepState.PLANNED:
                return (Send(undo.number),)
            if undo.may_retry:
                return (Again(undo.number),)
            whole = whole and undo.ok
    if not failed:
        last = [step for step in own if step.ok]
        number = last[-1].number if last else 0
        if job.ending == Ending.RERUN:
            return (Anew(Because.RERUN, number, whole),)
        return (End(Outcome.CANCELLED, number, whole),)
    return (_after(job, failed[0], whole, committed),)


def _left_something(step: StepView) -> bool:
    """Whether there may be something of it to take back: it ended well, or nobody knows how far it came."""
    return step.ok or (step.state is StepState.DONE and not step.undone)


def _after(job: JobView, step: StepView, undone: bool, committed: bool) -> Anew | End:
    """What becomes of the job once all that could be is undone, by the step that did not end well."""
    outcome = step.outcome or Outcome.FAILED
    if committed:
        return End(outcome, step.number)
    if outcome is Outcome.CANCELLED and job.ending == Ending.RERUN:
        return Anew(Because.RERUN, step.number, undone)
    if step.error == NO_IMAGE and job.replans < REPLANS:
        return Anew(Because.IMAGE, step.number, undone)
    if outcome is not Outcome.CANCELLED and not job.cancelled and step.retryable and job.tries < tries_more(job, step):
        return Anew(Because.RETRY, step.number, undone)
    return End(outcome, step.number, undone)


def tries_more(job: JobView, step: StepView) -> int:
    """How many tries more than one the job may have, after this failure."""
    return max(job.retries, REQUEUES) if step.error == REQUEUE else job.retries
