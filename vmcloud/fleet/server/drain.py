"""Draining a node: a migration for each VE that it has, in a job of its own; the drain is over when all of these are."""

from __future__ import annotations

from typing import Any

from vmcloud.domain import verbs
from vmcloud.domain.errors import Conflict
from vmcloud.domain.verbs.ve.migrate import Migrate
from vmcloud.domain.vocabulary import JobState, Outcome
from vmcloud.fleet import gather
from vmcloud.fleet.models import Job, Step
from vmcloud.fleet.services import drains, lanes

from .context import Context

NAMED = 5
"""VEs that are named of those that could not be moved."""


class NotYet(Exception):
    """A step is under way and not over; it is looked at again. Its text says what is waited for."""


def go_on(context: Context, job: Job, node: str, *, live: bool) -> dict[str, Any]:
    """Make the migrations that are not made yet, and see whether all are over. Raises :class:`NotYet`, and :class:`Conflict`
    where some VEs stay. Done again after a crash it makes none for what has one by then."""
    moves = drains.plan(node, context.clock())
    made = {each.ve: each for each in drains.moves_of(job)}
    new = [each for each in moves if not each.why_not and each.ve not in made]
    if new:
        migrate = verbs.of("migrate")
        assert isinstance(migrate, Migrate)
        with context.leader.transaction(), gather.gathering():
            for move in new:
                args = {"node": "", "live": live and move.live, "grace": 30.0}
                about = {"project": move.project, "ve": move.ve, "ve_name": move.name, "kind": move.kind, "node": node}
                now = context.clock()
                fields = {"owner": job.owner, "origin": drains.origin(job), "rank": now, "created_at": now}
                each = Job.objects.create(verb=migrate.name, args=args, **about, **fields)
                context.note(each, f"node {node} is drained by job {job.pk}")
                lanes.enter([each])
                each.tell()
        context.again = True
        raise NotYet(f"{len(new)} VEs are to be moved")
    if still := [each for each in made.values() if each.state != JobState.COMPLETE]:
        raise NotYet(f"{len(made) - len(still)} of {len(made)} VEs were looked after; job {still[0].pk} moves {still[0].ve_name}")
    stay = [f"{each.name}: {each.why_not}" for each in moves if each.why_not]
    stay += [f"{each.ve_name}: {each.reason}" for each in made.values() if each.outcome != Outcome.OK]
    if stay:
        why = "; ".join(stay[:NAMED]) + (f"; and {len(stay) - NAMED} more" if len(stay) > NAMED else "")
        todo = f"It stays cordoned. Look at these VEs, then drain it again: `vmcloud node drain {node}`."
        raise Conflict(f"{len(stay)} VEs stay on node {node}", where="node", why=why, todo=todo, code="not-drained")
    return {"jobs": sorted(each.pk for each in made.values())}


def called_off(context: Context, job: Job, step: Step) -> bool:
    """The end of a job was asked for whose step the server carries out: the migrations that a drain has begun are called off, and
    it ends when they have. False: they have not yet. Other steps are over in a moment, and simply go on."""
    open_moves = [each for each in drains.moves_of(job) if each.state != JobState.COMPLETE]
    with context.leader.transaction(), gather.gathering():
        for each in open_moves:
            if each.cancel_requested_at is None:
                each.change(cancel_requested_at=context.clock())
                context.note(each, f"called off: the end of job {job.pk} was asked for")
    if open_moves:
        context.tell(job, f"waits for {len(open_moves)} migrations to be called off")
    return not open_moves
