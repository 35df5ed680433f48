"""Taking in a Celery worker's messages together, with a consumer of our own making."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from vmcloud.dispatch.intake import Intake

pytestmark = pytest.mark.unit


class Consumer:
    """What the intake needs of Celery's: a channel that counts acknowledgements, and its thread, which is the test's."""

    connection_errors = (ConnectionError,)
    channel_errors = ()

    def __init__(self) -> None:
        self.acknowledged: list[list[str]] = []
        self.qos = SimpleNamespace(ack_all=self.acknowledged.append)
        self.due: list[Callable[[], None]] = []
        self.called = threading.Event()

    def call_soon(self, call: Callable[..., None], *arguments: Any) -> None:
        self.due.append(lambda: call(*arguments))
        self.called.set()

    def message(self, tag: str, body: object) -> Any:
        return SimpleNamespace(channel=self, delivery_tag=tag, decode=lambda: body)


def taken_in(take: Callable[[Sequence[Any]], None], consumer: Consumer, *messages: Any) -> None:
    """Messages that were there before the intake began."""
    intake = Intake(take)
    handle = intake.strategy(None, None, consumer)
    for message in messages:
        handle(message, None, None, None, None)
    intake.start()
    intake.stop()


def body(argument: object) -> object:
    return [[argument], {}, {}]


def test_what_waits_together_is_taken_in_at_once_and_acknowledged_after_that_on_the_consumers_thread() -> None:
    consumer, taken = Consumer(), []

    def take(arguments: Sequence[Any]) -> None:
        assert not consumer.due
        taken.append(list(arguments))

    taken_in(take, consumer, *(consumer.message(f"t{number}", body(number)) for number in range(3)))
    assert taken == [[0, 1, 2]] and consumer.acknowledged == []
    (acknowledge,) = consumer.due
    acknowledge()
    assert consumer.acknowledged == [["t0", "t1", "t2"]]


def test_what_can_not_be_read_is_dropped_and_acknowledged_with_the_others() -> None:
    consumer, taken = Consumer(), []
    messages = [
        consumer.message("bad", {"no": "task"}),
        consumer.message("good", body(1)),
        consumer.message("two", [[1, 2], {}, {}]),
    ]
    taken_in(taken.extend, consumer, *messages)
    consumer.due[0]()
    assert taken == [1] and consumer.acknowledged == [["bad", "good", "two"]]


def test_one_that_can_not_be_taken_in_does_not_take_the_others_with_it() -> None:
    consumer, taken = Consumer(), []

    def take(arguments: Sequence[Any]) -> None:
        if 1 in arguments:
            raise ValueError("not this one")
        taken.extend(arguments)

    taken_in(take, consumer, *(consumer.message(str(number), body(number)) for number in range(3)))
    assert taken == [0, 2] and len(consumer.due) == 1


def test_a_broker_that_is_gone_when_it_is_to_be_told_ends_nothing() -> None:
    consumer = Consumer()

    def gone(tags: object) -> None:
        raise ConnectionError("gone")

    consumer.qos.ack_all = gone
    taken_in(lambda arguments: None, consumer, consumer.message("t", body(1)))
    consumer.due[0]()
