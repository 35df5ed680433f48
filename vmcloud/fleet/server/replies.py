"""What nodes say: accepted, refused, progress, result, digest. Late words about an old attempt change nothing."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import DatabaseError, transaction

from vmcloud.dispatch.routes import speaker
from vmcloud.domain.admission import retry_pause
from vmcloud.domain.clocks import elapsed
from vmcloud.domain.errors import REQUEUE, Invalid
from vmcloud.domain.messages import Accepted, Digest, Message, Progress, Refused, Result, Wake, parse
from vmcloud.domain.status import MISSES_UNTIL_LOST
from vmcloud.domain.vocabulary import Ending, JobState, Outcome, Verb
from vmcloud.faults import point
from vmcloud.fleet import gather
from vmcloud.fleet.models import HOLDING, VE, Job, Liveness, Misses, Step, StepState
from vmcloud.fleet.services import usage

from . import abandon, dropped, lanes
from .context import Context
from .inbox import Report

log = logging.getLogger(__name__)

FETCH_ATTEMPTS = 5
"""How often a fetch whose failure is worth another try is tried."""
REQUEUES = 5
"""How often a job is put back into its queue because the node asks for it, also where no retries were asked for."""
REPLANS = 3
"""How often a create is planned anew because its image vanished from the node."""
FINAL_REFUSALS = ("stale", "gone")
"""Refusals that no further sending could cure."""


Said = Accepted | Refused | Progress | Result
Key = tuple[int, int, int, str]
"""Job, number, attempt, node: what a node says of a step counts for this one only."""


@dataclass
class Steps:
    """The steps that are spoken of and their jobs' later ones, as they were when the reports were taken in."""

    spoken_of: dict[Key, Step]
    planned: dict[int, list[Step]]


def handle(context: Context, reports: Sequence[Report]) -> list[Step]:
    """Take in reports, inside a transaction; the steps to send once it is committed.

    What can not be taken in is logged and dropped: one node's nonsense must not hold up what the others say.
    """
    try:
        with transaction.atomic(), gather.gathering():
            return _handle(context, reports)
    except DatabaseError:
        raise
    except Exception:
        if len(reports) > 1:
            return [step for report in reports for step in handle(context, [report])]
        log.exception("dropped a report on %s that could not be taken in", reports[0].list_name)
        return []


def _handle(context: Context, reports: Sequence[Report]) -> list[Step]:
    messages = [said for report in reports if (said := _read(report)) is not None]
    steps = _steps([message for _, message in messages if isinstance(message, Said)])
    to_send: list[Step] = []
    for node, message in messages:
        match message:
            case Wake():
                context.again = True
            case Digest():
                gather.flush()
                to_send += _digest(context, node, message)
            case Accepted() | Refused() | Progress() | Result():
                step = steps.spoken_of.get((message.job, message.step, message.attempt, node))
                if step is not None and step.state in HOLDING:
                    to_send += _about_step(context, step, message, steps.planned.get(step.job_id, ()))
                else:
                    gather.flush()
                    dropped.strangers(context, node, [message.job])
                    abandon.late(context, node, message)
            case _:
                log.error("dropped a %s message from node %s: it does not belong to the server", message.type, node)
    _heard(context, {node for node, message in messages if isinstance(message, Said)})
    return to_send


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


def _steps(messages: Sequence[Said]) -> Steps:
    jobs = {message.job for message in messages}
    found = Steps({}, {})
    if not jobs:
        return found
    rows = Step.objects.filter(job_id__in=jobs, state__in=(*HOLDING, StepState.PLANNED)).select_related("job")
    for step in rows.order_by("job_id", "number"):
        if step.state == StepState.PLANNED:
            found.planned.setdefault(step.job_id, []).append(step)
        else:
            found.spoken_of[step.job_id, step.number, step.attempt, step.node] = step
    return found


def _about_step(context: Context, step: Step, message: Said, planned: Sequence[Step]) -> list[Step]:
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
            return _refused(context, step, code, text)
        case Result():
            point("server.result.received")
            return _result(context, step, message, planned)
    return []


