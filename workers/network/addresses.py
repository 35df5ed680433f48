"""Addresses of guests as pure functions; what was assigned is remembered by the worker's journal."""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import IPv4Address, IPv4Network
from uuid import UUID

from vmcloud.domain.errors import Invalid
from workers.drivers.base import NoSpace


def parse_subnet(text: str) -> IPv4Network:
    """The network named by ``text``. Raises :class:`Invalid`, also for one too small for a gateway and a guest."""
    try:
        network = IPv4Network(text)
    except ValueError as error:
        raise Invalid(
            f"{text!r} is not an IPv4 network", where="subnet", why=str(error), todo="Give one like 10.86.0.0/24."
        ) from error
    if network.prefixlen > 30:
        raise Invalid(f"{text} has no room for a gateway and a guest", where="subnet", todo="Give a network of /30 or larger.")
    return network


def gateway(subnet: IPv4Network) -> str:
    """The bridge's own address: the first host of the subnet."""
    return str(subnet.network_address + 1)


def allocate(subnet: IPv4Network, used: Collection[str]) -> str:
    """The lowest free address, with prefix length (``10.86.0.5/24``). ``used`` may have prefix lengths or not.

    Raises :class:`~workers.drivers.base.NoSpace` where none is left.
    """
    taken = {int(IPv4Address(address.partition("/")[0])) for address in used if address}
    first, last = int(subnet.network_address) + 2, int(subnet.broadcast_address) - 1
    for number in range(first, last + 1):
        if number not in taken:
            return f"{IPv4Address(number)}/{subnet.prefixlen}"
    raise NoSpace(
        "address",
        f"all {last - first + 1} addresses of {subnet} are in use",
        todo="Delete VEs, or give the node a larger subnet.",
    )


def hardware_address(ve: UUID) -> str:
    """A MAC that follows from the UUID: unicast and locally administered (02:…)."""
    return ":".join(("02", *(ve.hex[start : start + 2] for start in range(0, 10, 2))))
