"""Claims that a crash left behind between the job's row and the directory's entry."""

from __future__ import annotations

from vmcloud.domain.clocks import elapsed
from vmcloud.domain.errors import NotFound
from vmcloud.domain.vocabulary import JobState
from vmcloud.fleet.models import VE, Job
from vmcloud.fleet.services.submit import queue_claimed

from . import wanted, writers
from .context import Context


def sweep(context: Context) -> None:
    """Queue the jobs whose name was claimed, drop those whose was not, and free names claimed by jobs that are no more."""
    now, patience = context.clock(), context.config.intervals.claim
    for job in Job.objects.filter(state=JobState.CLAIMING).exclude(origin=writers.ORIGIN):
        if elapsed(job.created_at, now) < patience:
            continue
        assert job.ve is not None
        record = context.directory.ve(job.ve)
        with context.leader.transaction():
            if record is not None and record.job == job.pk:
                queue_claimed(job, record.version)
                context.note(job, "the request broke off after its name was claimed; the server took over")
            else:
                Job.objects.filter(pk=job.pk, state=JobState.CLAIMING).delete()
    for row in VE.objects.filter(node="", observed_state="").exclude(generation=0):
        if not Job.objects.filter(pk=row.job).exists():
            _free(context, row)


def _free(context: Context, row: VE) -> None:
    record = context.directory.ve(row.uuid)
    if record is None or record.node or Job.objects.filter(pk=record.job).exists():
        return
    with context.leader.transaction():
        wanted.gone(row.uuid)
    try:
        context.directory.remove_ve(record)
    except NotFound:
        return
