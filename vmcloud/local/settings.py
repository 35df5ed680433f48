"""Making ``config.toml`` at the first start."""

from __future__ import annotations

import ipaddress
import json
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vmcloud.config import CONFIG_NAME, Config, NodeSettings
from vmcloud.domain.errors import Conflict, Invalid
from vmcloud.domain.names import check_label

from . import layout
from .nodes import label

PORTS = {"web": 8470, "broker": 8471, "directory": 8472}
"""Where the parts listen unless the port was taken at the first start."""


@dataclass(frozen=True)
class Wishes:
    """What ``vmcloud up`` was told for the first start; None: nothing was said."""

    name: str | None = None
    bridge: str | None = None
    subnet: str | None = None
    listen: str | None = None
    simulate: int | None = None


def ensure(
    data: Path, wishes: Wishes, *, hostname: str = "", taken: Callable[[int], bool] | None = None
) -> tuple[Config, list[str]]:
    """Read the settings, made first where there are none; and what is worth telling about them.

    Raises :class:`Invalid` for a wish that can not be, :class:`Conflict` for one that contradicts what was settled before.
    """
    if (data / CONFIG_NAME).exists():
        config = Config.load(data)
        _agree(config, wishes)
        return config, []
    text, notes = render(wishes, hostname=hostname or socket.gethostname(), taken=taken or port_taken)
    layout.write(data / CONFIG_NAME, text, mode=0o644)
    return Config.load(data), notes


def render(wishes: Wishes, *, hostname: str, taken: Callable[[int], bool]) -> tuple[str, list[str]]:
    """The text of ``config.toml`` and notes about ports that had to move."""
    host, wanted_port = parse_listen(wishes.listen or "127.0.0.1")
    ports: dict[str, int] = {}
    notes = []
    for part, port in PORTS.items():
        port = wanted_port if part == "web" and wanted_port else port
        free = next((each for each in range(port, port + 500) if each not in ports.values() and not taken(each)), None)
        if free is None:
            raise Conflict(f"no port from {port} on is free for {part}", todo="Stop what holds them: ss -ltnp")
        if free != port:
            notes.append(f"port {port} is taken by another program: {part} uses {free}")
        ports[part] = free
    name = check_label(wishes.name or label(hostname), where="--name")
    shown = hostname if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
    lines = [
        "# This cloud's settings, made by `vmcloud up`; every part reads them at its start. Secrets are in secrets/.",
        f'broker_url = "redis://127.0.0.1:{ports["broker"]}/0"',
        f'directory_uri = "ldap://127.0.0.1:{ports["directory"]}"',
        f"web_host = {_quote(host)}",
        f"web_port = {ports['web']}",
        "# Where people and nodes find the web part.",
        f'web_url = "http://{shown}:{ports["web"]}"',
        "",
        "[node]",
        f"name = {_quote(name)}",
    ]
    if wishes.bridge:
        lines.append(f"bridge = {_quote(_bridge(wishes.bridge))}")
    if wishes.subnet:
        lines.append(f"subnet = {_quote(_subnet(wishes.subnet))}")
    if wishes.simulate:
        if wishes.simulate < 0 or wishes.simulate > 9999:
            raise Invalid(f"{wishes.simulate} nodes can not be simulated", where="--simulate", why="1 to 9999 can")
        lines += ['kinds = ["simulated"]', f"simulate = {wishes.simulate}"]
    return "\n".join(lines) + "\n", notes


def parse_listen(text: str) -> tuple[str, int]:
    """``ADDRESS``, ``ADDRESS:PORT`` or ``[IPv6]:PORT`` as (address, port); port 0: not said."""
    if text.startswith("[") and "]" in text:
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":")
    elif text.count(":") == 1:
        host, port = text.split(":")
    else:
        host, port = text, ""
    try:
        ipaddress.ip_address(host)
        number = int(port or 0)
    except ValueError as error:
        raise Invalid(
            f"{text!r} is no address to listen at", where="--listen", todo="Such as 127.0.0.1 or 0.0.0.0:8470."
        ) from error
    if not 0 <= number < 65536:
        raise Invalid(f"there is no port {number}", where="--listen")
    return host, number


def port_taken(port: int) -> bool:
    """Whether somebody listens at this port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def _bridge(name: str) -> str:
    if not name or len(name) > 15 or not all(letter.isascii() and (letter.isalnum() or letter in "-_.") for letter in name):
        raise Invalid(f"{name!r} is no name for a bridge", where="--bridge", why="Linux takes 15 letters, digits and -_.")
    return name


def _subnet(text: str) -> str:
    try:
        network = ipaddress.IPv4Network(text)
    except ValueError as error:
        raise Invalid(f"{text!r} is no subnet", where="--subnet", why=str(error), todo="Such as 10.86.0.0/24.") from error
    if network.prefixlen > 29:
        raise Invalid(f"{text} has no room for guests", where="--subnet", todo="Take /29 or larger.")
    return str(network)


def _agree(config: Config, wishes: Wishes) -> None:
    node: NodeSettings = config.node
    pairs: list[tuple[str, object, object]] = [
        ("--name", wishes.name, node.name),
        ("--bridge", wishes.bridge, node.bridge),
        ("--subnet", wishes.subnet, node.subnet),
    ]
    pairs.append(("--simulate", wishes.simulate, node.simulate))
    if wishes.listen is not None:
        host, port = parse_listen(wishes.listen)
        pairs.append(("--listen", f"{host}:{port or config.web_port}", f"{config.web_host}:{config.web_port}"))
    for option, wish, settled in pairs:
        if wish is not None and wish != settled:
            raise Conflict(
                f"this cloud was made with {settled!r}, not {wish!r}",
                where=option,
                why="the option counts at the first start only",
                todo=f"Change {config.data / CONFIG_NAME}, or begin anew: vmcloud down --purge.",
            )


def _quote(text: str) -> str:
    """A TOML basic string; JSON's strings are a part of those."""
    return json.dumps(text)
