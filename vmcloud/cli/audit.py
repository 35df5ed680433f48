"""``vmcloud audit``: what was refused, and who logged in."""

from __future__ import annotations

from itertools import islice

import click

from .common import client, output_option
from .output import Column, Shape, age, show_list

DOORS = ("rest", "pages", "login", "ldap", "broker", "node", "webhook", "rights")
AUDIT = Shape(
    (
        Column("LAST", lambda item: age(item["last"])),
        Column("COUNT", lambda item: item["count"]),
        Column("DOOR", lambda item: item["door"]),
        Column("WHO", lambda item: item["who"], flexible=True),
        Column("SOURCE", lambda item: item["source"], flexible=True),
        Column("WHAT", lambda item: item["what"], flexible=True, least=20),
        Column("WHY", lambda item: "" if item["allowed"] else item["why"], flexible=True, least=20),
        Column("ALLOWED", lambda item: item["allowed"], wide=True),
        Column("FIRST", lambda item: age(item["at"]), wide=True),
    ),
    name="id",
)


@click.group()
def group() -> None:
    """The audit: what was refused to whom, and who logged in.

    \b
    Examples:
      vmcloud audit list
    """


@group.command("list")
@click.option("--door", type=click.Choice(DOORS), help="Only what came through this door.")
@click.option("--who", metavar="USER", help="Only what this user asked for.")
@click.option("--source", metavar="ADDRESS", help="Only what came from this address, or from this node.")
@click.option("--denied/--allowed", default=None, help="Only refusals; only logins that went well (default: both).")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="At most this many, the newest.")
@output_option()
def list_(door: str | None, who: str | None, source: str | None, denied: bool | None, limit: int, form: str) -> None:
    """List refusals and logins, newest first. The same again within a minute is one line with a count.

    \b
    Examples:
      vmcloud audit list
      vmcloud audit list --door login --denied
      vmcloud audit list --source 192.0.2.7 -o json
    """
    asked = {"door": door, "who": who, "source": source, "allowed": None if denied is None else str(not denied).lower()}
    wanted = {name: value for name, value in asked.items() if value}
    show_list(list(islice(client().every("/audit", wanted), limit)), AUDIT, form)
