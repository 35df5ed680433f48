"""Steps that the server carries out itself: each one write to the directory, recognised where it was done before.

In numbered steps: (1) the step was marked as begun, in SQL; (2) the directory is written; (3) one transaction closes the step and
goes on with the job. After a crash between 1 and 3 the write is made again, and finds itself done.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any
from uuid import UUID

from vmcloud.directory.errors import Exists, Gone, Stale
from vmcloud.directory.errors import Unavailable as DirectoryUnavailable
from vmcloud.domain.errors import Conflict, Problem, Unavailable, VmcloudError
from vmcloud.domain.records import ImageRecord, Tombstone, VERecord
from vmcloud.domain.spec import Spec
from vmcloud.domain.steps import ServerVerb
from vmcloud.domain.vocabulary import Desired, JobState, Outcome
from vmcloud.faults import point
from vmcloud.fleet import gather
from vmcloud.fleet.models import HOLDING, Accepted, Job, Step, StepState

from . import drain, mend, orders, progress, wanted
from .context import Context, at_hand
from .drain import NotYet

log = logging.getLogger("server.steps")
Output = dict[str, Any]


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
        if step.cancel_sent_at is not None and step.undo_of is None and not drain.called_off(context, job, step):
            return True
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


def _claim_ve(context: Context, job: Job, args: dict[str, Any]) -> Output:
    """The entry of a VE that the job makes besides its own: the claim of its name, on the node where it will be."""
    spec, power = Spec.parse(args["spec"]), Desired(args["power"])
    about = {"name": args["name"], "project": args["project"], "owner": args["owner"]}
    record = VERecord(ve=UUID(args["ve"]), spec=spec, desired=power, generation=1, job=job.pk, node=args["node"], **about)
    try:
        stored = context.directory.claim(record)
    except Exists:
        todo = "Choose another one."
        raise Conflict(f"the name {record.name!r} is taken", where="name", todo=todo, code="name-taken") from None
    return {"directory_version": stored.version}


def _remove_ve(context: Context, job: Job, args: dict[str, Any]) -> Output:
    """Take such a claim back: the guest was never made, or is gone again."""
    ve = UUID(args["ve"])
    record = context.directory.ve(ve)
    with context.leader.transaction():
        wanted.gone(ve)
    if record is not None:
        context.directory.bury(Tombstone(ve=ve, name=record.name, project=record.project, at=context.clock()))
        context.directory.remove_ve(record)
    return {}


def _rename_ve(context: Context, job: Job, args: dict[str, Any]) -> Output:
    """The VE's entry gets another name. What was accepted of it is told of that first: an entry that is not where it was accepted
    goes back there (:mod:`.foreign`), which then is its new place."""
    assert job.ve is not None
    found = context.directory.find_ve(job.ve)
    if found is None or found.record is None:
        raise Gone(f"VE {job.ve_name!r} is recorded no more", where="ve")
    name, before = str(args["name"]), found.record.name
    if before != name:
        with context.leader.transaction():
            Accepted.objects.filter(pk=job.ve).update(name=name)
        context.entries.forget(job.ve)
        try:
            context.directory.move_back(found, found.record.project, name)
        except Exists:
            with context.leader.transaction():
                Accepted.objects.filter(pk=job.ve).update(name=before)
            raise Conflict(f"the name {name!r} is taken", where="name", todo="Choose another one.", code="name-taken") from None
    written = context.directory.ve(job.ve)
    return {"directory_version": written.version} if written is not None else {}


def _drain(context: Context, job: Job, args: dict[str, Any]) -> Output:
    """Migrate what is on a node, by a job for each VE; over when all of these are."""
    return drain.go_on(context, job, str(args["node"]), live=bool(args["live"]))


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
    ServerVerb.CLAIM_VE: _claim_ve,
    ServerVerb.REMOVE_VE: _remove_ve,
    ServerVerb.RENAME_VE: _rename_ve,
    ServerVerb.DRAIN: _drain,
    ServerVerb.MEND: _mend,
}
