"""One message to one receiver, whatever that does."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests import receiver as kit
from tests.receiver import Behaviour, Receiver
from vmcloud.fleet.herald.post import Answer, Post

pytestmark = pytest.mark.unit


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with kit.receiver() as made:
        yield made


def anywhere(address: str) -> str:
    return ""


def sent(receiver: Receiver, behaviour: Behaviour, seconds: float = 0.5) -> tuple[Answer, float]:
    """What becomes of a message, while somebody looks at the clock now and then."""
    receiver.behaviour = behaviour
    post, done = Post(urlsplit(receiver.url), anywhere, seconds), threading.Event()

    def look() -> None:
        while not done.wait(0.05):
            post.look(time.monotonic())

    thread, began = threading.Thread(target=look), time.monotonic()
    thread.start()
    try:
        return post.send('{"a":1}', {"webhook-id": "x"}), time.monotonic() - began
    finally:
        done.set()
        thread.join()
        post.close()


def test_a_message_arrives_with_its_headers(receiver: Receiver) -> None:
    answer, _ = sent(receiver, kit.answer(204))
    ((headers, body),) = receiver.heard
    assert answer.ok and answer.code == 204 and body == b'{"a":1}'
    assert headers["webhook-id"] == "x" and headers["content-type"] == "application/json" and headers["user-agent"] == "vmcloud"


def test_many_go_over_one_connection_and_over_a_new_one_where_it_was_closed(receiver: Receiver) -> None:
    post = Post(urlsplit(receiver.url), anywhere, 5.0)
    assert post.send("{}", {}).ok
    first = post._connection
    assert post.send("{}", {}).ok and post._connection is first and first is not None
    receiver.behaviour = kit.answer(204, Connection="close")
    assert post.send("{}", {}).ok and post.send("{}", {}).ok
    post.close()


@pytest.mark.parametrize(
    ("behaviour", "code", "words"),
    [
        (kit.answer(500), 500, "500 Internal Server Error"),
        (kit.answer(404), 404, "404 Not Found"),
        (kit.answer(302, Location="http://127.0.0.1:1/other"), 302, "redirects are not followed"),
        (kit.close, None, "it closed the connection without an answer"),
        (kit.hang, None, "no answer in 0.5 s"),
        (kit.drip, None, "no answer in 0.5 s"),
    ],
)
def test_what_goes_wrong_is_said_in_time(receiver: Receiver, behaviour: Behaviour, code: int | None, words: str) -> None:
    answer, seconds = sent(receiver, behaviour)
    assert not answer.ok and answer.code == code and words in answer.error
    assert seconds < 2.0 and len(receiver.heard) == 1


def test_of_gigabytes_little_is_read(receiver: Receiver) -> None:
    answer, seconds = sent(receiver, kit.flood)
    assert answer.ok and seconds < 0.5


def test_gone_and_wait_are_heard(receiver: Receiver) -> None:
    assert sent(receiver, kit.answer(410))[0].gone
    assert sent(receiver, kit.answer(503, Retry_After="30"))[0].after == 30.0
    assert sent(receiver, kit.answer(503, Retry_After="9" * 30))[0].after == 3600.0
    assert sent(receiver, kit.answer(503, Retry_After="tomorrow"))[0].after == 0.0


def test_nothing_is_sent_where_it_may_not_go(receiver: Receiver) -> None:
    answer = Post(urlsplit(receiver.url), lambda address: f"not to {address}", 5.0).send("{}", {})
    assert answer.error == "not to 127.0.0.1" and receiver.heard == []


def test_who_is_not_there_is_told_in_words() -> None:
    assert "refused" in Post(urlsplit("http://127.0.0.1:1/"), anywhere, 1.0).send("{}", {}).error
    assert Post(urlsplit("http://nowhere.invalid/"), anywhere, 1.0).send("{}", {}).error
