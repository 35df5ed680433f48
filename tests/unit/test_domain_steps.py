"""The life of a job's steps: the table of what follows from how they are."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmcloud.domain.errors import REQUEUE
from vmcloud.domain.steps import (
    HOLDING,
    NO_IMAGE,
    Again,
    Anew,
    Because,
    Cancel,
    End,
    JobView,
    Send,
    StepState,
    StepView,
    TakeBack,
    advance,
)
from vmcloud.domain.vocabulary import Ending, Outcome

pytestmark = pytest.mark.unit

DONE = {"ok": Outcome.OK, "failed": Outcome.FAILED, "cancelled": Outcome.CANCELLED, "timed-out": Outcome.TIMED_OUT}


def step(number: int, how: str, *after: int, **fields: Any) -> StepView:
    """``how``: a state, or the outcome of one that is done."""
    state = StepState.DONE if how in DONE or how == "abandoned" else StepState(how)
    return StepView(number, f"step-{number}", state, after, outcome=DONE.get(how), **fields)


CANCELLED, RERUN = JobView(cancelled=True), JobView(cancelled=True, ending=Ending.RERUN)
PLAIN = JobView()

TABLE: dict[str, tuple[JobView, list[StepView], tuple[Any, ...]]] = {
    "nothing to do: it was all to want it": (PLAIN, [], (End(Outcome.OK, 0),)),
    "the first step begins": (PLAIN, [step(1, "planned"), step(2, "planned", 1)], (Send(1),)),
    "steps that wait for nothing begin together": (PLAIN, [step(1, "planned"), step(2, "planned")], (Send(1), Send(2))),
    "what is under way is waited for": (PLAIN, [step(1, "accepted"), step(2, "planned", 1)], ()),
    "the next follows": (PLAIN, [step(1, "ok"), step(2, "planned", 1)], (Send(2),)),
    "one that waits for two waits for both": (PLAIN, [step(1, "ok"), step(2, "running"), step(3, "planned", 1, 2)], ()),
    "all ended well": (PLAIN, [step(1, "ok"), step(2, "ok", 1)], (End(Outcome.OK, 2),)),
    "the result is that of the last, whatever it waits for": (
        PLAIN,
        [step(1, "ok"), step(3, "ok", 1), step(2, "ok", 1)],
        (End(Outcome.OK, 2),),
    ),
    "one fails": (PLAIN, [step(1, "failed", undone=True)], (End(Outcome.FAILED, 1, True),)),
    "one fails and something is left": (PLAIN, [step(1, "failed")], (End(Outcome.FAILED, 1, False),)),
    "its time was up": (PLAIN, [step(1, "timed-out", undone=True)], (End(Outcome.TIMED_OUT, 1, True),)),
    "another attempt": (PLAIN, [step(1, "failed", retryable=True, retries=2)], (Again(1),)),
    "attempts are counted from where the plan began": (
        PLAIN,
        [step(1, "failed", retryable=True, retries=2, attempt=5, first_attempt=3)],
        (End(Outcome.FAILED, 1, False),),
    ),
    "no other attempt once its end was asked for": (
        CANCELLED,
        [step(1, "failed", retryable=True, retries=2, undone=True)],
        (End(Outcome.FAILED, 1, True),),
    ),
    "the job is to be tried again": (
        JobView(retries=1),
        [step(1, "failed", retryable=True, undone=True)],
        (Anew(Because.RETRY, 1, True),),
    ),
    "as often as was said": (JobView(retries=1, tries=1), [step(1, "failed", retryable=True)], (End(Outcome.FAILED, 1),)),
    "a node asks for another try": (PLAIN, [step(1, "failed", retryable=True, error=REQUEUE)], (Anew(Because.RETRY, 1, False),)),
    "not for ever": (JobView(tries=5), [step(1, "failed", retryable=True, error=REQUEUE)], (End(Outcome.FAILED, 1),)),
    "the image had vanished": (PLAIN, [step(1, "failed", error=NO_IMAGE)], (Anew(Because.IMAGE, 1, False),)),
    "the image vanishes again and again": (JobView(replans=3), [step(1, "failed", error=NO_IMAGE)], (End(Outcome.FAILED, 1),)),
    "its end is asked for": (CANCELLED, [step(1, "running"), step(2, "planned", 1)], (Cancel(1),)),
    "and is not asked for twice": (CANCELLED, [step(1, "running", cancel_sent=True)], ()),
    "it was stopped": (CANCELLED, [step(1, "cancelled", undone=True)], (End(Outcome.CANCELLED, 1, True),)),
    "the cancel came too late": (CANCELLED, [step(1, "ok")], (End(Outcome.OK, 1),)),
    "the cancel came between two steps": (CANCELLED, [step(1, "ok"), step(2, "planned", 1)], (End(Outcome.CANCELLED, 1, True),)),
    "it is to begin anew": (RERUN, [step(1, "cancelled", undone=True)], (Anew(Because.RERUN, 1, True),)),
    "it is to begin anew, between two steps": (
        RERUN,
        [step(1, "ok"), step(2, "planned", 1)],
        (Anew(Because.RERUN, 1, True),),
    ),
    "it was over before it could begin anew": (RERUN, [step(1, "ok")], (End(Outcome.OK, 1),)),
    "one fails: what runs beside it is stopped": (PLAIN, [step(1, "failed"), step(2, "running")], (Cancel(2),)),
    "one fails: what ended well is taken back": (
        PLAIN,
        [step(1, "ok", has_undo=True), step(2, "failed", 1, undone=True)],
        (TakeBack(1),),
    ),
    "what failed and left something is taken back too": (
        PLAIN,
        [step(1, "ok", has_undo=True), step(2, "failed", 1, has_undo=True)],
        (TakeBack(2),),
    ),
    "the last first": (
        PLAIN,
        [step(1, "ok", has_undo=True), step(2, "ok", 1, has_undo=True), step(3, "failed", 2, undone=True)],
        (TakeBack(2),),
    ),
    "one after the other": (
        PLAIN,
        [step(1, "ok", has_undo=True), step(2, "ok", 1, has_undo=True), step(3, "failed", 2), step(4, "running", undo_of=2)],
        (),
    ),
    "the undo is sent": (
        PLAIN,
        [step(1, "ok", has_undo=True), step(2, "failed", 1), step(3, "planned", undo_of=1)],
        (Send(3),),
    ),
    "then the next": (
        PLAIN,
        [step(1, "ok", has_undo=True), step(2, "ok", 1, has_undo=True), step(3, "failed", 2), step(4, "ok", undo_of=2)],
        (TakeBack(1),),
    ),
    "all is taken back": (
        PLAIN,
        [step(1, "ok", has_undo=True), step(2, "failed", 1, undone=True), step(3, "ok", undo_of=1)],
        (End(Outcome.FAILED, 2, True),),
    ),
    "an undo fails": (
        PLAIN,
        [step(1, "ok", has_undo=True), step(2, "failed", 1, undone=True), step(3, "failed", undo_of=1)],
        (End(Outcome.FAILED, 2, False),),
    ),
    "a cancel does not stop an undo": (
        CANCELLED,
        [step(1, "ok", has_undo=True), step(2, "failed", 1), step(3, "running", undo_of=1)],
        (),
    ),
    "there is no way back": (
        CANCELLED,
        [step(1, "ok", has_undo=True), step(2, "ok", 1, commits=True), step(3, "planned", 2)],
        (Send(3),),
    ),
    "it failed where there is no way back": (
        PLAIN,
        [step(1, "ok", has_undo=True), step(2, "ok", 1, commits=True), step(3, "failed", 2)],
        (End(Outcome.FAILED, 3),),
    ),
    "where there is no way back it is tried again though its end was asked for": (
        CANCELLED,
        [step(1, "ok", commits=True), step(2, "failed", 1, retryable=True, retries=3)],
        (Again(2),),
    ),
    "what runs beside it goes on where there is no way back": (
        PLAIN,
        [step(1, "ok", commits=True), step(2, "failed", 1), step(3, "running", 1)],
        (),
    ),
}


@pytest.mark.parametrize("case", TABLE)
def test_the_table(case: str) -> None:
    job, steps, actions = TABLE[case]
    assert advance(job, steps) == actions


OUTCOMES = st.sampled_from([Outcome.OK, Outcome.FAILED, Outcome.CANCELLED, Outcome.TIMED_OUT])


class Life:
    """A job's steps, moved by what :func:`advance` says and by what nodes answer."""

    def __init__(self, job: JobView, steps: list[StepView]) -> None:
        self.job, self.steps, self.sent, self.over = job, {each.number: each for each in steps}, list[int](), False

    def put(self, number: int, **fields: Any) -> None:
        self.steps[number] = StepView(**{**vars(self.steps[number]), **fields})

    def settle(self) -> None:
        """Carry out what is due until answers are waited for."""
        while not self.over and (actions := advance(self.job, [self.steps[number] for number in sorted(self.steps)])):
            for action in actions:
                match action:
                    case Send(number=number):
                        assert all(self.steps[each].ok for each in self.steps[number].after)
                        self.sent.append(number)
                        self.put(number, state=StepState.SENT)
                    case Again(number=number):
                        self.put(number, state=StepState.SENT, outcome=None, attempt=self.steps[number].attempt + 1)
                    case Cancel(number=number):
                        self.put(number, cancel_sent=True)
                    case TakeBack(number=number):
                        new = max(self.steps) + 1
                        self.steps[new] = StepView(new, f"undo-{number}", StepState.PLANNED, undo_of=number)
                    case Anew() | End():
                        self.over = True

    def holding(self) -> list[int]:
        return [number for number, each in self.steps.items() if each.state in HOLDING]


