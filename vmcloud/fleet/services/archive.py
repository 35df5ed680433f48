"""The archive: jobs that ended long ago, out of the tables that the server works on, each in one small row with all its own.

A job is either in the tables or in the archive: one transaction takes it from here to there. What refers to a job by its number
finds it in both (:func:`find`).
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from django.db import models
from django.db.models import Case, Count, Exists, F, OuterRef, Q, When

from vmcloud.config import Keep
from vmcloud.domain.vocabulary import JobState, Outcome
from vmcloud.faults import point
from vmcloud.fleet.models import VE, ArchivedJob, ArchivedOutcome, Job

DAY = 86400.0
REST = 3600.0
"""Seconds after its end in which a job stays in the tables, however many there are."""
ABOUT: tuple[str, ...] = ("id", "project", "owner", "verb", "ve", "ve_name", "node", "queue", "array", "index", "size")
ABOUT += ("outcome", "key", "created_at", "started_at", "ended_at")
"""What an archived job can be found by."""


def due(now: float, keep: Keep, limit: int) -> list[int]:
    """Numbers of jobs that are to be archived, oldest first: of those that ended long ago, then of too many. The last job of each
    VE stays: rules ask what it left. An array follows its parts, and they stay until it is over."""
    ended = Job.objects.filter(state=JobState.COMPLETE, settled=True).exclude(pk__in=VE.objects.values("job"))
    open_arrays = Job.objects.filter(size__gt=0).exclude(state=JobState.COMPLETE)
    ended = ended.filter(Q(array=None) | ~Q(array__in=open_arrays.values("pk")))
    ended = ended.filter(Q(size=0) | ~Exists(Job.objects.filter(array=OuterRef("pk"))))
    old = ended.filter(ended_at__lt=now - keep.jobs_days * DAY).order_by("ended_at")
    found = list(old.values_list("pk", flat=True)[:limit])
    if len(found) < limit and (newest := Job.objects.order_by("-id").values_list("id", flat=True).first()):
        many = ended.filter(pk__lte=newest - keep.jobs_most, ended_at__lt=now - REST).order_by("id")
        found += [pk for pk in many.values_list("pk", flat=True)[:limit] if pk not in found][: limit - len(found)]
    return found


def take(numbers: Iterable[int]) -> int:
    """Archive these jobs, inside the leader's transaction; how many there were."""
    jobs = Job.objects.in_bulk(list(numbers))
    beside = {name: _beside(name, list(jobs)) for name in _accessors()}
    rows = []
    for pk, job in jobs.items():
        content = {"job": _plain(job), **{name: found[pk] for name, found in beside.items() if pk in found}}
        about = {name: getattr(job, name) for name in ABOUT}
        rows.append(ArchivedJob(**about, content=zlib.compress(json.dumps(content, separators=(",", ":")).encode())))
    ArchivedJob.objects.bulk_create(rows)
    point("server.archive.written")
    for outcome, count in Counter(job.outcome for job in jobs.values() if not job.size).items():
        if not ArchivedOutcome.objects.filter(pk=outcome).update(count=F("count") + count):
            ArchivedOutcome.objects.create(outcome=outcome, count=count)
    Job.objects.filter(pk__in=list(jobs)).delete()
    return len(rows)


def forget(now: float, keep: Keep, limit: int) -> int:
    """Remove archived jobs that are older than the archive goes back; how many."""
    if not keep.archive_days:
        return 0
    old = ArchivedJob.objects.filter(ended_at__lt=now - keep.archive_days * DAY).order_by("ended_at")
    removed: int = ArchivedJob.objects.filter(pk__in=list(old.values_list("pk", flat=True)[:limit])).delete()[0]
    return removed


def find(**which: Any) -> Job | None:
    """One job, by ``pk`` or by ``array`` and ``index``, wherever it is; an archived one with its steps and history, and not to be
    saved."""
    job = Job.objects.filter(**which).first()
    if job is None and (archived := ArchivedJob.objects.filter(**which).first()) is not None:
        return restored(archived)
    return None if job is None or job.state == JobState.CLAIMING else job


