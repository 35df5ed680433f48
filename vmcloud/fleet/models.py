"""What SQL holds: the truth about jobs, and (:mod:`.read_models`) a read model of the directory that can be rebuilt at any time.

Jobs and steps are written by the services (a request) and by the leading server (everything after).
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from django.db import models, transaction
from django.db.models import F, Q

from vmcloud.domain.steps import HOLDING as HOLDING
from vmcloud.domain.steps import StepState as StepState
from vmcloud.domain.vocabulary import JobState

from . import (
    audit_models,  # noqa: F401 - tables too
    gather,
    webhook_models,  # noqa: F401 - tables too
)
from .read_models import VE as VE
from .read_models import Image as Image
from .read_models import Node as Node
from .read_models import ReadModel as ReadModel
from .read_models import ReadOnlyError as ReadOnlyError
from .read_models import Stray as Stray
from .read_models import Tombstone as Tombstone

UNBEGUN = (JobState.QUEUED, JobState.HELD, JobState.WAITING)
OPEN_JOBS = (JobState.CLAIMING, JobState.QUEUED, JobState.RUNNING, JobState.EXITING)
"""Without those that are held or wait for their time: they want nothing yet."""
MANY = 500
"""Rows that one query names: it has only so many parameters."""


ABANDONED = "abandoned"
"""The outcome of a step that was given up: nobody knows what it still does on its node."""


class Job(models.Model):
    """A requested action. ``version`` grows with every change, so that a reader can wait for the next one.

    ``before`` keeps what a failed verb goes back to: {"desired": ..., "spec": ...}; ``settled``: the directory has been told
    how it ended. ``queue``: empty for what is in none (what the rules ask for, sessions). ``priority``, ``not_before``,
    ``awaits``, ``walltime``, ``retries``: see :class:`~vmcloud.domain.terms.Terms`; ``holds`` are the letters of those in force;
    ``rank`` is its place among jobs of the same priority, and in its lane: the time of its submission, unless it was exchanged
    with another's. ``to_review``: somebody changed what it waits for (only the leader changes ``state`` after the submission).
    ``size``: of an array (:mod:`vmcloud.domain.arrays`) how many parts it has, 0 for all that is none; ``indices``, which; and
    ``slots``, how many may run at once (0: any number). ``array`` and ``index``: of a part; what an array waits for, it does.
    ``behind``: it is not the first of its lane (:mod:`vmcloud.fleet.server.lanes`).
    ``directory_version``: of the entry as the job last wrote it (:class:`Watermark`). ``key`` is the Idempotency-Key of the
    request and ``fingerprint`` the SHA-256 of what was asked under it. ``ending``: how it is to end whose end was asked for
    (:class:`~vmcloud.domain.vocabulary.Ending`; empty: undone); ``signal``: one that its node is to be sent.
    """

    COUNTED = "version"

    project = models.CharField(max_length=63, default="main")
    owner = models.CharField(max_length=150)
    verb = models.CharField(max_length=16)
    origin = models.CharField(max_length=32, default="api")
    ve = models.UUIDField(null=True)
    ve_name = models.CharField(max_length=63, default="", blank=True)
    kind = models.CharField(max_length=16, default="", blank=True)
    node = models.CharField(max_length=63, default="", blank=True)
    args = models.JSONField(default=dict)
    before = models.JSONField(default=dict)
    generation = models.BigIntegerField(default=0)
    state = models.CharField(max_length=1, default=JobState.QUEUED)
    reason = models.CharField(max_length=1000, default="", blank=True)
    outcome = models.CharField(max_length=16, default="", blank=True)
    error = models.JSONField(null=True)
    result = models.JSONField(null=True)
    settled = models.BooleanField(default=False)
    queue = models.CharField(max_length=63, default="", blank=True)
    priority = models.IntegerField(default=0)
    rank = models.FloatField(default=0.0)
    not_before = models.FloatField(null=True)
    holds = models.CharField(max_length=3, default="", blank=True)
    awaits = models.IntegerField(default=0)
    walltime = models.FloatField(null=True)
    retries = models.IntegerField(default=0)
    tries = models.IntegerField(default=0)
    to_review = models.BooleanField(default=False)
    behind = models.BooleanField(default=False)
    key = models.CharField(max_length=255, default="", blank=True)
    fingerprint = models.CharField(max_length=64, default="", blank=True)
    version = models.BigIntegerField(default=1)
    directory_version = models.CharField(max_length=64, default="", blank=True)
    size = models.IntegerField(default=0)
    slots = models.IntegerField(default=0)
    indices = models.TextField(default="", blank=True)
    array = models.BigIntegerField(null=True)
    index = models.IntegerField(null=True)
    created_at = models.FloatField()
    started_at = models.FloatField(null=True)
    exiting_at = models.FloatField(null=True)
    ended_at = models.FloatField(null=True)
    cancel_requested_at = models.FloatField(null=True)
    ending = models.CharField(max_length=8, default="", blank=True)
    signal = models.CharField(max_length=8, default="", blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["state", "id"], name="job_by_state"),
            models.Index(F("state"), F("behind"), F("priority").desc(), F("rank"), F("id"), name="job_by_turn"),
            models.Index(fields=["state"], condition=Q(to_review=True), name="job_to_review"),
            models.Index(fields=["state"], condition=Q(cancel_requested_at__isnull=False), name="job_cancelled"),
            models.Index(fields=["queue", "owner", "state"], condition=~Q(state=JobState.COMPLETE), name="job_by_queue"),
            models.Index(fields=["ve", "id"], name="job_by_ve"),
            models.Index(fields=["state"], condition=~Q(ending="") | ~Q(signal=""), name="job_by_ending"),
            models.Index(
                F("array"),
                F("state"),
                F("behind"),
                F("priority").desc(),
                F("rank"),
                F("id"),
                condition=Q(array__isnull=False),
                name="job_part",
            ),
            models.Index(fields=["-id"], condition=Q(array=None), name="job_no_part"),
            models.Index(fields=["state"], condition=Q(size__gt=0), name="job_array"),
            models.Index(fields=["ended_at"], condition=Q(state=JobState.COMPLETE), name="job_by_end"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["owner", "key"], condition=~Q(key=""), name="one_job_per_idempotency_key"),
            models.UniqueConstraint(fields=["array", "index"], condition=Q(array__isnull=False), name="one_part_of_an_index"),
        ]

    archived = False
    """True on what :mod:`vmcloud.fleet.services.archive` restored, for looking."""

    def __str__(self) -> str:
        return f"{self.ref} {self.verb} {self.ve_name or self.node}".rstrip()

    @property
    def ref(self) -> str:
        """What people call it: ``12``; an array ``41[]``; a part ``41[7]``."""
        return _called(self)

    @property
    def turn(self) -> int:
        """Where it is in its lanes (:class:`JobLane`)."""
        if self.state in (JobState.RUNNING, JobState.EXITING) or (self.state == JobState.WAITING and self.tries):
            return 0
        return 1 if self.state == JobState.QUEUED else 2

    def refresh_from_db(self, *args: Any, **kwargs: Any) -> None:
        """As Django does it; what is archived does not change any more."""
        if not self.archived:
            super().refresh_from_db(*args, **kwargs)

    def change(self, **changes: Any) -> None:
        """Write ``changes``, and count the version up; nothing at all where nothing differs. Raises :class:`.gather.Clash`, here
        or where the block of gathered writes ends, if somebody else has changed the job since it was read."""
        changes = {name: value for name, value in changes.items() if getattr(self, name) != value}
        if not changes:
            return
        turn = self.turn
        with transaction.atomic(savepoint=False):
            gather.change(self, **changes)
            if not self.size and (self.turn != turn or "rank" in changes):
                gather.run(_FOLLOW, [self.turn, self.rank, self.pk])
            self.tell()

    def tell(self) -> None:
        """Put it on the feed, as new or changed."""
        about = {"project": self.project, "owner": self.owner, "ve": self.ve, "node": self.node}
        gather.add(Change(at=time.time(), kind="job", key=str(self.pk), **about))

    @staticmethod
    def tell_all(jobs: Iterable[Job]) -> None:
        """Put many on the feed."""
        with gather.gathering():
            for job in jobs:
                job.tell()

    @staticmethod
    def change_all(jobs: Iterable[Job], **changes: Any) -> None:
        """Write the same changes to many, and count their versions up."""
        with transaction.atomic(savepoint=False), gather.gathering():
            for job in jobs:
                job.change(**changes)


_FOLLOW = "UPDATE fleet_joblane SET turn = %s, rank = %s WHERE job_id = %s"
"""What brings a job's places in its lanes to where the job is."""


