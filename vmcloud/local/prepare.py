"""What a start does once the broker and the directory answer: ``python -m vmcloud.local.prepare`` (as root).

1. the job database and the directory's schema and tree are brought to this release's form;
2. the first administrator and the local token are made, once;
3. this machine's nodes get their entries in the directory, once.
Every step may be repeated. Exit code 0 only if all is done.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from vmcloud.config import Config

from . import directory, layout
from .child import credentials
from .parts import environment

TIMEOUT = 120.0
ADMIN_TOKEN = "admin-token"
FIRST_LOGIN = "first-login.json"


def main() -> int:
    """Do all of it."""
    config = Config.load()
    site(config, "migrate", "--verbosity", "1")
    for done in directory.migrate(config):
        print(f"directory: {done}", flush=True)
    if not (config.data / "secrets" / ADMIN_TOKEN).exists():
        bootstrap(config)
    register(config)
    return 0


def site(config: Config, *arguments: str, capture: bool = False, stdin: str | None = None) -> str:
    """Run a management command as the user of the web part; what it printed, if captured. SystemExit where it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "vmcloud.site", *arguments],
        env=environment(config.data),
        cwd=config.data,
        stdout=subprocess.PIPE if capture else None,
        input=stdin,
        text=True,
        timeout=TIMEOUT,
        check=False,
        **credentials(config.user_of("web")),
    )
    if done.returncode != 0:
        raise SystemExit(f"vmcloud.site {arguments[0]} ended with exit code {done.returncode}; its message is above")
    return str(done.stdout or "")


def bootstrap(config: Config) -> None:
    """Make the first administrator; keep its token for root, and its password until somebody was shown it."""
    answer: dict[str, Any] = json.loads(site(config, "bootstrap", "--json", capture=True).strip().splitlines()[-1])
    folder = config.data / "secrets"
    if answer.get("password"):
        login = {"username": answer["username"], "password": answer["password"]}
        layout.write(folder / FIRST_LOGIN, json.dumps(login) + "\n")
    layout.write(folder / ADMIN_TOKEN, f"{answer['token']}\n")


def register(config: Config) -> None:
    """Add the entries of this machine's nodes that were not added before; an entry that is there is left as it is.

    What was added is remembered, so that a node which an administrator removed does not come back with the next start.
    """
    marker = config.data / "run" / "registered.json"
    known: list[str] = json.loads(marker.read_text()) if marker.exists() else []
    missing = [name for name in config.node.names if name not in known]
    if not missing:
        return
    from vmcloud.directory.store import Directory
    from vmcloud.domain.errors import Conflict
    from vmcloud.domain.records import NodeRecord

    store = Directory(directory.ldapi(config), config.suffix)
    for name in missing:
        try:
            store.add_node(NodeRecord(name=name))
        except Conflict:
            pass
    layout.write(marker, json.dumps([*known, *missing]) + "\n", mode=0o644)


if __name__ == "__main__":
    sys.exit(main())
