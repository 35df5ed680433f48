"""What was accepted, what is ours and what somebody else's: told apart whatever the watch shows, and whenever the server died."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.web import Web, web
from vmcloud.domain.foreign import Wish
from vmcloud.domain.records import VERecord
from vmcloud.domain.spec import Spec
from vmcloud.domain.vocabulary import Desired, Kind

pytestmark = pytest.mark.unit
__all__ = ["web"]

SPEC = Spec(kind=Kind.SIMULATED, image="busybox", memory_mib=64)


class Scene:
    """A leader's context over the fake directory, and one VE that a job of ours made."""

    def __init__(self, web: Web) -> None:
        from vmcloud.fleet.models import Job
        from vmcloud.fleet.server.context import Context
        from vmcloud.fleet.server.projection import Projection

        class Leader:
            @contextlib.contextmanager
            def transaction(self) -> Iterator[None]:
                yield

        self.ve: UUID = uuid4()
        args = {"power": "running", "spec": SPEC.to_json()}
        self.create = Job.objects.create(verb="create", owner="ann", ve=self.ve, ve_name="web", args=args, created_at=1.0)
        parts: Any = (None, web.directory, None, Leader(), Projection())
        self.context = Context(*parts, clock=lambda: 100.0)
        self.directory = web.directory
        record = VERecord(self.ve, "web", "main", "ann", SPEC, Desired.RUNNING, generation=1, job=self.create.pk)
        self.record = self.directory.claim(record)

    def learn(self, record: VERecord | None = None) -> bool:
        """Whether what the watch shows is somebody else's."""
        from vmcloud.fleet.server import wanted

        self.context.suspects.clear()
        wanted.learn(self.context, [record or self.directory.ve(self.ve)])
        return self.ve in self.context.foreign

    def job(self, verb: str = "stop", **fields: Any) -> Any:
        from vmcloud.fleet.models import Job

        return Job.objects.create(verb=verb, owner="ann", ve=self.ve, ve_name="web", created_at=2.0, **fields)

    def stop(self) -> Any:
        """A desired write of ours, announced."""
        from vmcloud.fleet.server import wanted

        job = self.job()
        wanted.write(self.context, self.directory.ve(self.ve), job, lambda wish: replace(wish, desired=Desired.STOPPED))
        return job

    def begin(self, verb: str = "stop", **fields: Any) -> Any:
        """The desired write with which a job begins."""
        from vmcloud.fleet.models import Accepted
        from vmcloud.fleet.server import wanted

        job = self.job(verb, **fields)
        wanted.begin(self.context, self.directory.ve(self.ve), job, Accepted.objects.filter(pk=self.ve).first())
        return job

    @property
    def row(self) -> Any:
        from vmcloud.fleet.models import Accepted

        return Accepted.objects.get(pk=self.ve)

    @property
    def wish(self) -> Wish:
        from vmcloud.fleet.server import wanted

        return wanted.decode(self.row.wish)


def by_somebody(record: VERecord, **spec: Any) -> VERecord:
    return replace(record, spec=replace(record.spec, **spec))


def test_a_create_is_known_by_what_was_asked_for(web: Web) -> None:
    """Also where somebody writes before the watch has shown the entry for the first time."""
    scene = Scene(web)
    assert scene.learn(by_somebody(scene.record, memory_mib=96)) is True
    assert scene.wish == Wish(Desired.RUNNING, SPEC, "ann") and scene.ve in scene.context.suspects
    assert scene.learn() is False, "changed back"


@pytest.mark.parametrize("way", ["stop", "begin"])
def test_our_own_write_is_ours_and_what_came_with_it_is_not(web: Web, way: str) -> None:
    scene = Scene(web)
    scene.learn()
    getattr(scene, way)()
    shown = scene.directory.ve(scene.ve)
    assert (shown.desired, shown.generation) == (Desired.STOPPED, 2)
    assert scene.learn(by_somebody(shown, memory_mib=96)) is True, "the watch shows both writes as one"
    assert (scene.wish.desired, scene.wish.spec.memory_mib, scene.row.generation) == (Desired.STOPPED, 64, 2)
    assert scene.row.writing is None
    assert scene.learn() is False


def test_a_write_of_ours_over_somebody_elses_leaves_theirs_theirs(web: Web) -> None:
    from vmcloud.fleet.server import wanted

    scene = Scene(web)
    scene.learn()
    theirs = by_somebody(scene.record, memory_mib=96)
    scene.directory._put(theirs)
    wanted.write(scene.context, scene.directory.ve(scene.ve), scene.job(), lambda wish: replace(wish, desired=Desired.STOPPED))
    shown = scene.directory.ve(scene.ve)
    assert (shown.desired, shown.spec.memory_mib) == (Desired.STOPPED, 96)
    assert scene.learn() is True
    assert (scene.wish.desired, scene.wish.spec.memory_mib) == (Desired.STOPPED, 64)