def _called(job: Job | ArchivedJob) -> str:
    if job.array is not None:
        return f"{job.array}[{job.index}]"
    return f"{job.pk}[]" if job.size else str(job.pk)


class ArchivedJob(models.Model):
    """A job that ended long ago: what it can be found by, and all of it, with its steps and history, as compressed JSON
    (:mod:`vmcloud.fleet.services.archive`). A job is either here or in :class:`Job`."""

    id = models.BigIntegerField(primary_key=True)
    project = models.CharField(max_length=63)
    owner = models.CharField(max_length=150)
    verb = models.CharField(max_length=16)
    ve = models.UUIDField(null=True)
    ve_name = models.CharField(max_length=63, default="")
    node = models.CharField(max_length=63, default="")
    queue = models.CharField(max_length=63, default="")
    array = models.BigIntegerField(null=True)
    index = models.IntegerField(null=True)
    size = models.IntegerField(default=0)
    outcome = models.CharField(max_length=16, default="")
    key = models.CharField(max_length=255, default="")
    created_at = models.FloatField()
    started_at = models.FloatField(null=True)
    ended_at = models.FloatField(db_index=True)
    content = models.BinaryField()

    class Meta:
        indexes = [
            models.Index(fields=["ve", "id"], name="archived_by_ve"),
            models.Index(fields=["owner", "id"], name="archived_by_owner"),
            models.Index(fields=["owner", "key"], condition=~Q(key=""), name="archived_by_key"),
            models.Index(fields=["array", "index"], condition=Q(array__isnull=False), name="archived_part"),
        ]

    def __str__(self) -> str:
        return f"{self.ref} {self.verb} {self.ve_name or self.node}".rstrip()

    @property
    def ref(self) -> str:
        """As of :class:`Job`."""
        return _called(self)


