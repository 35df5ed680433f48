"""``vmcloud up``: make what is missing, then run the parts here, in the background, or one in this very process."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from vmcloud.config import Config
from vmcloud.dispatch.acl import SUPERVISOR
from vmcloud.domain.errors import Conflict, Unavailable

from . import broker, child, combined, database, directory, layout, secrets, settings, status
from .parts import Part, address, catalogue, check_runnable, choose, environment, select
from .process import Ident, end, session_members
from .supervisor import Supervisor
from .warden import Warden

READY_TIMEOUT = 90.0
"""Seconds that ``up --detach`` waits for all parts."""
TRIES = 4
"""Ends of a part before ``up --detach`` says that it does not come up."""

Tell = Callable[[str], None]


class Lock:
    """Held by the one supervisor of a data directory; the kernel lets go of it when the process ends, however it ends."""

    def __init__(self, data: Path) -> None:
        self.file = os.open(data / "run" / "up.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self.file)
            found = status.read(data)
            which = f" (process {found.supervisor.pid})" if found else ""
            raise Conflict(
                f"the cloud in {data} already runs{which}", todo="See `vmcloud status`; end it with `vmcloud down`.", code="runs"
            ) from error


def make(data: Path, wishes: settings.Wishes, tell: Tell) -> Config:
    """Everything a cloud needs on disk before its parts can start, where it is missing. Idempotent.

    1. system users; 2. folders; 3. ``config.toml``; 4. secrets; 5. the directory. The broker's files are written at each start.
    """
    for name in layout.ensure_users(Config(data=data).user):
        tell(f"made system user {name}")
    layout.make(data, Config(data=data).user)
    config, notes = settings.ensure(data, wishes)
    for note in notes:
        tell(note)
    database.check(config)
    secrets.ensure(data, config.user, config.node.names)
    if directory.initialise(config):
        tell("made the directory")
    return config


def start(config: Config, only: Sequence[str], without: Sequence[str]) -> list[Part]:
    """The parts to run, their files written. Call it with the lock held. Raises VmcloudError where they can not run."""
    chosen = choose(only, without)
    parts = select(catalogue(config), chosen)
    check_runnable(parts)
    clear_leftovers(config.data)
    if "broker" in chosen:
        host, port = address(config.broker_url, 6379)
        broker.prepare(config.data / "broker", host, port, secrets.broker_passwords(config.data, config.node.names))
    check_ports(config, chosen)
    return parts


def clear_leftovers(data: Path) -> None:
    """End what a killed supervisor left: the parts it had recorded, and what is left in their sessions."""
    found = status.read(data)
    if found is None or found.running:
        return
    old = [part.ident for part in found.parts if part.ident is not None]
    marker = f"VMCLOUD_DATA={data}".encode()
    left = {process for process in old if process.alive}
    for process in old:
        left |= set(session_members(process.pid, marker=marker)) if _same_session(process) else set()
    if left and not end(sorted(left, key=lambda process: process.pid), grace=5.0):
        numbers = ", ".join(str(process.pid) for process in left if process.alive)
        raise Unavailable("parts of a killed supervisor do not end", why=f"processes {numbers}", todo=f"kill -9 {numbers}")


def _same_session(process: Ident) -> bool:
    """Whether the session that ``process`` led is still the one it began: nobody else may lead it by the same number."""
    return process.alive or not Path(f"/proc/{process.pid}").exists()


def check_ports(config: Config, chosen: Sequence[str]) -> None:
    """Refuse to start beside another program on the same port: readiness checks would take it for ours."""
    ports = {
        "broker": address(config.broker_url, 6379)[1],
        "directory": address(config.directory_uri, 389)[1],
        "web": config.web_port,
    }
    for part in chosen:
        if part in ports and settings.port_taken(ports[part]):
            raise Conflict(
                f"port {ports[part]}, which {part} needs, is taken by another program",
                where=str(config.data / "config.toml"),
                todo=f"See which: ss -ltnp 'sport = :{ports[part]}'; stop it, or change the port in that file.",
            )


def foreground(config: Config, parts: Sequence[Part], lock: Lock, *, echo: bool) -> None:
    """Supervise in this process until told to stop. The lock is held until then."""
    log = combined.CombinedLog(config.data / "log" / "vmcloud.log", config.keep, echo=echo, denials=config.denials)
    try:
        Supervisor(parts, config.data, log, on_ready=notify_systemd, warden=_warden(config, parts, log)).run()
    finally:
        log.close()
        os.close(lock.file)


def _warden(config: Config, parts: Sequence[Part], log: combined.CombinedLog) -> Warden | None:
    """Who looks after the broker, where that is one of ``parts``."""
    if not any(part.name == "broker" for part in parts):
        return None
    password = str(secrets.load(config.data, SUPERVISOR)["broker_password"])
    return Warden(*address(config.broker_url, 6379), password, lambda denial: log.write("broker", denial.line()))


def detach(config: Config, arguments: Sequence[str], lock: Lock, tell: Tell) -> None:
    """Start a supervisor of its own session, hand it the lock, wait until all its parts are up.

    Raises :class:`Unavailable` where a part does not come up; the rest goes on running, for a look at it.
    """
    os.set_inheritable(lock.file, True)
    process = subprocess.Popen(
        [sys.executable, "-m", "vmcloud.local.supervise", str(lock.file), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env={**environment(config.data), "VMCLOUD_DATA": str(config.data)},
        start_new_session=True,
        pass_fds=[lock.file],
    )
    os.close(lock.file)
    told: set[str] = set()
    deadline = time.monotonic() + READY_TIMEOUT
    while time.monotonic() < deadline:
        found = status.read(config.data)
        if process.poll() is not None:
            raise Unavailable("the supervisor ended at once", why=_last(config, "supervisor"), todo=_look(config))
        if found is not None and found.supervisor.pid == process.pid:
            for part in found.parts:
                if part.up and part.name not in told:
                    told.add(part.name)
                    tell(f"{part.name} is ready" if part.state == "ready" else f"{part.name} is done")
                if part.problem and part.restarts >= TRIES:
                    raise Unavailable(
                        f"{part.name} does not come up: {part.last_exit}", why=_last(config, part.name), todo=_look(config)
                    )
            if found.all_up:
                return
        time.sleep(0.05)
    found = status.read(config.data)
    missing = ", ".join(part.name for part in found.parts if not part.up) if found else "all parts"
    raise Unavailable(f"not ready after {READY_TIMEOUT:.0f} s: {missing}", todo=_look(config))


def become(config: Config, part: Part) -> None:
    """Run one part in this very process, at this terminal: a debugger's way in. Does not return."""
    found = status.read(config.data)
    if found is not None and found.running:
        for other in found.parts:
            if other.name == part.name and other.ident is not None and other.ident.alive:
                raise Conflict(
                    f"{part.name} already runs (process {other.pid})",
                    todo=f"End the cloud (vmcloud down), start it again with --detach --without {part.name}, and come back.",
                )
    child.become(part, child.credentials(part.user))
    terminal = {name: os.environ[name] for name in ("TERM", "PYTHONBREAKPOINT") if name in os.environ}
    os.chdir(config.data)
    os.execvpe(part.argv[0], part.argv, {**part.env, **terminal})


def notify_systemd() -> None:
    """Say READY where systemd asked for it (sd_notify(3))."""
    name = os.environ.get("NOTIFY_SOCKET", "")
    if not name:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        try:
            channel.sendto(b"READY=1", b"\0" + name[1:].encode() if name.startswith("@") else name.encode())
        except OSError:
            pass


def _last(config: Config, part: str) -> str:
    lines = combined.tail(config.data / "log" / "vmcloud.log", part, 2)
    return " / ".join(line.split("| ", 1)[-1] for line in lines)


def _look(config: Config) -> str:
    return f"See {config.data / 'log' / 'vmcloud.log'} and `vmcloud status`; end the rest with `vmcloud down`."
