"""Options that say when and how a job may run, for every command that makes one; and times as people type them."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, TypeVar

import click

from vmcloud.domain.arrays import ArrayRequest, parse_slots
from vmcloud.domain.errors import Invalid
from vmcloud.domain.terms import PRIORITY, RETRIES, parse_depend

from . import rest
from .common import Seconds, names

F = TypeVar("F", bound=Callable[..., Any])
META = "vmcloud.terms"
PARTS_PER_SECOND, PATIENCE = 25.0, 600.0
"""How many parts of an array a cloud makes at least, and the longest time that they may take."""


class When(click.ParamType[str]):
    """A time to come: ``+2h`` (from now), ``18:00`` (the next one), or ISO 8601; without an offset in this machine's zone."""

    name = "when"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """ISO 8601 with an offset."""
        now = datetime.now().astimezone()
        if value.startswith("+"):
            return (now + timedelta(seconds=Seconds().convert(value[1:], param, ctx))).isoformat()
        if found := re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)", value):
            at = now.replace(hour=int(found[1]), minute=int(found[2]), second=0, microsecond=0)
            return (at if at > now else at + timedelta(days=1)).isoformat()
        try:
            given = datetime.fromisoformat(value)
            return (given if given.tzinfo else given.astimezone()).isoformat()
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is no time. Give +2h, 18:00 or 2030-01-31T18:00.", param, ctx)


class Depend(click.ParamType[str]):
    """A dependency list as in Torque: ``afterok:12:13,on:2``."""

    name = "list"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """As it is, if it is one."""
        try:
            parse_depend(value)
        except Invalid as error:
            self.fail(f"{error.problem.what}. {error.problem.todo}", param, ctx)
        return str(value)


class Array(click.ParamType[str]):
    """Indices and a slot limit as in Torque: ``0-99%5``."""

    name = "list"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """As it is, if it is one."""
        try:
            return str(ArrayRequest.parse(value, "array"))
        except Invalid as error:
            self.fail(f"{error.problem.what}. {error.problem.why or error.problem.todo}", param, ctx)


class Slots(click.ParamType[int]):
    """A slot limit; ``none`` takes it away (0)."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number."""
        try:
            return 0 if value == "none" else parse_slots(int(value) if value.isdigit() else value, "slots")
        except Invalid as error:
            self.fail(f"{error.problem.what}. Give a number from 1 up, or none.", param, ctx)


OPTIONS: tuple[tuple[str, str, Any, str, str], ...] = (
    ("--priority", "priority", click.IntRange(*PRIORITY), "N", "Higher begins first (default: 0)."),
    ("--at", "not_before", When(), "TIME", "Not before: +2h, 18:00, 2030-01-31T18:00."),
    ("--depend", "depend", Depend(), "LIST", "After other jobs, as in Torque: afterok:12:13."),
    ("--walltime", "walltime", Seconds(), "TIME", "Stopped and undone if it takes longer (60, 5m)."),
    ("--retries", "retries", click.IntRange(*RETRIES), "N", "Try again so often after a failure that is worth it."),
)


def terms_options(function: F) -> F:
    """``--priority --at --depend --walltime --retries``; what was given is in :func:`given`."""
    for name, field, kind, metavar, text in reversed(OPTIONS):
        function = click.option(name, type=kind, metavar=metavar, help=text, **_kept(field))(function)
    return function


def submit_options(function: F) -> F:
    """Those, and what only a new job can have: ``--queue --hold --array``."""
    array = click.option(
        "--array",
        type=Array(),
        metavar="LIST",
        **_kept("array"),
        help="Many at once, one for each index, at most so many at a time: 0-99, 1,3,7-9, 0-99%5. NAME has %i for the index.",
    )
    queue = click.option(
        "--queue", metavar="NAME", **_kept("queue"), help="The queue (default: main).", shell_complete=names("/queues")
    )
    hold = click.option("--hold", is_flag=True, default=None, **_kept("hold"), help="Hold it until `vmcloud job release`.")
    return queue(terms_options(array(hold(function))))


def given() -> dict[str, Any]:
    """What was given on this command line, under the API's names."""
    found: dict[str, Any] = click.get_current_context().meta.get(META, {})
    return found


def with_terms(body: dict[str, Any] | None) -> dict[str, Any] | None:
    """A request's body with the job's terms in it, if any were given."""
    return {**(body or {}), "job": given()} if given() else body


def patience() -> float | None:
    """Seconds that the answer to what was given here may take, where that is not the usual time: each part of an array of creates
    has a name to be claimed."""
    array = given().get("array")
    return rest.TIMEOUT + min(len(ArrayRequest.parse(array, "array").indices) / PARTS_PER_SECOND, PATIENCE) if array else None


def _kept(name: str) -> dict[str, Any]:
    """An option whose value goes to :func:`given` instead of the command's parameters."""

    def keep(ctx: click.Context, param: click.Parameter, value: Any) -> None:
        if value is not None:
            ctx.meta.setdefault(META, {})[name] = value

    return {"expose_value": False, "callback": keep}
