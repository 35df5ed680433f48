"""Webhooks: what a subscription may say, how a message is signed, which addresses may be reached, and when it is tried again.

The messages follow the Standard Webhooks specification 1.0.0 (standardwebhooks.com): headers ``webhook-id``,
``webhook-timestamp`` and ``webhook-signature``, the latter ``v1,`` and the base64 of an HMAC-SHA256.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, Self
from urllib.parse import SplitResult, urlsplit

from .errors import Invalid
from .happenings import check_types
from .names import check_label

URL_MAX = 1000
SECRET_PREFIX = "whsec_"
SECRET_BYTES = (24, 64)
ATTEMPTS = 12
"""How often one message is sent at most."""
PAUSES = (1.0, 6.0, 24.0, 120.0, 360.0, 720.0, 1440.0, 2880.0)
"""Pauses between attempts, in units of the setting ``pause``; the last one repeats. At 5 s all attempts take 20 hours."""
JITTER = 0.2


@dataclass(frozen=True)
class Subscription:
    """What a person says of a webhook. ``types``: what to be told of, none: all; ``project``: of this one only, empty: of all."""

    url: str = ""
    types: tuple[str, ...] = ()
    project: str = ""
    description: str = ""
    enabled: bool = True

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Self:
        """A new one from untrusted JSON; unknown fields are refused."""
        if "url" not in data:
            raise Invalid("a URL is needed", where="url", todo='Send {"url": "https://example.org/hook"}.')
        return cls().altered(data)

    def altered(self, data: Mapping[str, Any]) -> Self:
        """This one with what ``data`` says of it."""
        known = [each.name for each in fields(self)]
        if unknown := sorted(set(map(str, data)) - set(known)):
            raise Invalid(f"no field is called {unknown[0]!r}", where=unknown[0], todo=f"Known: {', '.join(known)}, secret.")
        return replace(self, **{name: _value(name, value) for name, value in data.items()})


def _value(name: str, value: object) -> Any:
    if name == "enabled":
        if not isinstance(value, bool):
            raise Invalid("true or false is needed", where=name)
        return value
    if name == "types":
        return check_types(value)
    if not isinstance(value, str):
        raise Invalid("a text is needed", where=name)
    if name == "url":
        check_url(value)
    elif name == "project":
        return check_label(value, where=name) if value else ""
    elif len(value) > 200 or not value.isprintable():
        raise Invalid("at most 200 printable characters are needed", where=name)
    return value


def check_url(text: str) -> SplitResult:
    """The parts of a URL that may be told of something; :class:`Invalid`."""
    todo = "Such as https://example.org/hook."
    if len(text) > URL_MAX or not text.isascii() or not text.isprintable() or " " in text:
        raise Invalid(f"at most {URL_MAX} printable ASCII characters are needed", where="url", todo=todo)
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise Invalid(f"{text!r} is no URL", where="url", why=str(error), todo=todo) from error
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise Invalid(f"{text!r} is no URL that can be called", where="url", why="http and https can", todo=todo)
    if parts.username is not None or parts.password is not None:
        why = "it would be shown to everybody who sees the webhook"
        raise Invalid("a password does not belong into the URL", where="url", why=why, todo="The signature proves who sends.")
    if parts.fragment:
        raise Invalid("a URL that is called has no fragment", where="url", todo=todo)
    return parts


def check_secret(value: object) -> str:
    """A secret as the specification writes it."""
    low, high = SECRET_BYTES
    try:
        if not isinstance(value, str) or not value.startswith(SECRET_PREFIX) or not low <= len(_key(value)) <= high:
            raise ValueError
    except (ValueError, binascii.Error):
        todo = f"Give {SECRET_PREFIX} and the base64 of {low} to {high} random bytes, or none: one is made."
        raise Invalid("this is no secret for webhooks", where="secret", todo=todo) from None
    return value


def secret_of(key: bytes) -> str:
    """The text of a secret."""
    return SECRET_PREFIX + base64.b64encode(key).decode()


def _key(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)


def headers(secret: str, id: str, now: float, body: str) -> dict[str, str]:
    """The headers that say which message it is, when it was sent, and that it is ours."""
    signed = f"{id}.{int(now)}.{body}".encode()
    signature = base64.b64encode(hmac.new(_key(secret), signed, hashlib.sha256).digest()).decode()
    return {"webhook-id": id, "webhook-timestamp": str(int(now)), "webhook-signature": f"v1,{signature}"}


def why_not(address: str, *, admin: bool, networks: Iterable[str] = ()) -> str:
    """Why a message may not go to this address; empty if it may. What is not public is for administrators' webhooks, and for
    everybody's where it is in one of ``networks``."""
    found: IPv4Address | IPv6Address = ip_address(address.partition("%")[0])
    if isinstance(found, IPv6Address):
        found = found.ipv4_mapped or found.sixtofour or found
    if found.is_multicast or found.is_unspecified or found.is_link_local:
        return f"{address} is no address of one machine that can be called"
    if found.is_global or admin:
        return ""
    if any(found.version == (network := ip_network(each)).version and found in network for each in networks):
        return ""
    return f"{address} is not public; an administrator's webhook may go there, or `networks` under [webhooks] in config.toml"


def pause(attempts: int, unit: float, chance: float) -> float:
    """Seconds until the next attempt after so many; ``chance`` from 0 to 1 makes them differ by a fifth."""
    return PAUSES[min(max(attempts, 1), len(PAUSES)) - 1] * unit * (1 + JITTER * (2 * chance - 1))
