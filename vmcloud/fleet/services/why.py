"""Why a job is where it is, all of it: what it waits for, what each node says to it, and what would let it go on. Read only when
somebody asks; the job's own reason is the short form of it, written by the leader."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.db.models import Q

from vmcloud.domain import verbs
from vmcloud.domain.admission import HOLD_WORDS, met
from vmcloud.domain.errors import Problem, VmcloudError
from vmcloud.domain.lease import duration, said
from vmcloud.domain.placement import place
from vmcloud.domain.queueing import Filling, keeps_waiting
from vmcloud.domain.spec import Spec
from vmcloud.domain.terms import PRIORITY, Hold
from vmcloud.domain.vocabulary import JobState, NodeState, Outcome, Verb
from vmcloud.fleet.models import HOLDING, UNBEGUN, VE, Job, JobLink, Lease, Liveness, StepState

from . import admission, arrays, jobs, queries, queues, views
from .accounts import Actor

NAMED = 5
"""Other jobs that are named; of more it is said how many."""
SILENT = 10.0
"""Seconds after the end of the leader's lease until nobody is said to lead."""


@dataclass(frozen=True)
class Cause:
    """One thing that a job waits for, or that happened to it. ``what``: a word for programs; ``todo``: what lets it go on."""

    what: str
    text: str
    todo: str = ""

    def to_json(self) -> dict[str, str]:
        """Plain values."""
        return {"what": self.what, "text": self.text, "todo": self.todo}


def explain(actor: Actor, ref: jobs.Ref) -> dict[str, Any]:
    """All that can be said of one job, array or part."""
    job, now = jobs.get(actor, ref), time.time()
    shown = views.job_json(job)
    nodes: dict[str, str] = {}
    state = JobState(job.state)
    if state in UNBEGUN:
        nodes = _nodes(job, now)
        causes = [*_nobody_leads(now), *_parts(shown), *_before_it_begins(job, now), *_room(job, nodes)]
    elif state is JobState.COMPLETE:
        causes = list(_ended(job))
    else:
        causes = [*_nobody_leads(now), *_parts(shown), *_under_way(job, now)]
    return {
        "id": job.pk,
        "ref": job.ref,
        "state": job.state,
        "state_name": shown["state_name"],
        "reason": shown["reason"],
        "outcome": job.outcome or None,
        "causes": [cause.to_json() for cause in causes],
        "nodes": [{"name": name, "reason": why} for name, why in sorted(nodes.items())],
        "queue": _queue(job),
    }


def _parts(shown: dict[str, Any]) -> Iterator[Cause]:
    """How an array's parts are."""
    if (array := shown["array"]) is not None:
        states = ", ".join(f"{count} {'ended' if state == 'X' else state}" for state, count in sorted(array["states"].items()))
        most = f"; {array['slots']} may run at once" if array["slots"] else ""
        yield Cause("array", f"of its {array['size']} parts are: {states}{most}", f"`vmcloud job list --array '{shown['ref']}'`")


def _nobody_leads(now: float) -> Iterator[Cause]:
    row = Lease.objects.filter(name="server").first()
    if row is None or now > row.expires + SILENT:
        yield Cause(
            "server", "no server leads just now, so no job begins or ends", "See `vmcloud status` on the server's machine."
        )


# ----------------------------------------------------------------------------------------------------------- not begun yet


def _before_it_begins(job: Job, now: float) -> Iterator[Cause]:
    if job.cancel_requested_at is not None:
        yield Cause("cancel", "its end was asked for; it never begins")
        return
    for each in Hold:
        if each in job.holds:
            who = "" if each is Hold.USER else f" --who {each}"
            yield Cause("hold", f"it is held by {HOLD_WORDS[each]}", f"`vmcloud job release {job.ref}{who}`")
    yield from _dependencies(job)
    if job.not_before is not None and job.not_before > now:
        left = duration(job.not_before - now)
        why = "is tried again" if job.tries else "begins"
        yield Cause(
            "time", f"it {why} at {said(job.not_before)} at the earliest, in {left}", f"`vmcloud job alter {job.ref} --at +1s`"
        )
    if job.state != JobState.QUEUED:
        return
    yield from _slots(job)
    yield from _lane(job)
    queue = queues.load().get(job.queue)
    why = keeps_waiting(queue, job.owner, queues.fillings([job.queue]).get(job.queue, Filling())) if job.queue else ""
    if why and job.priority <= PRIORITY[1]:
        ways = f"`vmcloud queue set {job.queue} --help`, `vmcloud job run {job.ref}`"
        yield Cause("queue", why, f"`vmcloud job move QUEUE {job.ref}`; an administrator: {ways}")
    yield from _its_node(job, now)


