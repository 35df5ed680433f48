"""The private broker: its settings and its users (redis.conf, Redis ACL)."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from vmcloud.dispatch import acl
from vmcloud.dispatch.judge import ITEM_MAX

from . import layout

SERVERS = ("redis-server", "valkey-server")
MEMORY = 512 << 20
"""Bytes that the broker may keep. What waits there is small and soon taken; a node's share of it is :mod:`.warden`'s business."""
SEARCH = "/usr/local/bin:/usr/bin:/usr/sbin:/bin"


def program() -> str | None:
    """The broker's program on this machine, or None."""
    return next((found for name in SERVERS if (found := shutil.which(name, path=SEARCH))), None)


def settings(folder: Path, host: str, port: int) -> str:
    """The text of redis.conf. Appending with a flush each second is enough: the server asks again for what got no answer."""
    lines = [
        f"bind {host}",
        f"port {port}",
        "protected-mode yes",
        f'dir "{folder}"',
        f'aclfile "{folder / "users.acl"}"',
        "appendonly yes",
        "appendfsync everysec",
        # The file is written anew when it has doubled; so it stays below twice this where little waits.
        "auto-aof-rewrite-min-size 16mb",
        'save ""',
        # Full, it refuses what is written and evicts nothing; who sends keeps it (a node in its journal) and tries again.
        f"maxmemory {MEMORY}",
        "maxmemory-policy noeviction",
        f"maxmemory-clients {MEMORY // 4}",
        # More than any message of ours, which are told from others by their size before they are looked into.
        f"proto-max-bulk-len {2 * ITEM_MAX}",
        f"client-query-buffer-limit {4 * ITEM_MAX}",
        "acllog-max-len 1024",
        "daemonize no",
        "supervised no",
        "loglevel notice",
        # Housekeeping per second; the default of 10 is more than an idle cloud needs, and less makes it slow to stop.
        "hz 4",
        "dynamic-hz yes",
        "tcp-keepalive 60",
        # Who is idle for so long connects anew when there is something to say; who waits for a list is not idle.
        "timeout 600",
        "maxclients 10000",
    ]
    return "\n".join(lines) + "\n"


def merge_users(existing: str, passwords: Mapping[str, str]) -> str:
    """The ACL file with the lines of ``existing`` users kept (nodes on other machines) and ours as they should be."""
    lines = {line.split()[1]: line for line in existing.splitlines() if line.startswith("user ") and len(line.split()) > 1}
    lines.update({line.split()[1]: line for line in acl.acl_file(dict(passwords)).splitlines()})
    lines["default"] = acl.NOBODY
    return "\n".join([lines.pop("default"), *(lines[name] for name in sorted(lines))]) + "\n"


def prepare(folder: Path, host: str, port: int, passwords: Mapping[str, str]) -> None:
    """Write the broker's files. Only while it does not run: it rewrites its user list itself."""
    layout.write(folder / "redis.conf", settings(folder, host, port), user=layout.BROKER_USER)
    users = folder / "users.acl"
    existing = users.read_text() if users.exists() else ""
    merged = merge_users(existing, passwords)
    if merged != existing:
        layout.write(users, merged, user=layout.BROKER_USER)
