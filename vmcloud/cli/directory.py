"""``vmcloud directory``: about the directory of this machine's cloud. Thin: all work is in :mod:`vmcloud.local`."""

from __future__ import annotations

from pathlib import Path

import click

from .common import Seconds
from .local_commands import data_option, existing, plainly


@click.group("directory")
def group() -> None:
    """The LDAP directory and what is made from it.

    \b
    Examples:
      vmcloud directory rebuild
    """


@group.command()
@data_option
@click.option("--timeout", type=Seconds(), default="60s", show_default=True, help="Wait at most so long.")
@plainly
def rebuild(data: Path | None, timeout: float) -> None:
    """Make the tables that lists and pages are read from anew, from the directory.

    The server reads the whole directory again, writes every row and removes those without an entry. Nothing is missing meanwhile,
    and nothing runs differently afterwards. For root of the machine that has the job database.

    \b
    Examples:
      sudo vmcloud directory rebuild
    """
    from vmcloud.local import database as local

    click.echo(local.rebuild(existing(data), timeout))