class ArchivedOutcome(models.Model):
    """How many jobs have been archived, by outcome: a count that never goes back, also when they are forgotten. An array counts
    as its parts."""

    outcome = models.CharField(max_length=16, primary_key=True)
    count = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.outcome}: {self.count}"


class QueueRow(models.Model):
    """A queue; ``data`` is all of :class:`vmcloud.domain.queueing.Queue` but its name."""

    name = models.CharField(max_length=63, primary_key=True)
    data = models.JSONField(default=dict)

    class Meta:
        verbose_name = "queue"

    def __str__(self) -> str:
        return self.name


class JobLink(models.Model):
    """That a job waits for another one (:class:`~vmcloud.domain.terms.Depend`, always *after*). ``counted``: the other one was
    told to run before this one, for its ``awaits``. ``count``: how many parts of it are waited for, where they are counted (0:
    all). The other one may be forgotten already."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="links")
    type = models.CharField(max_length=20)
    other = models.BigIntegerField(db_index=True)
    counted = models.BooleanField(default=False)
    count = models.IntegerField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["job", "type", "other"], name="one_link_of_a_type")]

    def __str__(self) -> str:
        return f"{self.job_id} {self.type} {self.other}"


class JobLane(models.Model):
    """A resource that an open job needs (:class:`~vmcloud.domain.verbs.base.Lane`). A job begins when it is the first in all of
    its lanes; those that share one may have it together. The rows go when the job is complete."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="lanes")
    lane = models.CharField(max_length=160)
    shared = models.BooleanField(default=False)
    turn = models.SmallIntegerField(default=1)
    """0: the job has begun, and has the lane; 1: it waits in the lane; 2: it is held, or waits for its time, in nobody's way."""
    rank = models.FloatField(default=0.0)
    """As the job's; who has waited longer comes first."""

    class Meta:
        constraints = [models.UniqueConstraint(fields=["job", "lane"], name="one_place_in_a_lane")]
        indexes = [models.Index(fields=["lane", "shared", "turn", "rank", "job"], name="lane_in_turn")]

    def __str__(self) -> str:
        return f"{self.lane}: {self.job_id}"


