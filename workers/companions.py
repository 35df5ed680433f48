"""Companions: daemons that guests need and that outlive the worker.

A companion is data. Its record (process id and the kernel's start time of that process, so that a reused number is not taken
for it) lies in a folder; under the folder's lock, :func:`Companions.ensure` adopts what runs and starts what is missing.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from vmcloud.domain.errors import Unavailable
from workers.drivers import tools
from workers.network.addresses import gateway, parse_subnet

LOG_MAX = 1 << 20
"""Bytes after which a companion's log begins anew at its next start."""


@dataclass(frozen=True)
class Companion:
    """A daemon that stays in the foreground. ``ready`` tells whether it serves; it is asked until ``timeout`` seconds are over.

    One whose ``argv`` differs from the running one's is started anew. ``before`` runs before each start.
    ``mount``: a file system that it serves there and that is detached when it is stopped.
    """

    name: str
    argv: tuple[str, ...]
    ready: Callable[[], bool]
    timeout: float = 10.0
    before: Callable[[], None] = lambda: None
    mount: str = ""


@dataclass(frozen=True)
class Record:
    """A companion's process: ``started`` is field 22 of /proc/<pid>/stat (clock ticks since boot)."""

    name: str
    pid: int
    started: int
    argv: tuple[str, ...]
    mount: str = ""

    @property
    def alive(self) -> bool:
        """Whether exactly this process runs."""
        return self.started != 0 and _started(self.pid) == self.started


class Companions:
    """The companions recorded in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def ensure(self, companion: Companion) -> Record:
        """See that it runs and serves: adopt, or start (a dead or mute one, one with other arguments). Never starts a second.

        Raises :class:`Unavailable` with the tail of its log where it does not come to serve.
        """
        with self._locked(companion.name):
            record = self._read(companion.name)
            if record is not None and record.alive:
                if record.argv == companion.argv and _becomes_ready(companion, record):
                    return record
                _end(record)
            return self._start(companion)

    def stop(self, name: str, timeout: float = 5.0) -> None:
        """End it (terminate, then kill); not running is success."""
        with self._locked(name):
            record = self._read(name)
            if record is not None:
                _end(record, timeout)
            self._path(name).unlink(missing_ok=True)

    def running(self) -> tuple[Record, ...]:
        """Those that run."""
        records = [self._read(path.stem) for path in sorted(self.folder.glob("*.json"))]
        return tuple(record for record in records if record is not None and record.alive)

    def _start(self, companion: Companion) -> Record:
        companion.before()
        path = self.folder / f"{companion.name}.log"
        if path.exists() and path.stat().st_size > LOG_MAX:
            path.unlink()
        with path.open("ab") as log:
            try:
                process = subprocess.Popen(
                    companion.argv,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={"LC_ALL": "C", "PATH": tools.SYSTEM_PATH},
                    cwd="/",
                    start_new_session=True,
                )
            except OSError as error:
                raise Unavailable(f"companion {companion.name} cannot be started: {error}") from error
        # Only so that a dead companion is no zombie of this process; a living one outlives it.
        threading.Thread(target=process.wait, name=f"companion {companion.name}", daemon=True).start()
        pid = process.pid
        record = Record(companion.name, pid, _started(pid), companion.argv, companion.mount)
        self._write(record)
        if not _becomes_ready(companion, record):
            _end(record)
            raise self._failed(companion, f"it does not serve after {companion.timeout:g} s")
        return record

    def _failed(self, companion: Companion, why: str) -> Unavailable:
        log = self.folder / f"{companion.name}.log"
        tail = log.read_text(errors="replace")[-600:].strip() if log.exists() else ""
        return Unavailable(
            f"companion {companion.name} failed", where=companion.argv[0], why=f"{why}; {tail}", todo=f"See {log}."
        )

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _read(self, name: str) -> Record | None:
        try:
            data = json.loads(self._path(name).read_text())
            return Record(name, int(data["pid"]), int(data["started"]), tuple(data["argv"]), str(data.get("mount", "")))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _write(self, record: Record) -> None:
        temporary = self.folder / f".{record.name}.new"
        temporary.write_text(json.dumps(asdict(record)))
        temporary.replace(self._path(record.name))

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.folder / f"{name}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def _started(pid: int) -> int:
    """The start time of a living process; 0 if there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in "ZX" else int(fields[19])


