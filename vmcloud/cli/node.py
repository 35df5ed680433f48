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


MOVES = Shape(
    (
        Column("NAME", lambda move: move["name"]),
        Column("KIND", lambda move: move["kind"], spare=True),
        Column("MEMORY", lambda move: mebibytes(move["memory_mib"])),
        Column("HOW", lambda move: "live" if move["live"] else "offline"),
        Column("TO", lambda move: move["to"]),
        Column("REASON", lambda move: move["reason"], flexible=True),
        Column("PROJECT", lambda move: move["project"], wide=True),
        Column("ID", lambda move: move["ve"], wide=True),
    )
)


@group.command()
@click.argument("name", type=Name(), metavar="NAME", shell_complete=names("/nodes"))
@output_option()
def moves(name: str, form: str) -> None:
    """Show what draining a node would do: which VE would go where, and which can not, and why.

    \b
    Examples:
      vmcloud node moves node-1
      vmcloud node moves node-1 && vmcloud node drain node-1 --wait
    """
    show_list(client().get(f"/nodes{segment(name)}/moves")["items"], MOVES, form)
