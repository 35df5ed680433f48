"""What commands share: options, the client, doing something for each operand, and completion of names."""

from __future__ import annotations

import functools
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ParamSpec, TypeVar

import click
from click.shell_completion import CompletionItem

from vmcloud.domain.arrays import JobRef, named, parts_sentence
from vmcloud.domain.errors import Invalid
from vmcloud.domain.lease import parse_duration

from . import settings
from .errors import FAILED, OK, CliError, Refused, Unreachable, lines
from .output import FORMATS, Column, Item, Shape, age, show_objects
from .rest import Client, Query, segment

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
F = Callable[..., Any]
_NAME = re.compile(r"[0-9a-z]([0-9a-z.-]{0,61}[0-9a-z])?", re.ASCII | re.IGNORECASE)
COMPLETION_TIMEOUT = 1.0
"""Seconds after which completing a name gives up: a shell must not hang."""


def client(timeout: float | None = None) -> Client:
    """The API of the cloud that is meant."""
    access = settings.find()
    return Client(access, timeout) if timeout else Client(access)


def say(text: str) -> None:
    """For people: on stderr."""
    click.echo(text, err=True)


def complain(error: CliError, about: str = "") -> None:
    """One operand failed; the others go on."""
    for line in lines(error.problem, about):
        click.echo(line, err=True)


def finish(code: int) -> None:
    """End the command with this exit code."""
    if code:
        raise click.exceptions.Exit(code)


def ask_password(prompt: str, *, confirm: bool = False, otherwise: str = "--password-stdin") -> str:
    """Ask a person for a password; a refusal that names ``otherwise`` where nobody can be asked."""
    if not sys.stdin.isatty():
        raise CliError.say("a password can not be asked for", why="there is no terminal", todo=f"Give {otherwise}.")
    password: str = click.prompt(prompt, hide_input=True, confirmation_prompt=confirm, err=True)
    return password


def password_line() -> str:
    """For ``--password-stdin``: the first line of standard input."""
    password = sys.stdin.readline().rstrip("\r\n")
    if not password:
        raise CliError.say("no password was given", todo="Pipe it in as one line, or leave out --password-stdin to be asked.")
    return password


# ---------------------------------------------------------------------------------------------------------------- options


def output_option(default: str = "table") -> Callable[[F], F]:
    """``-o``."""
    text = "Form of the answer. `name` prints names or numbers only."
    return click.option("-o", "--output", "form", type=click.Choice(FORMATS), default=default, show_default=True, help=text)


class Seconds(click.ParamType[float]):
    """A time: ``30``, ``30s``, ``5m``, ``1h``, ``2d``."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds."""
        if isinstance(value, int | float):
            return float(value)
        number = parse_duration(value)
        if number is None:
            self.fail(f"{value!r} is no time. Give seconds, or a number with s, m, h or d, such as 5m.", param, ctx)
        return number


class Mebibytes(click.ParamType[int]):
    """A size: ``64`` (MiB), ``64M``, ``1.5G``, ``2T``."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """MiB."""
        if isinstance(value, int):
            return value
        text = value.strip().lower()
        for suffix in ("ib", "b"):
            text = text.removesuffix(suffix)
        factor = {"m": 1, "g": 1024, "t": 1024 * 1024}.get(text[-1:])
        try:
            number = float(text[:-1] if factor else text) * (factor or 1)
        except ValueError:
            number = -1.0
        if number >= 1e15:
            self.fail(f"{value!r} is too large", param, ctx)
        if not number >= 0 or number != int(number):
            self.fail(f"{value!r} is no size. Give MiB, or a number with M, G or T, such as 512, 512M, 1.5G.", param, ctx)
        return int(number)


class Name(click.ParamType[str]):
    """A name or a UUID; what can be neither is not asked for. ``many``: or a name with a place for an index (``web-%i``)."""

    name = "name"

    def __init__(self, *, many: bool = False) -> None:
        self._many = many

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """As it is."""
        if not _NAME.fullmatch(named(value, 0) if self._many else value):
            self.fail(f"{value!r} is not a name. Names are letters, digits and inner hyphens, such as web-1.", param, ctx)
        return str(value)


class JobName(click.ParamType[str]):
    """What a job is called: ``12``, an array ``41[]``, its part ``41[7]``; ``several``: or some of its parts, ``41[0-9]``."""

    name = "job"

    def __init__(self, *, several: bool = False) -> None:
        self._several = several

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The same, written in one way."""
        try:
            ref = JobRef.parse(value)
        except Invalid as error:
            self.fail(f"{error.problem.what}. {error.problem.todo}", param, ctx)
        if ref.parts is not None and ref.index is None and not self._several:
            self.fail(f"{ref} are several jobs; give one, such as {ref.number}[{ref.parts.highest}]", param, ctx)
        return str(ref)


