"""``vmcloud reconcile``: what is not as it is wanted, and having it mended."""

from __future__ import annotations

import click

from .common import JOBS, Name, Seconds, client, complain, finish, keys, names, project_option, say
from .errors import FAILED, OK, CliError
from .follow import Job, Line, wait
from .output import FORMATS, Column, Item, Shape, show_list, show_objects
from .rest import Client

LEFT = 4
"""Exit code: something is not as it is wanted."""
DECIDED = 60.0
"""Seconds that the leader may take to decide what it does."""

PLAN = Shape(
    (
        Column("RULE", lambda item: item["rule"]),
        Column("NAME", lambda item: item["name"], flexible=True, least=15),
        Column("NODE", lambda item: item["node"], flexible=True),
        Column("ACTION", lambda item: item["action"]),
        Column("FIX", lambda item: item["fix"]),
        Column("REASON", lambda item: item["reason"], flexible=True, least=25),
        Column("PROJECT", lambda item: item["project"], wide=True),
        Column("VE", lambda item: item["ve"], wide=True),
    )
)


@click.command()
@click.option("--dry-run", is_flag=True, help="Show what is not as it is wanted, and change nothing (default).")
@click.option("--fix", is_flag=True, help="Do what column FIX says, as jobs; prints their numbers.")
@click.option("--ve", type=Name(), metavar="NAME", help="Only this VE.", shell_complete=names("/ves"))
@click.option("--node", type=Name(), metavar="NAME", help="Only on this node.", shell_complete=names("/nodes"))
@project_option
@click.option("-w", "--wait", is_flag=True, help="With --fix: show progress until all jobs are complete.")
@click.option("--timeout", type=Seconds(), metavar="TIME", help="With --fix: wait at most this long; implies --wait.")
@click.option("--idempotency-key", "key", metavar="KEY", help="With --fix: the same command with the same key is done once.")
@click.option("-o", "--output", "form", type=click.Choice(FORMATS), help="Form of the answer (default: table; --fix: name).")
@click.pass_context
def reconcile(
    ctx: click.Context,
    dry_run: bool,
    fix: bool,
    ve: str | None,
    node: str | None,
    project: str,
    form: str | None,
    wait: bool,
    timeout: float | None,
    key: str | None,
) -> None:
    """Compare what is wanted with what was seen, and mend it if asked to.

    The server does by itself what column ACTION says, all the time. Where that is `report` it leaves the word to you:
    `--fix` does what column FIX says, also what was tried in vain before. Where that is empty no rule can help.
    Nothing is done on nodes that are not up.

    Ends with 0 if all is as it is wanted, with 4 if something is not; `--fix`: if something is that it can not mend.

    \b
    Examples:
      vmcloud reconcile
      vmcloud reconcile --fix --wait
      vmcloud reconcile --fix --ve web-1
      vmcloud reconcile -o json | jq '.[] | select(.fix == null)'
    """
    if dry_run and fix:
        raise click.UsageError("--dry-run and --fix exclude each other", ctx)
    if not fix and (wait or timeout is not None or key):
        raise click.UsageError("--wait, --timeout and --idempotency-key belong to --fix", ctx)
    asked = {**({"ve": ve, "project": project} if ve else {}), **({"node": node} if node else {})}
    api = client()
    items: list[Item] = api.get("/reconcile", asked)["items"]
    if fix:
        _fix(api, asked, items, form=form or "name", waits=wait or timeout is not None, timeout=timeout, key=key)
        return
    if items or form in ("json", "yaml"):
        show_list(items, PLAN, form or "table")
    else:
        say("all is as it is wanted")
    finish(LEFT if items else OK)


def _fix(
    api: Client, asked: dict[str, str], items: list[Item], *, form: str, waits: bool, timeout: float | None, key: str | None
) -> None:
    left = [item for item in items if item["fix"] is None]
    for item in left:
        say(f"vmcloud: note: {item['rule']} {item['name']}: {item['reason']}; no rule can mend that")
    code = LEFT if left else OK
    if len(left) == len(items):
        say("nothing to mend" if items else "all is as it is wanted")
        made: list[Job] = []
    else:
        ended, made = _ask(api, asked, key, form=form, waits=waits, timeout=timeout)
        code = ended or code
    if form != "name":
        show_objects(made, JOBS, "wide" if form == "wide" else form, single=False)
    finish(code)


def _ask(
    api: Client, asked: dict[str, str], key: str | None, *, form: str, waits: bool, timeout: float | None
) -> tuple[int, list[Job]]:
    """Have the leader decide, which takes a moment, and print what it made of it."""
    line = Line()
    job = api.act("POST", "/reconcile", dict(asked), key=keys(key, ["reconcile"])["reconcile"])
    code, [job] = wait(api, [job], DECIDED if timeout is None else timeout, line=line)
    made = [api.get(f"/jobs/{number}") for number in job["jobs"]]
    if form == "name":
        for each in made:
            click.echo(each["id"])
    if code or not waits or not made:
        return code, made
    try:
        return wait(api, made, timeout, line=line)
    except CliError as error:
        complain(error)
        return FAILED, made