def _progress(step: Step) -> str:
    """How far a step was said to be last; empty if nothing was said."""
    far = f" {step.percent} %" if step.percent >= 0 else ""
    return f"{step.verb} on {step.node}: {step.phase}{far}" if step.phase else ""


def _refused(context: Context, step: Step, code: str, text: str) -> list[Step]:
    reason = f"node {step.node} refuses the step ({code}): {text}"[:1000]
    if code in FINAL_REFUSALS:
        _end(context, step, Outcome.FAILED)
        context.exit(step.job, Outcome.FAILED, error={"code": code, "what": reason}, result={"undone": code == "gone"})
        return []
    if step.job.reason != reason:
        context.note(step.job, reason)
    step.job.change(reason=reason)
    if code == "clock":
        Liveness.objects.filter(node=step.node).update(refusal=text[:500])
    return []


def _end(context: Context, step: Step, outcome: Outcome, result: dict[str, Any] | None = None) -> None:
    gather.change(step, state=StepState.DONE, outcome=outcome.value, result=result, ended_at=context.clock(), percent=100)


def _result(context: Context, step: Step, result: Result, planned: Sequence[Step]) -> list[Step]:
    """Close the step; the next one of its job begins, or the job is over."""
    job, data = step.job, result.to_json()
    _end(context, step, result.outcome, data)
    for note in result.notes:
        context.note(job, note)
    if result.outcome is Outcome.OK:
        if step.verb == Verb.FETCH:
            _note_image(step)
        following = planned[0] if planned else None
        if following is not None and job.cancel_requested_at is None:
            gather.change(following, state=StepState.SENT, sent_at=context.clock(), sent_count=1)
            job.change(reason="")
            following.job = job
            return [following]
        if following is not None and job.ending == Ending.RERUN:
            _back_into_queue(context, job, result)
            return []
        if following is not None:
            context.exit(job, Outcome.CANCELLED, result={**data, "undone": True})
            return []
    elif result.outcome is Outcome.CANCELLED and job.ending == Ending.RERUN:
        _back_into_queue(context, job, result)
        return []
    elif _image_vanished(context, step, result):
        return []
    elif step.verb == Verb.FETCH and result.retryable and step.attempt < FETCH_ATTEMPTS and job.cancel_requested_at is None:
        return [_another_attempt(context, step, result)]
    elif _worth_another_try(job, result):
        _try_again(context, step, result)
        return []
    elif result.error is not None and result.error.code == "no-such-guest" and job.ve is not None:
        # The node looked and it is not there: lost, without waiting for two lists to say so.
        Misses.objects.update_or_create(ve=job.ve, defaults={"node": step.node, "count": MISSES_UNTIL_LOST})
    error = result.error.to_json() if result.error else None
    if step.verb == Verb.FETCH:
        data["undone"] = True
    context.exit(job, result.outcome, error=error, result=data)
    return []


def _another_attempt(context: Context, step: Step, result: Result) -> Step:
    now = context.clock()
    why = result.error.sentence() if result.error else "no reason given"
    context.note(step.job, f"attempt {step.attempt} to fetch the image failed and is repeated: {why}")
    again = {"state": StepState.SENT, "attempt": step.attempt + 1, "outcome": "", "result": None, "ended_at": None}
    gather.change(step, **again, sent_at=now, sent_count=1, heard_at=None, accepted_at=None, percent=-1)
    return step


def _worth_another_try(job: Job, result: Result) -> bool:
    wanted = result.outcome is not Outcome.CANCELLED and job.cancel_requested_at is None
    return wanted and result.retryable and job.tries < _tries_more(job, result)


def _tries_more(job: Job, result: Result) -> int:
    """How many tries more than one the job may have."""
    asked = result.error is not None and result.error.code == REQUEUE
    return max(job.retries, REQUEUES) if asked else job.retries


def _try_again(context: Context, step: Step, result: Result) -> None:
    """The job was told to be tried again: it waits a moment and begins anew, in later attempts of its steps."""
    job, tries = step.job, step.job.tries + 1
    why = result.error.sentence() if result.error else "no reason given"
    pause = retry_pause(tries)
    context.note(job, f"try {tries} of {_tries_more(job, result) + 1} failed and is repeated in {pause:g} s: {why}")
    reason, not_before = f"to be tried again: {why}"[:1000], context.clock() + pause
    job.change(state=JobState.WAITING, tries=tries, not_before=not_before, before=_anew(job, result), reason=reason)


