"""Queues as objects: look, make, alter, remove; and the queue that a new job goes to."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Count

from vmcloud.domain.errors import Conflict, Impossible, Invalid, NotFound
from vmcloud.domain.hints import Hint
from vmcloud.domain.lease import length
from vmcloud.domain.queueing import DEFAULT_QUEUE, Entry, Filling, Queue, route
from vmcloud.domain.vocabulary import JobState
from vmcloud.fleet import ports
from vmcloud.fleet.models import UNBEGUN, Job, QueueRow

from . import feed, jobs, waiting
from .accounts import Actor
from .jobs import Ref


def load() -> dict[str, Queue]:
    """All queues by name; the default one is there also if nobody has made it."""
    found = {DEFAULT_QUEUE: Queue(DEFAULT_QUEUE)}
    found |= {name: Queue.parse(name, data) for name, data in QueueRow.objects.order_by("name").values_list("name", "data")}
    return dict(sorted(found.items()))


def fillings(names: Iterable[str] | None = None) -> dict[str, Filling]:
    """How full queues are; of all of them, or of those named. An array counts as its parts."""
    rows = Job.objects.exclude(queue="").exclude(state=JobState.COMPLETE).filter(size=0)
    if names is not None:
        rows = rows.filter(queue__in=list(names))
    queued: dict[str, dict[str, int]] = {}
    running: dict[str, dict[str, int]] = {}
    for queue, owner, state, count in rows.values_list("queue", "owner", "state").annotate(count=Count("id")).order_by():
        for held in (queued, *([] if state in (*UNBEGUN, JobState.CLAIMING) else [running])):
            of = held.setdefault(queue, {})
            of[owner] = of.get(owner, 0) + count
    return {
        name: Filling(sum(of.values()), sum(running.get(name, {}).values()), of, running.get(name, {}))
        for name, of in queued.items()
    }


def choose(actor: Actor, name: str, *, vcpus: int = 0, memory_mib: int = 0, lease: float | None = None, count: int = 1) -> str:
    """The queue for a new job, or ``count`` of them, that asks for ``name`` (empty: the default). Refused in words where none
    takes it. Two requests at once may both find the last place: a limit on what waits is no promise to the last job."""
    known = load()
    name = name or DEFAULT_QUEUE
    if name not in known:
        raise NotFound(f"no queue is called {name!r}", where="job.queue", todo=Hint("{} shows all.", "queue.list"))
    limited = any(queue.max_queued or queue.max_user_queued for queue in known.values())
    entry = Entry(actor.username, actor.is_admin, vcpus, memory_mib, lease, count)
    chosen, why = route(name, known, entry, fillings() if limited else {})
    if not chosen:
        raise Impossible("no queue takes this job", where="job.queue", why=why, code="queue")
    return chosen


def queues_json() -> list[dict[str, Any]]:
    """All queues, and how full they are."""
    full = fillings()
    return [_json(queue, full.get(name, Filling())) for name, queue in load().items()]


def queue_json(name: str) -> dict[str, Any]:
    """One queue."""
    return _json(get(name), fillings([name]).get(name, Filling()))


def _json(queue: Queue, filling: Filling) -> dict[str, Any]:
    return {**queue.to_json(), "queued": filling.queued - filling.running, "running": filling.running}


def get(name: str) -> Queue:
    """One queue; :class:`NotFound` if there is none."""
    found = load().get(name)
    if found is None:
        raise NotFound(f"no queue is called {name!r}", where="queue", todo=Hint("{} shows all.", "queue.list"))
    return found


def create(actor: Actor, data: object) -> Queue:
    """A new queue: ``{"name": ..., limits...}``."""
    actor.demand_admin("make a queue")
    if not isinstance(data, Mapping):
        raise Invalid("a JSON object is needed", todo='Send {"name": "batch", "max_running": 5}.')
    said = dict(data)
    queue = Queue.parse(said.pop("name", None), said)
    _check_routes(queue)
    try:
        with transaction.atomic():
            QueueRow.objects.create(name=queue.name, data=_stored(queue))
            feed.changed("queue", queue.name)
    except IntegrityError:
        todo = Hint("Alter it: {}.", "queue.set", {"queue": queue.name})
        raise Conflict(f"the name {queue.name!r} is taken", where="name", todo=todo, code="name-taken") from None
    return queue


def alter(actor: Actor, name: str, data: Mapping[str, Any]) -> Queue:
    """Other limits; jobs that wait are looked at anew."""
    actor.demand_admin("alter a queue")
    if not data:
        raise Invalid("nothing to alter was given", where="body")
    queue = get(name).altered(data)
    _check_routes(queue)
    with transaction.atomic():
        QueueRow.objects.update_or_create(name=name, defaults={"data": _stored(queue)})
        feed.changed("queue", name)
    ports.sender().wake("jobs")
    return queue


def remove(actor: Actor, name: str) -> None:
    """Remove an empty queue to which none routes; the default one gets its defaults back."""
    actor.demand_admin("remove a queue")
    get(name)
    with transaction.atomic():
        if users := [queue.name for queue in load().values() if name in queue.routes]:
            raise Conflict(f"queue {name!r} is a route of {', '.join(users)}", where="queue", todo="Take it out there first.")
        if count := Job.objects.filter(queue=name).exclude(state=JobState.COMPLETE).count():
            todo = Hint(
                "Let it take no more ({}), and move or wait for its jobs.", "queue.set", {"queue": name, "disabled": True}
            )
            raise Conflict(f"queue {name!r} has {count} job{'s' * (count > 1)}", where="queue", todo=todo)
        QueueRow.objects.filter(name=name).delete()
        if name == DEFAULT_QUEUE:
            QueueRow.objects.create(name=name)
        feed.changed("queue", name)


def move(actor: Actor, ref: Ref, name: str) -> Job:
    """Put a job that has not begun into another queue (Torque's qmove); of an array, those parts that have not."""
    meant = jobs.meant(actor, ref)
    job = meant.job
    if not job.queue:
        why = "what the rules ask for, and sessions, are in none"
        raise Conflict(f"job {job.ref} is in no queue", where="job", why=why)
    moving = [job] if meant.parts is None else [part for part in meant.parts if part.state in UNBEGUN]
    wanted = job.args.get("spec") or job.args.get("size") or job.args
    sizes = {each: wanted.get(each) or 0 for each in ("vcpus", "memory_mib")}
    lease = length(wanted["lease_end"], time.time()) if "lease_end" in wanted else None
    chosen = choose(actor, name, **sizes, lease=lease, count=max(1, len(moving)))
    return waiting.change(actor, ref, f"move to queue {chosen}", lambda job: {"queue": chosen})


def _check_routes(queue: Queue) -> None:
    known = load()
    for each in queue.routes:
        if each not in known:
            raise NotFound(f"no queue is called {each!r}", where="routes", todo=Hint("{} shows all.", "queue.list"))


def _stored(queue: Queue) -> dict[str, Any]:
    return {name: value for name, value in queue.to_json().items() if name != "name"}
