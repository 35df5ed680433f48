"""Names: DNS labels (RFC 1123) for everything people name, and the native names derived from them."""

from __future__ import annotations

import re
from uuid import UUID

from .errors import Invalid

LABEL_MAX = 63
VE_NAME_MAX = 50
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", re.ASCII)


def check_label(value: object, *, where: str, maximum: int = LABEL_MAX) -> str:
    """Return ``value`` if it is a lower-case DNS label of at most ``maximum`` characters, else raise :class:`Invalid`."""
    if not isinstance(value, str) or not value:
        raise Invalid("a name is needed", where=where, todo="Give a DNS label such as 'web-1'.")
    if len(value) > maximum:
        raise Invalid(f"the name has {len(value)} characters, {maximum} are allowed", where=where)
    if not _LABEL.fullmatch(value):
        raise Invalid(
            f"{value!r} is not a DNS label",
            where=where,
            why="every name is one, so that it can be a host name (RFC 1123)",
            todo="Use lower-case letters, digits and inner hyphens, such as 'web-1'.",
        )
    return value


def check_ve_name(value: object, *, where: str = "name") -> str:
    """A VE's name: a DNS label of at most 50 characters, so that native names and host names derived from it still fit."""
    return check_label(value, where=where, maximum=VE_NAME_MAX)


def native_name(name: str, ve: UUID) -> str:
    """The guest's name in its hypervisor: ``<name>-<first 8 hex digits of the UUID>``."""
    return f"{name}-{ve.hex[:8]}"
