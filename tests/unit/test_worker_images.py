"""Fetching an image: what ends well with another ticket."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from tests.worker_kit import order
from vmcloud.domain.messages import StepOrder
from vmcloud.domain.vocabulary import StepVerb
from workers.download import download
from workers.drivers.base import silent
from workers.plans import Tools, Work
from workers.steps import carry_out

pytestmark = pytest.mark.unit


class Web(BaseHTTPRequestHandler):
    """A web part that knows no ticket."""

    def do_GET(self) -> None:
        self.send_error(403, "the ticket was used")

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Web)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/image"
    server.shutdown()
    server.server_close()


class Images:
    """A store that downloads and keeps nothing."""

    def fetch(self, order: StepOrder, report: Any) -> None:
        download(order, io.BytesIO(), report)

    def sweep(self, order: StepOrder) -> None:
        pass


def test_a_ticket_that_is_refused_is_worth_another_try_with_a_new_one(url: str) -> None:
    fetch = replace(order(verb=StepVerb.FETCH, sha256="ab" * 32, size=1, url=url, ticket="old"), ve=None, kind=None)
    images: Any = Images()
    ended = carry_out(Work(fetch), Tools(None, images, silent, lambda: None, lambda state: None))
    assert ended.retryable and ended.error is not None and "403" in ended.error.what