def _dependencies(job: Job) -> Iterator[Cause]:
    numbers = [job.pk, *([job.array] if job.array is not None else [])]  # what its array waits for, a part does
    found = admission.links_of(numbers)
    rows = list(JobLink.objects.filter(job__in=numbers).order_by("id").values_list("job", "other"))
    states = dict(Job.objects.filter(pk__in=[other for _, other in rows]).values_list("pk", "state"))
    for number in numbers:
        others = [other for of, other in rows if of == number]
        for other, link in zip(others, found.get(number, ()), strict=True):
            if link.counted or met(link):
                continue
            state = views.STATE_WORDS[JobState(states[other])] if other in states else "not known any more"
            many = f", {link.count} parts" if link.count else ""
            text = f"it waits for job {link.job} ({link.type}{many}), which is {state}"
            yield Cause("dependency", text, f"`vmcloud job why {link.job}`")
    if job.awaits:
        done = sum(link.counted and bool(met(link)) for link in found.get(job.pk, ()))
        if done < job.awaits:
            text = f"it waits for {job.awaits} jobs that are to run before it; {done} have"
            yield Cause("dependency", text, f"`vmcloud job alter {job.ref} --depend ''`")


def _slots(job: Job) -> Iterator[Cause]:
    """Of a part: that as many as may run of its array do."""
    if job.array is None or arrays.slots_free().get(job.array, 1) > 0:
        return
    array = Job.objects.get(pk=job.array)
    text = f"of its array {array.ref} as many parts run as may at once: {array.slots}"
    yield Cause("slots", text, f"`vmcloud job alter '{array.ref}' --slots N`")


def _lane(job: Job) -> Iterator[Cause]:
    """Jobs on the same VE that come first."""
    if job.ve is None or job.verb in verbs.sessions():
        return
    begun = Q(state__in=(JobState.RUNNING, JobState.EXITING))
    first = Q(state=JobState.QUEUED) & (Q(rank__lt=job.rank) | Q(rank=job.rank, pk__lt=job.pk))
    found = (
        Job.objects.filter(begun | first, ve=job.ve).exclude(pk=job.pk).exclude(verb__in=verbs.sessions()).order_by("rank", "pk")
    )
    rows = list(found[: NAMED + 1])
    if rows:
        words = ", ".join(f"job {each.pk} ({each.verb}, {views.STATE_WORDS[JobState(each.state)]})" for each in rows[:NAMED])
        more = " and others" if len(rows) > NAMED else ""
        yield Cause("lane", f"on the same VE come first: {words}{more}", f"`vmcloud job why {rows[0].pk}`")


def _its_node(job: Job, now: float) -> Iterator[Cause]:
    """Of a VE that is placed: whether its node can do anything."""
    node = VE.objects.filter(pk=job.ve).values_list("node", flat=True).first() if job.ve else job.node
    if not node:
        return
    state = queries.node_states(now).get(node)
    if state is NodeState.UP:
        return
    heard = Liveness.objects.filter(node=node).values_list("heard_at", flat=True).first()
    last = f"; it was heard {duration(now - heard)} ago" if heard else ""
    deaf = f" ({why})" if state is NodeState.UNKNOWN and (why := queries.deafness(now)) else ""
    text = f"node {node}, where the VE is, is {state or 'not recorded'}{last}{deaf}"
    yield Cause("node", text, f"Look at `vmcloud node show {node}`; the job begins when the node is heard again.")


def _nodes(job: Job, now: float) -> dict[str, str]:
    """Of a create that is not placed yet: why each node does not take it; empty where one does, or none is asked."""
    placed = VE.objects.filter(pk=job.ve).exclude(node="").exists()
    if job.verb != Verb.CREATE or placed or "spec" not in job.args:
        return {}
    try:
        spec = Spec.parse(job.args["spec"])
    except VmcloudError:
        return {}
    queue = queues.load().get(job.queue)
    placement = place(spec, queries.candidates(now), queue.labels if queue else ())
    return {} if placement.node else dict(placement.reasons)


