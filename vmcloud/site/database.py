"""A database URL as settings of Django: SQLite for one machine, PostgreSQL for more (decisions, 0019)."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

PATIENCE = 20
"""Seconds that a statement waits for somebody else's lock."""
FROZEN = 3
"""Seconds after which PostgreSQL ends a transaction of a process that stands still in the middle of it, and frees its locks."""
POSTGRESQL = {
    # A machine that vanished is noticed in seconds (libpq, 34.1.2); all of these in seconds but the last, in milliseconds.
    "connect_timeout": "3",
    "keepalives_idle": "10",
    "keepalives_interval": "3",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
}
CONNECTIONS = {"min_size": 1, "max_size": 20, "timeout": 3.0, "max_idle": 60.0}
"""The web part's: its threads share them. ``timeout``: seconds that a request waits for one."""


class UnknownDatabase(ValueError):
    """A URL of something else."""


def settings(url: str, *, part: str, passfile: Path) -> dict[str, Any]:
    """Django's form of ``sqlite:////path`` or ``postgresql://user@host:port/name?libpq-parameter=value`` (``host`` as a parameter
    may be the folder of a local socket). ``passfile``: libpq's file of passwords, used where it exists."""
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        return _sqlite(Path("/" + parts.path.lstrip("/")))
    if parts.scheme not in ("postgresql", "postgres"):
        raise UnknownDatabase(f"database_url begins with {parts.scheme!r}; known: sqlite, postgresql")
    asked = dict(parse_qsl(parts.query))
    limits = f"-c lock_timeout={PATIENCE}s -c idle_in_transaction_session_timeout={FROZEN}s"
    options: dict[str, Any] = {**POSTGRESQL, "application_name": f"vmcloud {part}", **asked}
    options["options"] = f"{limits} {asked.get('options', '')}".rstrip()
    if passfile.exists():
        options.setdefault("passfile", str(passfile))
    if part == "web":
        options["pool"] = CONNECTIONS
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.lstrip("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": unquote(parts.hostname or asked.pop("host", "")),
        "PORT": str(parts.port or ""),
        "CONN_MAX_AGE": 0 if part == "web" else None,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {name: value for name, value in options.items() if name != "host"},
    }


def _sqlite(path: Path) -> dict[str, Any]:
    # A job's row is the truth about it: a commit is on the disk when it returns. Writers queue up at BEGIN. The write-ahead log
    # is cut back to this many bytes after a long reader had let it grow.
    pragmas = "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON; PRAGMA journal_size_limit=67108864;"
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": path,
        "CONN_MAX_AGE": 600,
        "OPTIONS": {"timeout": PATIENCE, "transaction_mode": "IMMEDIATE", "init_command": pragmas},
    }
