"""``vmcloud env``: what curl, ldapsearch and the command line need to know, as lines for sh(1)."""

from __future__ import annotations

import shlex

from vmcloud.config import Config

from . import directory
from .prepare import ADMIN_TOKEN


def variables(config: Config, *, root: bool) -> dict[str, str]:
    """Names and values. Root gets the administrator's token and the local socket, where the directory knows it by its uid."""
    found = {"VMCLOUD_DATA": str(config.data), "VMCLOUD_URL": config.web_url}
    if root:
        token = config.data / "secrets" / ADMIN_TOKEN
        if token.exists():
            found["VMCLOUD_TOKEN"] = token.read_text().strip()
        found |= {"LDAPURI": directory.ldapi(config), "LDAPSASL_MECH": "EXTERNAL"}
    else:
        found["LDAPURI"] = config.directory_uri
    return {**found, "LDAPBASE": config.suffix}


def exports(config: Config, *, root: bool) -> str:
    """The lines."""
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables(config, root=root).items())
