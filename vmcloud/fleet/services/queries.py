"""Reading: what an actor may see, from the read model."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Mapping
from uuid import UUID

from django.db.models import Q, QuerySet, Sum

from vmcloud.domain import verbs
from vmcloud.domain.arrays import Indices, JobRef
from vmcloud.domain.clocks import elapsed
from vmcloud.domain.errors import Invalid, NotFound
from vmcloud.domain.hints import Hint
from vmcloud.domain.lease import duration
from vmcloud.domain.placement import Candidate
from vmcloud.domain.vocabulary import JobState, Kind, NodeState
from vmcloud.fleet import ports
from vmcloud.fleet.models import OPEN_JOBS, VE, ArchivedJob, Image, Job, Lease, Liveness, Node, Step, Stray

from . import audit, capacity
from .accounts import SERVER, Actor
from .audit import Door

RANGES = 200
"""Ranges of indices in one question."""


def ves(actor: Actor, project: str = "", filters: Mapping[str, str] | None = None) -> QuerySet[VE]:
    """VEs the actor may see, by project and name. ``project`` empty: all. Filters: ``node kind owner desired name``."""
    found = VE.objects.order_by("project", "name")
    if project:
        found = found.filter(project=project)
    if not actor.is_admin:
        found = found.filter(owner=actor.username)
    return _filtered(found, filters, ("node", "kind", "owner", "desired", "name"))


def ve(actor: Actor, ref: str, project: str = "main") -> VE:
    """One VE by name (in ``project``) or UUID; :class:`NotFound` if there is none the actor may see."""
    found = VE.objects.filter(_ref(ref, project)).first()
    if found is None or not actor.may(found.owner):
        if found is not None:
            audit.denied(Door.RIGHTS, f"VE {found.name}", f"it is {found.owner}'s", who=actor.username)
        raise NotFound(f"no VE is called {ref!r} in project {project!r}", where="ve", todo=Hint("{} shows all.", "ve.list"))
    return found


def _ref(ref: str, project: str) -> Q:
    try:
        return Q(uuid=UUID(ref))
    except ValueError:
        return Q(project=project, name=ref)


def jobs(actor: Actor, filters: Mapping[str, str] | None = None) -> QuerySet[Job]:
    """Jobs the actor may see, newest first: their own, and what the rules do with their VEs. Filters: ``state ve node verb owner
    queue active array indices expand``.

    An array is one job: its parts are there only if asked for, by ``expand``, by ``array`` (its number; ``indices``: some of
    them) or by what only they have, a VE or a node."""
    found = Job.objects.exclude(state=JobState.CLAIMING)
    filters = dict(filters or {})
    if filters.pop("active", "") in ("1", "true", "yes"):
        found = found.exclude(state=JobState.COMPLETE)
    return _jobs(actor, found, filters, ("state", "node", "verb", "owner", "queue"))


def archived(actor: Actor, filters: Mapping[str, str] | None = None) -> QuerySet[ArchivedJob]:
    """The same of archived jobs; filters besides: ``outcome``, and not ``state`` and ``active``."""
    found = ArchivedJob.objects.all()
    return _jobs(actor, found, dict(filters or {}), ("node", "verb", "owner", "queue", "outcome"))


def _jobs(actor: Actor, found: QuerySet, filters: dict[str, str], known: Iterable[str]) -> QuerySet:
    found = found.order_by("-id")
    if not actor.is_admin:
        theirs = VE.objects.filter(owner=actor.username).values("uuid")
        found = found.filter(Q(owner=actor.username) | Q(owner=SERVER.username, ve__in=theirs))
    array, indices = filters.pop("array", ""), filters.pop("indices", "")
    if array or indices:
        found = _parts(found, array, indices)
    elif filters.pop("expand", "") not in ("1", "true", "yes") and not {"ve", "node"} & set(filters):
        found = found.filter(array=None)
    filters.pop("expand", "")
    if name := filters.pop("ve", ""):
        found = found.filter(_job_of_ve(name))
    return _filtered(found, filters, known)


def _parts(found: QuerySet, array: str, indices: str) -> QuerySet:
    said = JobRef.parse(array or "", where="array")
    found = found.filter(array=said.number)
    if not indices:
        return found
    ranges = Indices.parse(indices, "indices").ranges
    if len(ranges) > RANGES:
        raise Invalid(f"{len(ranges)} ranges, {RANGES} are allowed", where="indices")
    return found.filter(functools.reduce(Q.__or__, (Q(index__range=each) for each in ranges)))


def _job_of_ve(ref: str) -> Q:
    try:
        return Q(ve=UUID(ref))
    except ValueError:
        return Q(ve_name=ref)


def nodes(actor: Actor) -> QuerySet[Node]:
    """All nodes by name; everybody may see them."""
    return Node.objects.order_by("name")


def node(actor: Actor, name: str) -> Node:
    """One node."""
    found = Node.objects.filter(name=name).first()
    if found is None:
        raise NotFound(f"no node is called {name!r}", where="node", todo=Hint("{} shows all.", "node.list"))
    return found


def images(actor: Actor) -> QuerySet[Image]:
    """All images by name; everybody may use them."""
    return Image.objects.order_by("name")


def image(actor: Actor, name: str) -> Image:
    """One image."""
    found = Image.objects.filter(name=name).first()
    if found is None:
        raise NotFound(f"no image is called {name!r}", where="image", todo=Hint("{} shows all.", "image.list"))
    return found


def strays() -> QuerySet[Stray]:
    """Guests that do not belong where they were seen."""
    return Stray.objects.order_by("key")


def strays_for(actor: Actor, filters: Mapping[str, str] | None = None) -> QuerySet[Stray]:
    """The same for an actor, who must be an administrator. Filters: ``node kind``."""
    actor.demand_admin("see what is recorded nowhere")
    return _filtered(strays(), filters, ("node", "kind"))


def stray(actor: Actor, node: str, native: str) -> Stray:
    """One of them."""
    found = strays_for(actor).filter(node=node, native=native).first()
    if found is None:
        raise NotFound(
            f"no guest {native!r} of node {node!r} is without a record",
            where="stray",
            todo=Hint("{} shows all.", "ve.list", {"orphans": True}),
        )
    return found


def _filtered(found: QuerySet, filters: Mapping[str, str] | None, known: Iterable[str]) -> QuerySet:
    for name, value in (filters or {}).items():
        if name not in known:
            raise Invalid(f"no filter is called {name!r}", where=name, todo=f"Known filters: {', '.join(known)}.")
        found = found.filter(**{name: value})
    return found


def node_states(now: float, names: Collection[str] | None = None) -> dict[str, NodeState]:
    """Every known node's state, or that of these: up if it was heard in time, down if it was not although the server has listened
    for as long, or was told to be down before; else unknown."""
    limit, since = ports.cloud().intervals.node_down, listens_since(now)
    heard, nodes = Liveness.objects.all(), Node.objects.all()
    if names is not None:
        heard, nodes = heard.filter(node__in=names), nodes.filter(name__in=names)
    live = {name: (heard_at, told) for name, heard_at, told in heard.values_list("node", "heard_at", "told")}
    known = nodes.values_list("name", flat=True)
    return {name: node_state(*live.get(name, (0.0, "")), since=since, now=now, limit=limit) for name in known}


def node_state(heard_at: float, told: str, *, since: float | None, now: float, limit: float) -> NodeState:
    """One node's state. ``heard_at``: when it was last heard; ``told``: its state as events told it last; ``since``: when the
    server began to listen, None if nobody does; all in seconds since the epoch, 0.0 for never."""
    if not heard_at:
        return NodeState.UNKNOWN
    if elapsed(heard_at, now) <= limit:
        return NodeState.UP
    silent = since is not None and elapsed(since, now) > limit
    return NodeState.DOWN if silent or told == NodeState.DOWN else NodeState.UNKNOWN


def listens_since(now: float) -> float | None:
    """Since when the server that leads has heard the broker without a break; None if there is none, or it does not hear it. Only
    for as long the silence of a node says anything about the node."""
    lease = Lease.objects.exclude(holder="").filter(expires__gt=now, listens_since__gt=0.0).first()
    return lease.listens_since if lease is not None else None


def deafness(now: float) -> str:
    """Why the silence of nodes says nothing just now, in words; empty if it does."""
    since = listens_since(now)
    if since is None:
        return "no server hears the broker just now"
    if elapsed(since, now) <= ports.cloud().intervals.node_down:
        return f"the server has listened for {duration(now - since)} only"
    return ""


def candidates(now: float, reserved: Mapping[str, int] | None = None) -> list[Candidate]:
    """All nodes as placement sees them. ``reserved``: memory (MiB) per node beside what the read model shows."""
    states = node_states(now)
    used = dict(reserved or {})
    for name, memory in _placed_memory():
        used[name] = used.get(name, 0) + memory
    known = capacity.confirmed()
    nodes = [(each, capacity.believed(each, known)) for each in Node.objects.all()]
    return [
        Candidate(
            name=each.name,
            state=states[each.name],
            kinds=frozenset(Kind(kind) for kind in has.kinds),
            cpus=has.cpus,
            memory_mib=has.memory_mib,
            used_mib=used.get(each.name, 0),
            cordoned=each.cordoned,
            maintenance=each.maintenance,
            simulated=each.simulated,
            labels=frozenset(each.labels),
            note=each.description[:100],
        )
        for each, has in nodes
    ]


def _placed_memory() -> Iterable[tuple[str, int]]:
    summed = VE.objects.exclude(node="").exclude(desired="absent").values_list("node").annotate(total=Sum("memory_mib"))
    return [(name, int(total or 0)) for name, total in summed]


def elsewhere(ves: Collection[UUID] | None = None) -> dict[UUID, list[str]]:
    """Of each VE, or of these: nodes that show a guest of it besides its own, where no step under way (as of a migration) has to
    do with it there."""
    found: dict[UUID, list[str]] = {}
    about: dict[str, object] = {"ve__isnull": False} if ves is None else {"ve__in": ves}
    for ve, name in Stray.objects.filter(**about).values_list("ve", "node"):
        found.setdefault(ve, []).append(name)
    if found:
        steps = Step.objects.filter(ve__in=list(found), job__state__in=(JobState.RUNNING, JobState.EXITING)).exclude(node="")
        for ve, name in set(steps.values_list("ve", "node")):
            found[ve] = [each for each in found[ve] if each != name]
    return found


def changing() -> QuerySet[Job]:
    """Open jobs that change something; a session with a VE does not, and one that never began wants nothing yet."""
    tried = Q(state=JobState.WAITING, tries__gt=0)
    return Job.objects.filter(Q(state__in=OPEN_JOBS) | tried).exclude(verb__in=verbs.sessions())


def open_verbs(ves: Iterable[UUID] | None = None) -> dict[UUID, str]:
    """The verb of each VE's first open job that changes something; of all VEs if none are named."""
    found: dict[UUID, str] = {}
    jobs = changing().filter(ve__isnull=False) if ves is None else changing().filter(ve__in=list(ves))
    for ve_id, verb in jobs.order_by("id").values_list("ve", "verb"):
        found.setdefault(ve_id, verb)
    return found
