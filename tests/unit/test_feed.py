"""The feed, events, and the stream that tells them: who is told what."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import uuid4

import pytest

from tests.asgi import Door
from tests.web import Web, web

pytestmark = pytest.mark.unit
__all__ = ["web"]


def listener(username: str, *, admin: bool = False, kinds: tuple[str, ...] = (), keys: tuple[str, ...] = ()) -> Any:
    from vmcloud.api.watch import Listener
    from vmcloud.fleet.services.accounts import Actor

    return Listener(Actor(username, is_admin=admin), frozenset(kinds), frozenset(keys))


def news(number: int = 1, kind: str = "ve", **fields: str) -> Any:
    from vmcloud.fleet.services.feed import News

    return News(
        **{"number": number, "at": 1.0, "kind": kind, "key": "k", "project": "main", "owner": "", "ve": "", "node": "", **fields}
    )


def test_people_are_told_of_their_own_and_of_what_is_nobodys(web: Web) -> None:
    ann, root = listener("ann"), listener("root", admin=True)
    told = [news(1, owner="ann"), news(2, owner="bob"), news(3, kind="node"), news(4, kind="stray")]
    for each in told:
        ann.offer(each)
        root.offer(each)
    assert [each.number for each in ann.waiting] == [1, 3]
    assert [each.number for each in root.waiting] == [1, 2, 3, 4]


def test_a_listener_hears_what_it_asked_for(web: Web) -> None:
    some = listener("root", admin=True, kinds=("job", "ve"), keys=("u-1",))
    for each in (news(1, key="u-1"), news(2, kind="job", ve="u-1"), news(3, kind="event", ve="u-1"), news(4, key="u-2")):
        some.offer(each)
    assert [each.number for each in some.waiting] == [1, 2]


def test_a_listener_hears_of_an_object_itself_where_it_names_its_kind(web: Web) -> None:
    some = listener("root", admin=True, keys=("u-1", "node:n1"))
    for each in (news(1, kind="node", key="n1", node="n1"), news(2, key="u-2", node="n1"), news(3, key="u-1", node="n1")):
        some.offer(each)
    assert [each.number for each in some.waiting] == [1, 3]


def test_a_listener_that_is_too_far_behind_is_told_to_look_at_everything(web: Web) -> None:
    from vmcloud.api.watch import BEHIND

    slow = listener("root", admin=True)
    for number in range(BEHIND + 3):
        slow.offer(news(number))
    assert slow.lost and len(slow.waiting) < BEHIND


def test_every_change_of_a_job_is_on_the_feed(web: Web) -> None:
    from vmcloud.fleet.models import Job
    from vmcloud.fleet.services import feed

    row = web.ve("one")
    begin = feed.cursor()
    job = Job.objects.get(pk=web.call("POST", "/ves/one/stop").json()["id"])
    after_submit, place = feed.read(begin)
    assert [(each.kind, each.key, each.ve, each.owner) for each in after_submit] == [("job", str(job.pk), str(row.uuid), "admin")]
    job.change(reason="waits")
    job.change(reason="waits")
    assert len(feed.read(begin)[0]) == 2, "a change that changes nothing is none"
    assert [each.key for each in feed.read(place)[0]] == [str(job.pk)]


def test_old_rows_are_forgotten_and_whoever_missed_them_is_told(web: Web) -> None:
    from vmcloud.fleet.models import Change
    from vmcloud.fleet.services import feed

    for number in range(5):
        feed.changed("node", f"n{number}")
    last = feed.cursor()
    Change.objects.update(at=1.0)
    feed.prune(feed.KEPT + 2.0)
    assert feed.cursor() == last, "numbers are not used twice"
    assert feed.reaches_back(last)
    assert feed.reaches_back(feed.Place(last.number - 1)) and not feed.reaches_back(feed.Place(last.number - 3))


def test_events_are_shown_to_whom_they_concern(web: Web) -> None:
    from vmcloud.domain.vocabulary import EventType
    from vmcloud.fleet.services import events

    row = web.ve("one", owner="ann")
    events.note(EventType.STATE, "crashed <script>", at=5.0, row=row)
    events.note(EventType.NODE, "node n1 is down", at=6.0, node="n1")
    events.note(EventType.ORPHAN, "a stray", at=7.0, node="n1")
    ann, eve = web.user("ann"), web.user("eve")

    def texts(token: str, query: str = "") -> list[str]:
        return [each["text"] for each in web.call("GET", f"/events{query}", token=token).json()["items"]]

    assert texts(web.token) == ["a stray", "node n1 is down", "crashed <script>"]
    assert texts(ann) == ["node n1 is down", "crashed <script>"]
    assert texts(eve) == ["node n1 is down"]
    assert texts(web.token, "?ve=one") == texts(web.token, f"?ve={row.uuid}") == ["crashed <script>"]
    assert texts(web.token, "?type=node&node=n1") == ["node n1 is down"]
    assert web.call("GET", "/events?colour=red").status_code == 400


def test_the_read_model_tells_history_only_where_no_job_does(web: Web) -> None:
    from vmcloud.directory import port
    from vmcloud.domain.messages import Mark
    from vmcloud.domain.records import Observation, VERecord
    from vmcloud.domain.spec import Spec
    from vmcloud.domain.vocabulary import Desired, Observed
    from vmcloud.fleet.models import Event, Job
    from vmcloud.fleet.server.projection import Projection

    projection, ve = Projection(), uuid4()

    def show(state: Observed, sequence: int, error: str = "") -> list[str]:
        seen = Observation(state, "node-1", Mark(1, sequence), 1, error=error)
        spec = Spec.parse({"kind": "lxc", "image": "busybox"})
        record = VERecord(ve, "one", "main", "ann", spec, Desired.RUNNING, 1, 1, "node-1", seen, version=f"{sequence}")
        projection.apply(port.Changed(record))
        return list(Event.objects.filter(ve=ve).order_by("id").values_list("text", flat=True))

    job = Job.objects.create(verb="create", owner="ann", ve=ve, created_at=1.0)
    assert show(Observed.RUNNING, 1) == []
    Job.objects.filter(pk=job.pk).update(state="C")
    assert show(Observed.RUNNING, 2) == [], "the same again"
    assert show(Observed.CRASHED, 3, "killed by signal 9") == ["crashed on node node-1, before running: killed by signal 9"]
    projection.apply(port.Removed("ve", str(ve)))
    assert Event.objects.filter(ve=ve).count() == 1, "who removed it is told once that is known"


def test_a_stream_is_for_who_is_logged_in(web: Web) -> None:
    from django.contrib.auth.models import User

    from vmcloud.api.watch import _who
    from vmcloud.domain.errors import Unauthenticated

    def scope(*headers: tuple[bytes, bytes]) -> dict[str, Any]:
        return {"type": "http", "method": "GET", "path": "/api/v1/watch", "query_string": b"", "headers": list(headers)}

    assert _who(scope((b"authorization", f"Bearer {web.token}".encode()))).is_admin
    web.client.force_login(User.objects.get(username="admin"))
    cookie = "; ".join(f"{name}={morsel.value}" for name, morsel in web.client.cookies.items())
    assert _who(scope((b"cookie", cookie.encode()))).username == "admin"
    for wrong in (b"sessionid=forged", b"\xff\xfe", b""):
        with pytest.raises(Unauthenticated):
            _who(scope((b"cookie", wrong)))
    User.objects.filter(username="admin").update(is_active=False)
    with pytest.raises(Unauthenticated):
        _who(scope((b"cookie", cookie.encode())))


def test_a_client_that_leaves_is_forgotten_and_nothing_looks_any_more(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    from vmcloud.fleet.services import feed

    door, begin = Door(web, monkeypatch), feed.cursor()

    async def talk() -> Any:
        async with door.stream("/watch") as stream:
            await stream.until(lambda answer: answer.events("ready"))
            await door.ask(lambda: feed.changed("node", "a"))
            await door.ask(lambda: feed.changed("node", "b"))
            await stream.until(lambda answer: len(answer.events()) == 2)
        assert door.reader._task is not None and not door.reader._listeners
        await asyncio.wait_for(door.reader._task, 10)
        return stream

    stream = asyncio.run(talk())
    (ready,), told = stream.events("ready"), stream.events()
    assert ready["id"] == str(begin)
    assert [json.loads(each["data"])["key"] for each in told] == ["a", "b"]
    assert feed.read(feed.Place.parse(told[1]["id"]))[0] == [], "its id is the place to resume"
