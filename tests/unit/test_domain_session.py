"""What travels on a session's websocket, and what a session may be asked for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmcloud.domain import verbs
from vmcloud.domain.errors import Invalid, Problem
from vmcloud.domain.session import Channel, Frame, Status, parse_window, window
from vmcloud.domain.vocabulary import Verb

pytestmark = pytest.mark.unit


@given(st.sampled_from(Channel), st.binary(max_size=200))
def test_a_frame_survives_the_way(channel: Channel, data: bytes) -> None:
    assert Frame.decode(Frame(channel, data).encode()) == Frame(channel, data)


@pytest.mark.parametrize("message", [b"", "text", None, b"\x07x", bytes((9,))])
def test_what_is_no_frame_is_refused(message: object) -> None:
    with pytest.raises(Invalid):
        Frame.decode(message)


@pytest.mark.parametrize(
    "status",
    [Status(), Status(waiting="node n is down"), Status(exit_code=3), Status(problem=Problem("lost", "it broke", todo="again"))],
)
def test_a_status_survives_the_way(status: Status) -> None:
    frame = Frame.decode(status.encode())
    assert frame.channel is Channel.STATUS and Status.decode(frame.data) == status
    assert status.over == (status.exit_code is not None or status.problem is not None)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_status_or_refused(data: bytes) -> None:
    try:
        Status.decode(data)
    except Invalid:
        pass


@pytest.mark.parametrize("data", [b"[]", b'{"exit_code": "0"}', b'{"problem": []}x', b'{"problem": [1]}', b'{"exit_code": true}'])
def test_a_strange_status_is_refused(data: bytes) -> None:
    with pytest.raises(Invalid):
        Status.decode(data)


def test_a_window_survives_the_way_and_nonsense_does_not() -> None:
    assert parse_window(Frame.decode(window(24, 80)).data) == (24, 80)
    for bad in (
        b"",
        b"{}",
        b'{"rows": 0, "columns": 1}',
        b'{"rows": 1.5, "columns": 1}',
        b'{"rows": 99999, "columns": 1}',
        b"[1,2]",
    ):
        with pytest.raises(Invalid):
            parse_window(bad)


@pytest.mark.parametrize(
    ("verb", "asked", "where"),
    [
        (Verb.EXEC, {}, "argv"),
        (Verb.EXEC, {"argv": "ls -l"}, "argv"),
        (Verb.EXEC, {"argv": []}, "argv"),
        (Verb.EXEC, {"argv": [""]}, "argv"),
        (Verb.EXEC, {"argv": ["ls", 1]}, "argv"),
        (Verb.EXEC, {"argv": ["a\0b"]}, "argv"),
        (Verb.EXEC, {"argv": ["x"] * 1025}, "argv"),
        (Verb.EXEC, {"argv": ["x" * 200_000]}, "argv"),
        (Verb.EXEC, {"argv": ["ls"], "tty": "yes"}, "tty"),
        (Verb.EXEC, {"argv": ["ls"], "environment": []}, "environment"),
        (Verb.EXEC, {"argv": ["ls"], "environment": {"A B": "x"}}, "environment"),
        (Verb.EXEC, {"argv": ["ls"], "environment": {"A=B": "x"}}, "environment"),
        (Verb.EXEC, {"argv": ["ls"], "environment": {"": "x"}}, "environment"),
        (Verb.EXEC, {"argv": ["ls"], "environment": {"A": 1}}, "environment"),
        (Verb.EXEC, {"argv": ["ls"], "environment": {"A": "\0"}}, "environment"),
        (Verb.EXEC, {"argv": ["ls"], "environment": {f"A{n}": "" for n in range(300)}}, "environment"),
        (Verb.EXEC, {"argv": ["ls"], "user": "root"}, "user"),
        (Verb.CONSOLE, {"argv": ["ls"]}, "argv"),
        (Verb.LOGS, {"follow": 1}, "follow"),
        (Verb.LOGS, {"lines": 3}, "lines"),
    ],
)
def test_a_wrong_argument_is_named(verb: Verb, asked: dict[str, Any], where: str) -> None:
    with pytest.raises(Invalid) as caught:
        verbs.of(verb).parse(asked)
    assert caught.value.problem.where == where


def test_words_of_a_command_stay_as_they_are() -> None:
    words = ["sh", "-c", "echo $X; rm -rf 'a b'", "", "--", "ä\n"]
    found = vars(verbs.of(Verb.EXEC).parse({"argv": words, "environment": {"_X1": "a b\n"}}))
    assert found == {"argv": words, "environment": {"_X1": "a b\n"}, "tty": False}
    assert vars(verbs.of(Verb.LOGS).parse({})) == {"follow": False}
    assert vars(verbs.of(Verb.CONSOLE).parse({})) == {}