def _back_into_queue(context: Context, job: Job, result: Result) -> None:
    """The job was stopped so that it begins anew."""
    context.note(job, f"stopped{' and undone' if result.undone else ''}; it is back in its queue and begins anew")
    ended = {"cancel_requested_at": None, "ending": "", "started_at": None, "reason": ""}
    job.change(state=JobState.QUEUED, before=_anew(job, result), tries=job.tries + 1, **ended)
    context.again = True


def _anew(job: Job, result: Result) -> dict[str, Any]:
    """Forget the steps of a job that begins anew, with later attempts of the same numbers; what ``before`` is then."""
    Step.objects.filter(job=job).delete()
    lanes.free([job.ve])
    return {**job.before, "replans": int(job.before.get("replans", 0)) + 1, "undone": result.undone}


def _note_image(step: Step) -> None:
    live, _ = Liveness.objects.get_or_create(node=step.node)
    if step.args["sha256"] not in live.images:
        Liveness.objects.filter(node=step.node).update(images=[*live.images, step.args["sha256"]])


def _image_vanished(context: Context, step: Step, result: Result) -> bool:
    """A create that did not find the image which its node was thought to have: plan it anew, with a fetch."""
    if step.verb != Verb.CREATE or result.error is None or result.error.code != "no-image":
        return False
    live = Liveness.objects.filter(node=step.node).first()
    sha256 = step.args["image_sha256"]
    if live is None or sha256 not in live.images:
        return False
    Liveness.objects.filter(node=step.node).update(images=[each for each in live.images if each != sha256])
    replans = int(step.job.before.get("replans", 0)) + 1
    if replans > REPLANS:
        return False
    # Later attempts of the same numbers: the node's journal answers the earlier ones from its record.
    Step.objects.filter(job=step.job).delete()
    context.note(step.job, f"image {sha256[:12]} is not on node {step.node} any more; it is fetched again")
    step.job.change(state=JobState.QUEUED, reason="", before={**step.job.before, "replans": replans})
    context.again = True
    return True


def _digest(context: Context, node: str, digest: Digest) -> list[Step]:
    """Liveness, images, misses; and steps that the node should be working on and is not are sent again."""
    now = context.clock()
    live, _ = Liveness.objects.get_or_create(node=node)
    if (digest.mark.epoch, digest.mark.sequence) <= (live.epoch, live.sequence):
        return []
    skew = context.config.intervals.clock_skew
    off = digest.at - now
    if digest.full:
        live.previous_count, live.count = live.count, digest.count
        _count_misses(digest)
    live.epoch, live.sequence, live.heard_at = digest.mark.epoch, digest.mark.sequence, now
    live.images, live.usage = list(digest.images), usage.newest(live.usage, digest)
    live.refusal = f"its clock is {abs(off):.0f} s {'ahead' if off > 0 else 'behind'}; set it" if abs(off) > skew else ""
    live.save()
    working = {(job, step) for job, step, _ in digest.working}
    abandon.under_way(context, node, {job for job, _ in working})
    dropped.strangers(context, node, {job for job, _ in working})
    forgotten = [
        step
        for step in Step.objects.filter(node=node, state__in=(StepState.ACCEPTED, StepState.RUNNING)).select_related("job")
        if (step.job_id, step.number) not in working and elapsed(step.heard_at, now) > context.config.intervals.resend
    ]
    context.again = True
    return forgotten


def _count_misses(digest: Digest) -> None:
    """Only VEs that are placed on the speaker; what it says of others' is not its business."""
    own = dict(VE.objects.filter(node=digest.node).values_list("uuid", "name"))
    missing = set(digest.missing) & set(own)
    known = dict(Misses.objects.filter(ve__in=list(own)).values_list("ve", "count"))
    for ve in missing:
        Misses.objects.update_or_create(ve=ve, defaults={"node": digest.node, "count": known.get(ve, 0) + 1})
    Misses.objects.filter(ve__in=[ve for ve in known if ve not in missing]).delete()