def parts(array: int, *, limit: int | None = None, but: str = "") -> list[Job]:
    """Those parts of an array that are archived, by index; without those with outcome ``but``."""
    rows = ArchivedJob.objects.filter(array=array).order_by("index")
    return [restored(row) for row in (rows.exclude(outcome=but) if but else rows)[:limit]]


def counts(arrays: Iterable[int]) -> dict[int, list[tuple[str, str, bool, int]]]:
    """Of these arrays' archived parts: state, outcome, whether begun, and how many are so."""
    found: dict[int, list[tuple[str, str, bool, int]]] = {}
    rows = ArchivedJob.objects.filter(array__in=list(arrays)).order_by()
    rows = rows.annotate(begun=Case(When(started_at=None, then=0), default=1))
    for array, outcome, begun, count in rows.values_list("array", "outcome", "begun").annotate(count=Count("id")):
        found.setdefault(array, []).append((JobState.COMPLETE, outcome, bool(begun), count))
    return found


def under(owner: str, key: str) -> Job | None:
    """The archived job that a request with this Idempotency-Key made."""
    row = ArchivedJob.objects.filter(owner=owner, key=key).exclude(key="").first()
    return restored(row) if row is not None else None


def of_ve(ve: UUID, limit: int) -> list[Job]:
    """The last archived jobs of a VE, newest first."""
    return [restored(row) for row in ArchivedJob.objects.filter(ve=ve).order_by("-id")[:limit]]


def exists(number: int) -> bool:
    """Whether there is, or was, a job with this number."""
    return Job.objects.filter(pk=number).exists() or ArchivedJob.objects.filter(pk=number).exists()


def ends(numbers: Iterable[int]) -> dict[int, tuple[str, bool, Outcome | None]]:
    """Of those of these jobs that are archived: what each is called, whether it began, and how it ended."""
    rows = ArchivedJob.objects.filter(pk__in=list(numbers)).defer("content")
    return {row.pk: (row.ref, row.started_at is not None, Outcome(row.outcome) if row.outcome else None) for row in rows}


def outcomes() -> dict[str, int]:
    """How many jobs with each outcome have been archived, also those that are forgotten."""
    return dict(ArchivedOutcome.objects.values_list("outcome", "count"))


def restored(row: ArchivedJob) -> Job:
    """The job as it was, with what was its own at hand under the names it had; none of it can be saved."""
    content = json.loads(zlib.decompress(bytes(row.content)))
    job: Job = _instance(Job, content["job"])
    job.archived = True
    for name in _accessors():
        manager = getattr(job, name)
        found = manager.none()
        found._result_cache = [_instance(manager.model, each) for each in content.get(name, ())]
        job.__dict__.setdefault("_prefetched_objects_cache", {})[name] = found
    return job


def _accessors() -> list[str]:
    """The names under which a job has rows of its own in other tables."""
    return [str(each.get_accessor_name()) for each in Job._meta.related_objects if each.related_model is not Job]


def _beside(name: str, numbers: list[int]) -> dict[int, list[dict[str, Any]]]:
    """By job, its rows in one of the other tables."""
    relation = next(each for each in Job._meta.related_objects if each.get_accessor_name() == name)
    field = relation.field
    found: dict[int, list[dict[str, Any]]] = {}
    for row in relation.related_model._base_manager.filter(**{f"{field.name}__in": numbers}).order_by("pk"):
        found.setdefault(getattr(row, field.attname), []).append(_plain(row))
    return found


def _plain(row: models.Model) -> dict[str, Any]:
    """A row's columns as JSON, without those that say what a new row says."""
    found = {}
    for field in row._meta.concrete_fields:
        value = field.value_from_object(row)
        if not field.has_default() or value != field.get_default():
            found[field.attname] = value if isinstance(value, str | int | float | list | dict | None) else str(value)
    return found


def _instance(model: type[models.Model], columns: Mapping[str, Any]) -> Any:
    """The inverse of :func:`_plain`; what an older release called otherwise is left out."""
    fields = {field.attname: field for field in model._meta.concrete_fields}
    return model(**{name: fields[name].to_python(value) for name, value in columns.items() if name in fields})
