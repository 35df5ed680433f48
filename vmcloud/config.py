"""One cloud's settings as every part reads them.

A part is told one thing by its environment: ``VMCLOUD_DATA``, the data directory. There, ``config.toml`` holds what is no
secret, and ``secrets/<identity>.json`` (mode 0600, owned by the user its part runs as) the passwords and keys of one identity:
``web``, ``server``, ``monitor``, ``node-<name>``. Each of the first three runs as a user of its own (:func:`part_user`). A node
on another machine has the same files with only its own secrets.
"""

from __future__ import annotations

import json
import os
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

DEFAULT_DATA = Path("/var/lib/vmcloud")
CONFIG_NAME = "config.toml"
PARTS_WITH_USER = ("web", "server", "monitor")
"""Parts that have a system user of their own."""
PARTS_WITH_SQL = ("web", "server")
"""Those of them that use the job database: their users are members of the cloud's group."""


def part_user(user: str, part: str) -> str:
    """The system user of a part, in a cloud whose group is called ``user``."""
    return f"{user}-{part}"


@dataclass(frozen=True)
class Intervals:
    """Times in seconds. ``relist``: full list of a node (jittered by a tenth); ``node_down``: silence after which it is down.
    ``lease``: how long a server leads unless it renews that. ``turn``: how long one part of its turn may take; after that it is
    taken for hung, and another server leads."""

    relist: float = 15.0
    node_down: float = 45.0
    resend: float = 3.0
    reask: float = 20.0
    lease: float = 3.0
    # A statement may wait 20 s for somebody else's lock, and a full reconcile of 100,000 VEs takes 6 s: a bound near these would
    # depose a leader that works, and one far above leaves a cloud without a leader for as long.
    turn: float = 40.0
    reconcile: float = 5.0
    claim: float = 30.0
    complete: float = 5.0
    order_expiry: float = 600.0
    clock_skew: float = 60.0


@dataclass(frozen=True)
class Keep:
    """How much of what is over is kept; docs/operate.md has the whole table. Of jobs that ended, those younger than ``jobs_days``
    and at most about ``jobs_most`` stay in the tables, the others go to the archive; what is older than ``archive_days`` is
    forgotten there (0: never). A node's journal keeps steps for ``journal_days``, and those of more than a day at most
    ``journal_steps``; its spool ``spool_messages`` while the broker is away. The log is turned over at ``log_mib``, and
    ``log_files`` old ones stay."""

    jobs_days: float = 90.0
    jobs_most: int = 100_000
    archive_days: float = 1095.0
    events_days: float = 90.0
    tombstones_days: float = 30.0
    journal_days: float = 14.0
    journal_steps: int = 50_000
    spool_messages: int = 20_000
    log_mib: int = 10
    log_files: int = 5


@dataclass(frozen=True)
class NodeSettings:
    """This machine as a node. ``simulate``: how many simulated nodes the worker stands for instead of a real one; each call on a
    guest of theirs takes ``simulate_delay`` seconds and a share ``simulate_fail`` of them fails. With a ``simulate_seed`` delays
    differ (none to twice as long), and delays and failures are the same again at each run with that seed. A prologue or epilogue
    may run ``hook_seconds`` and have ``hook_processes`` at once."""

    name: str = ""
    kinds: tuple[str, ...] = ("lxc",)
    bridge: str = "vmcloud0"
    subnet: str = "10.86.0.0/24"
    idmap_base: int = 1000000
    idmap_size: int = 65536
    executors: int = 8
    hook_seconds: float = 300.0
    hook_processes: int = 256
    simulate: int = 0
    simulate_delay: float = 0.0
    simulate_fail: float = 0.0
    simulate_seed: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The nodes that this machine's worker stands for: itself, or ``<name>-001``, ``<name>-002`` and on."""
        if self.simulate:
            return tuple(f"{self.name}-{number:03}" for number in range(1, self.simulate + 1))
        return (self.name,) if self.name else ()


@dataclass(frozen=True)
class WebhookSettings:
    """``seconds`` that one message may take; ``pause``: unit of the pauses between attempts (seconds); ``patience``: seconds of
    failure after which a webhook is disabled; ``networks``: those besides the public ones that everybody's webhooks may reach."""

    seconds: float = 15.0
    pause: float = 5.0
    patience: float = 3 * 86400.0
    networks: tuple[str, ...] = ()


