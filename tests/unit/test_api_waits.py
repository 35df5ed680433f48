"""Long polls, reads after a write and streams: who is woken by what, what waiting costs, and how much of it one user gets."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any

import pytest

from tests.asgi import Door
from tests.web import Web, web

pytestmark = pytest.mark.unit
__all__ = ["web"]


@pytest.fixture
def door(web: Web, monkeypatch: pytest.MonkeyPatch) -> Door:
    return Door(web, monkeypatch)


def job_of(web: Web, name: str = "one") -> Any:
    from vmcloud.fleet.models import Job

    web.ve(name)
    return Job.objects.get(pk=web.call("POST", f"/ves/{name}/stop").json()["id"])


async def seconds_of(waited: Any) -> tuple[Any, float]:
    begun = time.monotonic()
    return await waited, time.monotonic() - begun


def test_long_poll_answers_at_once_when_something_changed_and_late_when_not(web: Web, door: Door) -> None:
    job = job_of(web)

    async def talk() -> None:
        _, seconds = await seconds_of(door.get(f"/jobs/{job.pk}?wait=5&version=0"))
        assert seconds < 1
        answer, seconds = await seconds_of(door.get(f"/jobs/{job.pk}?wait=0.3&version={job.version}"))
        assert 0.3 <= seconds < 2 and answer.json()["version"] == job.version

    asyncio.run(talk())


def test_a_change_wakes_who_waits_for_that_job_and_nobody_else(web: Web, door: Door) -> None:
    one, two = job_of(web, "one"), job_of(web, "two")

    async def talk() -> None:
        waiting = asyncio.create_task(door.get(f"/jobs/{one.pk}?wait=30&version={one.version}"))
        other = asyncio.create_task(door.get(f"/jobs/{two.pk}?wait=30&version={two.version}"))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        await door.ask(lambda: one.change(reason="waits for room"))
        answer = await asyncio.wait_for(waiting, 5)
        assert answer.json()["reason"] == "waits for room" and not other.done()
        await door.ask(lambda: two.change(state="C", outcome="ok", ended_at=time.time()))
        assert (await asyncio.wait_for(other, 5)).json()["state"] == "C"

    asyncio.run(talk())


def test_a_change_between_the_look_and_the_waiting_is_not_missed(web: Web, door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    from vmcloud.api import waits

    job, look = job_of(web), waits._look

    def looked(*args: Any) -> Any:
        found = look(*args)
        job.change(reason="just now")
        return found

    monkeypatch.setattr(waits, "_look", looked)
    answer, seconds = asyncio.run(seconds_of(door.get(f"/jobs/{job.pk}?wait=30&version={job.version}")))
    assert seconds < 5 and answer.json()["reason"] == "just now"


def test_a_job_that_is_gone_is_said_so_at_its_next_look(web: Web, door: Door) -> None:
    from vmcloud.fleet.services import feed

    job = job_of(web)

    async def talk() -> None:
        waiting = asyncio.create_task(door.get(f"/jobs/{job.pk}?wait=30&version={job.version}"))
        await asyncio.sleep(0.1)
        number = job.pk
        await door.ask(job.delete)
        await door.ask(lambda: feed.changed("job", str(number)))
        assert (await asyncio.wait_for(waiting, 5)).status == 404

    asyncio.run(talk())


@pytest.mark.parametrize("query", ["?wait=soon", "?wait=nan", "?wait=5&version=-1", "?wait=5&colour=red"])
def test_what_is_wrong_is_said_at_once(web: Web, door: Door, query: str) -> None:
    job = job_of(web)
    answer, seconds = asyncio.run(seconds_of(door.get(f"/jobs/{job.pk}{query}")))
    assert answer.status == 400 and seconds < 4


def test_nobody_waits_for_a_job_of_somebody_else(web: Web, door: Door) -> None:
    job, eve = job_of(web), web.user("eve")
    for token, status in ((eve, 404), ("nonsense", 401)):
        answer, seconds = asyncio.run(seconds_of(door.get(f"/jobs/{job.pk}?wait=30&version={job.version}", token)))
        assert answer.status == status and seconds < 5


def test_a_client_that_leaves_gives_up_its_place(web: Web, door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    job = job_of(web)

    async def talk() -> None:
        left = asyncio.Event()
        waiting = asyncio.create_task(door.get(f"/jobs/{job.pk}?wait=30&version={job.version}", left=left))
        await asyncio.sleep(0.1)
        left.set()
        assert (await asyncio.wait_for(waiting, 5)).status == 0
        assert not door.reader._jobs
        assert door.reader._task is not None
        await asyncio.wait_for(door.reader._task, 5)  # and nothing looks any more

    asyncio.run(talk())


def test_a_read_waits_for_the_write_whose_version_it_carries(web: Web, door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    from vmcloud.fleet.services import watermark

    assert watermark.PATIENCE == 0.5
    monkeypatch.setattr(watermark, "PATIENCE", 3.0)  # so that a slow machine is told from a wait

    versions = [f"2026112021440{second}.000000Z#000000#000#000000" for second in range(3)]
    watermark.synced(versions[0], 1.0)

    async def talk() -> None:
        after = [version.replace("#", "%23") for version in versions]
        _, seconds = await seconds_of(door.get(f"/ves?after={after[0]}"))
        assert seconds < 2
        waiting = asyncio.create_task(door.get(f"/ves?after={after[1]}"))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        await door.ask(lambda: watermark.reached(versions[1]))
        assert (await asyncio.wait_for(waiting, 2)).status == 200
        answer, seconds = await seconds_of(door.get(f"/ves?after={after[2]}"))
        assert answer.status == 200 and 3 <= seconds < 10, "a read model that lags is no error"

    asyncio.run(talk())


def test_a_database_that_is_away_is_said_to_who_waits(web: Web, door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    from vmcloud.api import reader
    from vmcloud.domain.errors import Unavailable

    job = job_of(web)

    def away(*_: Any, **__: Any) -> Any:
        raise Unavailable("the job database does not answer")

    async def talk() -> None:
        waiting = asyncio.create_task(door.get(f"/jobs/{job.pk}?wait=30&version={job.version}"))
        await asyncio.sleep(0.1)
        monkeypatch.setattr(reader, "_see", away)
        answer = await asyncio.wait_for(waiting, 5)
        assert (answer.status, answer.json()["code"]) == (503, "unavailable"), "nobody waits for the database a second time"

    asyncio.run(talk())


def test_five_hundred_waiters_cost_what_one_costs(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    from django.db import connection

    jobs = [job_of(web, f"v{number}") for number in range(5)]

    async def spent(door: Door, count: int) -> tuple[float, int]:
        """Processor seconds and statements of a second in which nothing happens."""
        statements = 0

        def counted(execute: Any, *args: Any) -> Any:
            nonlocal statements
            statements += 1
            return execute(*args)

        waited = [jobs[each % 5] for each in range(count)]
        tasks = [asyncio.create_task(door.reader.job(job.pk, job.version, 60)) for job in waited]
        await asyncio.sleep(3)  # those that came just now are looked after more often
        before = time.process_time()
        with door.connection.execute_wrapper(counted):
            await asyncio.sleep(1)
        used = time.process_time() - before
        for job in jobs:
            await door.ask(partial(job.change, reason=f"{count}"))
        await asyncio.wait_for(asyncio.gather(*tasks), 10)
        return used, statements

    one = asyncio.run(spent(Door(web, monkeypatch), 1))
    many = asyncio.run(spent(Door(web, monkeypatch), 500))
    statements = (
        12 if connection.vendor == "sqlite" else 24
    )  # of two, in a transaction that has written and goes on, as a test's does
    assert 1 <= one[1] <= statements and 1 <= many[1] <= statements, "one look in a tenth of a second"
    assert many[0] < 3 * one[0] + 0.05


def test_who_resumes_is_told_once_what_the_reader_tells_as_well(web: Web, door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    from vmcloud.api import watch
    from vmcloud.fleet.services import feed

    feed.changed("node", "before")
    begin, look = watch._begin, feed.cursor()
    feed.changed("node", "missed")

    def begun(after: Any) -> Any:
        feed.changed("node", "meanwhile")
        return begin(after)

    monkeypatch.setattr(watch, "_begin", begun)

    async def talk() -> list[str]:
        async with door.stream("/watch") as first:
            await first.until(lambda answer: answer.events("ready"))
            async with door.stream(f"/watch?after={look}") as stream:
                await stream.until(lambda answer: len(answer.events()) >= 3)
                await door.ask(lambda: feed.changed("node", "later"))
                await stream.until(lambda answer: len(answer.events()) >= 4)
                await asyncio.sleep(0.3)
                return [each["data"] for each in stream.events()]

    told = asyncio.run(talk())
    assert [key for data in told for key in ("missed", "meanwhile", "later") if key in data] == [
        "missed",
        "meanwhile",
        "meanwhile",
        "later",
    ]


def test_nobody_gets_all_and_administrators_always_get_some(web: Web) -> None:
    from contextlib import ExitStack

    from vmcloud.api.shares import Share
    from vmcloud.domain.errors import Unavailable
    from vmcloud.fleet.services.accounts import Actor
    from vmcloud.fleet.services.logins import TooMany

    share, ann, root = Share("streams", places=10, each=3, kept=2), Actor("ann"), Actor("root", is_admin=True)
    with ExitStack() as stack:
        hers = stack.enter_context(ExitStack())
        for _ in range(3):
            hers.enter_context(share.place(ann))
        with pytest.raises(TooMany, match="you have 3 streams open already"):
            stack.enter_context(share.place(ann))
        for number in range(5):
            stack.enter_context(share.place(Actor(f"user-{number}")))
        with pytest.raises(Unavailable, match="too many streams"):
            stack.enter_context(share.place(Actor("bob")))
        for _ in range(2):
            stack.enter_context(share.place(root))
        with pytest.raises(Unavailable):
            stack.enter_context(share.place(root))
        hers.close()
        stack.enter_context(share.place(Actor("bob")))
    assert not share._taken