def _room(job: Job, nodes: dict[str, str]) -> Iterator[Cause]:
    if nodes:
        short = [
            f"{name} has {why.removesuffix(' short')} more free" for name, why in sorted(nodes.items()) if why.endswith("short")
        ]
        cordoned = [name for name, why in sorted(nodes.items()) if why.startswith("cordoned")]
        ways = [f"once {' or '.join(short[:NAMED])}"] if short else []
        ways += [f"after `vmcloud node uncordon {cordoned[0]}`"] if cordoned else []
        yield Cause("room", "no node takes it now", f"It begins {', or '.join(ways)}." if ways else "")


def _queue(job: Job) -> dict[str, Any] | None:
    """Its queue, how full that is, and how many of its jobs come before this one."""
    if not job.queue or job.queue not in queues.load():
        return None
    shown = queues.queue_json(job.queue)
    limits = {name: shown[name] for name in ("max_running", "max_user_running") if shown[name]}
    ahead = 0
    if job.state == JobState.QUEUED:
        later = Q(rank__lt=job.rank) | Q(rank=job.rank, pk__lt=job.pk)
        first = Q(priority__gt=job.priority) | (Q(priority=job.priority) & later)
        ahead = Job.objects.filter(first, queue=job.queue, state=JobState.QUEUED, size=0).count()
    about = {name: shown[name] for name in ("name", "enabled", "started", "priority", "queued", "running")}
    return {**about, "limits": limits, "ahead": ahead}


# -------------------------------------------------------------------------------------------------------- begun, and ended


def _under_way(job: Job, now: float) -> Iterator[Cause]:
    states = queries.node_states(now)
    if job.cancel_requested_at is not None:
        asked = f"its end was asked for {duration(now - job.cancel_requested_at)} ago"
        how = {"force": ", by force", "rerun": "; it then begins anew"}.get(job.ending, "; it is stopped and undone")
        todo = f"Where its node does not answer: `vmcloud job cancel {job.ref} --force`, which says what may be left."
        yield Cause("cancel", asked + how, todo)
    for step in job.steps.filter(state__in=(*HOLDING, StepState.PLANNED)):
        state = states.get(step.node)
        if state is not NodeState.UP:
            yield Cause(
                "node",
                f"node {step.node} is {state or 'not recorded'}; the step waits for it",
                f"`vmcloud node show {step.node}`",
            )
        if step.state == StepState.PLANNED:
            yield Cause("step", f"{step.verb} on node {step.node} comes after it")
        elif step.state == StepState.SENT:
            yield Cause("step", f"{step.verb} was sent to node {step.node} {_times(step.sent_count)}, which has not taken it yet")
        else:
            percent = f" {step.percent} %" if step.percent >= 0 else ""
            where = (
                f", {step.phase}{percent}" if step.phase else ", waits there for its turn" * (step.state == StepState.ACCEPTED)
            )
            hung = step.phase.startswith("hung")
            todo = f"`vmcloud job signal {job.ref} KILL` ends the call, and the step begins again; or cancel it." if hung else ""
            took = f" for {duration(now - step.accepted_at)}" if step.accepted_at else ""
            yield Cause("hung" if hung else "step", f"node {step.node} has had {step.verb}{took}{where}", todo)
    if job.state == JobState.EXITING:
        text = f"its work is over ({job.outcome}); it is complete when the directory shows what came of it"
        yield Cause(
            "directory",
            f"{text}: {job.reason}" if job.reason else text,
            "`vmcloud status` says how the directory and the monitor are.",
        )
    if job.walltime is not None and job.started_at is not None and (left := job.started_at + job.walltime - now) > 0:
        yield Cause("walltime", f"it is ended in {duration(left)}, when its walltime is over")


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _ended(job: Job) -> Iterator[Cause]:
    if job.outcome == Outcome.OK:
        yield Cause("ended", "it ended well" + (f"; {job.reason}" if job.reason else ""))
        return
    problem = Problem.from_json(job.error) if job.error else None
    text = f"it ended {job.outcome}" + (f": {problem.sentence()}" if problem else f": {job.reason}" if job.reason else "")
    never = " It never ran." if (job.result or {}).get("never_ran") else ""
    yield Cause("ended", text + never, (problem.todo if problem else "") or f"Ask again: `vmcloud job retry {job.ref}`.")