@given(st.data())
def test_whatever_nodes_answer_a_job_ends_and_nothing_that_was_done_is_forgotten(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 5))
    made = []
    for number in range(1, count + 1):
        after = tuple(sorted(data.draw(st.sets(st.integers(1, number - 1), max_size=2)))) if number > 1 else ()
        flags = {name: data.draw(st.booleans()) for name in ("has_undo", "commits")}
        made.append(StepView(number, str(number), StepState.PLANNED, after, retries=data.draw(st.integers(0, 1)), **flags))
    life = Life(JobView(retries=0, replans=3), made)
    life.settle()
    for _ in range(60):
        if life.over:
            break
        if data.draw(st.booleans()):
            life.job = JobView(cancelled=True, replans=3)
        holding = life.holding()
        assert holding or life.job.cancelled
        if holding:
            number = data.draw(st.sampled_from(holding))
            outcome = data.draw(OUTCOMES)
            fields = {"outcome": outcome, "undone": outcome is not Outcome.OK, "retryable": data.draw(st.booleans())}
            life.put(number, state=StepState.DONE, **fields)
        life.settle()
    assert life.over and not life.holding()
    own = [each for each in life.steps.values() if each.undo_of is None]
    if not any(each.commits and each.ok for each in own) and not all(each.ok for each in own):
        undone = {each.undo_of for each in life.steps.values() if each.undo_of is not None and each.state is StepState.DONE}
        left = [each for each in own if each.has_undo and each.state is StepState.DONE and (each.ok or not each.undone)]
        assert all(each.number in undone for each in left)
