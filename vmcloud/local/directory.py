"""The private directory: made by :mod:`ldap_schema.install`, served by slapd(8)."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

from vmcloud.config import Config

from . import layout, secrets


def folder(config: Config) -> Path:
    """All that the directory keeps."""
    return config.data / "directory"


def socket(config: Config) -> Path:
    """The local socket, where root of this machine is an administrator (SASL EXTERNAL)."""
    return folder(config) / "run" / "ldapi"


def ldapi(config: Config) -> str:
    """The socket's URI."""
    from ldap_schema import install

    return install.ldapi_uri(socket(config))


def initialise(config: Config) -> bool:
    """Make the directory unless it is there; True if made now. :class:`ldap_schema.install.InstallError`."""
    from ldap_schema import install

    user = layout.DIRECTORY_USER if os.geteuid() == 0 else None
    return install.initialise(folder(config), config.suffix, secrets.directory_passwords(config.data), user)


def argv(config: Config) -> list[str]:
    """The command that serves it, for a process that already runs as the directory's user."""
    from ldap_schema import install

    parts = urlsplit(config.directory_uri)
    return install.slapd_argv(folder(config), [f"ldap://{parts.hostname}:{parts.port or 389}/", f"{ldapi(config)}/"], None)
