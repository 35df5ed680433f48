"""One node: its journal, drivers, eyes, hands and voice, put together."""

from __future__ import annotations

import fcntl
import ipaddress
import logging
import os
import socket
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit

from vmcloud.config import Config
from vmcloud.dispatch.envelope import public_key
from vmcloud.dispatch.send import Sender
from vmcloud.domain.messages import Message, NodeFacts
from vmcloud.domain.vocabulary import Kind
from vmcloud.hooks.run import Limits

from .accept import Acceptor
from .child import Place
from .drivers.registry import make_driver
from .executor import Executor
from .guests import GuestBook
from .hands import Hands, Inline, Isolated
from .hooks import NodeHooks
from .images import make_images
from .journal import Journal
from .lanes import LaneLocks
from .observer import Observer, Ticker
from .reporter import Reporter
from .sessions import Division, Sessions
from .surroundings import Surroundings

log = logging.getLogger(__name__)

LAST_WORDS = 120.0
"""Seconds: results this recent are said again at the start, in case the last worker died before it had said them."""
SIMULATED_CPUS, SIMULATED_MEMORY_MIB, SIMULATED_DISK_MIB = 64, 262_144, 4 << 20


class AlreadyRunning(Exception):
    """Another worker has this node."""


class Agent:
    """See the module. ``number`` is 0 for a real node, else which of the simulated ones this is."""

    def __init__(self, config: Config, name: str, ticker: Ticker, *, number: int = 0) -> None:
        """Raises :class:`AlreadyRunning` and :class:`~workers.journal.JournalDamaged`."""
        self.config, self.name, self._number = config, name, number
        self.home = config.node_home(name)
        self.home.mkdir(parents=True, exist_ok=True)
        self._alone = _alone(self.home / "worker.lock")
        identity = f"node-{name}"
        key = public_key(config.secrets(identity)["server_public_key"])
        simulated = number > 0
        self.journal = Journal(self.home / "journal.sqlite3", config.keep)
        self.journal.prune(time.time())
        images = make_images(config, name, simulated=simulated or set(config.node.kinds) == {Kind.SIMULATED})
        hands: dict[Kind | None, Hands] = {}
        if simulated:
            hands[Kind.SIMULATED] = hands[None] = Inline(make_driver(Kind.SIMULATED, config, name), images)
        else:
            kinds = [Kind(kind) for kind in config.node.kinds]
            hands = {kind: Isolated(Place(config, name, kind)) for kind in kinds if kind is not Kind.SIMULATED}
            if Kind.SIMULATED in kinds:
                hands[Kind.SIMULATED] = Inline(make_driver(Kind.SIMULATED, config, name), images)
            hands[None] = Isolated(Place(config, name, None))
        subnet = simulated_subnet(number) if simulated else config.node.subnet
        surroundings = Surroundings(config, name) if Kind.LXC in hands else None
        book = GuestBook(self.journal, images.path, subnet, *([surroundings.announce] if surroundings else []))
        self.reporter = Reporter(name, self.journal, Sender(config, identity))
        self.observer = Observer(
            name,
            self.journal,
            hands,
            book,
            self.reporter,
            ticker,
            facts=self._facts,
            images=images.sums,
            interval=config.intervals.relist,
            prepare=surroundings.ensure if surroundings else lambda: None,
        )
        self.reporter.on_return = self.observer.soon
        locks = LaneLocks(self.home / "locks")
        self.executor = Executor(
            name,
            self.journal,
            hands,
            book,
            locks,
            self.reporter,
            self.observer,
            slots=config.node.executors,
            hooks=NodeHooks(self._hook_folder(), Limits(config.node.hook_seconds, config.node.hook_processes)),
            server=config.server_name,
        )
        self.sessions = Sessions(name, self.journal, hands, self.reporter)
        work = Division(self.executor, self.sessions)
        self._acceptor = Acceptor(name, key, self.journal, work, self, skew=config.intervals.clock_skew)

    def start(self) -> None:
        """1. Say what is there; 2. say recent results again; 3. take up unfinished steps."""
        self.reporter.start()
        self.observer.start()
        for result in self.journal.results_since(time.time() - LAST_WORDS):
            self.reporter.say(result)
        self.sessions.start()
        self.executor.start()
        log.info("node %s is at work, epoch %d", self.name, self.journal.epoch)

    def stop(self, patience: float) -> None:
        """End; guests are not touched. Steps that do not end within ``patience`` seconds are taken up by the next start."""
        self.sessions.stop()
        self.executor.stop(patience)
        self.reporter.stop(2.0)
        self.journal.close()
        os.close(self._alone)

    def order(self, texts: Sequence[str]) -> None:
        """Take sealed orders; on disk when this returns."""
        self._acceptor.take(texts)

    def say(self, message: Message) -> None:
        """See :class:`workers.accept.Voice`."""
        self.reporter.say(message)

    def relist(self) -> None:
        """See :class:`workers.accept.Voice`."""
        self.observer.soon()

    def _hook_folder(self) -> Path:
        folder = self.home / "hooks"
        folder.mkdir(mode=0o755, exist_ok=True)
        return folder

    def _facts(self, kinds: tuple[Kind, ...]) -> NodeFacts:
        address = _address_towards(self.config.broker_url)
        if self._number:
            return NodeFacts(
                kinds, SIMULATED_CPUS, SIMULATED_MEMORY_MIB, SIMULATED_DISK_MIB, _version(), simulated=True, address=address
            )
        disk = os.statvfs(self.home)
        return NodeFacts(
            kinds,
            cpus=os.cpu_count() or 1,
            memory_mib=_memory_mib(),
            disk_mib=disk.f_blocks * disk.f_frsize >> 20,
            version=_version(),
            address=address,
        )


def _alone(path: Path) -> int:
    opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(opened)
        raise AlreadyRunning(f"another worker is at work in {path.parent}") from error
    return opened


def simulated_subnet(number: int) -> str:
    """A /16 of each simulated node's own, by which of them it is (10.100.0.0/16 and on; there is no such network)."""
    return str(ipaddress.IPv4Network((0x0A640000 + ((number - 1) << 16), 16)))


def _memory_mib() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) >> 10
    return 0


def _version() -> str:
    try:
        return metadata.version("vmcloud")
    except metadata.PackageNotFoundError:
        return "0.1.0"


def _address_towards(url: str) -> str:
    """This machine's address on the way to the broker (a UDP socket asks the routing table; nothing is sent)."""
    parts = urlsplit(url)
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((parts.hostname or "127.0.0.1", parts.port or 6379))
            return str(probe.getsockname()[0])
    except OSError:
        return ""
