"""The parts of a cloud as data: what to run, as whom, when it counts as ready, what must run before it."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import vmcloud
from vmcloud.config import Config
from vmcloud.dispatch import alive
from vmcloud.dispatch.acl import SUPERVISOR
from vmcloud.domain.errors import Invalid, Unavailable
from vmcloud.domain.session import MESSAGE_MAX, PING_SECONDS, PONG_SECONDS

from . import broker, directory, layout, secrets
from .ready import Finishes, Lasts, Ldap, Line, Ready, Redis, Tcp

NAMES = ("broker", "directory", "prepare", "web", "server", "monitor", "worker")
"""All parts in order of starting. ``prepare`` is done once at each start and ends."""

_INHERITED = ("PATH", "TZ", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "VMCLOUD_FAULTS")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Part:
    """One supervised process. ``grace``: seconds from SIGTERM to SIGKILL. ``files``: how many it may have open. ``confined``: it
    and what it starts can never come to more rights than its user has."""

    name: str
    argv: tuple[str, ...]
    user: str
    ready: Ready
    depends_on: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    grace: float = 10.0
    files: int = 4096
    confined: bool = False

    @property
    def once(self) -> bool:
        """Whether it is to end by itself."""
        return isinstance(self.ready, Finishes)


def catalogue(config: Config) -> dict[str, Part]:
    """Every part of the cloud in ``config.data``. The secrets must have been made."""
    env = environment(config.data)
    broker_host, broker_port = address(config.broker_url, 6379)
    directory_host, directory_port = address(config.directory_uri, 389)
    password = str(secrets.load(config.data, SUPERVISOR)["broker_password"])
    python = sys.executable
    web_argv = [
        python,
        "-m",
        "uvicorn",
        "vmcloud.site.asgi:application",
        "--host",
        config.web_host,
        "--port",
        str(config.web_port),
    ]
    # Not what a header says is a client's address: the limit on logging in counts by it.
    web_argv += ["--no-proxy-headers", "--no-access-log", "--no-server-header", "--timeout-graceful-shutdown", "3"]
    web_argv += ["--ws-max-size", str(MESSAGE_MAX), "--ws-per-message-deflate", "false"]
    web_argv += ["--ws-ping-interval", str(PING_SECONDS), "--ws-ping-timeout", str(PONG_SECONDS)]
    parts = [
        Part(
            "broker",
            (broker.program() or "redis-server", str(config.data / "broker" / "redis.conf")),
            layout.BROKER_USER,
            Redis(broker_host, broker_port, SUPERVISOR, password),
            env=env,
            files=20000,
            confined=True,
        ),
        Part(
            "directory",
            tuple(directory.argv(config)),
            layout.DIRECTORY_USER,
            Ldap(directory_host, directory_port, str(directory.socket(config))),
            env=env,
            files=20000,
            confined=True,
        ),
        Part(
            "prepare",
            (python, "-m", "vmcloud.local.prepare"),
            layout.ROOT,
            Finishes(),
            depends_on=("broker", "directory"),
            env=env,
            grace=20.0,
        ),
        Part(
            "web",
            tuple(web_argv),
            config.user_of("web"),
            Tcp("127.0.0.1" if config.web_host in ("0.0.0.0", "::") else config.web_host, config.web_port),
            depends_on=("prepare",),
            env={**env, "VMCLOUD_PART": "web"},
            files=20000,
            confined=True,
        ),
        Part(
            "server",
            (python, "-m", "vmcloud.site", "server"),
            config.user_of("server"),
            Lasts(1.5),
            depends_on=("prepare",),
            env={**env, "VMCLOUD_PART": "server", alive.VARIABLE: str(alive_file(config.data, "server"))},
            confined=True,
        ),
        Part(
            "monitor",
            (python, "-m", "monitor"),
            config.user_of("monitor"),
            Line(" ready.", 2.0),
            depends_on=("broker", "directory"),
            env={**env, alive.VARIABLE: str(alive_file(config.data, "monitor"))},
            confined=True,
        ),
        Part(
            "worker",
            (python, "-m", "workers"),
            layout.ROOT,
            Line("is at work"),
            depends_on=("broker",),
            env=env,
            grace=30.0,
            files=20000,
        ),
    ]
    return {part.name: part for part in parts}


def alive_file(data: Path, part: str) -> Path:
    """What a part touches to show that it hears (:mod:`vmcloud.dispatch.alive`)."""
    return data / "run" / "alive" / part


def address(url: str, default_port: int) -> tuple[str, int]:
    """Host and port of a URL."""
    split = urlsplit(url)
    return split.hostname or "127.0.0.1", split.port or default_port


def environment(data: Path) -> dict[str, str]:
    """The whole environment of a part: the same by hand, under systemd and in tests."""
    env = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    env |= {name: value for name, value in os.environ.items() if name.startswith("VMCLOUD_TEST_")}
    path = env.get("PATH", "")
    env["PATH"] = ":".join(dict.fromkeys([*filter(None, path.split(":")), *_PATH.split(":")]))
    env |= {"LANG": "C.UTF-8", "HOME": "/", "PYTHONUNBUFFERED": "1", "VMCLOUD_DATA": str(data)}
    env["DJANGO_SETTINGS_MODULE"] = "vmcloud.site.settings"
    # slapd keeps an arena for each thread otherwise, and grows for hours (openldap.org, tuning).
    env["MALLOC_ARENA_MAX"] = "2"
    source = Path(vmcloud.__file__).resolve().parents[1]
    if source.name not in ("site-packages", "dist-packages"):
        env["PYTHONPATH"] = str(source)
    return env


def choose(only: Collection[str], without: Collection[str]) -> list[str]:
    """The names that ``--only`` and ``--without`` leave, in order of starting. :class:`Invalid` for a name that is no part."""
    for name in (*only, *without):
        if name not in NAMES:
            raise Invalid(f"there is no part {name!r}", where="--only/--without", todo=f"The parts are: {', '.join(NAMES)}.")
    if only and without:
        raise Invalid("--only and --without exclude each other", todo="Give one of them.")
    chosen = [name for name in NAMES if (name in only if only else name not in without)]
    if not chosen:
        raise Invalid("no part is left to start", where="--without")
    return chosen


def select(parts: Mapping[str, Part], names: Iterable[str]) -> list[Part]:
    """These parts; what they depend on and is not among them is taken to run elsewhere."""
    wanted = set(names)
    chosen = []
    for name in NAMES:
        if name in wanted:
            part = parts[name]
            present = tuple(other for other in _resolve(part, parts, wanted))
            chosen.append(Part(**{**part.__dict__, "depends_on": present}))
    return chosen


def _resolve(part: Part, parts: Mapping[str, Part], wanted: set[str]) -> list[str]:
    """What ``part`` waits for among ``wanted``; through a part that is left out, what that one waits for."""
    found: list[str] = []
    for name in part.depends_on:
        found += [name] if name in wanted else _resolve(parts[name], parts, wanted)
    return list(dict.fromkeys(found))


def check_runnable(parts: Sequence[Part]) -> None:
    """Refuse early what could never start: another user can not reach the interpreter or the source."""
    if os.geteuid() != 0 or all(part.user == layout.ROOT for part in parts):
        return
    source = Path(vmcloud.__file__).resolve().parent
    for path in (Path(sys.executable), Path(sys.executable).resolve(), source):
        closed = layout.reachable(path)
        if closed is not None:
            raise Unavailable(
                f"the parts that do not run as root can not reach {path}",
                why=f"others may not enter {closed}",
                todo=f"Install vmcloud elsewhere (./quickstart uses /opt/vmcloud), or: chmod o+x {closed}",
            )
