"""Queues: what they take, where they route, what they let run."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmcloud.domain.errors import Invalid
from vmcloud.domain.queueing import Entry, Filling, Queue, keeps_waiting, refusal, route

pytestmark = pytest.mark.unit


def test_a_queue_is_read_written_and_altered() -> None:
    said = {"max_running": 5, "users": ["ann", "ann", "bob"], "labels": ["ssd"], "priority": -3}
    queue = Queue.parse("batch", said)
    assert queue.users == ("ann", "bob")
    assert Queue.parse("batch", {k: v for k, v in queue.to_json().items() if k != "name"}) == queue
    assert queue.altered({"started": False}) == Queue("batch", True, False, -3, 5, users=("ann", "bob"), labels=("ssd",))


@pytest.mark.parametrize(
    ("data", "where"),
    [
        ({"color": 1}, "color"),
        ({"enabled": 1}, "enabled"),
        ({"max_running": -1}, "max_running"),
        ({"max_running": "5"}, "max_running"),
        ({"priority": 5000}, "priority"),
        ({"users": "ann"}, "users"),
        ({"users": [""]}, "users"),
        ({"users": ["\x00"]}, "users"),
        ({"routes": ["a b"]}, "routes"),
        ({"routes": ["q"]}, "routes"),
        ({"min_vcpus": 5, "max_vcpus": 4}, "min_vcpus"),
    ],
)
def test_a_queue_that_cannot_be_is_refused_where_it_is_wrong(data: dict[str, Any], where: str) -> None:
    with pytest.raises(Invalid) as caught:
        Queue.parse("q", data)
    assert caught.value.problem.where == where
    with pytest.raises(Invalid):
        Queue.parse("No Label", {})


@pytest.mark.parametrize(
    ("queue", "entry", "filling", "word"),
    [
        (Queue("q", enabled=False), Entry("ann"), Filling(), "takes no jobs"),
        (Queue("q", users=("bob",)), Entry("ann"), Filling(), "may not submit"),
        (Queue("q", users=("bob",)), Entry("ann", is_admin=True), Filling(), ""),
        (Queue("q", max_vcpus=2), Entry("ann", vcpus=3), Filling(), "0 to 2 virtual CPUs, 3 were asked"),
        (Queue("q", min_memory_mib=512), Entry("ann", memory_mib=64), Filling(), "MiB of memory"),
        (Queue("q", min_memory_mib=512), Entry("ann"), Filling(), ""),
        (Queue("q", max_queued=3), Entry("ann", is_admin=True), Filling(queued=3), "3 are allowed"),
        (Queue("q", max_user_queued=1), Entry("ann"), Filling(queued=9, queued_of={"ann": 1}), "ann has 1"),
        (Queue("q", max_user_queued=1), Entry("ann"), Filling(queued=9, queued_of={"bob": 9}), ""),
    ],
)
def test_what_a_queue_takes(queue: Queue, entry: Entry, filling: Filling, word: str) -> None:
    found = refusal(queue, entry, filling)
    assert (word in found) if word else not found


@pytest.mark.parametrize(
    ("queue", "filling", "word"),
    [
        (None, Filling(running=99), ""),
        (Queue("q"), Filling(running=99), ""),
        (Queue("q", started=False), Filling(), "is stopped"),
        (Queue("q", max_running=2), Filling(running=2), "2 are allowed"),
        (Queue("q", max_running=2), Filling(running=1), ""),
        (Queue("q", max_user_running=1), Filling(running=1, running_of={"ann": 1}), "ann runs 1"),
    ],
)
def test_what_a_queue_lets_run(queue: Queue | None, filling: Filling, word: str) -> None:
    found = keeps_waiting(queue, "ann", filling)
    assert (word in found) if word else not found


def test_routes_are_tried_in_their_order_and_each_reason_is_told() -> None:
    queues = {
        "main": Queue("main", routes=("small", "big", "nowhere")),
        "small": Queue("small", max_memory_mib=512),
        "big": Queue("big", min_memory_mib=513, max_queued=1),
    }
    assert route("main", queues, Entry("ann", memory_mib=64), {}) == ("small", "")
    assert route("main", queues, Entry("ann", memory_mib=1024), {}) == ("big", "")
    chosen, why = route("main", queues, Entry("ann", memory_mib=1024), {"big": Filling(queued=1)})
    assert not chosen and why.count(";") == 2 and "'nowhere'" in why
    assert route("gone", queues, Entry("ann"), {}) == ("", "no queue is called 'gone'")


@given(st.dictionaries(st.sampled_from("abcde"), st.lists(st.sampled_from("abcde"), max_size=3)))
def test_routing_ends_whatever_routes_to_whom(graph: dict[str, list[str]]) -> None:
    queues = {name: Queue(name, routes=tuple(routes)) for name, routes in graph.items()}
    chosen, why = route("a", queues, Entry("ann"), {})
    assert bool(chosen) is not bool(why)
    assert not chosen or not queues[chosen].routes