project_option = click.option(
    "-p",
    "--project",
    type=Name(),
    envvar="VMCLOUD_PROJECT",
    default="main",
    show_default=True,
    metavar="NAME",
    help="Project of the VEs.",
)


def action_options(function: F) -> F:
    """Options of every command that makes jobs: ``--wait``, ``--timeout``, ``--idempotency-key``, ``-o``."""
    for option in reversed(
        (
            click.option("-w", "--wait", "wait", is_flag=True, help="Show progress until all jobs are complete."),
            click.option("--timeout", type=Seconds(), metavar="TIME", help="Wait at most this long (30, 5m); implies --wait."),
            click.option("--idempotency-key", "key", metavar="KEY", help="The same command with the same key is done once."),
            output_option("name"),
        )
    ):
        function = option(function)
    return function


# ---------------------------------------------------------------------------------------------------------------- actions


def _reason(job: Item) -> str:
    """Why a job is as it is; of an array how its parts are."""
    said = str((job["error"] or {}).get("what") or job["reason"])
    return "; ".join(filter(None, (parts_sentence(job["array"]), said))) if job["array"] and job["state"] != "C" else said


JOBS = Shape(
    (
        Column("ID", lambda job: job["ref"]),
        Column("S", lambda job: "X" if job["part_of"] and job["state"] == "C" else job["state"]),
        Column("VERB", lambda job: job["verb"]),
        Column("TARGET", lambda job: job["ve_name"] or job["args"].get("image") or job["node"], flexible=True),
        Column("NODE", lambda job: job["node"], flexible=True),
        Column("OUTCOME", lambda job: job["outcome"], coloured=True),
        Column("AGE", lambda job: age(job["created"])),
        Column("OWNER", lambda job: job["owner"], flexible=True, spare=True),
        Column("REASON", _reason, flexible=True, least=20),
        Column("QUEUE", lambda job: job["queue"], wide=True),
        Column("PRIORITY", lambda job: job["priority"], wide=True),
        Column("DEPEND", lambda job: job["depend"], wide=True),
        Column("PROJECT", lambda job: job["project"], wide=True),
        Column("ORIGIN", lambda job: job["origin"], wide=True),
        Column("CREATED", lambda job: job["created"], wide=True),
        Column("STARTED", lambda job: job["started"], wide=True),
        Column("ENDED", lambda job: job["ended"], wide=True),
    ),
    name="ref",
)


def keys(given: str | None, operands: Sequence[str]) -> dict[str, str]:
    """An idempotency key for each operand: fresh ones, or made from the one given (as it is, where there is one operand)."""
    if given is None:
        return {operand: os.urandom(16).hex() for operand in operands}
    return {operand: given if len(operands) == 1 else f"{given}:{operand}" for operand in operands}


