"""What follows for a job from how its steps are, carried out: :func:`vmcloud.domain.steps.advance` decides, this writes it down.

Everything here happens inside one transaction of the leader; messages go out after its commit. The server's own steps are only
marked as begun: :mod:`.own_steps` carries them out, outside of any transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vmcloud.domain.admission import retry_pause
from vmcloud.domain.errors import Problem
from vmcloud.domain.steps import (
    HOLDING,
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
    tries_more,
)
from vmcloud.domain.vocabulary import JobState, Outcome
from vmcloud.fleet import gather
from vmcloud.fleet.models import Job, Liveness, Step
from vmcloud.fleet.services import lanes

from .context import Context, at_hand


@at_hand
def go_on(context: Context, job: Job, steps: Sequence[Step]) -> list[Step]:
    """Carry out what is due now about a job that runs; the steps to send, and those to cancel, once it is committed. ``steps``:
    all of the job's, in the order of their numbers."""
    known = {step.number: step for step in steps}
    to_send: list[Step] = []
    while actions := advance(_job_view(job), [_step_view(known[number]) for number in sorted(known)]):
        for action in actions:
            match action:
                case Send(number=number):
                    if not _send(context, job, known[number], known.values(), to_send):
                        return to_send
                case Again(number=number):
                    _again(context, job, known[number], to_send)
                case Cancel(number=number):
                    gather.change(known[number], cancel_sent_at=0.0)  # at once, and again until it is answered
                    context.to_cancel.append(known[number])
                case TakeBack(number=number):
                    undo = _undo(job, known[number], max(known) + 1)
                    known[undo.number] = undo
                case Anew():
                    _begin_anew(context, job, known.get(action.number), action)
                    return []
                case End():
                    _end(context, job, known.get(action.number), action)
                    return []
    return to_send


def _job_view(job: Job) -> JobView:
    return JobView(
        cancelled=job.cancel_requested_at is not None,
        ending=job.ending,
        tries=job.tries,
        retries=job.retries,
        replans=int(job.before.get("replans", 0)),
    )


def _step_view(step: Step) -> StepView:
    result = step.result or {}
    ended = step.state == StepState.DONE and step.outcome in list(Outcome)
    return StepView(
        number=step.number,
        key=step.key,
        state=StepState(step.state),
        after=tuple(step.after),
        outcome=Outcome(step.outcome) if ended else None,
        attempt=step.attempt,
        first_attempt=step.first_attempt,
        retries=step.retries,
        retryable=bool(result.get("retryable")),
        undone=bool(result.get("undone")) or step.ve is None,  # of what is about no VE nothing is left of one
        error=str((result.get("error") or {}).get("code", "")),
        has_undo=step.undo is not None,
        undo_of=step.undo_of,
        commits=step.commits,
        cancel_sent=step.cancel_sent_at is not None,
    )


def _send(context: Context, job: Job, step: Step, others: Iterable[Step], to_send: list[Step]) -> bool:
    """Begin a step whose place in the graph allows it. False: its lane is another job's; it is tried again in a moment."""
    gather.flush()
    holder = Step.objects.filter(lane=step.lane, state__in=HOLDING).exclude(job=job).values_list("job", flat=True).first()
    if holder is not None:
        job.change(reason=f"waits for job {holder}, which has {step.lane}")
        return False
    outputs = {each.number: (each.result or {}).get("output") or {} for each in others}
    given = {name: outputs.get(number, {}).get(output) for name, (number, output) in step.takes.items()}
    args = {"args": {**step.args, **given}} if given else {}
    gather.change(step, state=StepState.SENT, sent_at=context.clock(), sent_count=1, **args)
    job.change(reason="")
    to_send.append(step)
    step.job = job
    return True


def _again(context: Context, job: Job, step: Step, to_send: list[Step]) -> None:
    """Begin another attempt of a step that failed in a way that is worth it."""
    attempt = step.attempt - step.first_attempt + 1
    context.note(job, f"attempt {attempt} of step {step.key} failed and is repeated: {_why(step)}")
    fresh: dict[str, Any] = {
        "outcome": "",
        "result": None,
        "ended_at": None,
        "heard_at": None,
        "accepted_at": None,
        "percent": -1,
    }
    gather.change(step, state=StepState.SENT, attempt=step.attempt + 1, sent_at=context.clock(), sent_count=1, **fresh)
    step.job = job
    to_send.append(step)


