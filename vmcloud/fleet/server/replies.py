"""What nodes say: accepted, refused, progress, result, digest. Late words about an old attempt change nothing."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from typing import Any

from django.db import DatabaseError, transaction

from vmcloud.dispatch.routes import speaker
from vmcloud.domain.clocks import elapsed
from vmcloud.domain.errors import Invalid
from vmcloud.domain.messages import Accepted, Digest, Message, Progress, Refused, Result, Wake, parse
from vmcloud.domain.status import MISSES_UNTIL_LOST
from vmcloud.domain.vocabulary import JobState, Outcome, StepVerb
from vmcloud.faults import point
from vmcloud.fleet import gather
from vmcloud.fleet.models import HOLDING, Liveness, Misses, Step, StepState

from . import abandon, dropped, memory, progress, quarantine
from .beats import TAKEN, Beats
from .context import Context, at_hand
from .inbox import Report

log = logging.getLogger(__name__)

FINAL_REFUSALS = ("stale", "gone")
"""Refusals that no further sending could cure."""
NO_GUEST = "no-such-guest"
"""The code of a step whose node looked and did not find the guest."""
Said = Accepted | Refused | Progress | Result


def handle(context: Context, reports: Sequence[Report]) -> list[Step]:
    """Take in reports, inside a transaction; the steps to send once it is committed.

    What can not be taken in is logged and dropped: one node's nonsense must not hold up what the others say.
    """
    try:
        with memory.undoing(), transaction.atomic(), gather.gathering():
            return _handle(context, reports)
    except (DatabaseError, gather.Clash):
        raise
    except Exception as error:
        if len(reports) > 1:
            return [step for report in reports for step in handle(context, [report])]
        log.exception("dropped a report on %s that could not be taken in", reports[0].list_name)
        quarantine.set_item_aside(context, reports[0], error)
        return []


def _handle(context: Context, reports: Sequence[Report]) -> list[Step]:
    messages = [said for report in reports if (said := _read(report)) is not None]
    steps = progress.steps_of({message.job for _, message in messages if isinstance(message, Said)})
    to_send: list[Step] = []
    beats = Beats({node for node, message in messages if isinstance(message, Digest)})
    for node, message in messages:
        if isinstance(message, Refused | Result):
            beats.write()  # what these lead to is written into the same rows
        match message:
            case Wake():
                context.again = True
            case Digest():
                gather.flush()
                to_send += _digest(context, node, message, beats)
            case Accepted() | Refused() | Progress() | Result():
                step = _spoken_of(steps.get(message.job, ()), node, message)
                if step is None:
                    gather.flush()
                    dropped.strangers(context, node, [message.job])
                    abandon.late(context, node, message)
                elif _about_step(context, step, message):
                    to_send += progress.go_on(context, step.job, steps[step.job_id])
            case _:
                log.error("dropped a %s message from node %s: it does not belong to the server", message.type, node)
    beats.write()
    _heard(context, {node for node, message in messages if isinstance(message, Said)})
    return [step for step in to_send if step.state == StepState.SENT]


def _spoken_of(steps: Sequence[Step], node: str, message: Said) -> Step | None:
    """The step that a node speaks of, if that is under way there just now, in the attempt that it says."""
    for step in steps:
        if (step.number, step.attempt, step.node) == (message.step, message.attempt, node) and step.state in HOLDING:
            return step if step.job.state == JobState.RUNNING else None
    return None


def _read(report: Report) -> tuple[str, Message] | None:
    """The node that speaks, and what it says; None for what no node may say."""
    try:
        message = parse(report.body)
    except Invalid as error:
        log.error("dropped a message on %s: %s", report.list_name, error)
        dropped.message(report.list_name, error.problem.what)
        return None
    node = speaker(report.list_name)
    said = getattr(message, "node", node)
    if said != node:
        log.error("dropped a message on %s that claims to be from node %s", report.list_name, said)
        dropped.message(report.list_name, f"it claims to be from node {said}")
        return None
    return node, message


def _heard(context: Context, nodes: Collection[str]) -> None:
    """Whatever a node says shows that it lives; written once a second at most."""
    now = context.clock()
    news = [node for node in nodes if abs(now - context.heard.get(node, 0.0)) > 1.0]
    if news:
        context.heard.update(dict.fromkeys(news, now))
        Liveness.objects.filter(node__in=news, heard_at__lt=now).update(heard_at=now)


@at_hand
def _about_step(context: Context, step: Step, message: Said) -> bool:
    """Write down what is said of a step; whether that may lead to something."""
    now, job = context.clock(), step.job
    match message:
        case Accepted(running=running):
            state = StepState.RUNNING if running else step.state
            changes: dict[str, Any] = {"state": StepState.ACCEPTED if state == StepState.SENT else state, "heard_at": now}
            if step.accepted_at is None:
                changes["accepted_at"] = now
            gather.change(step, **changes)
            job.change(reason=_progress(step))
        case Progress(name=name, percent=percent):
            gather.change(step, state=StepState.RUNNING, phase=name[:100], percent=percent, heard_at=now)
            job.change(reason=_progress(step))
        case Refused(code=code, message=text):
            _refused(context, step, code, text)
            return step.state == StepState.DONE
        case Result():
            point("server.result.received")
            _result(context, step, message)
            return True
    return False


def _progress(step: Step) -> str:
    """How far a step was said to be last; empty if nothing was said."""
    far = f" {step.percent} %" if step.percent >= 0 else ""
    return f"{step.verb} on {step.node}: {step.phase}{far}" if step.phase else ""


def _refused(context: Context, step: Step, code: str, text: str) -> None:
    reason = f"node {step.node} refuses the step ({code}): {text}"[:1000]
    if code in FINAL_REFUSALS:
        progress.failed(step, {"code": code, "what": reason}, code == "gone", context.clock())
        return
    if step.job.reason != reason:
        context.note(step.job, reason)
    step.job.change(reason=reason)
    if code == "clock":
        Liveness.objects.filter(node=step.node).update(refusal=text[:500])


def _result(context: Context, step: Step, result: Result) -> None:
    """Close the step."""
    data, now = result.to_json(), context.clock()
    gather.change(step, state=StepState.DONE, outcome=result.outcome.value, result=data, ended_at=now, percent=100)
    for note in result.notes:
        context.note(step.job, note)
    if result.outcome is Outcome.OK and step.verb == StepVerb.FETCH:
        _note_image(step)
    if result.error is not None and result.error.code == NO_GUEST and step.ve is not None:
        # The node looked and it is not there: lost, without waiting for two lists to say so.
        Misses.objects.update_or_create(ve=step.ve, defaults={"node": step.node, "count": MISSES_UNTIL_LOST})


def _note_image(step: Step) -> None:
    live, _ = Liveness.objects.get_or_create(node=step.node)
    if step.args["sha256"] not in live.images:
        Liveness.objects.filter(node=step.node).update(images=[*live.images, step.args["sha256"]])


def _digest(context: Context, node: str, digest: Digest, beats: Beats) -> list[Step]:
    """Liveness, images, misses; and steps that the node should be working on and is not are sent again."""
    now = context.clock()
    if not beats.take(digest, now, context.config.intervals.clock_skew):
        return []
    working = {(job, step) for job, step, _ in digest.working}
    abandon.under_way(context, node, {job for job, _ in working})
    dropped.strangers(context, node, {job for job, _ in working})
    context.again = True
    if node not in beats.busy:
        return []
    return [
        step
        for step in Step.objects.filter(node=node, state__in=TAKEN).select_related("job")
        if (step.job_id, step.number) not in working and elapsed(step.heard_at, now) > context.config.intervals.resend
    ]
