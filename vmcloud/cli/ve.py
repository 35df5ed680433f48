"""``vmcloud ve``: VEs and what can be done with them."""

from __future__ import annotations

from itertools import islice
from operator import itemgetter
from typing import Any

import click

from vmcloud.domain.vocabulary import Drift, Kind, Restart, Status

from . import lease, orphan, session, snapshot, top
from .common import (
    Mebibytes,
    Name,
    act,
    action_options,
    check_node,
    client,
    each,
    names,
    output_option,
    project_option,
    say,
)
from .errors import CliError
from .follow import Job
from .output import Column, Item, Shape, age, mebibytes, show_list
from .rest import Client, segment
from .terms import patience, submit_options, with_terms
from .verbs import OfVE, ask_each

VES = Shape(
    (
        Column("NAME", lambda ve: ve["name"]),
        Column("STATUS", lambda ve: ve["status"], coloured=True),
        Column("KIND", lambda ve: ve["kind"], spare=True),
        Column("NODE", lambda ve: ve["node"], flexible=True),
        Column("ADDRESSES", lambda ve: ve["addresses"], flexible=True, least=15),
        Column("VCPUS", lambda ve: ve["vcpus"]),
        Column("MEMORY", lambda ve: mebibytes(ve["memory_mib"])),
        Column("IMAGE", lambda ve: ve["image"], flexible=True, spare=True),
        Column("SINCE", lambda ve: age(ve["since"])),
        Column("OWNER", lambda ve: ve["owner"], flexible=True, spare=True),
        Column("REASON", lambda ve: ve["reason"], flexible=True, least=20),
        Column("PROJECT", lambda ve: ve["project"], wide=True),
        Column("DESIRED", lambda ve: ve["desired"], wide=True),
        Column("DISK", lambda ve: mebibytes(ve["disk_mib"]), wide=True),
        Column("RESTART", lambda ve: ve["restart"], wide=True),
        Column("LEASE", lambda ve: ve["lease"] and f"{ve['lease']['end']} {ve['lease']['action']}", wide=True),
        Column("MAC", lambda ve: ve["mac"], wide=True),
        Column("ID", lambda ve: ve["id"], wide=True),
    )
)
HISTORY = Shape(
    (
        Column("AGE", lambda each: age(each["at"])),
        Column("TYPE", itemgetter("type")),
        Column("WHAT", itemgetter("text"), flexible=True, least=30),
        Column("JOB", itemgetter("job")),
        Column("NODE", itemgetter("node"), flexible=True, spare=True),
        Column("BY", itemgetter("by"), flexible=True, spare=True),
        Column("AT", itemgetter("at"), wide=True),
    ),
    name="job",
)
ve_names = click.argument("names", nargs=-1, required=True, type=Name(), metavar="NAME...", shell_complete=names("/ves"))
act_on_names = click.argument(
    "names", nargs=-1, required=True, type=Name(many=True), metavar="NAME...", shell_complete=names("/ves")
)


@click.group(cls=OfVE)
def group() -> None:
    """Virtual environments: containers and virtual machines."""


@group.command("list")
@project_option
@click.option("-A", "--all-projects", is_flag=True, help="All projects.")
@click.option("--node", type=Name(), metavar="NAME", help="Only those on this node.", shell_complete=names("/nodes"))
@click.option("--kind", type=click.Choice([kind.value for kind in Kind]), help="Only this kind.")
@click.option("--owner", metavar="USER", help="Only this owner's.")
@click.option("--status", type=click.Choice([status.value for status in Status]), help="Only those with this status.")
@click.option("--orphans", is_flag=True, help="Guests that are recorded nowhere, or not where they are, instead.")
@output_option()
def list_(project: str, all_projects: bool, form: str, status: str | None, orphans: bool, **filters: str | None) -> None:
    """List VEs.

    \b
    Examples:
      vmcloud ve list
      vmcloud ve list --status running -o name
      vmcloud ve list -A -o json | jq '.[].addresses'
      vmcloud ve list --orphans
    """
    if orphans or status == Status.ORPHAN:
        _list_orphans(form, status, filters)
        return
    query = {"project": "*" if all_projects else project, **{name: value for name, value in filters.items() if value}}
    api = client()
    found = list(api.every("/ves", query))
    if not found:
        check_node(api, filters["node"])
        if query["project"] not in ("*", "main"):
            say(f"vmcloud: note: project {project!r} has no VE; this release has the project `main` only")
    items = [item for item in found if status in (None, item["status"])]
    show_list(items, VES, form)


def _list_orphans(form: str, status: str | None, filters: dict[str, str | None]) -> None:
    if filters.pop("owner", None):
        raise click.UsageError("what is recorded nowhere has no owner", click.get_current_context())
    found = client().every("/strays", {name: value for name, value in filters.items() if value})
    show_list([each for each in found if status in (None, each["status"])], orphan.ORPHANS, form)


@group.command()
@ve_names
@project_option
@output_option()
def show(names: tuple[str, ...], project: str, form: str) -> None:
    """Show VEs by name or UUID, with all their fields.

    \b
    Examples:
      vmcloud ve show web-1
      vmcloud ve show web-1 -o json
    """
    each(names, lambda api, name: api.get(_path(name), {"project": project}), VES, form)


