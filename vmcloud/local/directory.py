"""The private directory: made by :mod:`ldap_schema.install`, served by slapd(8)."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

from vmcloud.config import Config
from vmcloud.domain.errors import Conflict, Unavailable

from . import layout, secrets

TIMEOUT = 10.0
"""Seconds for one operation of a migration."""


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


def migrate(config: Config) -> list[str]:
    """Bring schema and tree to this release's version, as root of this machine; what was done.

    Raises :class:`Conflict` for a tree that a newer release made, :class:`Unavailable` where the directory does not answer.
    """
    import ldap

    from ldap_schema import migrate as migrations
    from vmcloud.directory import client

    try:
        connection = client.connect(client.Settings(ldapi(config), "", "", TIMEOUT))
        try:
            return migrations.migrate(connection, config.suffix)
        finally:
            connection.unbind_s()
    except migrations.TooNew as error:
        raise Conflict("the directory can not be used by this release", why=str(error)) from error
    except ldap.LDAPError as error:
        raise Unavailable("the directory's schema could not be brought up to date", why=str(error)) from error
