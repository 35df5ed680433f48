"""``vmcloud node``: the machines."""

from __future__ import annotations

import click

from .common import Name, client, each, names, output_option
from .output import Column, Item, Shape, age, mebibytes, show_list
from .rest import segment
from .verbs import OfNode


def _state(node: Item) -> str:
    marks = [name for name in ("cordoned", "maintenance") if node[name]]
    return ", ".join([node["state"], *marks])


NODES = Shape(
    (
        Column("NAME", lambda node: node["name"]),
        Column("STATE", _state, coloured=True),
        Column("KINDS", lambda node: node["kinds"], flexible=True),
        Column("VES", lambda node: node["ves"]),
        Column("CPUS", lambda node: node["cpus"]),
        Column("MEMORY", lambda node: mebibytes(node["memory_mib"])),
        Column("PLACED", lambda node: mebibytes(node["memory_placed_mib"])),
        Column("HEARD", lambda node: age(node["heard"])),
        Column("REASON", lambda node: node["reason"], flexible=True),
        Column("DISK", lambda node: mebibytes(node["disk_mib"]), wide=True),
        Column("SEEN", lambda node: node["guests_seen"], wide=True),
        Column("SIMULATED", lambda node: node["simulated"], wide=True),
        Column("ADDRESS", lambda node: node["address"], wide=True),
        Column("VERSION", lambda node: node["version"], wide=True),
        Column("LABELS", lambda node: node["labels"], wide=True),
        Column("DESCRIPTION", lambda node: node["description"], wide=True),
    )
)
node_names = click.argument("names", nargs=-1, required=True, type=Name(), metavar="NAME...", shell_complete=names("/nodes"))


@click.group(cls=OfNode)
def group() -> None:
    """Nodes: the machines that VEs run on."""


@group.command("list")
@output_option()
def list_(form: str) -> None:
    """List nodes.

    \b
    Examples:
      vmcloud node list
      vmcloud node list -o wide
    """
    show_list(list(client().every("/nodes")), NODES, form)


@group.command()
@node_names
@output_option()
def show(names: tuple[str, ...], form: str) -> None:
    """Show nodes with all their fields.

    \b
    Examples:
      vmcloud node show node-1
      vmcloud node show node-1 -o yaml
    """
    each(names, lambda api, name: api.get("/nodes" + segment(name)), NODES, form)


@group.command()
@node_names
@output_option(default="name")
def confirm(names: tuple[str, ...], form: str) -> None:
    """Count on all that these nodes claim to have now.

    Placement counts on what a node had when it was first heard, and on up to twice that; a node that claims more, or a kind that
    it did not run before, is reported (rule R14), and what is too much is not counted on until somebody confirms it.

    \b
    Examples:
      vmcloud node confirm node-1
    """
    each(names, lambda api, name: api.request("POST", f"/nodes{segment(name)}/confirm", again=True), NODES, form)
