"""Claims that a crash left behind between the job's row and the directory's entry."""

from __future__ import annotations

from django.db.models import Exists, OuterRef, Q

from vmcloud.domain.clocks import elapsed
from vmcloud.domain.errors import NotFound
from vmcloud.domain.records import VERecord
from vmcloud.domain.vocabulary import JobState
from vmcloud.fleet.models import VE, ArchivedJob, Job
from vmcloud.fleet.services import archive, audit
from vmcloud.fleet.services.audit import Door
from vmcloud.fleet.services.claiming import queue_claimed

from . import wanted, writers
from .context import Context, at_hand


def sweep(context: Context) -> None:
    """Queue the jobs whose name was claimed, drop those whose was not, and free names claimed by jobs that are no more."""
    now, patience = context.clock(), context.config.intervals.claim
    for job in Job.objects.filter(state=JobState.CLAIMING, array=None).exclude(origin=writers.ORIGIN):
        if elapsed(job.created_at, now) < patience:
            continue
        claiming = {part.ve: part.pk for part in (Job.objects.filter(array=job.pk) if job.size else [job]) if part.ve}
        found = context.directory.ves_with(list(claiming))
        with context.leader.transaction():
            if sum(record.job == claiming[record.ve] for record in found) == (job.size or 1):
                queue_claimed(job, max(record.version for record in found))
                context.note(job, "the request broke off after its name was claimed; the server took over")
            else:
                Job.objects.filter(Q(pk=job.pk) | Q(array=job.pk), state=JobState.CLAIMING).delete()
    unplaced = VE.objects.filter(node="", observed_state="").exclude(generation=0)
    for model in (Job, ArchivedJob):
        unplaced = unplaced.exclude(Exists(model.objects.filter(pk=OuterRef("job"), ve=OuterRef("uuid"))))
    for row in unplaced:
        _free(context, row)


@at_hand
def _free(context: Context, row: VE) -> None:
    """Remove an entry that no job knows: its job is no more, or is about another VE, which only a claim by hand says."""
    record = context.directory.ve(row.uuid)
    if record is None or record.node or _knows(record):
        return
    if archive.exists(record.job):
        what, why = f"claim of the name {record.name} for job {record.job}", "that job is about another VE"
        audit.denied(Door.LDAP, what, why, who="cn=web", source="directory")
    with context.leader.transaction():
        wanted.gone(row.uuid)
    try:
        context.directory.remove_ve(record)
    except NotFound:
        return


def _knows(record: VERecord) -> bool:
    """Whether the job that the entry names is about it."""
    return any(model.objects.filter(pk=record.job, ve=record.ve).exists() for model in (Job, ArchivedJob))
