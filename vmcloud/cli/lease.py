"""``vmcloud ve lease``, and the options of ``ve create`` that say how long a VE may live."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from vmcloud.domain.vocabulary import LeaseAction

from .common import Name, Seconds, act, action_options, names, project_option
from .follow import Job
from .rest import Client, segment
from .terms import When, submit_options, with_terms

F = TypeVar("F", bound=Callable[..., Any])
META = "vmcloud.lease"


class Length(Seconds):
    """A time from now: ``8h``, ``+8h``, ``30d``; or ``none``."""

    name = "length"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Seconds; ``none`` as it is."""
        if isinstance(value, str) and value.lower() == "none":
            return "none"
        return super().convert(value.removeprefix("+") if isinstance(value, str) else value, param, ctx)


def _kept(name: str) -> dict[str, Any]:
    """An option whose value goes to :func:`said`."""

    def keep(ctx: click.Context, param: click.Parameter, value: Any) -> None:
        if value is not None:
            ctx.meta.setdefault(META, {})[name] = value

    return {"expose_value": False, "callback": keep}


def end_options(function: F) -> F:
    """``--lease-end --lease-grace``."""
    words = "What becomes of it besides being stopped (default: stop)."
    choices = click.Choice([each.value for each in LeaseAction])
    function = click.option("--lease-end", type=choices, **_kept("action"), help=words)(function)
    words = "From the end until it is deleted, or stopped by force (default: 1h)."
    return click.option("--lease-grace", type=Seconds(), metavar="TIME", **_kept("grace"), help=words)(function)


def create_options(function: F) -> F:
    """Those of a new VE."""
    words = "How long it may live: 8h, 30d, or `none` (default: as its queue says)."
    return click.option("--lease", type=Length(), metavar="TIME", **_kept("for"), help=words)(end_options(function))


def said() -> dict[str, Any]:
    """What was given on this command line, as the member of a request; empty where nothing was."""
    found: dict[str, Any] = dict(click.get_current_context().meta.get(META, {}))
    if found.get("for") == "none":
        return {"lease": None}
    return {"lease": found} if found else {}


@click.command()
@click.argument("operands", nargs=-1, required=True, metavar="NAME... [+TIME]", shell_complete=names("/ves"))
@click.option("--until", type=When(), metavar="TIME", **_kept("until"), help="Until then: 18:00, 2030-01-31T18:00.")
@click.option("--none", is_flag=True, help="For ever.")
@end_options
@project_option
@submit_options
@action_options
def lease(
    operands: tuple[str, ...], none: bool, project: str, form: str, wait: bool, timeout: float | None, key: str | None
) -> None:
    """Say how long VEs may live, from now: +8h, --until a time, or --none. This saves a VE whose lease is over, until it is
    deleted; it stays stopped until it is started.

    \b
    Examples:
      vmcloud ve lease web-1 +8h
      vmcloud ve lease web-1 web-2 +30d --lease-end delete --lease-grace 1d
      vmcloud ve lease web-1 --until 2030-01-31T18:00
      vmcloud ve lease web-1 --none
    """
    ctx = click.get_current_context()
    lengths = [each for each in operands if each.startswith("+")]
    wanted = [Name().convert(each, None, ctx) for each in operands if not each.startswith("+")]
    asked = {**said().get("lease", {}), **({"for": Length().convert(lengths[0], None, ctx)} if lengths else {})}
    if not wanted or len(lengths) > 1 or none + len(asked.keys() & {"for", "until"}) > 1 or not (none or asked):
        raise click.UsageError("give the VEs, and one of +TIME, --until TIME and --none", ctx)

    def ask(api: Client, name: str, its_key: str) -> Job:
        body = with_terms({"lease": None if none else asked})
        return api.act("POST", f"/ves{segment(name)}/alter", body, query={"project": project}, key=its_key)

    act(wanted, ask, form=form, wait=wait, timeout=timeout, key=key)