def _becomes_ready(companion: Companion, record: Record) -> bool:
    end = time.monotonic() + companion.timeout
    pause = 0.002
    while record.alive:
        if companion.ready():
            return True
        if time.monotonic() > end:
            return False
        time.sleep(pause)
        pause = min(pause * 2, 0.1)
    return False


def _end(record: Record, timeout: float = 5.0) -> None:
    """Detach what it serves (a FUSE daemon does not heed SIGTERM before its next request), terminate it, then kill it."""
    if record.mount:
        _detach(Path(record.mount))
    for number in (signal.SIGTERM, signal.SIGKILL):
        if not record.alive:
            return
        try:
            os.kill(record.pid, number)
        except ProcessLookupError:
            return
        end = time.monotonic() + timeout
        while record.alive and time.monotonic() < end:
            time.sleep(0.005)


# ------------------------------------------------------------------------------------------------------------- the two known


def lxcfs(mount: Path) -> Companion | None:
    """lxcfs, which shows guests their own memory and processors, at ``mount``; None where this machine cannot have it."""
    program = tools.find("lxcfs")
    if program is None or not Path("/dev/fuse").exists():
        return None

    def before() -> None:
        # A killed lxcfs leaves a mount that answers nothing; it hides the folder until it is detached.
        _detach(mount)
        mount.mkdir(parents=True, exist_ok=True)
        pidfile.parent.mkdir(parents=True, exist_ok=True)

    pidfile = Path("/run/vmcloud") / f"lxcfs{str(mount).replace('/', '-')}.pid"
    argv = (program, "-f", "-l", f"--pidfile={pidfile}", str(mount))
    return Companion("lxcfs", argv, (mount / "proc" / "meminfo").is_file, before=before, mount=str(mount))


def _detach(path: Path) -> None:
    """Take away what is mounted there; guests that have parts of it keep them."""
    if any(line.split()[4] == str(path) for line in Path("/proc/self/mountinfo").read_text().splitlines()):
        tools.run([tools.require("umount", operation="companion"), "-l", "--", str(path)], operation="companion", timeout=10)


@dataclass(frozen=True)
class Host:
    """One guest as the DHCP server knows it."""

    mac: str
    address: str
    name: str


def dhcp(bridge: str, subnet: str, folder: Path) -> Companion | None:
    """The DHCP server of one bridge, for guests that ask: it gives each the address that it has been assigned anyway, and
    nobody else any. No DNS, no upstream. ``folder`` has its hosts (:func:`write_host`). None without dnsmasq."""
    program = tools.find("dnsmasq")
    if program is None:
        return None
    network = parse_subnet(subnet)
    hosts = folder / "hosts"

    def before() -> None:
        hosts.mkdir(parents=True, exist_ok=True)

    argv = (
        program,
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--port=0",
        "--no-resolv",
        "--no-hosts",
        f"--interface={bridge}",
        "--except-interface=lo",
        "--bind-interfaces",
        "--user=root",
        "--group=root",
        "--pid-file=",
        "--dhcp-authoritative",
        "--leasefile-ro",
        f"--dhcp-range={network.network_address},static,{network.netmask},1h",
        f"--dhcp-option=option:router,{gateway(network)}",
        f"--dhcp-hostsdir={hosts}",
        "--log-facility=-",
        "--log-dhcp",
    )
    return Companion(f"dhcp-{bridge}", argv, _serves_dhcp, before=before)


def write_host(folder: Path, native: str, host: Host | None) -> None:
    """Tell the DHCP server about a guest, or (``None``) to forget it at its next start. It watches the folder by inotify."""
    path = folder / "hosts" / native
    if host is None:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent.parent / f".{native}.new"
    temporary.write_text(f"{host.mac},{host.address.partition('/')[0]},{host.name}\n")
    temporary.replace(path)


def _serves_dhcp() -> bool:
    """Whether some process of this network namespace is bound to UDP port 67."""
    return any(line.split()[1].endswith(":0043") for line in Path("/proc/net/udp").read_text().splitlines()[1:])
