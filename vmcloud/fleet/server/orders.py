"""Sending steps to nodes, and again until they are answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db.models import F

from vmcloud.config import Intervals
from vmcloud.domain.clocks import elapsed
from vmcloud.domain.errors import Unavailable
from vmcloud.domain.messages import CancelOrder, RelistOrder, SignalOrder, StepOrder
from vmcloud.domain.vocabulary import SESSION_STEPS, JobState, Kind, NodeState, StepVerb
from vmcloud.faults import point
from vmcloud.fleet import gather
from vmcloud.fleet.models import HOLDING, Job, Step, StepState
from vmcloud.fleet.services import queries, tickets

from . import progress
from .context import Context, at_hand

NO_BROKER = "the broker does not answer; the step is sent when it is back"
NODE_DOWN = "node-down"
"""The code of a step that was given up because its node is down."""
BACKOFF_MAX = 6
"""A step unanswered is sent again after 1, 2, ... at most this many times the resend interval."""


@at_hand
def order(context: Context, step: Step) -> StepOrder:
    """The message for a step; a fetch and a session get a fresh ticket each time it is sent."""
    job, verb = step.job, StepVerb(step.verb)
    args: dict[str, Any] = dict(step.args)
    if verb is StepVerb.FETCH:
        args["ticket"] = tickets.make("image", args["sha256"], job=job.pk, node=step.node, now=context.clock())
        args["url"] = f"{context.config.web_url}/api/v1/blobs/{args['sha256']}"
    if verb in SESSION_STEPS:
        args["ticket"] = tickets.make("session", str(job.ve), job=job.pk, node=step.node, now=context.clock())
        args["url"] = f"ws{context.config.web_url.removeprefix('http')}/api/v1/sessions/{job.pk}/node"
    return StepOrder(
        job=job.pk,
        step=step.number,
        attempt=step.attempt,
        node=step.node,
        verb=verb,
        lane=step.lane,
        ve=step.ve,
        native=step.native,
        kind=Kind(job.kind) if job.kind else None,
        generation=(job.generation if step.ve == job.ve else 1) if step.ve is not None else 0,
        args=args,
        timeout=step.timeout,
        owner=job.owner,
        project=job.project,
        queue=job.queue,
    )


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
    """Send again what was not accepted in time, ask again about what was not heard of, and repeat cancels; all together. To a
    node that is down nothing is sent: what it has not heard it hears when it speaks again."""
    now, times = context.clock(), context.config.intervals
    states = queries.node_states(now)
    if context.broker_rests:
        return
    again: list[Step] = []
    cancels: list[Step] = []
    told: dict[Job, str] = {}
    lost: list[Step] = []
    for step in Step.objects.filter(state__in=HOLDING).exclude(node="").select_related("job"):
        # Who hears nothing from the broker can not tell a silent node from a lost message.
        state = states.get(step.node)
        if state is not NodeState.UP and state is not NodeState.UNKNOWN and not context.broker_down:
            if step.gives_up:
                lost.append(step)
                continue
            told[step.job] = f"node {step.node} is {state or 'not recorded any more'}; the step waits for it"
        elif step.cancel_sent_at is not None:
            if elapsed(step.cancel_sent_at, now) >= times.resend:
                cancels.append(step)
        elif _is_due(step, now, times):
            again.append(step)
    context.tell_all(told)
    _give_up(context, lost)
    _send_again(context, again)
    cancel(context, cancels)


def _give_up(context: Context, steps: Sequence[Step]) -> None:
    """Count steps as failed whose nodes are down, where nothing can come of them any more: their jobs go on from there."""
    for step in steps:
        what = f"node {step.node} is down"
        error = {"code": NODE_DOWN, "what": what, "todo": f"See `vmcloud node show {step.node}`; ask again when it is back."}
        with context.leader.transaction(), gather.gathering():
            context.note(step.job, f"{what}: step {step.key} is given up")
            progress.failed(step, error, undone=False, now=context.clock())
    context.again = True


def _is_due(step: Step, now: float, times: Intervals) -> bool:
    """Whether a step is to be sent, or asked about, once more."""
    if step.state == StepState.SENT:
        return elapsed(step.sent_at, now) >= times.resend * min(max(step.sent_count, 1), BACKOFF_MAX)
    return min(elapsed(step.heard_at, now), elapsed(step.sent_at, now)) >= times.reask


def end_overdue(context: Context) -> None:
    """Cancel jobs whose walltime is over; they end as timed out."""
    now = context.clock()
    for job in Job.objects.filter(state=JobState.RUNNING, cancel_requested_at=None, started_at__lt=now - F("walltime")):
        with context.leader.transaction():
            job.change(cancel_requested_at=now)
            context.note(job, f"its walltime of {job.walltime:g} s is over; it is stopped and undone")


def _send_again(context: Context, steps: Sequence[Step]) -> None:
    """Send steps once more; the same attempts, so that a node that knows one answers instead of doing it twice."""
    if not steps:
        return
    with context.leader.transaction(), gather.gathering():
        for step in steps:
            gather.change(step, sent_at=context.clock(), sent_count=step.sent_count + 1)
            if step.state == StepState.SENT and not step.job.reason:
                step.job.change(reason=f"node {step.node} has not accepted the step yet; sent {step.sent_count} times")
    send(context, steps)


def cancel(context: Context, steps: Sequence[Step]) -> None:
    """Tell nodes to stop and undo steps, or never to begin them; their answers are certain. All together."""
    if context.broker_rests or not steps:
        return
    states = queries.node_states(context.clock())
    reached = [step for step in steps if step.node and states.get(step.node) in (NodeState.UP, NodeState.UNKNOWN)]
    with context.leader.transaction(), gather.gathering():
        for step in reached:
            gather.change(step, cancel_sent_at=context.clock())
    context.tell_all({step.job: f"waits for node {step.node} to stop and undo the step" for step in steps if step.node})
    say(context, *map(stop, reached))


def cancel_due(context: Context) -> None:
    """The same of those steps that were found to be stopped since."""
    steps = list(context.to_cancel)
    context.to_cancel.clear()
    cancel(context, steps)


def stop(step: Step) -> CancelOrder:
    """The message that stops a step and undoes it."""
    return CancelOrder(job=step.job_id, step=step.number, attempt=step.attempt, node=step.node)


def say(context: Context, *messages: CancelOrder | RelistOrder | SignalOrder) -> None:
    """Send what does no harm where it does not arrive: it is said again when there is need of it."""
    if not messages:
        return
    try:
        context.orders.send(*messages)
    except Unavailable as error:
        context.lose_broker(error.problem.sentence())


def ask_for_list(context: Context, node: str) -> None:
    """Ask a node to say everything now; where that does not arrive, its next list comes by itself."""
    if context.broker_rests:
        return
    say(context, RelistOrder(node=node))
