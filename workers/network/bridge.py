"""A node's bridge: guests' cables end in it, the node has its first address and hides the guests behind its own addresses.

Everything is idempotent and found out from the kernel anew each time. Translation lives in an nftables table of its own, called
``vmcloud``, with one chain per bridge, so that no rule of anybody else is touched.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

from vmcloud.domain.errors import Invalid
from workers.drivers import tools
from workers.drivers.base import BadRequest, DriverError, ToolFailed, Unsupported

from .addresses import gateway, parse_subnet

TIMEOUT = 10.0
TABLE = "vmcloud"
_NAME = re.compile(r"[a-z][a-z0-9-]{0,14}", re.ASCII)
_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")


@dataclass(frozen=True)
class Bridge:
    """A bridge as it is now. ``nat``: guests reach other networks; if not, ``detail`` says why."""

    name: str
    address: str
    nat: bool
    detail: str = ""


def ensure(name: str, subnet: str, *, nat: bool = True) -> Bridge:
    """Make the bridge ``name`` with the subnet's first host address, up, and with translation if ``nat``.

    A machine that allows no translation still gets a bridge: then ``nat`` of the answer is false. Raises :class:`Invalid` (name,
    subnet), :class:`BadRequest` (the name is another device's, the subnet is on another device), :class:`ToolFailed`.
    """
    _check(name)
    network = parse_subnet(subnet)
    address = f"{gateway(network)}/{network.prefixlen}"
    links = _addresses()
    for other, given in links.items():
        if other != name and any(network.overlaps(each) for each in given):
            raise BadRequest(
                "network", f"subnet {network} is in use on device {other}", todo="Choose another subnet in config.toml."
            )
    if name not in links:
        try:
            _ip("link", "add", "name", name, "type", "bridge")
        except ToolFailed:
            if name not in _addresses():  # another process may have been faster
                raise
    elif not Path(f"/sys/class/net/{name}/bridge").is_dir():
        raise BadRequest("network", f"{name} is a network device and no bridge", todo="Choose another bridge in config.toml.")
    _ip("address", "replace", address, "dev", name)
    _ip("link", "set", "dev", name, "up")
    if not nat:
        return Bridge(name, address, False, "not asked for")
    try:
        _translate(name, network)
        _FORWARD.write_text("1")
    except (DriverError, OSError) as error:
        return Bridge(name, address, False, str(error))
    return Bridge(name, address, True)


def remove(name: str) -> None:
    """Remove the bridge and its translation; absent is success. Guests' cables are left hanging."""
    _check(name)
    if tools.find("nft") is not None:
        _nft(f"delete chain ip {TABLE} {name}\n", check=False)
        listed = _nft(f"list table ip {TABLE}\n", check=False)
        if listed and "chain" not in listed:
            _nft(f"delete table ip {TABLE}\n", check=False)
    if Path(f"/sys/class/net/{name}/bridge").is_dir():
        _ip("link", "del", "dev", name)


def rules(name: str, network: IPv4Network) -> str:
    """The nftables commands for one bridge, to be applied as one transaction that replaces what was there."""
    return (
        f"add table ip {TABLE}\n"
        f"add chain ip {TABLE} {name} {{ type nat hook postrouting priority srcnat; policy accept; }}\n"
        f"flush chain ip {TABLE} {name}\n"
        f"add rule ip {TABLE} {name} ip saddr {network} ip daddr != {network} masquerade\n"
    )


def _translate(name: str, network: IPv4Network) -> None:
    _nft(rules(name, network))


def _nft(commands: str, *, check: bool = True) -> str:
    program = tools.require("nft", operation="network", package="nftables")
    return tools.run([program, "-f", "-"], operation="network", timeout=TIMEOUT, stdin=commands, check=check).stdout


def _ip(*words: str) -> str:
    program = tools.require("ip", operation="network", package="iproute2")
    return tools.run([program, *words], operation="network", timeout=TIMEOUT).stdout


def _addresses() -> dict[str, list[IPv4Network]]:
    """Every network device with its IPv4 networks."""
    try:
        links = json.loads(_ip("-json", "-4", "address", "show") or "[]")
        found: dict[str, list[IPv4Network]] = {link.name: [] for link in Path("/sys/class/net").iterdir()}
    except (ValueError, OSError) as error:
        raise Unsupported(
            "network", f"the network devices cannot be listed: {error}", todo="Install iproute2 5 or later."
        ) from error
    for link in links:
        if "ifname" in link:
            given = [IPv4Network(f"{each['local']}/{each['prefixlen']}", strict=False) for each in link.get("addr_info", ())]
            found[link["ifname"]] = given
    return found


def _check(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise Invalid(f"{name!r} cannot be a bridge's name", where="bridge", why="1 to 15 of a-z, 0-9 and hyphen, a letter first")