@dataclass(frozen=True)
class HookSettings:
    """Hooks at the server: seconds that the submit filter, and a hook for an event, may run; processes that each may have."""

    submit_seconds: float = 5.0
    event_seconds: float = 30.0
    processes: int = 64


@dataclass(frozen=True)
class Config:
    """Everything in ``config.toml``, with the data directory it was read from. ``max_array_size``: parts of one job array;
    ``max_slot_limit``: parts of one that may run at once, also where none is asked for (0: any number)."""

    data: Path
    suffix: str = "dc=vmcloud,dc=internal"
    server_name: str = "cloud"
    broker_url: str = "redis://127.0.0.1:8471/0"
    directory_uri: str = "ldap://127.0.0.1:8472"
    database_url: str = ""
    web_host: str = "127.0.0.1"
    web_port: int = 8470
    web_url: str = "http://127.0.0.1:8470"
    user: str = "vmcloud"
    max_array_size: int = 5000
    max_slot_limit: int = 0
    node: NodeSettings = field(default_factory=NodeSettings)
    intervals: Intervals = field(default_factory=Intervals)
    webhooks: WebhookSettings = field(default_factory=WebhookSettings)
    hooks: HookSettings = field(default_factory=HookSettings)
    keep: Keep = field(default_factory=Keep)

    @classmethod
    def load(cls, data: Path | None = None) -> Self:
        """Read the data directory's ``config.toml``. Raises FileNotFoundError where there is no cloud yet."""
        data = data or data_directory()
        with (data / CONFIG_NAME).open("rb") as stream:
            table = tomllib.load(stream)
        node = dict(table.pop("node", {}))
        if "kinds" in node:
            node["kinds"] = tuple(node["kinds"])
        webhooks = dict(table.pop("webhooks", {}))
        webhooks["networks"] = tuple(webhooks.get("networks", ()))
        return cls(
            data=data,
            node=NodeSettings(**node),
            intervals=Intervals(**table.pop("intervals", {})),
            webhooks=WebhookSettings(**webhooks),
            hooks=HookSettings(**table.pop("hooks", {})),
            keep=Keep(**table.pop("keep", {})),
            **table,
        )

    def secrets(self, identity: str) -> dict[str, Any]:
        """The secrets of one identity. PermissionError if this process may not be it."""
        path = self.data / "secrets" / f"{identity}.json"
        secrets: dict[str, Any] = json.loads(path.read_text())
        return secrets

    @property
    def sql(self) -> str:
        """The URL of the job database: SQLite in the data directory unless another is set."""
        return self.database_url or f"sqlite:///{self.data / 'sql' / 'vmcloud.sqlite3'}"

    def user_of(self, part: str) -> str:
        """See :func:`part_user`."""
        return part_user(self.user, part)

    @property
    def passfile(self) -> Path:
        """The password for a PostgreSQL database as an administrator writes it, in the form of libpq's password file
        (PostgreSQL, 34.16)."""
        return self.data / "secrets" / "pgpass"

    def passfile_of(self, part: str) -> Path:
        """The copy of :attr:`passfile` that a part reads: libpq takes none that more than its own user may read."""
        return self.passfile.with_name(f"pgpass-{part}")

    @property
    def denials(self) -> Path:
        """What was denied on this machine, a line of JSON each; for the members of the cloud's group."""
        return self.data / "run" / "denials"

    @property
    def images(self) -> Path:
        """Where the web part keeps image archives, one file per SHA-256."""
        return self.data / "images"

    @property
    def hook_folder(self) -> Path:
        """The hooks at the server: the submit filter, and a folder for each type of event."""
        return self.data / "hooks"

    def node_home(self, name: str) -> Path:
        """A worker's own files: journal, images, guests, locks."""
        return self.data / "node" / name


def data_directory() -> Path:
    """``VMCLOUD_DATA``, or the place a system-wide cloud has."""
    return Path(os.environ.get("VMCLOUD_DATA") or DEFAULT_DATA)