@group.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("-i", "--image", required=True, metavar="NAME", help="Root file system.", shell_complete=names("/images"))
@click.option("-k", "--kind", type=click.Choice([kind.value for kind in Kind]), help="Kind (default: lxc).")
@click.option("--vcpus", type=int, metavar="N", help="Virtual CPUs (default: 1).")
@click.option("-m", "--memory", type=Mebibytes(), metavar="SIZE", help="Memory: 64, 64M, 1G (default: 128M).")
@click.option("--disk", type=Mebibytes(), metavar="SIZE", help="Disk; 0: no limit (default).")
@click.option("-n", "--node", metavar="NAME", help="Only on this node (default: any).", shell_complete=names("/nodes"))
@click.option("--power", type=click.Choice(["running", "stopped"]), help="Wanted afterwards (default: running).")
@click.option("--restart", type=click.Choice([each.value for each in Restart]), help="When it ends (default: on-failure).")
@click.option("--description", metavar="TEXT", help="Free text.")
@lease.create_options
@click.option("--privileged", is_flag=True, default=None, help="Shares the host's user ids; administrators only.")
@project_option
@submit_options
@action_options
def create(
    names: tuple[str, ...],
    project: str,
    memory: int | None,
    disk: int | None,
    form: str,
    wait: bool,
    timeout: float | None,
    key: str | None,
    **given: Any,
) -> None:
    """Create VEs, all of the same shape. Prints the numbers of their jobs.

    \b
    Examples:
      vmcloud ve create hello --image busybox --wait
      vmcloud ve create web-1 web-2 -i busybox -m 512M --vcpus 2
      vmcloud ve create big -i busybox -m 1G --node node-2 --power stopped
      vmcloud ve create test -i busybox --lease 8h --lease-end delete --lease-grace 1h
      vmcloud ve create 'web-%i' -i busybox --array 0-99%5
    """
    wanted = {"project": project, "memory_mib": memory, "disk_mib": disk, **given}
    said = lease.said()
    body = {name: value for name, value in wanted.items() if value is not None}

    def ask(api: Client, name: str, its_key: str) -> Job:
        return api.act("POST", "/ves", with_terms({"name": name, **body, **said}), key=its_key, timeout=patience())

    act(names, ask, form=form, wait=wait, timeout=timeout, key=key)


@group.command()
@act_on_names
@click.option("--vcpus", type=int, metavar="N", help="Virtual CPUs.")
@click.option("-m", "--memory", type=Mebibytes(), metavar="SIZE", help="Memory: 64, 64M, 1G.")
@click.option("--disk", type=Mebibytes(), metavar="SIZE", help="Disk.")
@project_option
@submit_options
@action_options
def resize(
    names: tuple[str, ...],
    vcpus: int | None,
    memory: int | None,
    disk: int | None,
    project: str,
    form: str,
    wait: bool,
    timeout: float | None,
    key: str | None,
) -> None:
    """Give VEs other sizes.

    \b
    Examples:
      vmcloud ve resize web-1 --memory 1G --wait
      vmcloud ve resize web-1 web-2 --vcpus 2
    """
    sizes = {"vcpus": vcpus, "memory_mib": memory, "disk_mib": disk}
    body = {name: value for name, value in sizes.items() if value is not None}
    if not body:
        raise click.UsageError("give a new size: --vcpus, --memory or --disk", click.get_current_context())
    ask_each("resize", names, body, project, form=form, wait=wait, timeout=timeout, key=key)


@group.command()
@act_on_names
@click.option("--restart", type=click.Choice([each.value for each in Restart]), help="When it ends.")
@click.option("--drift", type=click.Choice([each.value for each in Drift]), help="When somebody else changes its power or size.")
@click.option("--description", metavar="TEXT", help="Free text; empty: none.")
@project_option
@submit_options
@action_options
def alter(
    names: tuple[str, ...],
    project: str,
    form: str,
    wait: bool,
    timeout: float | None,
    key: str | None,
    **given: str | None,
) -> None:
    """Change what only the record of VEs shows: no node has to do anything, and nothing restarts.

    \b
    Examples:
      vmcloud ve alter web-1 --restart always
      vmcloud ve alter web-1 web-2 --description "the shop"
    """
    body = {name: value for name, value in given.items() if value is not None}
    if not body:
        raise click.UsageError("say what: --restart, --drift or --description", click.get_current_context())
    ask_each("alter", names, body, project, form=form, wait=wait, timeout=timeout, key=key)


@group.command()
@click.argument("name", type=Name(), shell_complete=names("/ves"))
@project_option
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="At most so many, the newest.")
@output_option()
def events(name: str, project: str, limit: int, form: str) -> None:
    """List what happened to a VE, newest first: its jobs, and what no job tells. Also of one that is gone. Names are jobs' ids.

    \b
    Examples:
      vmcloud ve events web-1
      vmcloud ve events web-1 -o json
    """
    api = client()
    jobs = islice((job for job in api.every("/jobs", {"ve": name}) if job["project"] == project or job["ve"] == name), limit)
    told = islice(
        (each for each in api.every("/events", {"ve": name}) if each["project"] == project or each["ve"] == name), limit
    )
    found = sorted([*map(_of_job, jobs), *map(_of_event, told)], key=itemgetter("at"), reverse=True)[:limit]
    if not found:
        raise CliError.say(
            f"project {project!r} has and had no VE {name!r}", why="no job is known", todo="`vmcloud job list` shows all."
        )
    show_list([each for each in found if each["type"] == "job"] if form == "name" else found, HISTORY, form)


def _of_job(job: Job) -> Item:
    """A job as a line of a VE's history."""
    text = (job["error"] or {}).get("what") or job["reason"] or job["outcome"] or job["state_name"]
    said = f"{job['verb']}: {text}"
    return {"at": job["created"], "type": "job", "text": said, "job": job["id"], "node": job["node"], "by": job["owner"]}


def _of_event(event: Item) -> Item:
    return {**{name: event[name] for name in ("at", "type", "text", "job", "node")}, "by": None}


for _command in (lease.lease, orphan.adopt, session.exec_, session.console, session.logs, *snapshot.COMMANDS, top.top):
    group.add_command(_command)


def _path(name: str) -> str:
    return "/ves" + segment(name)