class Step(models.Model):
    """A part of a job: on one node, with its own message, journal row and undo; or, where ``node`` is empty, a write of the
    server's own. (job, number, attempt) is its key everywhere. What it means is :class:`vmcloud.domain.steps.StepPlan`."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="steps")
    number = models.IntegerField()
    key = models.CharField(max_length=40, default="", blank=True)
    """Its name within the job."""
    verb = models.CharField(max_length=20)
    node = models.CharField(max_length=63, default="", blank=True)
    lane = models.CharField(max_length=160)
    after = models.JSONField(default=list)
    """Numbers of the steps that must have ended well before it begins."""
    takes = models.JSONField(default=dict)
    """Arguments that earlier steps give: by name, the number of the step and the name of its output."""
    undo = models.JSONField(null=True)
    """What takes it back once it has ended well: {"verb", "args", "timeout"}."""
    undo_of = models.IntegerField(null=True)
    """Of a step that takes another one back: that one's number."""
    commits = models.BooleanField(default=False)
    """Whether there is no way back once it has ended well."""
    gives_up = models.BooleanField(default=False)
    """Whether it counts as failed when its node is down."""
    retries = models.IntegerField(default=0)
    """How often it is tried again where it failed in a way that is worth it."""
    first_attempt = models.IntegerField(default=1)
    ve = models.UUIDField(null=True)
    """The VE that it is about."""
    native = models.CharField(max_length=255, default="", blank=True)
    """That VE's name in its hypervisor."""
    attempt = models.IntegerField(default=1)
    state = models.CharField(max_length=10, default=StepState.PLANNED.value)
    phase = models.CharField(max_length=100, default="", blank=True)
    percent = models.IntegerField(default=-1)
    outcome = models.CharField(max_length=16, default="", blank=True)
    args = models.JSONField(default=dict)
    result = models.JSONField(null=True)
    timeout = models.FloatField(default=300.0)
    sent_count = models.IntegerField(default=0)
    sent_at = models.FloatField(null=True)
    heard_at = models.FloatField(null=True)
    cancel_sent_at = models.FloatField(null=True)
    accepted_at = models.FloatField(null=True)
    ended_at = models.FloatField(null=True)

    class Meta:
        ordering = ["job_id", "number"]
        constraints = [
            models.UniqueConstraint(fields=["job", "number"], name="one_row_per_step"),
            models.UniqueConstraint(
                fields=["lane"], condition=Q(state__in=["sent", "accepted", "running"]), name="one_step_at_a_time_per_lane"
            ),
        ]
        indexes = [models.Index(fields=["state", "node"], name="step_by_state")]

    def __str__(self) -> str:
        return f"{self.job_id}.{self.number} {self.verb} on {self.node}"


class JobEvent(models.Model):
    """One line of a job's history, in words."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="events")
    at = models.FloatField()
    text = models.TextField()

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return self.text


class Event(models.Model):
    """Something that happened and that no job tells, in words. Written by the leading server only
    (:mod:`vmcloud.fleet.services.events`); kept longer than what it is about, so it names that by itself."""

    at = models.FloatField(db_index=True)
    type = models.CharField(max_length=16)
    project = models.CharField(max_length=63, default="", blank=True)
    owner = models.CharField(max_length=150, default="", blank=True)
    ve = models.UUIDField(null=True)
    ve_name = models.CharField(max_length=63, default="", blank=True)
    node = models.CharField(max_length=63, default="", blank=True)
    job = models.BigIntegerField(null=True)
    text = models.CharField(max_length=1000)

    class Meta:
        indexes = [
            models.Index(fields=["ve", "id"], name="event_by_ve"),
            models.Index(fields=["node", "id"], name="event_by_node"),
        ]

    def __str__(self) -> str:
        return self.text


class Change(models.Model):
    """The feed of live pages: that something is not as it was. Kept for minutes.

    ``kind``: ve, node, image, stray, job, queue, event. ``project`` and ``owner`` decide who may know; ``ve`` and ``node`` are
    what it has to do with. On PostgreSQL there is a column more, ``xact``, which the database fills in with the transaction that
    wrote the row (:mod:`vmcloud.fleet.services.feed`)."""

    at = models.FloatField()
    kind = models.CharField(max_length=10)
    key = models.CharField(max_length=200)
    project = models.CharField(max_length=63, default="")
    owner = models.CharField(max_length=150, default="")
    ve = models.UUIDField(null=True)
    node = models.CharField(max_length=63, default="")

    def __str__(self) -> str:
        return f"{self.kind} {self.key}"


class Watermark(models.Model):
    """How far the read model is: ``version`` is the highest entryCSN among the entries that it shows (they sort as text), and
    ``synced_at`` when it last showed all that there was."""

    name = models.CharField(max_length=32, primary_key=True)
    version = models.CharField(max_length=64, default="")
    synced_at = models.FloatField(default=0.0)

    def __str__(self) -> str:
        return self.version


class Lease(models.Model):
    """Who leads. ``epoch`` grows with each new leader; every write of a leader asserts holder and epoch. ``listens_since``: when
    this leader began to hear the broker, without a break since then; 0.0 while it does not."""

    name = models.CharField(max_length=32, primary_key=True)
    holder = models.CharField(max_length=100, default="", blank=True)
    epoch = models.BigIntegerField(default=0)
    expires = models.FloatField(default=0.0)
    listens_since = models.FloatField(default=0.0)

    def __str__(self) -> str:
        return f"{self.name}: {self.holder}"


class Liveness(models.Model):
    """When and how a node was last heard (from its digests). Not in the directory: it changes all the time.

    ``usage`` is what its guests used by then (:mod:`vmcloud.fleet.services.usage`). ``told``: the state that events last told."""

    node = models.CharField(max_length=63, primary_key=True)
    heard_at = models.FloatField(default=0.0)
    epoch = models.BigIntegerField(default=0)
    sequence = models.BigIntegerField(default=0)
    count = models.IntegerField(default=0)
    previous_count = models.IntegerField(default=0)
    images = models.JSONField(default=list)
    usage = models.JSONField(default=dict)
    refusal = models.CharField(max_length=500, default="", blank=True)
    told = models.CharField(max_length=10, default="", blank=True)

    def __str__(self) -> str:
        return self.node


class Misses(models.Model):
    """How many full lists in a row did not show a VE that its node's journal knows."""

    ve = models.UUIDField(primary_key=True)
    node = models.CharField(max_length=63, default="", db_index=True)
    count = models.IntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.ve}: {self.count}"


