"""A real broker for tests: redis-server on a free loopback port, one user per identity as in production."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

from vmcloud.dispatch.acl import acl_file
from vmcloud.dispatch.envelope import new_keypair


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Broker:
    """One redis-server process. Its data survives :meth:`kill` and :meth:`start`."""

    def __init__(self, folder: Path, passwords: dict[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.port = folder, free_port()
        (folder / "users.acl").write_text(acl_file(passwords))
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Without user and password."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start and wait until it answers."""
        settings = f"--port {self.port} --bind 127.0.0.1 --save --appendonly yes --appendfsync everysec --aclfile users.acl"
        argv = ["redis-server", *settings.replace("--save", "--save ''").split(), "--dir", str(self.folder)]
        argv[argv.index("''")] = ""
        self.process = subprocess.Popen(argv, cwd=self.folder, stdout=(self.folder / "log").open("ab"), stderr=subprocess.STDOUT)
        for _ in range(500):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.01)
        raise RuntimeError((self.folder / "log").read_text())

    def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None


def write_cloud(data: Path, url: str, passwords: dict[str, str], node: dict[str, object], **intervals: float) -> str:
    """A data directory with ``config.toml`` and all secrets; returns the server's private key."""
    private, public = new_keypair()
    (data / "secrets").mkdir(parents=True, exist_ok=True)
    lines = [f'broker_url = "{url}"', "[node]", *(f"{name} = {json.dumps(value)}" for name, value in node.items())]
    lines += ["[intervals]", *(f"{name} = {value}" for name, value in intervals.items())]
    (data / "config.toml").write_text("\n".join(lines) + "\n")
    for identity, password in passwords.items():
        secrets = {"broker_password": password, "server_public_key": public}
        path = data / "secrets" / f"{identity}.json"
        path.write_text(json.dumps(secrets))
        path.chmod(0o600)
    return private


def passwords_for(nodes: Iterable[str]) -> dict[str, str]:
    """A password for each central identity and each node."""
    identities = ("server", "monitor", "web", "supervisor", *(f"node-{name}" for name in nodes))
    return {identity: f"pw-{identity}" for identity in identities}
