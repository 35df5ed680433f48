"""The cloud that a campaign is held on: broker and directory by URL, two servers, twenty simulated nodes and two real ones, each
machine with a data directory and a supervisor of its own, and a proxy on each connection between them.

====== ======================================= ==========================================
folder what runs there                         speaks to broker and directory through
====== ======================================= ==========================================
store  broker, directory
centre web, server, monitor                    ``centre-broker``, ``centre-directory``
second another server, on the same job tables  ``second-broker``, ``second-directory``
sim-a  a worker that stands for ten nodes      ``sim-a-broker``
lxc-1  a worker with real containers           ``lxc-1-broker``
====== ======================================= ==========================================
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import redis

from tests import postgres
from tests.cloud import DATABASE, SOURCE, free_ports
from vmcloud.config import Config
from vmcloud.local import broker, layout, secrets, settings, status, up
from vmcloud.local.prepare import register
from workers.storage.busybox import build_busybox

from .client import Client
from .proxy import Proxy

SIMULATED = {"sim-a": 10, "sim-b": 10}
REAL = {"lxc-1": ("vcch1", "10.213.91.0/24"), "lxc-2": ("vcch2", "10.213.92.0/24")}
WORKERS = (*SIMULATED, *REAL)
CHECKER, PASSWORD = "checker", "of-these-namespaces-only"
"""A user of the broker that may do all: with it the campaign flushes and the checker looks."""
INTERVALS = {
    **{"relist": 3.0, "node_down": 8.0, "resend": 0.7, "reask": 3.0, "lease": 2.0},
    **{"reconcile": 1.0, "claim": 2.0, "complete": 5.0},
}
SUFFIX = Config.suffix
"""Of the directory."""
HOME = {"broker": "store", "directory": "store", "web": "centre", "server": "centre", "monitor": "centre"}
"""Folder of a part; a worker and the second server have one of their own name."""


class World:
    """See the module."""

    def __init__(self, folder: Path, *, workers: Sequence[str] = WORKERS, second: bool = True, database: str = "") -> None:
        """``database``: a URL; empty for SQLite, which both servers have on the same disk."""
        self.folder, self.workers = folder, tuple(workers)
        self._database = database
        self.proxy = Proxy()
        web, self.broker_port, self.directory_port = free_ports(3)
        self.url = f"http://127.0.0.1:{web}"
        self._web_port = web
        self.machines = ["store", "centre", *(["second"] if second else []), *self.workers]
        self.broker_url = f"redis://{CHECKER}:{PASSWORD}@127.0.0.1:{self.broker_port}/0"

    @property
    def sql(self) -> str:
        """The URL of the job database."""
        return self._database or f"sqlite:///{self.data('centre') / 'sql' / 'vmcloud.sqlite3'}"

    @property
    def ldapi(self) -> Path:
        """The directory's socket."""
        return self.data("store") / "directory" / "run" / "ldapi"

    def data(self, machine: str) -> Path:
        """A machine's data directory."""
        return self.folder / machine

    def nodes(self, worker: str) -> tuple[str, ...]:
        """The nodes that a worker stands for."""
        return Config.load(self.data(worker)).node.names

    def homes(self) -> dict[str, Path]:
        """Each node's own files."""
        return {node: self.data(worker) / "node" / node for worker in self.workers for node in self.nodes(worker)}

    # ------------------------------------------------------------------------------------------------------------ starting

    def up(self) -> None:
        """Start all of it and wait until it is ready."""
        self._write("store", self.broker_port, self.directory_port)
        for machine in self.machines[1:]:
            ports = (self.proxy.link(f"{machine}-broker", self.broker_port), self.directory_port)
            if machine not in self.workers:
                ports = (ports[0], self.proxy.link(f"{machine}-directory", self.directory_port))
            self._write(machine, *ports)
        self._prepare_store()
        self.start("store")
        for machine in self.machines[1:]:
            for shared in ("secrets", "directory"):
                self.data(machine).joinpath(shared).symlink_to(self.data("store") / shared)
        self.start("centre")
        if "second" in self.machines:
            self.data("second").joinpath("sql").symlink_to(self.data("centre") / "sql")
            self.start("second")
        for worker in self.workers:
            self.data(worker).joinpath("run").mkdir()
            register(Config.load(self.data(worker)))
            self.start(worker)
        _nft("add table inet chaos")
        _nft("add set inet chaos cut { type inet_service; }")
        _nft("add chain inet chaos output { type filter hook output priority 0; }")
        for direction in ("dport", "sport"):
            _nft(f"add rule inet chaos output tcp {direction} @cut drop")

    def start(self, machine: str) -> None:
        """Start a machine's parts, as a person would."""
        which = {"store": ("broker", "directory"), "centre": ("web", "server", "monitor"), "second": ("server",)}
        parts = which.get(machine, ("worker",))
        only = [*parts, "prepare"] if machine == "centre" else parts
        self.vmcloud(machine, "up", "--detach", "--quiet", *(word for part in only for word in ("--only", part)))

    def vmcloud(self, machine: str, *arguments: str) -> None:
        """The command line on one machine."""
        environment = {**os.environ, "VMCLOUD_DATA": str(self.data(machine)), "PYTHONPATH": str(SOURCE), "NO_COLOR": "1"}
        argv = [sys.executable, "-m", "vmcloud.cli", *arguments]
        done = subprocess.run(argv, env=environment, cwd="/", capture_output=True, text=True, timeout=150, check=False)
        if done.returncode:
            raise AssertionError(f"{machine}: vmcloud {' '.join(arguments)}: {done.stdout}{done.stderr}\n{self.log(machine)}")

    def client(self) -> Client:
        """Somebody who may ask for everything."""
        return Client(self.url, (self.data("store") / "secrets" / "admin-token").read_text().strip())

    def image(self) -> None:
        """Import the image that all VEs are made of."""
        archive = self.folder / "busybox.tar"
        build_busybox(archive)
        job = self.client().ask("PUT", "/images/busybox", archive.read_bytes())
        self.until(lambda: self.client().ask("GET", f"/jobs/{job['id']}")["state"] == "C", 30, "the image")

    def nodes_up(self) -> None:
        """Wait until every node is up and known for what it is."""
        count = sum(len(self.nodes(worker)) for worker in self.workers)

        def all_up() -> bool:
            found = self.client().ask("GET", "/nodes?limit=1000")["items"]
            return len(found) == count and all(each["state"] == "up" and each["kinds"] for each in found)

        self.until(all_up, 60, "all nodes to be up")

    def _write(self, machine: str, broker_port: int, directory_port: int) -> None:
        node = [f'name = "{machine}"' if machine in self.workers else 'name = ""']
        if machine in SIMULATED:
            node += [
                'kinds = ["simulated"]',
                f"simulate = {SIMULATED[machine]}",
                "simulate_delay = 0.05",
                'simulate_seed = "chaos"',
            ]
            node += ["simulate_fail = 0.02"] if machine == "sim-b" else []
        if machine in REAL:
            bridge, subnet = REAL[machine]
            node += ['kinds = ["lxc"]', f'bridge = "{bridge}"', f'subnet = "{subnet}"']
        lines = [
            f'database_url = "{self._database}"',
            f'broker_url = "redis://127.0.0.1:{broker_port}/0"',
            f'directory_uri = "ldap://127.0.0.1:{directory_port}"',
            f"web_port = {self._web_port}",
            f'web_url = "{self.url}"',
            *("[node]", *node),
            *("[intervals]", *(f"{name} = {value}" for name, value in INTERVALS.items())),
        ]
        data = self.data(machine)
        data.mkdir(parents=True)
        data.chmod(0o711)
        (data / "config.toml").write_text("\n".join(lines) + "\n")

    def _prepare_store(self) -> None:
        """The secrets of all nodes, and a user for each at the broker: what `node add` is to do one day."""
        data = self.data("store")
        config = up.make(data, settings.Wishes(), lambda text: None)
        nodes = [node for worker in self.workers for node in self.nodes(worker)]
        secrets.ensure(data, config.user, nodes)
        host, port = "127.0.0.1", self.broker_port
        broker.prepare(data / "broker", host, port, secrets.broker_passwords(data, nodes))
        users = data / "broker" / "users.acl"
        layout.write(users, users.read_text() + f"user {CHECKER} on >{PASSWORD} ~* &* +@all\n", user=layout.BROKER_USER)

    # ------------------------------------------------------------------------------------------------------------- looking

    def pid(self, part: str) -> int:
        """The process of a part just now; 0 if it has none."""
        machine = HOME.get(part, part)
        name = part if part in HOME else ("server" if part == "second" else "worker")
        found = status.read(self.data(machine))
        return next((each.pid for each in found.parts if each.name == name), 0) if found else 0

    def supervisors(self) -> list[int]:
        """The process of each machine's supervisor."""
        found = [status.read(self.data(machine)) for machine in self.machines]
        return [each.supervisor.pid for each in found if each is not None]

    def all_ready(self) -> bool:
        """Whether every part of every machine does what it should."""
        found = [status.read(self.data(machine)) for machine in self.machines]
        return all(each is not None and each.running and each.all_up for each in found)

    def log(self, machine: str, lines: int = 40) -> str:
        """The end of a machine's log."""
        path = self.data(machine) / "log" / "vmcloud.log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else "(no log)"

    def until(self, look: Callable[[], Any], seconds: float, what: str) -> None:
        """Look until it is so; AssertionError after ``seconds``."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                if look():
                    return
            except (OSError, AssertionError):
                pass
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {seconds} s for {what}\n{self.log('centre')}")
            time.sleep(0.1)

    # -------------------------------------------------------------------------------------------------------------- faults

    def flush(self) -> None:
        """Empty the broker."""
        with redis.Redis.from_url(self.broker_url, socket_timeout=3) as connection:
            connection.flushall()

    def cut(self, link: str, *, off: bool) -> None:
        """Drop every packet of a link, or no more."""
        _nft(f"{'add' if off else 'delete'} element inet chaos cut {{ {self.proxy.links[link].port} }}")

    def power_off(self, machine: str) -> None:
        """Kill a supervisor; what it had started dies with it."""
        found = status.read(self.data(machine))
        if found is not None and found.running:
            for part in found.parts:
                if part.pid and part.ident is not None and part.ident.alive:
                    os.kill(part.pid, signal.SIGKILL)
            os.kill(found.supervisor.pid, signal.SIGKILL)

    # ------------------------------------------------------------------------------------------------------------- ending

    def down(self) -> None:
        """End all of it and remove every trace."""
        for machine in reversed(self.machines):
            if (self.data(machine) / "run").exists():
                purge = machine in self.workers
                self.vmcloud(machine, "down", *(["--purge", "--yes"] if purge else []))
        subprocess.run(["nft", "delete", "table", "inet", "chaos"], capture_output=True, timeout=10, check=False)
        self.proxy.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def _nft(command: str) -> None:
    subprocess.run(["nft", command], capture_output=True, text=True, timeout=10, check=True)


@contextmanager
def world(**settings: Any) -> Iterator[World]:
    """A cloud that is up, has its image, and is gone afterwards."""
    with ExitStack() as last:
        if os.environ.get(DATABASE) == "postgres":
            settings.setdefault("database", last.enter_context(postgres.shared().database()))
        folder = Path(tempfile.mkdtemp(prefix="w"))
        folder.chmod(0o711)
        made = World(folder, **settings)
        last.callback(made.down)
        made.up()
        made.nodes_up()
        made.image()
        yield made