class Budget(models.Model):
    """How often reconcile has tried to mend one VE, and when it may try again (seconds since the epoch)."""

    ve = models.UUIDField(primary_key=True)
    rule = models.CharField(max_length=8)
    tries = models.IntegerField(default=0)
    next_at = models.FloatField(default=0.0)

    def __str__(self) -> str:
        return f"{self.ve} {self.rule}: {self.tries}"


class Accepted(models.Model):
    """What is wanted of a VE as it was last accepted: {"desired", "spec", "owner"}, and the generation of the entry that says so.

    ``writing`` is what the server is about to write, or has just written, to the entry: {"generation", "job", "wish", "jobs",
    "events"}; the jobs begin, and the events are told, once the entry shows it. Written by the leading server only."""

    ve = models.UUIDField(primary_key=True)
    project = models.CharField(max_length=63)
    name = models.CharField(max_length=63)
    generation = models.BigIntegerField(default=0)
    wish = models.JSONField()
    writing = models.JSONField(null=True)
    at = models.FloatField(default=0.0)

    def __str__(self) -> str:
        return f"{self.name} {self.generation}"


class Finding(models.Model):
    """What a rule of reconcile reports just now, so that its beginning and its end are told once each. ``key``: the rule and what
    it is about."""

    key = models.CharField(max_length=250, primary_key=True)
    rule = models.CharField(max_length=8)
    ve = models.UUIDField(null=True, db_index=True)
    node = models.CharField(max_length=63, default="")
    subject = models.CharField(max_length=200)
    reason = models.CharField(max_length=1000)
    since = models.FloatField()

    def __str__(self) -> str:
        return f"{self.rule} {self.subject}"


class Token(models.Model):
    """A bearer token, kept as the SHA-256 of its text."""

    digest = models.CharField(max_length=64, primary_key=True)
    user = models.ForeignKey("auth.User", on_delete=models.CASCADE, related_name="vmcloud_tokens")
    name = models.CharField(max_length=100)
    created_at = models.FloatField()
    used_at = models.FloatField(null=True)

    def __str__(self) -> str:
        return self.name


class Ticket(models.Model):
    """A single-use right to a data connection: for one job, node and purpose, one minute to begin. Kept as a SHA-256."""

    digest = models.CharField(max_length=64, primary_key=True)
    purpose = models.CharField(max_length=16)
    subject = models.CharField(max_length=128)
    job = models.BigIntegerField()
    node = models.CharField(max_length=63)
    expires = models.FloatField()
    used_at = models.FloatField(null=True)

    def __str__(self) -> str:
        return f"{self.purpose} {self.subject}"
