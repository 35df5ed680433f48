"""Which cloud, and as whom: environment, then what ``vmcloud login`` wrote, then (for root) the cloud of this machine."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from .errors import CliError, Unreachable

DEFAULT_URL = "http://127.0.0.1:8470"


@dataclass(frozen=True)
class Access:
    """Where to ask and with which token (empty: none is known)."""

    url: str
    token: str


def login_file() -> Path:
    """Where ``vmcloud login`` keeps what it got."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "vmcloud" / "login.json"


def find() -> Access:
    """``VMCLOUD_URL`` and ``VMCLOUD_TOKEN``; ``login.json``; root's token for the cloud of this machine.

    A token is only ever sent to the address it was made for.
    """
    url, token = os.environ.get("VMCLOUD_URL", "").rstrip("/"), os.environ.get("VMCLOUD_TOKEN", "")
    if url and token:
        return Access(url, token)
    known = [each for each in (_login(), _local()) if each]
    for each in known:
        if url in ("", each.url) and (token or each.token):
            return Access(each.url, token or each.token)
    if url or token:
        return Access(url or DEFAULT_URL, token)
    if known:
        return known[0]
    raise Unreachable.say(
        "no vmcloud is known here",
        why="neither VMCLOUD_URL nor a login nor a cloud on this machine was found",
        todo="Start one: `vmcloud up`, or log in to another machine's: `vmcloud login URL`.",
    )


def _login() -> Access | None:
    path = login_file()
    try:
        data = json.loads(path.read_text())
        return Access(str(data["url"]).rstrip("/"), str(data["token"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CliError.say(f"{path} cannot be used", why=str(error), todo="Log in again: `vmcloud login URL`.") from error


def _local() -> Access | None:
    """The cloud of this machine; its token only for who may read it (root)."""
    from vmcloud.config import CONFIG_NAME, data_directory

    data = data_directory()
    try:
        import tomllib

        url = str(tomllib.loads((data / CONFIG_NAME).read_text()).get("web_url", DEFAULT_URL)).rstrip("/")
    except (OSError, ValueError):
        return None
    try:
        return Access(url, (data / "secrets" / "admin-token").read_text().strip())
    except OSError:
        return Access(url, "")


def save(access: Access, username: str) -> Path:
    """Keep a login for later commands: the file appears whole, readable by its user only."""
    path = login_file()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        json.dump({"url": access.url, "username": username, "token": access.token}, stream, indent=1)
    temporary.replace(path)
    return path
