"""A real, private slapd for tests: ready in a few hundredths of a second, gone afterwards.

Import the fixture where it is used: ``from tests.slapd import Slapd, slapd``.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ldap_schema import install
from vmcloud.directory.errors import Unavailable
from vmcloud.directory.store import Directory

SUFFIX = "dc=vmcloud,dc=internal"
PASSWORDS = {name: f"password-of-{name}" for name in ("web", "server", "monitor", "reader")}


class Slapd:
    """One slapd. ``user`` None: it runs as whoever runs the test."""

    def __init__(self, folder: Path, user: str | None = None) -> None:
        self.folder = folder
        self.user = user
        self.suffix = SUFFIX
        self.passwords = dict(PASSWORDS)
        self.port = free_port()
        self.uri = f"ldap://127.0.0.1:{self.port}"
        self.ldapi = install.ldapi_uri(folder / "run" / "ldapi")
        self.process: subprocess.Popen[bytes] | None = None
        install.initialise(folder, SUFFIX, self.passwords, user, durable=False)

    def start(self) -> None:
        """Start and wait until it answers."""
        self._launch([self.uri, self.ldapi])
        self._wait(self.uri)

    def _launch(self, uris: list[str]) -> None:
        self.process = subprocess.Popen(install.slapd_argv(self.folder, uris, self.user))

    def _wait(self, uri: str) -> None:
        store = Directory.of(uri, self.suffix, "reader", self.passwords["reader"])
        deadline = time.monotonic() + 10
        while True:
            try:
                store.check()
                store.close()
                return
            except Unavailable:
                if time.monotonic() > deadline or self.process is None or self.process.poll() is not None:
                    raise
                time.sleep(0.005)

    def start_elsewhere(self) -> Callable[[str], Directory]:
        """Start it where nobody else looks for it; the answer opens stores there. Stop it as usual."""
        port = free_port()
        self._launch([f"ldap://127.0.0.1:{port}"])
        self._wait(f"ldap://127.0.0.1:{port}")
        return lambda identity: Directory.of(f"ldap://127.0.0.1:{port}", self.suffix, identity, self.passwords[identity])

    def stop(self, *, kill: bool = False) -> None:
        """Stop it (``kill``: without notice) and wait."""
        if self.process is not None:
            self.process.kill() if kill else self.process.terminate()
            self.process.wait(10)
            self.process = None

    def directory(self, identity: str) -> Directory:
        """The store as one identity; ``root`` goes over the local socket."""
        if identity == "root":
            return Directory(self.ldapi, self.suffix)
        return Directory.of(self.uri, self.suffix, identity, self.passwords[identity])


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def make_slapd(user: str | None = None) -> Iterator[Slapd]:
    """Body of the fixtures."""
    if shutil.which("slapd", path="/usr/sbin") is None:
        pytest.fail("slapd is not installed: ./runtests installs it")
    folder = Path(tempfile.mkdtemp(prefix="vmcloud-slapd-"))
    os.chmod(folder, 0o711)  # noqa: PTH101 - so that slapd's own user can pass through
    server = Slapd(folder / "directory", user)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def slapd() -> Iterator[Slapd]:
    """A fresh slapd for one test."""
    yield from make_slapd()
