"""``vmcloud queue``: lines of jobs with limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from vmcloud.domain.lease import duration
from vmcloud.domain.terms import PRIORITY

from .common import Mebibytes, Name, Seconds, client, each, finish, names, output_option, say, tried
from .output import Column, Shape, mebibytes, show_list
from .rest import segment

F = TypeVar("F", bound=Callable[..., Any])


def _range(low: int, high: int, form: Callable[[int], str] = str) -> str:
    return f"{form(low) if low else '0'}..{form(high) if high else ''}" if low or high else "-"


QUEUES = Shape(
    (
        Column("NAME", lambda queue: queue["name"]),
        Column("QUEUED", lambda queue: queue["queued"]),
        Column("RUNNING", lambda queue: queue["running"]),
        Column("ENABLED", lambda queue: queue["enabled"]),
        Column("STARTED", lambda queue: queue["started"]),
        Column("PRIORITY", lambda queue: queue["priority"]),
        Column("MAX-RUN", lambda queue: queue["max_running"] or "-"),
        Column("MAX-QUEUED", lambda queue: queue["max_queued"] or "-"),
        Column("ROUTES", lambda queue: queue["routes"], flexible=True),
        Column("MAX-RUN/USER", lambda queue: queue["max_user_running"] or "-", wide=True),
        Column("MAX-QUEUED/USER", lambda queue: queue["max_user_queued"] or "-", wide=True),
        Column("VCPUS", lambda queue: _range(queue["min_vcpus"], queue["max_vcpus"]), wide=True),
        Column("MEMORY", lambda queue: _range(queue["min_memory_mib"], queue["max_memory_mib"], mebibytes), wide=True),
        Column("LEASE", lambda queue: _range(queue["default_lease"], queue["max_lease"], duration), wide=True),
        Column("USERS", lambda queue: queue["users"], wide=True),
        Column("LABELS", lambda queue: queue["labels"], wide=True),
    )
)
queue_names = click.argument("names", nargs=-1, required=True, type=Name(), metavar="NAME...", shell_complete=names("/queues"))
COUNTS = (
    ("--max-running", "Jobs that may run at once."),
    ("--max-user-running", "The same, of one user."),
    ("--max-queued", "Jobs that it may hold."),
    ("--max-user-queued", "The same, of one user."),
    ("--min-vcpus", "Virtual CPUs that a create or resize must ask for."),
    ("--max-vcpus", "Those that it may ask for."),
)
LEASES = (
    ("--max-lease", "How long VEs may live that it creates, and leases that it renews (8h, 30d)."),
    ("--default-lease", "How long, where a create says nothing of it."),
)
LISTS = (
    ("--user", "users", "Who may submit (repeatable; none: everybody)."),
    ("--route", "routes", "A queue to hand its jobs to; the first that takes one has it (repeatable)."),
    ("--label", "labels", "What the nodes of its creates must have (repeatable)."),
)


def limits(function: F) -> F:
    """The options of a queue's limits; 0, or an empty text, takes a limit away."""
    for name, field, text in reversed(LISTS):
        function = click.option(name, field, multiple=True, metavar="NAME", help=text)(function)
    for name, text in (("--min-memory", "Memory that it must ask for."), ("--max-memory", "Memory that it may ask for.")):
        function = click.option(name, f"{name[2:5]}_memory_mib", type=Mebibytes(), metavar="SIZE", help=text)(function)
    for name, text in reversed(COUNTS):
        function = click.option(name, type=click.IntRange(0), metavar="N", help=text)(function)
    for name, text in LEASES:
        function = click.option(name, type=Seconds(), metavar="TIME", help=text)(function)
    function = click.option("--priority", type=click.IntRange(*PRIORITY), metavar="N", help="Higher ones begin first.")(function)
    function = click.option("--started/--stopped", default=None, help="Whether its jobs may begin.")(function)
    return click.option("--enabled/--disabled", default=None, help="Whether it takes jobs.")(function)


def _body(said: dict[str, Any]) -> dict[str, Any]:
    found = {name: value for name, value in said.items() if value not in (None, ())}
    found |= {name: round(found[name]) for name in ("default_lease", "max_lease") if name in found}
    return {name: [each for each in value if each] if isinstance(value, tuple) else value for name, value in found.items()}


@click.group()
def group() -> None:
    """Queues: lines of jobs with limits.

    \b
    Examples:
      vmcloud queue list
      vmcloud queue create batch --max-running 5
    """


@group.command("list")
@output_option()
def list_(form: str) -> None:
    """List queues: their limits, and how full they are.

    \b
    Examples:
      vmcloud queue list
      vmcloud queue list -o wide
    """
    show_list(list(client().every("/queues", {})), QUEUES, form)


@group.command()
@queue_names
@output_option()
def show(names: tuple[str, ...], form: str) -> None:
    """Show queues with all their limits.

    \b
    Examples:
      vmcloud queue show main
    """
    each(names, lambda api, name: api.get(f"/queues{segment(name)}"), QUEUES, form)


@group.command()
@click.argument("name", type=Name())
@limits
def create(name: str, **said: Any) -> None:
    """Make a queue; for administrators.

    \b
    Examples:
      vmcloud queue create batch --max-running 5 --priority -10
      vmcloud queue create gpu --label gpu --user ann --user bob
      vmcloud queue create front --route small --route big
    """
    queue = client().request("POST", "/queues", body={"name": name, **_body(said)})
    click.echo(queue["name"])


@group.command("set")
@queue_names
@limits
def set_(names: tuple[str, ...], **said: Any) -> None:
    """Alter queues; for administrators. 0 takes a limit away, an empty text a list.

    \b
    Examples:
      vmcloud queue set main --max-user-running 10
      vmcloud queue set batch --stopped
      vmcloud queue set batch --disabled
      vmcloud queue set gpu --user ''
    """
    if not (body := _body(said)):
        raise click.UsageError("nothing to alter was given", click.get_current_context())
    _each(names, "PATCH", body, "is altered")


@group.command()
@queue_names
def delete(names: tuple[str, ...]) -> None:
    """Remove empty queues to which none routes; for administrators. `main` gets its defaults back.

    \b
    Examples:
      vmcloud queue delete batch
    """
    _each(names, "DELETE", None, "is removed")


def _each(names: tuple[str, ...], method: str, body: dict[str, Any] | None, words: str) -> None:
    api = client()

    def ask(name: str) -> None:
        api.request(method, f"/queues{segment(name)}", body=body)
        say(f"queue {name} {words}")

    finish(tried(names, ask)[1])
