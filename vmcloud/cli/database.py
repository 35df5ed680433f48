"""``vmcloud database``: about the job database of this machine's cloud. Thin: all work is in :mod:`vmcloud.local`."""

from __future__ import annotations

from pathlib import Path

import click

from .local_commands import data_option, existing, plainly


@click.group("database")
def group() -> None:
    """The job database: SQLite for one machine, PostgreSQL for more.

    \b
    Examples:
      vmcloud database copy postgresql://vmcloud@db.example.org/vmcloud
    """


@group.command()
@click.argument("url")
@data_option
@plainly
def copy(url: str, data: Path | None) -> None:
    """Copy all of the job database into the empty one at URL. For root of the machine, while the cloud does not run.

    All or nothing: the other database has everything afterwards, or is as it was. To use it, write it as `database_url` into the
    cloud's config.toml.

    \b
    Examples:
      sudo vmcloud database copy postgresql://vmcloud@db.example.org/vmcloud
      sudo vmcloud database copy 'postgresql:///vmcloud?host=/run/postgresql'
    """
    from vmcloud.local import database as local

    config = existing(data)
    click.echo(local.copy(config, url))
    click.echo(f'now set in {config.data / "config.toml"}:  database_url = "{url}"', err=True)
