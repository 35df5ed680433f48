"""A real PostgreSQL of the tests' own: a cluster in a folder of its own, on a free loopback port, stopped and removed at the end.

``database()`` is a context: a fresh, empty database in the cluster of this process, which is made when first asked for.
"""

from __future__ import annotations

import atexit
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from tests.broker import free_port

USER = "postgres"
"""Who runs it, where the tests run as root: PostgreSQL refuses to run as root."""
_NUMBERS = itertools.count(1)
_SHARED: list[Postgres] = []


class Postgres:
    """One cluster. Its data survives :meth:`stop` and :meth:`start`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self._who: dict[str, Any] = {}
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.geteuid() == 0:
            entry = pwd.getpwnam(USER)
            os.chown(folder, entry.pw_uid, entry.pw_gid)
            self._who = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        argv = [program("initdb"), "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
        self._call([*argv, str(folder / "data")])
        self.process: subprocess.Popen[bytes] | None = None

    def _call(self, argv: list[str]) -> None:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, cwd="/", **self._who)
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        """Start and wait until it answers."""
        settings = {"listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": self.folder}
        # Of shared memory and connections a test needs little; commits reach the disk as they do in use.
        settings |= {"shared_buffers": "16MB", "max_connections": 60, "fsync": "on", "synchronous_commit": "on"}
        argv = [program("postgres"), "-D", str(self.folder / "data")]
        for name, value in settings.items():
            argv += ["-c", f"{name}={value}"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(argv, stdout=log, stderr=log, cwd="/", start_new_session=True, **self._who)
        deadline = time.monotonic() + 20
        while True:
            try:
                self.execute("SELECT 1")
                return
            except psycopg.OperationalError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise AssertionError((self.folder / "log").read_text()) from None
                time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it and wait. SIGINT: at once and orderly (its "fast" shutdown); SIGQUIT: as after a crash."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(20)
            self.process = None

    def remove(self) -> None:
        """Stop it, and nothing of it is left."""
        try:
            self.stop(signal.SIGQUIT)
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def execute(self, text: str | sql.Composed, name: str = "postgres") -> list[tuple[Any, ...]]:
        """One statement in one database; its rows."""
        with psycopg.connect(self.url(name), autocommit=True, connect_timeout=3) as connection:
            cursor = connection.execute(text)
            return cursor.fetchall() if cursor.description else []

    def url(self, name: str) -> str:
        """The URL of one of its databases."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    @contextmanager
    def database(self) -> Iterator[str]:
        """The URL of a fresh, empty database."""
        name = f"t{next(_NUMBERS)}"
        self.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield self.url(name)
        finally:
            self.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def program(name: str) -> str:
    """The newest of PostgreSQL's server programs on this machine (Debian keeps them off the path)."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: float(path.parts[4]))
    path = str(found[-1]) if found else shutil.which(name)
    assert path, f"{name} is not installed: ./runtests installs it"
    return path


def shared() -> Postgres:
    """The cluster of this process; it ends with it."""
    if not _SHARED:
        folder = Path(tempfile.mkdtemp(prefix="pg"))
        folder.chmod(0o711)
        made = Postgres(folder / "c")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        atexit.register(made.remove)
        made.start()
        _SHARED.append(made)
    return _SHARED[0]
