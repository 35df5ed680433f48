"""From a change in the directory to the pages that show it: the stream of changes, with one page open and with a hundred."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from .measure import Report, Wishes
from .scene import PATIENCE, Scene, scene

TARGET = 0.3


class Page:
    """An open page's end of the stream: notes when it was told of a node's change."""

    def __init__(self, made: Scene) -> None:
        token = (made.cloud.data / "secrets" / "admin-token").read_text().strip()
        self._connection = http.client.HTTPConnection(urlsplit(made.cloud.url).netloc, timeout=60)
        self._connection.request("GET", "/api/v1/watch", headers={"Authorization": f"Bearer {token}"})
        self._socket = self._connection.sock
        self._answer = self._connection.getresponse()
        assert self._answer.status == 200
        self._told = threading.Event()
        self.at = 0.0
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            for line in self._answer:
                if line.startswith(b"data: ") and json.loads(line[6:]).get("kind") == "node":
                    self.at = time.monotonic()
                    self._told.set()
        except (OSError, ValueError, AttributeError, http.client.HTTPException):
            return  # closed

    def forget(self) -> None:
        """What comes from now on counts."""
        self._told.clear()

    def wait(self) -> float:
        """When it was told; monotonic seconds."""
        assert self._told.wait(PATIENCE), "the page was not told"
        return self.at

    def close(self) -> None:
        """Leave. The socket first: closing what another thread reads from waits for that thread."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE)
        self._connection.close()


@contextmanager
def pages(made: Scene, count: int) -> Iterator[list[Page]]:
    """So many open pages."""
    found = [Page(made) for _ in range(count)]
    try:
        yield found
    finally:
        for page in found:
            page.close()


def run(report: Report, wishes: Wishes) -> None:
    """Change a node's description in the directory, as any LDAP tool could, and see who is told when."""
    everybody = wishes.size(100, 3)
    with scene(simulate=1) as made:
        directory = made.cloud.directory()
        name = made.cloud.node_names()[0]
        raw = "raw: an LDAP modify"
        for count, words in ((1, "one page"), (everybody, f"the last of {everybody} pages")):
            with pages(made, count) as found:
                time.sleep(1.0)
                for number in range(wishes.repetitions(40)):
                    node = directory.node(name)
                    assert node is not None
                    for page in found:
                        page.forget()
                    began = time.monotonic()
                    directory.change_node(node, description=f"{count} {number}")
                    changed = time.monotonic()
                    told = max(page.wait() for page in found)
                    made.ask("GET", f"/nodes/{name}")
                    shown = time.monotonic()
                    report.add(raw, changed - began)
                    report.add(f"changed in the directory → {words} told", told - changed, target=TARGET)
                    if count == 1:
                        report.add("the same → read anew and shown", shown - changed, target=TARGET)
                    time.sleep(0.05 + number % 10 / 100)  # not in step with the looks at the feed
