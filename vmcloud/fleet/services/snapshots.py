"""Snapshots of a VE: what there is of them, and what may be asked about them.

What counts is the read model and, on top of it, the VE's open jobs in their order: a snapshot that a job before this one takes
can be meant, one that a job before this one deletes can not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmcloud.domain.errors import Conflict, Invalid, NotFound
from vmcloud.domain.messages import Snapshot
from vmcloud.domain.names import check_label
from vmcloud.domain.vocabulary import Desired, Observed, Outcome, Verb
from vmcloud.fleet.models import OPEN_JOBS, UNBEGUN, VE, Job

from .moments import moment

MAX = 32
"""Snapshots of one VE."""
VERBS = (Verb.SNAPSHOT, Verb.REVERT, Verb.DELETE_SNAPSHOT)


def shown(row: VE) -> list[dict[str, Any]]:
    """The VE's snapshots as people are shown them, oldest first."""
    kept = sorted(row.snapshots, key=lambda each: (each["at"], each["name"]))
    return [{"name": each["name"], "job": each["job"], "at": moment(each["at"])} for each in kept]


def expected(row: VE) -> dict[str, Snapshot]:
    """By name, what there will be when the VE's open jobs have ended well. One not taken yet is of no time (0)."""
    kept = {each.name: each for each in map(Snapshot.from_json, row.snapshots)}
    for job in _open(row):
        name = job.args["snapshot"]["name"]
        if job.verb == Verb.SNAPSHOT:
            kept.setdefault(name, Snapshot(name, job.pk, 0.0))
        else:
            kept.pop(name, None)
    return kept


def _open(row: VE) -> list[Job]:
    verbs = (Verb.SNAPSHOT.value, Verb.DELETE_SNAPSHOT.value)
    coming = ("", Outcome.OK.value)
    return list(
        Job.objects.filter(ve=row.uuid, verb__in=verbs, state__in=(*OPEN_JOBS, *UNBEGUN), outcome__in=coming).order_by("id")
    )


def checked(verb: Verb, args: Mapping[str, Any], row: VE) -> dict[str, Any]:
    """The arguments of a job: {"snapshot": name and, where it was taken before, job and time}. ``args``: {"snapshot": name}.

    Refused: bad grammar, a name taken, a name unknown, one more than :data:`MAX`, a revert of what is suspended."""
    for field in args:
        if field != "snapshot":
            raise Invalid(f"{verb} takes no {field!r}", where=field)
    name = check_label(args.get("snapshot"), where="snapshot")
    kept = expected(row)
    if verb is Verb.SNAPSHOT:
        _check_new(name, kept, row)
        return {"snapshot": {"name": name}}
    if name not in kept:
        known = ", ".join(sorted(kept))
        raise NotFound(
            f"VE {row.name!r} has no snapshot {name!r}",
            where="snapshot",
            why=f"it has: {known}" if known else "it has none",
            todo=f"`vmcloud ve snapshots {row.name}` shows all.",
        )
    if verb is Verb.REVERT and row.desired == Desired.SUSPENDED and row.observed_state == Observed.SUSPENDED:
        raise Conflict(
            f"VE {row.name!r} is suspended",
            where="ve",
            why="what it has in memory is not part of a snapshot",
            todo="Resume it, or stop it, first.",
        )
    return {"snapshot": kept[name].to_json()}


def _check_new(name: str, kept: Mapping[str, Snapshot], row: VE) -> None:
    if name in kept:
        taken = moment(kept[name].at)
        raise Conflict(
            f"VE {row.name!r} has a snapshot {name!r} already",
            where="snapshot",
            why=f"taken {taken}" if taken else f"job {kept[name].job} takes it",
            todo=f"Choose another name, or `vmcloud ve delete-snapshot {row.name} {name}` first.",
            code="name-taken",
        )
    if len(kept) >= MAX:
        oldest = min(kept.values(), key=lambda each: (each.at or float("inf"), each.name)).name
        raise Conflict(
            f"VE {row.name!r} has {len(kept)} snapshots",
            where="snapshot",
            why=f"{MAX} are allowed",
            todo=f"Delete one first, such as the oldest: `vmcloud ve delete-snapshot {row.name} {oldest}`.",
            code="too-many-snapshots",
        )