def _undo(job: Job, step: Step, number: int) -> Step:
    """The step that takes back one that has ended well."""
    assert step.undo is not None
    undo = Step(
        job=job,
        number=number,
        key=f"undo-{step.key}"[:40],
        verb=step.undo["verb"],
        node=step.node,
        lane=step.lane,
        args=step.undo["args"],
        timeout=step.undo["timeout"],
        undo_of=step.number,
        ve=step.ve,
        native=step.native,
        attempt=step.first_attempt,
        first_attempt=step.first_attempt,
    )
    undo.save(force_insert=True)
    return undo


def _begin_anew(context: Context, job: Job, step: Step | None, action: Anew) -> None:
    """The job goes back into its queue; its steps are forgotten, and have later attempts of the same numbers when it begins."""
    replans = int(job.before.get("replans", 0)) + 1
    before = {**job.before, "replans": replans}
    if action.because is not Because.IMAGE:
        before["undone"] = action.undone
    gather.flush()
    Step.objects.filter(job=job).delete()
    lanes.move_on([job.pk])
    context.again = True
    if action.because is Because.IMAGE:
        assert step is not None
        _forget_image(step)
        context.note(job, f"image {str(step.args['image_sha256'])[:12]} is not on node {step.node} any more; it is fetched again")
        job.change(state=JobState.QUEUED, reason="", before=before, behind=False)
    elif action.because is Because.RERUN:
        context.note(job, f"stopped{' and undone' if action.undone else ''}; it is back in its queue and begins anew")
        ended = {"cancel_requested_at": None, "ending": "", "started_at": None, "reason": "", "behind": False}
        job.change(state=JobState.QUEUED, before=before, tries=job.tries + 1, **ended)
    else:
        assert step is not None
        tries, why = job.tries + 1, _why(step)
        pause = retry_pause(tries)
        most = tries_more(_job_view(job), _step_view(step)) + 1
        context.note(job, f"try {tries} of {most} failed and is repeated in {pause:g} s: {why}")
        at = context.clock() + pause
        reason = f"to be tried again: {why}"[:1000]
        job.change(state=JobState.WAITING, tries=tries, not_before=at, before=before, reason=reason)


def _why(step: Step) -> str:
    """Why a step failed, in words."""
    error = (step.result or {}).get("error")
    return Problem.from_json(error).sentence() if error else "no reason given"


def _forget_image(step: Step) -> None:
    """The node does not have the image that it was thought to have."""
    sha256 = step.args["image_sha256"]
    for live in Liveness.objects.filter(node=step.node):
        Liveness.objects.filter(node=step.node).update(images=[each for each in live.images if each != sha256])


def _end(context: Context, job: Job, step: Step | None, action: End) -> None:
    """The work of the job is over; the result of ``step`` is its own."""
    result: dict[str, Any] = dict((step.result if step is not None else None) or {})
    if action.undone:
        result["undone"] = True
    error = result.get("error")
    if action.outcome is Outcome.CANCELLED and step is not None and step.outcome == Outcome.OK:
        error = None
    context.exit(job, action.outcome, error=error, result=result or None)


def failed(step: Step, error: Mapping[str, str], undone: bool, now: float) -> None:
    """Close a step that its node will never carry out; inside a transaction."""
    result = {"error": dict(error), "undone": undone}
    gather.change(step, state=StepState.DONE, outcome=Outcome.FAILED.value, result=result, ended_at=now, percent=100)


def steps_of(jobs: Iterable[int]) -> dict[int, list[Step]]:
    """All steps of these jobs, by job and in the order of their numbers; those of one job have one object for it."""
    found: dict[int, list[Step]] = {}
    one: dict[int, Job] = {}
    for step in Step.objects.filter(job_id__in=list(jobs)).select_related("job").order_by("job_id", "number"):
        step.job = one.setdefault(step.job_id, step.job)
        found.setdefault(step.job_id, []).append(step)
    return found
