"""Jobs that are given up by force, and what their nodes say of them later; signals to what carries out a step.

A job that is given up ends at once: what may be left, and where, is its error and its result. Its lane is free here; on the node
its step keeps the lane until it is over there, so what comes next waits for it there. Whatever the node says of the step from
then on is stale: while it is under way the node is told to stop and undo it, and what became of it is written into the job's
history.
What is left of the VE is reconcile's from then on, since what is wanted is settled as after any failure.
"""

from __future__ import annotations

import logging
from typing import Any

from django.db.models import Q

from vmcloud.domain.messages import Accepted, Progress, Refused, Result, SignalOrder
from vmcloud.domain.vocabulary import Ending, EventType, JobState, Outcome
from vmcloud.fleet.models import ABANDONED, HOLDING, VE, Job, Step, StepState
from vmcloud.fleet.services import events

from . import orders
from .context import Context, at_hand

log = logging.getLogger("server.abandon")
TODO = "What is wanted counts again: `vmcloud reconcile` shows what is done about it. Where that does not help, look at the node."


def run(context: Context) -> None:
    """Give up what is to be given up, and send what is to be sent."""
    for job in Job.objects.filter(~Q(ending="") | ~Q(signal=""), state=JobState.RUNNING):
        if job.ending == Ending.FORCE:
            _give_up(context, job)
        elif job.signal:
            _signal(context, job)
    stale = list(context.stale)
    context.stale.clear()
    orders.say(context, *map(orders.stop, stale))  # where it is lost: again when the node speaks of the step again


@at_hand
def _give_up(context: Context, job: Job) -> None:
    steps = list(Step.objects.filter(job=job, state__in=HOLDING))
    words = "; ".join(map(_left, steps)) or "nothing was under way on a node"
    left = [{"node": step.node, "lane": step.lane, "verb": step.verb, "step": step.number} for step in steps]
    error = {"code": ABANDONED, "what": "given up by force: it was neither seen to end nor undone", "why": words, "todo": TODO}
    with context.leader.transaction():
        now = context.clock()
        ended: dict[str, Any] = {"state": StepState.DONE, "outcome": ABANDONED, "ended_at": now}
        Step.objects.filter(pk__in=[step.pk for step in steps]).update(**ended)
        context.note(job, f"given up by force: {words}")
        context.exit(job, Outcome.CANCELLED, error=error, result={"undone": False, "left": left})
    context.stale += [step for step in steps if step.node]


def _left(step: Step) -> str:
    """What may be left of a step, and where."""
    if step.state == StepState.SENT:
        return f"node {step.node} has not said that it took {step.verb}; should it have, it may still carry it out ({step.lane})"
    doing = f", last heard in {step.phase!r}" if step.phase else ""
    return f"node {step.node} may still carry out {step.verb}{doing} ({step.lane})"


@at_hand
def _signal(context: Context, job: Job) -> None:
    """Once: a signal is for what runs now."""
    name = job.signal
    with context.leader.transaction():
        job.change(signal="")
    steps = Step.objects.filter(job=job, state__in=HOLDING).exclude(node="")
    about = [{"job": job.pk, "step": step.number, "attempt": step.attempt, "node": step.node} for step in steps]
    orders.say(context, *(SignalOrder(**each, signal=name) for each in about))


def late(context: Context, node: str, message: Accepted | Refused | Progress | Result) -> None:
    """A node speaks of a step that it does not hold here any more; if that was given up, it is told so. Inside a transaction."""
    step = (
        Step.objects.filter(job=message.job, number=message.step, attempt=message.attempt, node=node, outcome=ABANDONED)
        .select_related("job")
        .first()
    )
    if step is None:
        return
    if isinstance(message, Accepted | Progress):
        context.stale.append(step)
        return
    text = f"node {node} speaks of the step that was given up: "
    if isinstance(message, Refused):
        text += f"it never took it ({message.code})"
    else:
        text += f"it ended {message.outcome}{', undone' if message.undone else ''}"
        text += f"; the guest is {message.seen.state}" if message.seen is not None else ""
        Step.objects.filter(pk=step.pk).update(outcome=message.outcome.value, result=message.to_json())
    job = step.job
    context.note(job, text)
    row = VE.objects.filter(pk=job.ve).first() if job.ve else None
    about = {"row": row} if row else {"ve": job.ve, "ve_name": job.ve_name, "owner": job.owner, "project": job.project}
    events.note(EventType.STATE, f"job {job.pk}: {text}", at=context.clock(), job=job.pk, node=node, **about)
    log.warning("job %d: %s", job.pk, text)


def under_way(context: Context, node: str, jobs: set[int]) -> None:
    """A node says that it works on these jobs; of those that were given up it is told so."""
    if jobs:
        context.stale += Step.objects.filter(job__in=jobs, node=node, outcome=ABANDONED)