def tried(operands: Iterable[T], ask: Callable[[T], R]) -> tuple[list[R], int]:
    """What was answered for each operand, and the exit code: what is refused is said, and the others are asked all the same."""
    found, code = [], OK
    for operand in operands:
        try:
            found.append(ask(operand))
        except Unreachable:
            raise
        except CliError as error:
            complain(error, str(operand))
            code = FAILED
    return found, code


def act(
    operands: Iterable[str],
    ask: Callable[[Client, str, str], Item],
    *,
    form: str,
    wait: bool,
    timeout: float | None,
    key: str | None,
) -> None:
    """Ask for a job for each operand, print the jobs' numbers, and wait for them if that is wanted. ``ask(client, operand, key)``
    asks for one. What fails is said, and the others are done all the same; then the exit code is 1."""
    api = client()

    def asking(its_keys: dict[str, str]) -> Callable[[str], Item]:
        return lambda operand: ask(api, operand, its_keys[operand])

    act_all(api, operands, key, asking, form=form, wait=wait, timeout=timeout)


def act_all(
    api: Client,
    operands: Iterable[str],
    key: str | None,
    asking: Callable[[dict[str, str]], Callable[[str], Item]],
    *,
    form: str,
    wait: bool,
    timeout: float | None,
) -> None:
    """The same; ``asking``, given the key of each operand, makes what asks for one."""
    from . import follow

    wanted = once(operands)
    ask, line = asking(keys(key, wanted)), follow.Line()
    waits = wait or timeout is not None
    numbers_only = form == "name"

    def one(operand: str) -> Item:
        job = ask(operand)
        if numbers_only:
            click.echo(job["ref"])
        if not waits or len(wanted) > 1:
            line.keep(follow.sentence(job))
        return job

    jobs, code = tried(wanted, one)
    if waits and jobs:
        ended, jobs = follow.wait(api, jobs, timeout, line=line)
        code = ended or code
    if not numbers_only:
        show_objects(jobs, JOBS, "wide" if form == "wide" else form, single=len(wanted) == 1)
    finish(code)


def once(operands: Iterable[T]) -> list[T]:
    """Each operand once, in order; a note about those that were given more often."""
    given = list(operands)
    wanted = list(dict.fromkeys(given))
    for operand in wanted:
        if given.count(operand) > 1:
            say(f"vmcloud: note: {operand} was given {given.count(operand)} times and is asked for once")
    return wanted


def check_node(api: Client, name: str | None) -> None:
    """A filter found nothing: refuse a node that there is none of."""
    if not name:
        return
    try:
        api.get("/nodes" + segment(name))
    except Refused as error:
        if error.status != 404:
            raise
        raise CliError.say(f"no node is called {name!r}", todo="`vmcloud node list` shows all.") from error


def each(operands: Sequence[str], look: Callable[[Client, str], Item], shape: Shape, form: str) -> None:
    """Show each operand; what fails is said, and the others are shown all the same."""
    api = client()
    found, code = tried(operands, lambda operand: look(api, operand))
    show_objects(found, shape, form, single=len(operands) == 1)
    finish(code)


# ------------------------------------------------------------------------------------------------------------- completion


def quietly(function: Callable[P, list[R]]) -> Callable[P, list[R]]:
    """Completion never fails: no answer is no suggestion."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> list[R]:
        try:
            return function(*args, **kwargs)
        except Exception:
            return []

    return run


def names(path: str, field: str = "name", query: Query | None = None) -> Callable[..., list[CompletionItem]]:
    """A completion of the names in one of the API's lists."""

    @quietly
    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        asked = dict(query or {})
        if path == "/ves":
            asked["project"] = ctx.params.get("project") or os.environ.get("VMCLOUD_PROJECT", "main")
        items = client(COMPLETION_TIMEOUT).every(path, asked, limit=1000)
        taken = {str(value) for value in ctx.params.get(param.name or "") or ()}
        found = (str(item[field]) for item in items)
        return [CompletionItem(name) for name in found if name.startswith(incomplete) and name not in taken]

    return complete
