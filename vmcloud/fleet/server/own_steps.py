"""Steps that the server carries out itself: each one write to the directory, recognised where it was done before.

In numbered steps: (1) the step was marked as begun, in SQL; (2) the directory is written; (3) one transaction closes the step and
goes on with the job. After a crash between 1 and 3 the write is made again, and finds itself done.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from vmcloud.directory.errors import Exists, Gone, Stale
from vmcloud.directory.errors import Unavailable as DirectoryUnavailable
from vmcloud.domain.errors import Problem, Unavailable, VmcloudError
from vmcloud.domain.records import ImageRecord
from vmcloud.domain.steps import ServerVerb
from vmcloud.domain.vocabulary import JobState, Outcome
from vmcloud.faults import point
from vmcloud.fleet import gather
from vmcloud.fleet.models import HOLDING, Job, Step, StepState

from . import mend, orders, progress
from .context import Context, at_hand

log = logging.getLogger("server.steps")
Output = dict[str, Any]


class NotYet(Exception):
    """The step is under way and not over; it is looked at again. Its text says what is waited for."""


def run(context: Context) -> None:
    """Carry out what has begun."""
    for step in Step.objects.filter(node="", state__in=HOLDING, job__state=JobState.RUNNING).select_related("job"):
        if not _carried_out(context, step):
            return


@at_hand
def _carried_out(context: Context, step: Step) -> bool:
    """Carry one step out, and go on with its job. False: the directory is away; so it would be for all others."""
    job = step.job
    try:
        output = _WRITES[ServerVerb(step.verb)](context, job, step.args)
    except NotYet as error:
        context.tell(job, str(error))
        return True
    except DirectoryUnavailable as error:
        context.projection.down = error.problem.sentence()
        context.tell(job, "the directory does not answer; the job goes on when it is back")
        return False
    except Unavailable as error:
        context.tell(job, error.problem.what)
        return True
    except Stale:
        context.again = True  # somebody else wrote: decide again on what they wrote
        return True
    except VmcloudError as error:
        _close(context, step, None, error.problem)
        return True
    point("server.step.written")
    _close(context, step, output, None)
    return True


def _close(context: Context, step: Step, output: Output | None, problem: Problem | None) -> None:
    """Write down how a step ended, and what follows from that."""
    now, to_send = context.clock(), list[Step]()
    with context.leader.transaction(), gather.gathering():
        steps = progress.steps_of([step.job_id])[step.job_id]
        step = next(each for each in steps if each.number == step.number)
        job = step.job
        if problem is not None:
            progress.failed(step, problem.to_json(), undone=True, now=now)
        else:
            changes = {name: value for name, value in (output or {}).items() if name in ("directory_version", "generation")}
            if changes:
                job.change(**changes)
            result = {"output": {}, **(output or {})}
            ended = {"state": StepState.DONE, "outcome": Outcome.OK.value, "ended_at": now, "percent": 100}
            gather.change(step, **ended, result=result)
        to_send = progress.go_on(context, job, steps)
    orders.send(context, [each for each in to_send if each.node])
    context.again = True


# ------------------------------------------------------------------------------------------------------------------ the writes


def _change_node(context: Context, job: Job, args: dict[str, Any]) -> Output:
    node = context.directory.node(args["node"])
    if node is None:
        raise Gone(f"node {args['node']!r} is recorded no more", where="node")
    written = context.directory.change_node(node, **args["changes"])
    return {"directory_version": written.version}


def _add_image(context: Context, job: Job, args: dict[str, Any]) -> Output:
    about = {name: args[name] for name in ("kind", "sha256", "size")}
    record = ImageRecord(name=args["image"], description=args.get("description", ""), **about)
    stored: ImageRecord | None
    try:
        stored = context.directory.add_image(record)
    except Exists:
        stored = context.directory.image(record.name)
        if stored is None or stored.sha256 != record.sha256:
            raise
    return {"directory_version": stored.version}


def _remove_image(context: Context, job: Job, args: dict[str, Any]) -> Output:
    context.directory.remove_image(args["image"])
    return {}


def _mend(context: Context, job: Job, args: dict[str, Any]) -> Output:
    return {"jobs": mend.fix(context, job)}


def _place_ve(context: Context, job: Job, args: dict[str, Any]) -> Output:
    """The VE's place is another node from now on."""
    assert job.ve is not None
    record = context.directory.ve(job.ve)
    if record is None:
        raise Gone(f"VE {job.ve_name!r} is recorded no more", where="ve")
    written = record if record.node == args["node"] else context.directory.change_ve(record, node=args["node"])
    context.entries.learn(written)
    return {"directory_version": written.version}


_WRITES: dict[ServerVerb, Callable[[Context, Job, dict[str, Any]], Output]] = {
    ServerVerb.CHANGE_NODE: _change_node,
    ServerVerb.ADD_IMAGE: _add_image,
    ServerVerb.REMOVE_IMAGE: _remove_image,
    ServerVerb.PLACE_VE: _place_ve,
    ServerVerb.MEND: _mend,
}
