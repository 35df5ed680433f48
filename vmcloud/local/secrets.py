"""The secrets of one cloud: made once, each identity's in a file only its own user can read."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vmcloud.config import PARTS_WITH_USER, part_user
from vmcloud.dispatch.acl import SUPERVISOR

from . import layout

CENTRAL = ("web", "server", "monitor", "reader")
"""Identities of the central machines. ``reader`` only binds to the directory (DNS, NSS, scripts)."""


def path(data: Path, identity: str) -> Path:
    """Where the secrets of ``identity`` are."""
    return data / "secrets" / f"{identity}.json"


def load(data: Path, identity: str) -> dict[str, Any]:
    """The secrets of ``identity``; FileNotFoundError, PermissionError."""
    found: dict[str, Any] = json.loads(path(data, identity).read_text())
    return found


def ensure(data: Path, user: str, nodes: Iterable[str]) -> None:
    """Make what is missing for the central identities and for ``nodes``; never changes what is there.

    The server's key pair is the last thing that may be lost: every node would have to be told. So it is written first.
    """
    if not path(data, "server").exists():
        from vmcloud.dispatch.envelope import new_keypair

        private, public = new_keypair()
        _save(
            data,
            "server",
            owner(user, "server"),
            {**_passwords("server"), "private_key": private, "public_key": public, **_django()},
        )
    server = load(data, "server")
    for identity in CENTRAL:
        if not path(data, identity).exists():
            content = _passwords(identity)
            if identity == "web":
                content["secret_key"] = server["secret_key"]
            _save(data, identity, owner(user, identity), content)
    if not path(data, SUPERVISOR).exists():
        _save(data, SUPERVISOR, layout.ROOT, _broker())
    for node in nodes:
        if not path(data, f"node-{node}").exists():
            _save(data, f"node-{node}", layout.ROOT, {**_broker(), "server_public_key": server["public_key"]})


def owner(user: str, identity: str) -> str:
    """The system user that may read the secrets of ``identity``: no part can be another, and only the server can sign orders."""
    return part_user(user, identity) if identity in PARTS_WITH_USER else layout.ROOT


def directory_passwords(data: Path) -> dict[str, str]:
    """The passwords of the identities that bind to the directory."""
    return {identity: str(load(data, identity)["directory_password"]) for identity in CENTRAL}


def broker_passwords(data: Path, nodes: Iterable[str]) -> dict[str, str]:
    """The passwords of the broker's users."""
    identities = [*(name for name in CENTRAL if name != "reader"), SUPERVISOR, *(f"node-{node}" for node in nodes)]
    return {identity: str(load(data, identity)["broker_password"]) for identity in identities}


def _passwords(identity: str) -> dict[str, str]:
    directory = {"directory_password": secrets.token_urlsafe(32)}
    return directory if identity == "reader" else {**_broker(), **directory}


def _broker() -> dict[str, str]:
    return {"broker_password": secrets.token_urlsafe(32)}


def _django() -> dict[str, str]:
    return {"secret_key": secrets.token_urlsafe(50)}


def _save(data: Path, identity: str, user: str, content: Mapping[str, str]) -> None:
    layout.write(path(data, identity), json.dumps(content, indent=1) + "\n", user=user, mode=0o600)
