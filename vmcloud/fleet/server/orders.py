"""Sending steps to nodes, and again until they are answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db.models import F

from vmcloud.domain.clocks import elapsed
from vmcloud.domain.errors import Unavailable
from vmcloud.domain.messages import CancelOrder, RelistOrder, SignalOrder, StepOrder
from vmcloud.domain.names import native_name
from vmcloud.domain.vocabulary import SESSIONS, JobState, Kind, NodeState, StepVerb, Verb
from vmcloud.faults import point
from vmcloud.fleet.models import HOLDING, Job, Step, StepState
from vmcloud.fleet.services import queries, tickets

from .context import Context, at_hand

NO_BROKER = "the broker does not answer; the step is sent when it is back"
BACKOFF_MAX = 6
"""A step unanswered is sent again after 1, 2, ... at most this many times the resend interval."""


@at_hand
def order(context: Context, step: Step) -> StepOrder:
    """The message for a step; a fetch and a session get a fresh ticket each time it is sent."""
    job = step.job
    args: dict[str, Any] = dict(step.args)
    if step.verb == Verb.FETCH:
        args["ticket"] = tickets.make("image", args["sha256"], job=job.pk, node=step.node, now=context.clock())
        args["url"] = f"{context.config.web_url}/api/v1/blobs/{args['sha256']}"
    if step.verb in SESSIONS:
        args["ticket"] = tickets.make("session", str(job.ve), job=job.pk, node=step.node, now=context.clock())
        args["url"] = f"ws{context.config.web_url.removeprefix('http')}/api/v1/sessions/{job.pk}/node"
    about_ve = step.verb != Verb.FETCH and job.ve is not None
    return StepOrder(
        job=job.pk,
        step=step.number,
        attempt=step.attempt,
        node=step.node,
        verb=StepVerb(step.verb),
        lane=step.lane,
        ve=job.ve if about_ve else None,
        native=_native(job) if about_ve else "",
        kind=Kind(job.kind) if job.kind else None,
        generation=job.generation if about_ve else 0,
        args=args,
        timeout=step.timeout,
        owner=job.owner,
        project=job.project,
        queue=job.queue,
    )


def _native(job: Job) -> str:
    """The guest's name in its hypervisor; a stray's is what its node called it."""
    if stray := job.args.get("stray"):
        return str(stray)
    return native_name(job.ve_name, job.ve) if job.ve else ""


def send(context: Context, steps: Sequence[Step]) -> None:
    """Send or send again; the rows say when and how often. Where the broker does not answer they will be sent again."""
    if not steps:
        return
    try:
        if context.broker_rests:
            raise Unavailable(context.broker_down)
        context.orders.send(*(order(context, step) for step in steps))
    except Unavailable as error:
        if not context.broker_rests:
            context.lose_broker(error.problem.sentence())
        context.tell_all({step.job: NO_BROKER for step in steps})
        return
    context.broker_down = ""
    point("server.dispatch.sent")


def resend(context: Context) -> None:
    """Send again what was not accepted in time, ask again about what was not heard of, and repeat cancels."""
    now, times = context.clock(), context.config.intervals
    states = queries.node_states(now)
    if context.broker_rests:
        return
    for step in Step.objects.filter(state__in=HOLDING).select_related("job"):
        # Who hears nothing from the broker can not tell a silent node from a lost message.
        state = states.get(step.node)
        if step.job.cancel_requested_at is not None:
            # Also to a node that seems down, if rarely: a driver that hangs may be all that is wrong with it.
            if elapsed(step.cancel_sent_at, now) >= (times.resend if state is NodeState.UP else times.reask):
                cancel(context, step)
            continue
        if state is not NodeState.UP and state is not NodeState.UNKNOWN and not context.broker_down:
            context.tell(step.job, f"node {step.node} is {state or 'not recorded any more'}; the step waits for it")
            continue
        if step.state == StepState.SENT:
            due = times.resend * min(max(step.sent_count, 1), BACKOFF_MAX)
            silence = elapsed(step.sent_at, now)
        else:
            due, silence = times.reask, min(elapsed(step.heard_at, now), elapsed(step.sent_at, now))
        if silence >= due:
            again(context, step)


def end_overdue(context: Context) -> None:
    """Cancel jobs whose walltime is over; they end as timed out."""
    now = context.clock()
    for job in Job.objects.filter(state=JobState.RUNNING, cancel_requested_at=None, started_at__lt=now - F("walltime")):
        with context.leader.transaction():
            job.change(cancel_requested_at=now)
            context.note(job, f"its walltime of {job.walltime:g} s is over; it is stopped and undone")


@at_hand
def again(context: Context, step: Step) -> None:
    """Send one step once more; the same attempt, so that a node that knows it answers instead of doing it twice."""
    with context.leader.transaction():
        step.sent_at, step.sent_count = context.clock(), step.sent_count + 1
        Step.objects.filter(pk=step.pk).update(sent_at=step.sent_at, sent_count=step.sent_count)
        if step.state == StepState.SENT and not step.job.reason:
            step.job.change(reason=f"node {step.node} has not accepted the step yet; sent {step.sent_count} times")
    send(context, [step])


@at_hand
def cancel(context: Context, step: Step) -> None:
    """Tell the node to stop and undo a step, or never to begin it; its answer is certain."""
    if context.broker_rests:
        return
    with context.leader.transaction():
        Step.objects.filter(pk=step.pk).update(cancel_sent_at=context.clock())
    context.tell(step.job, f"waits for node {step.node} to stop and undo the step")
    say(context, stop(step))


def stop(step: Step) -> CancelOrder:
    """The message that stops a step and undoes it."""
    return CancelOrder(job=step.job_id, step=step.number, attempt=step.attempt, node=step.node)


def say(context: Context, message: CancelOrder | RelistOrder | SignalOrder) -> None:
    """Send what does no harm where it does not arrive: it is said again when there is need of it."""
    try:
        context.orders.send(message)
    except Unavailable as error:
        context.lose_broker(error.problem.sentence())


def ask_for_list(context: Context, node: str) -> None:
    """Ask a node to say everything now; where that does not arrive, its next list comes by itself."""
    if context.broker_rests:
        return
    say(context, RelistOrder(node=node))


def first_of(job: Job) -> Step | None:
    """The step of a job that holds its lane."""
    return Step.objects.filter(job=job, state__in=HOLDING).select_related("job").first()
