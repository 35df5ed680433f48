"""The feed on a real PostgreSQL, where rows are numbered before they are committed: whatever the order of commits, a reader is
told of each row, and once."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests import postgres
from tests.web import _setup

pytestmark = [pytest.mark.integration]
MANY = 5000
INSERT = "INSERT INTO fleet_change (at, kind, key, project, owner, node) VALUES (%s, %s, %s, 'main', '', '')"


@pytest.fixture(scope="module")
def migrated() -> Iterator[str]:
    """A database with the product's tables, and Django in this process connected to it instead of its own."""
    _setup()
    from django.core.management import call_command
    from django.db import connections
    from django.db.utils import load_backend

    from vmcloud.site import database

    before = connections["default"]
    with postgres.shared().database() as url:
        said = {**before.settings_dict, **database.settings(url, part="server", passfile=Path("/nonexistent"))}
        connections["default"] = load_backend(said["ENGINE"]).DatabaseWrapper(said, "default")
        try:
            call_command("migrate", verbosity=0)
            yield url
        finally:
            connections["default"].close()
            connections["default"] = before


@pytest.fixture
def url(migrated: str) -> Iterator[str]:
    from vmcloud.fleet.models import Change, Job, Watermark

    for model in (Change, Job, Watermark):
        model.objects.all().delete()
    yield migrated


class Writer:
    """One transaction of another process."""

    def __init__(self, url: str) -> None:
        self.session = psycopg.connect(url)

    def say(self, *keys: str, kind: str = "node") -> Writer:
        """Write rows, and commit nothing yet."""
        with self.session.cursor() as cursor:
            cursor.executemany(INSERT, [(time.time(), kind, key) for key in keys])
        return self

    def commit(self) -> None:
        """The end of it."""
        self.session.commit()
        self.session.close()

    def undo(self) -> None:
        """As if it had never been."""
        self.session.rollback()
        self.session.close()


class Reader:
    """Who follows the feed; ``limit``: rows that it takes at once."""

    def __init__(self, limit: int = 1000) -> None:
        from vmcloud.fleet.services import feed

        self.place, self.limit, self.told = feed.cursor(), limit, Counter[str]()

    def look(self) -> list[str]:
        """What it is told now, all of it."""
        from vmcloud.fleet.services import feed

        keys: list[str] = []
        while True:
            news, self.place = feed.read(self.place, self.limit)
            keys += [each.key for each in news]
            if not news:
                self.told.update(keys)
                return keys


def test_a_lower_number_that_is_committed_later_is_told_then(url: str) -> None:
    reader = Reader()
    early, late = Writer(url).say("early"), Writer(url).say("late")
    assert reader.look() == []
    late.commit()
    assert reader.look() == ["late"], "what is committed does not wait for what is not"
    early.commit()
    assert reader.look() == ["early"] and reader.look() == []


def test_an_array_that_is_committed_after_a_later_row_is_told_whole(url: str) -> None:
    reader = Reader()
    array = Writer(url).say(*(f"part-{number}" for number in range(MANY)))
    Writer(url).say("later").commit()
    assert reader.look() == ["later"]
    array.commit()
    assert len(reader.look()) == MANY and set(reader.told.values()) == {1}


def test_webhooks_are_told_of_each_part_of_such_an_array(url: str) -> None:
    from vmcloud.fleet.herald.gather import Line
    from vmcloud.fleet.models import Change, Job

    now = time.time()
    line = Line("webhooks")
    line.begin(now - 1)
    jobs = Job.objects.bulk_create(
        [Job(owner="ann", verb="create", state="Q", created_at=now, settled=False) for _ in range(MANY)], batch_size=500
    )
    array = Writer(url).say(*(str(job.pk) for job in jobs), kind="job")
    Writer(url).say("later").commit()
    told: Counter[str] = Counter()

    def listen() -> None:
        while True:
            happenings, place = line.news()
            if place is None:
                return
            told.update(each.id for each in happenings)
            line.move(place, happenings)

    listen()
    array.commit()
    listen()
    assert len(told) == MANY and set(told.values()) == {1}
    assert Change.objects.count() == MANY + 1


