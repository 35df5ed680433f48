"""``vmcloud ve snapshot|snapshots|revert|delete-snapshot``: kept states of a VE's root file system."""

from __future__ import annotations

from datetime import UTC, datetime

import click
from click.shell_completion import CompletionItem

from .common import COMPLETION_TIMEOUT, Name, act, action_options, client, names, output_option, project_option, quietly
from .follow import Job
from .output import Column, Shape, age, show_list
from .rest import Client, segment
from .terms import submit_options, with_terms

SNAPSHOTS = Shape(
    (
        Column("NAME", lambda snapshot: snapshot["name"]),
        Column("AGE", lambda snapshot: age(snapshot["at"])),
        Column("AT", lambda snapshot: snapshot["at"]),
        Column("JOB", lambda snapshot: snapshot["job"]),
    )
)


@quietly
def _known(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of the snapshots of the VE that the command line names."""
    items = client(COMPLETION_TIMEOUT).get(_path(ctx.params["ve"]), {"project": ctx.params.get("project") or "main"})["items"]
    given = ctx.params.get(param.name or "") or ()
    found = (item["name"] for item in items if item["name"] not in given)
    return [CompletionItem(name) for name in found if name.startswith(incomplete)]


def default_name(now: datetime) -> str:
    """A name from the time, in UTC: ``s20261121-101500``."""
    return now.astimezone(UTC).strftime("s%Y%m%d-%H%M%S")


ve_argument = click.argument("ve", type=Name(many=True), metavar="VE", shell_complete=names("/ves"))


@click.command()
@ve_argument
@click.argument("name", required=False, metavar="[NAME]")
@project_option
@submit_options
@action_options
def snapshot(ve: str, name: str | None, project: str, form: str, wait: bool, timeout: float | None, key: str | None) -> None:
    """Keep the present root file system of VE as NAME (default: from the time, such as s20261121-101500).

    A running VE goes on; what is kept is what a power cut would leave. Memory and sizes are not part of it.

    \b
    Examples:
      vmcloud ve snapshot web-1 before-upgrade --wait
      vmcloud ve snapshot web-1
    """
    wanted = name if name is not None else default_name(datetime.now(UTC))

    def ask(api: Client, operand: str, its_key: str) -> Job:
        return api.act("POST", _path(ve), with_terms({"name": operand}), query={"project": project}, key=its_key)

    act([wanted], ask, form=form, wait=wait, timeout=timeout, key=key)


@click.command()
@ve_argument
@project_option
@output_option()
def snapshots(ve: str, project: str, form: str) -> None:
    """List the snapshots of VE, oldest first.

    \b
    Examples:
      vmcloud ve snapshots web-1
      vmcloud ve snapshots web-1 -o name | head -n -3 | xargs vmcloud ve delete-snapshot web-1
    """
    show_list(client().get(_path(ve), {"project": project})["items"], SNAPSHOTS, form)


@click.command()
@ve_argument
@click.argument("name", shell_complete=_known)
@project_option
@submit_options
@action_options
def revert(ve: str, name: str, project: str, form: str, wait: bool, timeout: float | None, key: str | None) -> None:
    """Make the root file system of VE what it was when snapshot NAME was taken; what was written since is lost.

    A running VE is stopped by force and started again. The snapshot stays.

    \b
    Examples:
      vmcloud ve revert web-1 before-upgrade --wait
    """

    def ask(api: Client, operand: str, its_key: str) -> Job:
        body = {"snapshot": operand}
        return api.act("POST", f"/ves{segment(ve)}/revert", with_terms(body), query={"project": project}, key=its_key)

    act([name], ask, form=form, wait=wait, timeout=timeout, key=key)


@click.command("delete-snapshot")
@ve_argument
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=_known)
@project_option
@submit_options
@action_options
def delete_snapshot(
    ve: str, names: tuple[str, ...], project: str, form: str, wait: bool, timeout: float | None, key: str | None
) -> None:
    """Delete snapshots of VE. The VE itself stays as it is.

    \b
    Examples:
      vmcloud ve delete-snapshot web-1 before-upgrade --wait
      vmcloud ve delete-snapshot web-1 s20261121-101500 s20261122-101500
    """

    def ask(api: Client, operand: str, its_key: str) -> Job:
        return api.act("DELETE", _path(ve) + segment(operand), with_terms(None), query={"project": project}, key=its_key)

    act(names, ask, form=form, wait=wait, timeout=timeout, key=key)


def _path(ve: str) -> str:
    return f"/ves{segment(ve)}/snapshots"


COMMANDS = (snapshot, snapshots, revert, delete_snapshot)
