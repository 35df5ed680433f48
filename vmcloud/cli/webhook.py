"""``vmcloud webhook``: who is told of what happens."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from vmcloud.domain.happenings import TYPES

from .common import Name, client, complain, each, finish, names, output_option, say
from .errors import FAILED, OK, CliError, Unreachable
from .output import Column, Shape, age, show_list

F = TypeVar("F", bound=Callable[..., Any])
ANSWER_SECONDS = 30.0
"""How long a test waits to see how it went."""
LOOK = 0.3

WEBHOOKS = Shape(
    (
        Column("ID", lambda hook: hook["id"]),
        Column("URL", lambda hook: hook["url"], flexible=True, least=20),
        Column("TYPES", lambda hook: hook["types"] or "all", flexible=True),
        Column("ENABLED", lambda hook: hook["enabled"]),
        Column("WAITING", lambda hook: hook["waiting"]),
        Column("FAILED", lambda hook: hook["failed"]),
        Column("LAST", lambda hook: hook["last_code"] or "-"),
        Column("REASON", lambda hook: hook["reason"] or _trouble(hook), flexible=True),
        Column("OWNER", lambda hook: hook["owner"], wide=True),
        Column("PROJECT", lambda hook: hook["project"], wide=True),
        Column("NEXT-TRY", lambda hook: hook["next_try"], wide=True),
        Column("DESCRIPTION", lambda hook: hook["description"], wide=True),
    ),
    name="id",
)
DELIVERIES = Shape(
    (
        Column("ID", lambda sent: sent["id"]),
        Column("TYPE", lambda sent: sent["type"]),
        Column("AGE", lambda sent: age(sent["at"])),
        Column("STATE", lambda sent: sent["state"], coloured=True),
        Column("ATTEMPTS", lambda sent: sent["attempts"]),
        Column("CODE", lambda sent: sent["code"] or "-"),
        Column("ERROR", lambda sent: sent["error"], flexible=True, least=20),
        Column("EVENT", lambda sent: sent["event"], wide=True),
        Column("NEXT-TRY", lambda sent: sent["next_try"], wide=True),
        Column("ENDED", lambda sent: sent["ended"], wide=True),
    ),
    name="id",
)


def _trouble(hook: dict[str, Any]) -> str:
    return f"{hook['failures']} attempts failed since {hook['failing_since']}" if hook["failures"] else ""


def _types(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    known = [*dict.fromkeys(f"{each.partition('.')[0]}.*" for each in TYPES), *TYPES]
    return [CompletionItem(name) for name in known if name.startswith(incomplete)]


number_argument = click.argument("number", type=click.IntRange(1), shell_complete=names("/webhooks", "id"))
numbers_argument = click.argument(
    "numbers", nargs=-1, required=True, type=click.IntRange(1), metavar="NUMBER...", shell_complete=names("/webhooks", "id")
)


def what(function: F) -> F:
    """The options that say what a webhook is told of."""
    text = "What to be told of, such as job.ended or node.* (repeatable; none: everything)."
    function = click.option("--description", metavar="TEXT", help="What it is for.")(function)
    function = click.option("-p", "--project", type=Name(), metavar="NAME", help="Only what is of this project.")(function)
    return click.option("-t", "--type", "types", multiple=True, metavar="TYPE", help=text, shell_complete=_types)(function)


def _body(**said: Any) -> dict[str, Any]:
    found = {name: value for name, value in said.items() if value not in (None, ())}
    return {name: [each for each in value if each] if isinstance(value, tuple) else value for name, value in found.items()}


@click.group()
def group() -> None:
    """Webhooks: programs elsewhere that are told of what happens, by signed requests.

    \b
    Examples:
      vmcloud webhook add https://example.org/hook --type job.ended
      vmcloud webhook list
    """


@group.command("list")
@output_option()
def list_(form: str) -> None:
    """List webhooks: yours; an administrator's list has everybody's.

    \b
    Examples:
      vmcloud webhook list
      vmcloud webhook list -o json
    """
    show_list(list(client().every("/webhooks", {})), WEBHOOKS, form)


@group.command()
@numbers_argument
@output_option()
def show(numbers: tuple[int, ...], form: str) -> None:
    """Show webhooks, and how their last messages went.

    \b
    Examples:
      vmcloud webhook show 3
    """
    each(list(map(str, numbers)), lambda api, number: api.get(f"/webhooks/{number}"), WEBHOOKS, form)


@group.command()
@click.argument("url")
@what
@click.option("--secret-stdin", is_flag=True, help="Read its secret from standard input, as Standard Webhooks write it.")
@output_option("name")
def add(url: str, form: str, secret_stdin: bool, **said: Any) -> None:
    """Have a program told of what happens from now on. Its secret, which signs the messages, is shown once.

    \b
    Examples:
      vmcloud webhook add https://example.org/hook
      vmcloud webhook add https://example.org/hook --type job.ended --type 'node.*' --project main
    """
    secret = sys.stdin.readline().strip() if secret_stdin else None
    made = client().request("POST", "/webhooks", body={"url": url, **_body(secret=secret, **said)})
    if form == "name":
        click.echo(made["id"])
        if secret is None:
            say(f"its secret, shown only now: {made['secret']}")
    else:
        show_list([made], WEBHOOKS, form)


@group.command("set")
@numbers_argument
@what
@click.option("--url", metavar="URL", help="Where to send from now on.")
@click.option("--enabled/--disabled", default=None, help="Whether anything is sent.")
def set_(numbers: tuple[int, ...], **said: Any) -> None:
    """Alter webhooks. --enabled lifts what a long failure has done; an empty --type is everything.

    \b
    Examples:
      vmcloud webhook set 3 --enabled
      vmcloud webhook set 3 --type job.ended
      vmcloud webhook set 3 --type ''
    """
    if not (body := _body(**said)):
        raise click.UsageError("nothing to alter was given", click.get_current_context())
    _each(numbers, "PATCH", body, "is altered")


@group.command()
@numbers_argument
def delete(numbers: tuple[int, ...]) -> None:
    """Remove webhooks, with all that waits to be sent to them.

    \b
    Examples:
      vmcloud webhook delete 3
    """
    _each(numbers, "DELETE", None, "is removed")


@group.command()
@number_argument
@output_option()
def test(number: int, form: str) -> None:
    """Send a message that tells of nothing, and see whether it arrives. Exit 0 only if it was taken.

    \b
    Examples:
      vmcloud webhook test 3
    """
    api = client()
    sent = api.request("POST", f"/webhooks/{number}/test", body={})
    end = time.monotonic() + ANSWER_SECONDS
    while sent["state"] == "waiting" and not sent["attempts"] and time.monotonic() < end:
        time.sleep(LOOK)
        sent = api.get(f"/webhooks/{number}/deliveries/{sent['id']}")
    show_list([sent], DELIVERIES, form)
    finish(OK if sent["state"] == "delivered" else FAILED)


@group.command()
@number_argument
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many, the newest first.")
@output_option()
def deliveries(number: int, limit: int, form: str) -> None:
    """What was sent, and how that went; what waits, and when it is tried next.

    \b
    Examples:
      vmcloud webhook deliveries 3
      vmcloud webhook deliveries 3 --limit 100 -o wide
    """
    found = client().get(f"/webhooks/{number}/deliveries", {"limit": str(limit)})
    show_list(found["items"], DELIVERIES, form)


def _each(numbers: tuple[int, ...], method: str, body: dict[str, Any] | None, words: str) -> None:
    api, code = client(), OK
    for number in dict.fromkeys(numbers):
        try:
            api.request(method, f"/webhooks/{number}", body=body)
        except Unreachable:
            raise
        except CliError as error:
            complain(error, str(number))
            code = FAILED
        else:
            say(f"webhook {number} {words}")
    finish(code)
