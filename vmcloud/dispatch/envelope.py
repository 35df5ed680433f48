"""The signed envelope around an order from the server to a node.

Form: ``<base64url JSON>.<base64url Ed25519 signature of the first part's bytes>`` (RFC 8032). Inside the JSON::

    {"v": 1, "node": "n1", "issued": 1763700000.0, "expires": 1763700600.0, "order": {<message>}}

One string, so that a header or a re-encoded body can not change what was signed. Never pickle.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from vmcloud.domain.errors import Invalid
from vmcloud.domain.messages import VERSION, CancelOrder, Message, RelistOrder, SignalOrder, StepOrder, parse

Order = StepOrder | CancelOrder | SignalOrder | RelistOrder


class Untrusted(Exception):
    """The envelope's signature is not the server's, or it is no envelope at all. Nothing in it may be believed."""


@dataclass(frozen=True)
class Opened:
    """A verified envelope: who it is for, when it was made and until when it counts (seconds since the epoch)."""

    node: str
    issued: float
    expires: float
    order: Order

    def refusal(self, node: str, now: float, skew: float) -> tuple[str, str] | None:
        """Why ``node`` must not act on it at ``now`` as (code, sentence), or None. ``skew``: seconds of clock error forgiven."""
        if self.node != node or self.order.node != node:
            return "wrong-node", f"this order is for node {self.node}, and this is {node}"
        if now < self.issued - skew:
            return "clock", f"this node's clock is {self.issued - now:.0f} s behind the server's; set it (chrony, ntpd)"
        if now > self.expires + skew:
            return "expired", (
                f"the order expired {now - self.expires:.0f} s ago by this node's clock: it was long under way, "
                "or the clock is ahead of the server's; check it (chrony, ntpd)"
            )
        return None


def seal(order: Order, key: Ed25519PrivateKey, *, now: float, lifetime: float) -> str:
    """Sign ``order`` for its node; it counts for ``lifetime`` seconds."""
    body = {"v": VERSION, "node": order.node, "issued": now, "expires": now + lifetime, "order": order.to_json()}
    payload = base64.urlsafe_b64encode(json.dumps(body, separators=(",", ":")).encode())
    return (payload + b"." + base64.urlsafe_b64encode(key.sign(payload))).decode()


def open_sealed(text: str, key: Ed25519PublicKey) -> Opened:
    """Check the signature, then read. :class:`Untrusted` for a bad one, :class:`Invalid` for a foreign version or form."""
    payload, dot, signature = text.encode().partition(b".")
    try:
        key.verify(base64.urlsafe_b64decode(signature), payload)
    except (InvalidSignature, ValueError) as error:
        raise Untrusted("the signature is not the server's" if dot else "not an envelope") from error
    body = json.loads(base64.urlsafe_b64decode(payload))
    if body.get("v") != VERSION:
        raise Invalid(
            f"envelope version {body.get('v')!r} is not spoken here", why=f"this program speaks {VERSION}", code="version"
        )
    order: Message = parse(body["order"])
    if not isinstance(order, StepOrder | CancelOrder | SignalOrder | RelistOrder):
        raise Invalid(f"a {order.type} message is no order")
    return Opened(node=str(body["node"]), issued=float(body["issued"]), expires=float(body["expires"]), order=order)


def new_keypair() -> tuple[str, str]:
    """A fresh (private, public) key pair, each 32 raw bytes as base64url text."""
    private = Ed25519PrivateKey.generate()
    return (
        base64.urlsafe_b64encode(private.private_bytes_raw()).decode(),
        base64.urlsafe_b64encode(private.public_key().public_bytes_raw()).decode(),
    )


def private_key(text: str) -> Ed25519PrivateKey:
    """The key in ``text`` as :func:`new_keypair` made it."""
    return Ed25519PrivateKey.from_private_bytes(base64.urlsafe_b64decode(text))


def public_key(text: str) -> Ed25519PublicKey:
    """The key in ``text`` as :func:`new_keypair` made it."""
    return Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(text))
