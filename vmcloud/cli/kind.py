"""``vmcloud kind``: what each sort of VE can do."""

from __future__ import annotations

from collections.abc import Callable

import click

from vmcloud.domain.vocabulary import Power

from .common import Name, client, each, names, output_option
from .output import Column, Item, Shape, mebibytes, show_list
from .rest import segment


def _support(power: Power) -> Callable[[Item], str]:
    def value(kind: Item) -> str:
        return next((str(each["support"]) for each in kind["powers"] if each["power"] == power), "no")

    return value


def _range(field: str, form: Callable[[int], str] = str) -> Callable[[Item], str]:
    def value(kind: Item) -> str:
        limits = kind["limits"][field]
        return f"{form(limits['lowest'])}..{form(limits['highest'])}"

    return value


KINDS = Shape(
    (
        Column("KIND", lambda kind: kind["kind"]),
        Column("NODES", lambda kind: kind["nodes"]),
        *(Column(power.upper(), _support(power)) for power in Power),
        Column("VCPUS", _range("vcpus"), wide=True),
        Column("MEMORY", _range("memory_mib", mebibytes), wide=True),
        Column("DISK", _range("disk_mib", lambda mib: mebibytes(mib) if mib else "0"), wide=True),
        Column("UP", lambda kind: kind["nodes_up"], wide=True),
        Column("TITLE", lambda kind: kind["title"], flexible=True),
    ),
    name="kind",
)


@click.group()
def group() -> None:
    """Kinds: what each sort of VE can do."""


@group.command("list")
@output_option()
def list_(form: str) -> None:
    """List kinds: what each can do, and how many nodes offer it.

    yes: on every node that offers the kind; node: where a trial on the node has passed; later: not in this release; no: the kind
    itself can not. `vmcloud kind show` says why.

    \b
    Examples:
      vmcloud kind list
      vmcloud kind list -o wide
      vmcloud kind list -o json | jq -r '.[] | select(.nodes > 0).kind'
    """
    show_list(client().get("/kinds")["items"], KINDS, form)


@group.command()
@click.argument("kinds", nargs=-1, required=True, type=Name(), metavar="KIND...", shell_complete=names("/kinds", "kind"))
@output_option()
def show(kinds: tuple[str, ...], form: str) -> None:
    """Show kinds: their limits, and of each power whether, and if not why.

    \b
    Examples:
      vmcloud kind show lxc
      vmcloud kind show lxc kvm -o yaml
    """
    each(kinds, lambda api, kind: api.get("/kinds" + segment(kind)), KINDS, form)