def test_what_was_announced_and_never_written_is_forgotten(web: Web) -> None:
    from vmcloud.fleet.models import Job
    from vmcloud.fleet.server import wanted

    scene = Scene(web)
    scene.learn()
    claimed = scene.job(state="-", origin="ldap")
    wish = replace(scene.wish, desired=Desired.STOPPED)
    wanted.announce(scene.context, scene.row, scene.record, claimed.pk, wish, jobs=[claimed.pk])
    assert scene.learn() is False and scene.ve in scene.context.suspects, "the server died there: it is looked at"
    scene.stop()
    assert not Job.objects.filter(pk=claimed.pk).exists(), "what came instead has taken its place"
    assert scene.learn() is False and scene.wish.desired is Desired.STOPPED


def test_what_was_written_and_not_concluded_goes_on(web: Web) -> None:
    """The jobs of a change begin, and what is over is closed, once the entry shows them; each once."""
    from vmcloud.fleet.models import Event, Job
    from vmcloud.fleet.server import wanted

    scene = Scene(web)
    scene.learn()
    closed, begins = scene.job("alter", state="-", origin="ldap", outcome="ok"), scene.job(state="-", origin="ldap")
    wish, jobs = replace(scene.wish, desired=Desired.STOPPED), [closed.pk, begins.pk]
    told = [("foreign", "root asked", begins.pk)]
    wanted.announce(scene.context, scene.row, scene.record, begins.pk, wish, jobs=jobs, told=told)
    scene.directory.change_ve(scene.record, job=begins.pk, desired=Desired.STOPPED)
    for _ in range(2):
        assert scene.learn() is False
    assert list(Job.objects.filter(pk__in=jobs).order_by("pk").values_list("state", flat=True)) == ["C", "Q"]
    assert Event.objects.filter(type="foreign").count() == 1


def test_a_late_word_is_not_taken_for_a_change(web: Web) -> None:
    scene = Scene(web)
    scene.learn()
    early = scene.directory.ve(scene.ve)
    scene.stop()
    scene.learn()
    assert scene.learn(early) is False and scene.wish.desired is Desired.STOPPED
    assert scene.ve in scene.context.suspects, "it is looked at: an old generation may also come out of a backup"


def test_a_generation_that_nobody_announced_is_ours_all_the_same(web: Web) -> None:
    """Only the parts can write one: the read model of SQL was lost, or a part writes in a way of its own."""
    scene = Scene(web)
    scene.learn()
    scene.directory.change_ve(scene.record, job=77, desired=Desired.SUSPENDED)
    assert scene.learn() is False and scene.wish.desired is Desired.SUSPENDED
    from vmcloud.fleet.models import Accepted

    Accepted.objects.all().delete()
    assert scene.learn() is False and scene.row.generation == 2


def test_an_entry_without_generation_is_nobodys_of_ours(web: Web) -> None:
    from vmcloud.fleet.models import Accepted

    scene = Scene(web)
    assert scene.learn(replace(scene.record, generation=0, job=0)) is True
    assert not Accepted.objects.exists()


def test_jobs_that_begin_one_after_the_other_are_told_by_their_rows(web: Web) -> None:
    """Also where the watch has shown nothing in between, and for each verb that wants something."""
    scene = Scene(web)
    scene.learn()
    scene.begin("resize", args={"size": {"memory_mib": 96}})
    scene.begin("alter", args={"description": "mine"})
    scene.begin("suspend")
    scene.begin("snapshot", args={"snapshot": {"name": "x"}})
    shown = scene.directory.ve(scene.ve)
    assert shown.generation == 5 and scene.learn(by_somebody(shown, vcpus=7)) is True
    wish = scene.wish
    assert (wish.desired, wish.spec.memory_mib, wish.spec.description, wish.spec.vcpus) == (Desired.SUSPENDED, 96, "mine", 1)
    assert scene.learn() is False and scene.row.generation == 5


def test_a_job_that_begins_needs_no_commit_of_its_own(web: Web) -> None:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    scene = Scene(web)
    scene.learn()
    job = scene.job("start")
    from vmcloud.fleet.models import Accepted
    from vmcloud.fleet.server import wanted

    accepted = Accepted.objects.get(pk=scene.ve)
    with CaptureQueriesContext(connection) as queries:
        wanted.begin(scene.context, scene.directory.ve(scene.ve), job, accepted)
    assert not [each["sql"] for each in queries]
