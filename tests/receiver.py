"""A receiver of webhooks on loopback, that answers as it is told to."""

from __future__ import annotations

import http.server
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Behaviour = Callable[[http.server.BaseHTTPRequestHandler], None]


def answer(code: int, **headers: str) -> Behaviour:
    """Answer with a status and nothing else."""

    def behave(request: http.server.BaseHTTPRequestHandler) -> None:
        request.send_response(code)
        for name, value in {"Content-Length": "0", **headers}.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()

    return behave


def close(request: http.server.BaseHTTPRequestHandler) -> None:
    """Hang up without an answer."""
    request.connection.shutdown(socket.SHUT_RDWR)
    request.close_connection = True


def hang(request: http.server.BaseHTTPRequestHandler) -> None:
    """Say nothing until the other side gives up."""
    request.connection.settimeout(60)
    request.connection.recv(1)
    request.close_connection = True


def drip(request: http.server.BaseHTTPRequestHandler) -> None:
    """Begin an answer and never come to its end, a byte at a time."""
    try:
        request.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        while True:
            request.wfile.write(b"x")
            request.wfile.flush()
            time.sleep(0.05)
    except OSError:
        request.close_connection = True


def flood(request: http.server.BaseHTTPRequestHandler) -> None:
    """Answer 200 with gigabytes."""
    request.send_response(200)
    request.send_header("Content-Length", str(8 << 30))
    request.end_headers()
    try:
        while True:
            request.wfile.write(b"x" * (1 << 16))
    except OSError:
        request.close_connection = True


class Receiver:
    """``heard``: (headers, body) of each request, in order; ``behaviour``: of the next ones."""

    def __init__(self) -> None:
        self.heard: list[tuple[dict[str, str], bytes]] = []
        self.behaviour: Behaviour = answer(204)
        self.url = ""

    def told(self, type: str = "") -> list[dict[str, Any]]:
        """The bodies heard, of one type."""
        bodies = [json.loads(body) for _, body in self.heard]
        return [body for body in bodies if not type or body["type"] == type]


@contextmanager
def receiver() -> Iterator[Receiver]:
    """One that listens, and is gone afterwards."""
    made = Receiver()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            made.heard.append(({name.lower(): value for name, value in self.headers.items()}, body))
            made.behaviour(self)

        def log_message(self, *about: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    made.url = f"http://127.0.0.1:{server.server_address[1]}/hook"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
