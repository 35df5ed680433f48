"""Guests that are recorded nowhere: what ``vmcloud ve list --orphans`` shows, and ``vmcloud ve adopt``."""

from __future__ import annotations

from typing import Any

import click

from vmcloud.domain.vocabulary import Restart

from .common import Mebibytes, act, action_options, names, project_option
from .follow import Job
from .output import Column, Shape, age, mebibytes
from .rest import Client, segment

ORPHANS = Shape(
    (
        Column("NAME", lambda guest: guest["name"], flexible=True, least=20),
        Column("STATUS", lambda guest: guest["status"], coloured=True),
        Column("OBSERVED", lambda guest: guest["observed"], coloured=True),
        Column("KIND", lambda guest: guest["kind"], spare=True),
        Column("ADDRESSES", lambda guest: guest["addresses"], flexible=True, least=15),
        Column("VCPUS", lambda guest: guest["vcpus"]),
        Column("MEMORY", lambda guest: mebibytes(guest["memory_mib"]) if guest["memory_mib"] else None),
        Column("SINCE", lambda guest: age(guest["since"])),
        Column("REASON", lambda guest: guest["reason"], flexible=True, least=20),
        Column("MAC", lambda guest: guest["mac"], wide=True),
        Column("VE", lambda guest: guest["ve"], wide=True),
    )
)


class OrphanName(click.ParamType[str]):
    """``NODE/NATIVE``."""

    name = "orphan"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """As it is."""
        node, slash, native = str(value).partition("/")
        if not (node and slash and native) or "/" in native:
            self.fail(f"{value!r} is not NODE/NAME; `vmcloud ve list --orphans` shows them.", param, ctx)
        return str(value)


@click.command()
@click.argument("orphan", type=OrphanName(), metavar="NODE/NAME", shell_complete=names("/strays"))
@click.option("--name", required=True, metavar="NAME", help="What the VE is to be called.")
@click.option("--owner", metavar="USER", help="Whose it is to be (default: yours).")
@click.option("--vcpus", type=int, metavar="N", help="Virtual CPUs (default: what it has).")
@click.option("-m", "--memory", "memory_mib", type=Mebibytes(), metavar="SIZE", help="Memory (default: what it has).")
@click.option("--restart", type=click.Choice([each.value for each in Restart]), help="When it ends (default: on-failure).")
@click.option("--description", metavar="TEXT", help="Free text.")
@project_option
@action_options
def adopt(orphan: str, form: str, wait: bool, timeout: float | None, key: str | None, **given: Any) -> None:
    """Record an orphan, a guest that somebody else made, as a VE.

    Its files, network and privileges stay what they are. It must be stopped, and stays so.

    \b
    Examples:
      vmcloud ve list --orphans
      vmcloud ve adopt node-1/old-web --name web-9 --wait
      vmcloud ve adopt node-1/old-web --name web-9 --memory 1G --owner ann
    """
    body = {name: value for name, value in given.items() if value is not None}
    node, _, native = orphan.partition("/")

    def ask(api: Client, operand: str, its_key: str) -> Job:
        return api.act("POST", f"/strays{segment(node)}{segment(native)}/adopt", body, key=its_key)

    act([orphan], ask, form=form, wait=wait, timeout=timeout, key=key)
