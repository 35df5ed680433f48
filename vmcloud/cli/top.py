"""``vmcloud ve top``: VEs by what they use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from vmcloud.domain.vocabulary import Kind

from .common import Name, check_node, client, names, output_option, project_option
from .output import Column, Item, Shape, age, mebibytes, show_list, size


def _used(field: str, form: Callable[[Any], Any] = lambda value: value) -> Callable[[Item], Any]:
    """A field of the usage; nothing where it is not known."""

    def value(item: Item) -> Any:
        found = (item["usage"] or {}).get(field)
        return None if found is None else form(found)

    return value


def _seconds(value: float) -> str:
    """``59.5s``, ``12:05``, ``3:04:05``."""
    if value < 60:
        return f"{value:.1f}s"
    minutes, seconds = divmod(int(value), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}" if minutes >= 60 else f"{minutes}:{seconds:02}"


USAGE = Shape(
    (
        Column("NAME", lambda ve: ve["name"]),
        Column("NODE", lambda ve: ve["node"], flexible=True),
        Column("CPU%", _used("cpu_percent", lambda value: f"{value:.1f}")),
        Column("CPU-TIME", _used("cpu_seconds", _seconds)),
        Column("MEMORY", _used("memory_bytes", size)),
        Column("LIMIT", lambda ve: mebibytes(ve["memory_mib"])),
        Column("PEAK", _used("memory_peak_bytes", size)),
        Column("PROCS", _used("processes")),
        Column("READ", _used("disk_read_bytes", size)),
        Column("WRITTEN", _used("disk_written_bytes", size)),
        Column("RECEIVED", _used("received_bytes", size)),
        Column("SENT", _used("sent_bytes", size)),
        Column("MEASURED", _used("at", age), wide=True),
        Column("VCPUS", lambda ve: ve["vcpus"], wide=True),
        Column("KIND", lambda ve: ve["kind"], wide=True),
        Column("OWNER", lambda ve: ve["owner"], wide=True),
        Column("PROJECT", lambda ve: ve["project"], wide=True),
        Column("ID", lambda ve: ve["id"], wide=True),
    )
)
ORDERS: dict[str, tuple[str, str]] = {
    "cpu": ("cpu_percent", "cpu_seconds"),
    "memory": ("memory_bytes", "memory_peak_bytes"),
    "disk": ("disk_written_bytes", "disk_read_bytes"),
    "network": ("sent_bytes", "received_bytes"),
}


@click.command()
@project_option
@click.option("-A", "--all-projects", is_flag=True, help="All projects.")
@click.option("--node", type=Name(), metavar="NAME", help="Only those on this node.", shell_complete=names("/nodes"))
@click.option("--kind", type=click.Choice([kind.value for kind in Kind]), help="Only this kind.")
@click.option("--owner", metavar="USER", help="Only this owner's.")
@click.option("--sort", type=click.Choice([*ORDERS, "name"]), default="cpu", show_default=True, help="What comes first.")
@output_option()
def top(project: str, all_projects: bool, sort: str, form: str, **filters: str | None) -> None:
    """List running VEs by what they use, as their nodes measured it last (every 15 s).

    CPU% is of one processor, since the measurement before. What is read, written and sent counts from the VE's start.

    \b
    Examples:
      vmcloud ve top
      vmcloud ve top --sort memory -o wide
      watch vmcloud ve top
    """
    query = {"project": "*" if all_projects else project, **{name: value for name, value in filters.items() if value}}
    api = client()
    found = list(api.every("/usage", query))
    if not found:
        check_node(api, filters["node"])
    items = [item for item in found if item["usage"]]
    if sort != "name":
        items.sort(key=lambda item: [item["usage"][field] or 0 for field in ORDERS[sort]], reverse=True)
    show_list(items, USAGE, form)
