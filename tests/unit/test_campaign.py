"""A fault campaign is drawn from its seed, written down, and replayed; its proxy does what it is told to connections."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from benchmarks.campaign import plan
from benchmarks.campaign.client import Answer, Asked, take
from benchmarks.campaign.proxy import Proxy

pytestmark = pytest.mark.unit


def test_the_same_seed_is_the_same_campaign() -> None:
    assert plan.make(7, 60) == plan.make(7, 60) != plan.make(8, 60)


def test_a_campaign_has_all_kinds_of_requests_and_faults_in_the_order_of_their_times() -> None:
    acts = plan.make(7, 600)
    assert [act.at for act in acts] == sorted(act.at for act in acts)
    assert {act.verb for act in acts if act.what == "request"} == {*plan.VERBS, *plan.OF_JOBS, *plan.OTHERS}
    assert {act.verb for act in acts if act.what == "fault"} == set(plan.FAULTS)
    assert {act.target for act in acts if act.verb in ("kill", "freeze")} == set(plan.PARTS)
    ends = [act.at + act.args.get("seconds", 0.0) for act in acts if act.what == "fault"]
    assert max(ends) <= 600, "no fault is longer than the campaign"


def test_a_log_is_read_back_as_what_was_done() -> None:
    acts = plan.make(7, 20)
    lines = [
        '{"note": {"seed": 7}, "at": 0}\n',
        *(act.line() + "\n" for act in acts),
        "\n",
        '{"note": {"key": "7-1"}, "at": 9}\n',
    ]
    assert plan.read(lines) == acts


def test_an_answer_is_certain_only_where_nothing_was_lost_before() -> None:
    first, second = Asked("k", "stop", "v", tries=1), Asked("k", "stop", "v", tries=2)
    for asked in (first, second):
        take(asked, Answer(404, {"what": "no VE"}))
    assert (first.answer, second.answer) == ("refused", "unknown")
    take(second, Answer(202, {"id": 5}))
    assert (second.answer, second.job) == ("taken", 5)
    assert Answer(0).lost and Answer(503).lost and Answer(409, {"what": "is being worked on just now"}).lost


@contextmanager
def echo() -> Iterator[int]:
    """A server that says what it hears; its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    line, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=answer, args=(line,), daemon=True).start()

        def answer(line: socket.socket) -> None:
            with line:
                try:
                    while data := line.recv(100):
                        line.sendall(data)
                except OSError:
                    pass

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    made = Proxy()
    yield made
    made.close()


def said(line: socket.socket, text: bytes) -> bytes:
    line.sendall(text)
    return line.recv(100)


def test_a_link_passes_on_delays_falls_silent_and_tears(proxy: Proxy) -> None:
    with echo() as target:
        link = proxy.link("l", target)
        with socket.create_connection(("127.0.0.1", link), 5) as line:
            assert said(line, b"hello") == b"hello"
            proxy.links["l"].late = 0.05
            assert said(line, b"late") == b"late"
            proxy.mend()
            proxy.links["l"].silent = True
            line.settimeout(0.2)
            with pytest.raises(TimeoutError):
                said(line, b"nobody hears this")
            began = time.monotonic()
            proxy.mend()
            line.settimeout(5)
            assert line.recv(100) == b"nobody hears this" and time.monotonic() - began < 5, "half-open, not closed"
            proxy.links["l"].deaf = True
            line.sendall(b"heard and not answered")
            line.settimeout(0.2)
            with pytest.raises(TimeoutError):
                line.recv(100)
            proxy.mend()
            line.settimeout(5)
            assert said(line, b"again") == b"again", "what was thrown away does not come later"
            proxy.links["l"].tear_after = 3
            with pytest.raises(ConnectionResetError):
                while said(line, b"torn in the middle"):
                    pass
        with socket.create_connection(("127.0.0.1", link), 5) as line:
            assert said(line, b"again") == b"again"


def test_a_link_to_nobody_refuses(proxy: Proxy) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    link = proxy.link("l", port)
    with pytest.raises(ConnectionResetError), socket.create_connection(("127.0.0.1", link), 5) as line:
        line.recv(100)