@pytest.mark.parametrize("seed", range(6))
def test_any_order_of_commits_is_told_once_each(url: str, seed: int) -> None:
    chance = random.Random(seed)
    readers, done = [Reader(), Reader(limit=3)], Counter[str]()
    under_way: list[tuple[Writer, list[str]]] = []
    for number in range(120):
        if under_way and (len(under_way) > 12 or chance.random() < 0.5):
            writer, keys = under_way.pop(chance.randrange(len(under_way)))
            if chance.random() < 0.8:
                writer.commit()
                done.update(keys)
            else:
                writer.undo()
        else:
            keys = [f"{number}.{row}" for row in range(chance.randint(1, 9))]
            under_way.append((Writer(url).say(*keys), keys))
        if chance.random() < 0.3:
            chance.choice(readers).look()
    for writer, keys in under_way:
        writer.commit()
        done.update(keys)
    for reader in readers:
        reader.look()
        assert reader.told == done


@pytest.mark.parametrize("seed", range(4))
def test_who_resumes_at_any_event_misses_nothing_and_is_told_little_again(url: str, seed: int) -> None:
    """Again is told only what was written by transactions that began after the oldest one that was not over by then."""
    from vmcloud.fleet.services import feed

    chance = random.Random(seed)
    place = feed.cursor()
    under_way: list[tuple[int, Writer]] = []
    told: list[tuple[feed.News, int]] = []

    def look() -> None:
        nonlocal place
        news, place = feed.read(place)
        oldest = min((number for number, _ in under_way), default=60)
        told.extend((each, min(oldest, int(each.key.split(".")[0]))) for each in news)

    for number in range(60):
        if len(under_way) > chance.randint(0, 6):
            under_way.pop(chance.randrange(len(under_way)))[1].commit()
            look()
        else:
            under_way.append((number, Writer(url).say(f"{number}.a", f"{number}.b")))
    while under_way:
        under_way.pop()[1].commit()
    look()
    for number, (each, oldest) in enumerate(told):
        again = {later.key for later in feed.read(feed.Place.parse(each.place))[0]}
        after = {later.key for later, _ in told[number + 1 :]}
        assert after <= again
        assert all(int(key.split(".")[0]) >= oldest for key in again - after)
    assert feed.read(feed.Place.parse(str(place)))[0] == []


def test_a_place_of_before_the_upgrade_is_gone_on_from(url: str) -> None:
    from vmcloud.fleet.services import feed

    Writer(url).say("old").commit()
    before = feed.Place(feed.cursor().number)
    Writer(url).say("new").commit()
    news, place = feed.read(before)
    assert [each.key for each in news] == ["new"] and place.seen
    assert feed.read(place)[0] == []


def test_a_place_of_a_copied_database_is_gone_on_from_by_its_number(url: str) -> None:
    from vmcloud.fleet.services import feed

    Writer(url).say("old").commit()
    elsewhere = feed.Place.parse(f"{feed.cursor().number}-{10**15}")
    Writer(url).say("new").commit()
    assert [each.key for each in feed.read(elsewhere)[0]] == ["new"]


def test_what_was_not_told_is_not_forgotten(url: str) -> None:
    from vmcloud.fleet.models import Change
    from vmcloud.fleet.services import feed

    late = Writer(url).say("late")
    Writer(url).say("told").commit()
    place = feed.cursor()
    late.commit()
    Writer(url).say("newest").commit()
    Change.objects.update(at=1.0)
    feed.prune(feed.KEPT + 2.0, untold=place)
    assert [each.key for each in Change.objects.order_by("id")] == ["late", "told", "newest"], "oldest first, and none before it"
    feed.prune(feed.KEPT + 2.0, untold=feed.cursor())
    assert [each.key for each in Change.objects.order_by("id")] == ["newest"]


def test_an_idle_look_is_one_statement(url: str) -> None:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    from vmcloud.fleet.services import feed

    place = feed.cursor()
    with CaptureQueriesContext(connection) as found:
        news, after = feed.read(place)
    assert not news and after == place and len(found) == 1, json.dumps(found.captured_queries)
