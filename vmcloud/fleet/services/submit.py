"""Submitting: every verb becomes a job, or is refused at once with nothing left behind. What a verb takes and checks is its own
(:mod:`vmcloud.domain.verbs`)."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction

from vmcloud.domain import lease, verbs
from vmcloud.domain.arrays import ArrayRequest, Indices
from vmcloud.domain.errors import Conflict, Invalid, NotFound, Problem, VmcloudError
from vmcloud.domain.hints import Hint
from vmcloud.domain.names import check_label
from vmcloud.domain.records import VERecord
from vmcloud.domain.spec import DEFAULT_PROJECT, AdoptRequest, CreateRequest, Spec
from vmcloud.domain.terms import Terms
from vmcloud.domain.verbs import Verb
from vmcloud.domain.verbs.base import Right, refuse_absent
from vmcloud.domain.vocabulary import Desired, JobState, Kind, Observed, Outcome
from vmcloud.fleet import database, gather
from vmcloud.fleet.models import OPEN_JOBS, VE, Job

from . import arrays, claiming, filters, jobs, leases, queries, queues, submission
from .accounts import Actor
from .world import World, facts

BATCH = 1000
"""Requests in one batch."""
_ONLY_FAILED = "only what failed or was cancelled is asked for again"


def create_ve(actor: Actor, data: object, *, origin: str = "api", key: str = "") -> Job:
    """Ask for a new VE. Refused at once: bad grammar, a name taken, an unknown image, a shape no node could ever hold. The member
    ``job`` of ``data`` says when it may run (:class:`~vmcloud.domain.terms.Terms`)."""
    body, said = _without_terms(data)
    terms, now = Terms.parse(said, time.time()), time.time()
    begins = terms.not_before or now
    asked_lease = {"lease": body["lease"]} if isinstance(body, Mapping) and "lease" in body else {}
    body, fields = lease.taken_out(body, now, begins) if isinstance(body, Mapping) else (body, {})
    wanted = arrays.names(terms.array, body.get("name"), where="name") if terms.array else []
    request = CreateRequest.parse({**body, "name": wanted[0]} if wanted else body)
    name = body["name"] if wanted else request.name
    asked = {"power": request.power.value, "spec": request.spec.to_json(), **asked_lease}
    about_job = {"job": said} if said else {}
    print_ = submission.fingerprint("create", f"{request.project}/{name}", {**asked, **about_job})
    if earlier := submission.earlier(actor, key, print_):
        return earlier
    check_new(actor, request.spec)
    shown = {"project": request.project, "ve": name, "args": {**asked, "job": said}}
    filters.ask(actor, "create", shown, origin=origin)
    spec = request.spec
    sizes = {"vcpus": spec.vcpus, "memory_mib": spec.memory_mib}
    queue = queues.choose(actor, terms.queue, **sizes, lease=leases.seconds_of(fields, begins), count=len(wanted) or 1)
    spec = leases.granted(spec, fields, queue, begins)
    asked["spec"] = spec.to_json()
    record = VERecord(uuid.uuid4(), name, request.project, actor.username, spec, request.power, generation=1, job=0)
    about = {"queue": queue, "origin": origin, "key": key, "fingerprint": print_}
    if wanted:
        return claiming.claim_many(actor, record, wanted, asked, terms, **about)
    return claiming.claim_one(actor, "create", record, asked, terms, **about)


def check_new(actor: Actor, spec: Spec) -> None:
    """Refuse a VE that no node of this cloud could ever be, or that ``actor`` may not have."""
    create = verbs.of("create")
    verbs.check_able(spec.kind, create)
    if spec.privileged:
        actor.demand_admin("create a privileged VE")
    create.check(World(), None, spec)


def adopt(actor: Actor, node: str, native: str, data: object, *, origin: str = "api", key: str = "") -> Job:
    """Ask for a guest that is recorded nowhere to become a VE. Refused at once: one that runs, that bears a VE's UUID, whose
    memory has no limit and that is given none, a name taken. What only its node can see is refused there, and nothing has
    changed."""
    actor.demand_admin("adopt a guest")
    request = AdoptRequest.parse(data)
    owner = request.owner or actor.username
    about = {"owner": owner, "restart": request.restart, "drift": request.drift, "description": request.description}
    target = f"{node}/{native}"
    print_ = submission.fingerprint("adopt", f"{request.project}/{request.name}", {"from": target, **request.sizes, **about})
    if earlier := submission.earlier(actor, key, print_):
        return earlier
    stray = queries.stray(actor, node, native)
    verbs.check_able(Kind(stray.kind), verbs.of("adopt"))
    if stray.ve is not None:
        why = f"it bears the UUID {stray.ve} of a VE"
        todo = "Add the VE's entry to the directory again, with this vmcUUID and its old name; or remove the guest by hand."
        raise Conflict(f"{target} is not a guest that somebody else made", where="stray", why=why, todo=todo)
    if stray.state not in (Observed.STOPPED, Observed.CRASHED):
        text = f"Stop it on node {node} with the tools it was made with, adopt it, then {{}}."
        then = Hint(text, "ve.start", {"ve": request.name})
        raise Conflict(f"{target} is {stray.state}", where="stray", why="only what is stopped can get another name", todo=then)
    if not (stray.memory_mib or request.memory_mib):
        todo = "Say which one it is to have: --memory 512M."
        raise Invalid(f"{target} has no limit of memory", where="memory_mib", todo=todo)
    if owner != actor.username and not User.objects.filter(username=owner).exists():
        raise NotFound(f"no user is called {owner!r}", where="owner")
    if Job.objects.filter(verb="adopt", state__in=OPEN_JOBS, args__target=target).exists():
        raise Conflict(f"{target} is being adopted", where="stray", todo=Hint("{} shows the job.", "job.list"))
    spec = request.spec(Kind(stray.kind), stray.vcpus, stray.memory_mib)
    asked = {"target": target, "orphan": native, "sizes": request.sizes, "spec": spec.to_json()}
    filters.ask(actor, "adopt", {"project": request.project, "ve": request.name, "node": node, "args": asked}, origin=origin)
    record = VERecord(uuid.uuid4(), request.name, request.project, owner, spec, Desired.STOPPED, generation=1, job=0)
    queue = queues.choose(actor, "")
    about = {"queue": queue, "node": node, "origin": origin, "key": key, "fingerprint": print_}
    return claiming.claim_one(actor, "adopt", record, asked, submission.ANY_TIME, **about)


_OWN_WAYS = frozenset({"create", "adopt"})
"""Verbs that make a VE of nothing that has an entry."""


def _without_terms(data: Any) -> tuple[Any, Any]:
    """What was asked for, and apart from it the member ``job``."""
    if not isinstance(data, Mapping):
        return data, {}
    asked = dict(data)
    return asked, asked.pop("job", {})


def act(
    actor: Actor,
    ve_ref: str,
    verb: str,
    args: Mapping[str, Any] | None = None,
    *,
    project: str = "main",
    origin: str = "api",
    key: str = "",
) -> Job:
    """Ask for a verb on an existing VE. The member ``job`` of ``args`` says when it may run
    (:class:`~vmcloud.domain.terms.Terms`)."""
    about = {"project": project, "origin": origin, "key": key}
    job = _act(actor, ve_ref, verbs.parse(verb), args, World(), filtered=False, **about)
    submission.wake()
    return job


@database.again
def act_many(actor: Actor, requests: object, *, origin: str = "api") -> list[Job | Problem]:
    """Many requests at once, each as :func:`act` takes it: ``{"verb": ..., "ve": ..., "project": ..., "args": {}, "key": ...}``.
    What is refused does not hinder the others; all that are not are written in one transaction."""
    if not isinstance(requests, list) or not requests or len(requests) > BATCH:
        raise Invalid(f"a list of 1 to {BATCH} requests is needed", where="requests")
    made: list[Job | Problem] = []
    world = World()
    refused = filters.refusals(actor, requests, origin=origin)
    with transaction.atomic(), gather.gathering():
        for number, request in enumerate(requests):
            try:
                if number in refused:
                    raise refused[number]
                made.append(_one_of_many(actor, request, f"requests[{number}]", origin, world))
            except VmcloudError as error:
                made.append(error.problem)
    submission.wake()
    return made


def _one_of_many(actor: Actor, request: object, where: str, origin: str, world: World) -> Job:
    fields = ("verb", "ve", "project", "args", "key")
    if not isinstance(request, dict) or set(request) - set(fields):
        raise Invalid("a JSON object is needed", where=where, todo=f"Its fields are {', '.join(fields)}.")
    said = {name: request.get(name, "") for name in ("verb", "ve", "project", "key")}
    args = request.get("args", {})
    if not isinstance(args, dict) or not all(isinstance(value, str) for value in said.values()):
        raise Invalid("verb, ve, project and key are texts, args is an object", where=where)
    about = {"project": said["project"] or DEFAULT_PROJECT, "origin": origin, "key": said["key"]}
    return _act(actor, said["ve"], verbs.parse(said["verb"], f"{where}.verb"), args, world, filtered=True, **about)


def _act(
    actor: Actor,
    ve_ref: str,
    verb: Verb,
    args: Mapping[str, Any] | None,
    world: World,
    *,
    project: str,
    origin: str,
    key: str,
    filtered: bool,
) -> Job:
    """``filtered``: the submit filter was asked already."""
    args = dict(args or {})
    if earlier := submission.earlier(actor, key, print_ := submission.fingerprint(verb.name, f"{project}/{ve_ref}", args)):
        return earlier
    said = args.pop("job", {})
    terms = Terms.parse(said, time.time())
    row = None if terms.array else queries.ve(actor, ve_ref, project)
    if terms != submission.ANY_TIME and verb.session:
        raise Invalid("a session begins at once or not at all", where="job")
    if verb.object != "ve" or verb.name in _OWN_WAYS:
        raise Invalid(f"{verb} is no verb for an existing VE", where="verb")
    about = {"key": key, "fingerprint": print_, "origin": origin}
    if row is None:
        shown = {"project": project, "ve": ve_ref, "args": {**args, "job": said}}
        if not filtered:
            filters.ask(actor, verb.name, shown, origin=origin)
        return _act_array(actor, ve_ref, verb, args, terms, world, project=project, **about)
    asked = checked(row, verb, args, world, actor)
    if not filtered:
        shown = {"project": row.project, "ve": row.name, "node": row.node, "args": {**asked, "job": said}}
        filters.ask(actor, verb.name, shown, origin=origin)
    queue = "" if verb.session else queue_for(actor, asked, terms.queue)
    return submission.write(actor, verb.name, terms, project=row.project, queue=queue, **_of(row, asked), **about)


def _of(row: VE, asked: dict[str, Any]) -> dict[str, Any]:
    return {"ve": row.uuid, "ve_name": row.name, "kind": row.kind, "node": row.node, "args": asked}


@database.again
def _act_array(
    actor: Actor, pattern: str, verb: Verb, args: dict[str, Any], terms: Terms, world: World, *, project: str, **about: Any
) -> Job:
    """An array of a verb on existing VEs. What is refused for one of them is refused for all."""
    assert terms.array is not None
    rows = arrays.ves(actor, arrays.names(terms.array, pattern, where="ve"), project)
    asked = [checked(row, verb, dict(args), world, actor) for row in rows]
    queue = queue_for(actor, asked[0], terms.queue, count=len(rows))
    with transaction.atomic():
        array = submission.write(actor, verb.name, terms, project=project, ve_name=pattern, args=asked[0], queue=queue, **about)
        if not Job.objects.filter(array=array.pk).exists():
            arrays.write_parts(array, [_of(row, each) for row, each in zip(rows, asked, strict=True)])
            for row in (row for row, each in zip(rows, asked, strict=True) if leases.renews(each, array.created_at)):
                leases.call_off(row.uuid, actor)
    return array


def queue_for(actor: Actor, asked: Mapping[str, Any], name: str = "", *, count: int = 1) -> str:
    """The queue for a job, or ``count`` of them, with these checked arguments on an existing VE."""
    size = asked.get("size", {})
    sizes = {each: size.get(each) or 0 for each in ("vcpus", "memory_mib")}
    return queues.choose(actor, name, **sizes, lease=leases.seconds_of(asked, time.time()), count=count)


def checked(row: VE, verb: Verb, args: Mapping[str, Any], world: World, actor: Actor) -> dict[str, Any]:
    """The arguments of ``verb`` on this VE, with their defaults; refuses what could never work."""
    if verb.right is Right.ADMINISTRATOR:
        actor.demand_admin(f"{verb} a VE")
    subject = facts(row)
    verbs.check_able(subject.kind, verb)
    refuse_absent(subject, verb)
    return verb.check(world, subject, verb.parse(args))


def retry(actor: Actor, ref: jobs.Ref, *, origin: str = "api", key: str = "") -> Job:
    """Ask again for what a complete job was asked for and did not do; of an array, or of some of its parts, an array of those
    that did not end well."""
    meant = jobs.meant(actor, ref)
    job = meant.job
    if (meant.parts is None or meant.ref.parts is None) and (job.state != JobState.COMPLETE or job.outcome == Outcome.OK):
        what = "ended well" if job.state == JobState.COMPLETE else "is not complete"
        raise Conflict(f"job {job.ref} {what}", where="job", why=_ONLY_FAILED)
    terms: dict[str, Any] = {"queue": job.queue}
    if meant.parts is not None:
        over = [part for part in meant.parts if part.state == JobState.COMPLETE and part.outcome != Outcome.OK]
        if not over:
            raise Conflict(f"none of {meant.ref} is over and did not end well", where="job", why=_ONLY_FAILED)
        terms |= {"array": str(ArrayRequest(Indices.of([part.index or 0 for part in over]), job.slots))}
    verb = verbs.parse(job.verb)
    asked = verb.again(job.args)
    if asked is None:
        raise Invalid(f"{verb} is not asked for again by its number", where="job", todo="Give the command anew.")
    if verb.name == "create":
        about = {"name": job.ve_name, "project": job.project}
        return create_ve(actor, {**asked, **about, "job": terms}, origin=origin, key=key)
    if verb.object == "node":
        return node_action(actor, job.node, verb.name, asked, origin=origin, key=key)
    target = job.ve_name if job.size else str(job.ve)
    return act(actor, target, verb.name, {**asked, "job": terms}, project=job.project, origin=origin, key=key)


def node_action(
    actor: Actor, name: str, verb: str, args: Mapping[str, Any] | None = None, *, origin: str = "api", key: str = ""
) -> Job:
    """Ask for a verb on a node, such as cordon (no new placements), which uncordon lifts."""
    actor.demand_admin(f"{verb} a node")
    said = dict(args or {})
    if earlier := submission.earlier(actor, key, print_ := submission.fingerprint(verb, name, said)):
        return earlier
    node, known = queries.node(actor, check_label(name, where="node")), verbs.parse(verb)
    if known.object != "node":
        raise Invalid(f"{verb} is no verb for a node", where="verb")
    asked = known.check(World(), node.name, known.parse(said))
    return _queue(actor, verb, key=key, fingerprint=print_, node=node.name, args=asked, origin=origin)


def image_action(
    actor: Actor, name: str, verb: str, args: Mapping[str, Any] | None = None, *, origin: str = "api", key: str = ""
) -> Job:
    """Ask for a verb on an image that is there, such as delete-image."""
    known = verbs.parse(verb)
    actor.demand_admin(f"{known.command or verb} an image")
    if known.object != "image" or verb == "import":
        raise Invalid(f"{verb} is no verb for an image that is there", where="verb")
    said = {**(args or {}), "image": name}
    if earlier := submission.earlier(actor, key, print_ := submission.fingerprint(verb, name, said)):
        return earlier
    asked = known.check(World(), name, known.parse(said))
    return _queue(actor, verb, key=key, fingerprint=print_, args=asked, origin=origin)


def queue_reconcile(actor: Actor, part: dict[str, Any], *, origin: str, key: str) -> Job:
    """Queue the job with which the leader mends what it finds (``part``: of one VE by its UUID, of one node)."""
    return _once(actor, "reconcile", "", part, origin=origin, key=key)


def queue_import(actor: Actor, asked: dict[str, Any], *, origin: str, key: str) -> Job:
    """Queue the job that records a stored archive as an image (``asked``: image, kind, sha256, size, description)."""
    return _once(actor, "import", asked["image"], asked, origin=origin, key=key)


def _once(actor: Actor, verb: str, target: str, args: dict[str, Any], *, origin: str, key: str) -> Job:
    """Queue a job that is about no VE and no node; or the one that the same request made before."""
    print_ = submission.fingerprint(verb, target, args)
    about = {"key": key, "fingerprint": print_, "args": args}
    return submission.earlier(actor, key, print_) or _queue(actor, verb, origin=origin, **about)


def _queue(actor: Actor, verb: str, *, origin: str, **fields: Any) -> Job:
    filters.ask(actor, verb, {name: value for name, value in fields.items() if name in ("node", "args")}, origin=origin)
    job = submission.write(actor, verb, submission.ANY_TIME, origin=origin, **fields)
    submission.wake()
    return job
