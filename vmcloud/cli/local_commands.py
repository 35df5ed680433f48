"""Commands about this machine's cloud: up, down, status, doctor, env, passwd. Thin: all work is in :mod:`vmcloud.local`.

``vmcloud.local`` is imported inside each command, so that the commands that only speak REST stay fast.
"""

from __future__ import annotations

import functools
import json
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import click

from .errors import CliError

P = ParamSpec("P")
R = TypeVar("R")


def _say(text: str) -> None:
    click.echo(text, err=True)


def plainly(function: Callable[P, R]) -> Callable[P, R]:
    """What is refused on purpose ends in words and with exit code 1."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        from vmcloud.domain.errors import VmcloudError

        try:
            return function(*args, **kwargs)
        except VmcloudError as error:
            raise CliError(error.problem) from error
        except PermissionError as error:
            raise CliError.say(f"{error.strerror}: {error.filename}", todo="Run it as root (sudo).") from error

    return run


def _data(data: Path | None) -> Path:
    from vmcloud.config import data_directory

    return (data or data_directory()).absolute()


def existing(data: Path | None) -> Any:
    """The settings of the cloud in ``data``; a plain refusal where there is none."""
    from vmcloud.config import Config
    from vmcloud.domain.errors import NotFound

    folder = _data(data)
    try:
        return Config.load(folder)
    except FileNotFoundError as error:
        todo = f"Make and start one: vmcloud up{_flag(folder)}."
        raise NotFound(f"there is no cloud in {folder}", todo=todo) from error


def _flag(folder: Path) -> str:
    """What must be added to a command so that it is about this folder too."""
    from vmcloud.config import data_directory

    return "" if folder == data_directory().absolute() else f" --data {shlex.quote(str(folder))}"


data_option = click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    help="Data directory (default: VMCLOUD_DATA, else /var/lib/vmcloud).",
)


@click.command()
@data_option
@click.option("--detach", is_flag=True, help="Return once all parts are ready; they run on in the background.")
@click.option("--only", multiple=True, metavar="PART", help="Run only this part here (repeatable). One alone gets this terminal.")
@click.option("--without", multiple=True, metavar="PART", help="Run all parts but this one (repeatable).")
@click.option("--name", help="First start: this node's name (default: from the host name).")
@click.option("--bridge", help="First start: the bridge of the guests' network.")
@click.option("--subnet", help="First start: the guests' network, such as 10.86.0.0/24.")
@click.option("--listen", metavar="ADDR[:PORT]", help="First start: where the web part listens (default 127.0.0.1:8470).")
@click.option("--simulate", type=int, metavar="N", help="First start: N simulated nodes instead of this machine.")
@click.option("--quiet", is_flag=True, help="Print nothing that is not a problem.")
@plainly
def up(
    data: Path | None,
    detach: bool,
    only: tuple[str, ...],
    without: tuple[str, ...],
    name: str | None,
    bridge: str | None,
    subnet: str | None,
    listen: str | None,
    simulate: int | None,
    quiet: bool,
) -> None:
    """Start the cloud on this machine: broker, directory, web, server, monitor, worker.

    Makes what is missing first. In the foreground Ctrl-C ends all parts; guests go on running.

    \b
    Examples:
      vmcloud up --detach
      vmcloud up --data /srv/cloud --subnet 10.99.0.0/24 --detach
      vmcloud up --data /tmp/toy --simulate 3
    """
    from vmcloud.local import parts, screen, settings
    from vmcloud.local import up as local

    tell = (lambda text: None) if quiet else _say
    chosen = parts.choose(only, without)
    wishes = settings.Wishes(name=name, bridge=bridge, subnet=subnet, listen=listen, simulate=simulate)
    config = local.make(_data(data), wishes, tell)
    if len(only) == 1 and not detach:
        local.become(config, parts.select(parts.catalogue(config), chosen)[0])
    lock = local.Lock(config.data)
    if detach:
        choice = [word for each in only for word in ("--only", each)] + [word for each in without for word in ("--without", each)]
        local.detach(config, choice, lock, tell)
        if not quiet:
            click.echo(screen.after_up(config))
    else:
        local.foreground(config, local.start(config, only, without), lock, echo=not quiet)


@click.command()
@data_option
@click.option("--purge", is_flag=True, help="Remove everything that was made here, guests included.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@plainly
def down(data: Path | None, purge: bool, yes: bool) -> None:
    """Stop the cloud on this machine. Guests go on running; the next `up` finds them.

    \b
    Examples:
      vmcloud down
      vmcloud down --purge
      vmcloud down --purge --yes --data /tmp/toy
    """
    from vmcloud.config import CONFIG_NAME
    from vmcloud.local import down as local

    folder = _data(data)
    if purge:
        from vmcloud.local import purge as removal

        if not (folder / CONFIG_NAME).exists():
            _say(f"there is no cloud in {folder}: nothing to remove")
            return
        config = existing(data)
        if not yes:
            _confirm(removal.announcement(config))
        local.stop(folder, _say)
        removal.purge(config, _say)
        return
    if not local.stop(folder, _say):
        _say(f"no cloud runs in {folder}")
    if (folder / CONFIG_NAME).exists():
        from vmcloud.local import purge as removal

        removal.stop_idle_companions(existing(data), _say)


def _confirm(announcement: str) -> None:
    """Go on only after a yes; every other answer, and none, is a no."""
    _say(announcement)
    try:
        sure = click.confirm("Remove all of it?", err=True)
    except click.Abort as error:
        if isinstance(error.__cause__, KeyboardInterrupt) or isinstance(error.__context__, KeyboardInterrupt):
            _say("")
            raise
        _say("")
        raise CliError.say("nothing was removed", why="nobody answered", todo="Give --yes.") from error
    if not sure:
        raise CliError.say("nothing was removed")


@click.command()
@data_option
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", help="Form of the answer.")
@plainly
def status(data: Path | None, output: str) -> None:
    """Show how the parts are. Exit code 0 only if all of them do what they should.

    \b
    Examples:
      vmcloud status
      vmcloud status -o json | jq .healthy
    """
    from vmcloud.local import report

    found = report.collect(existing(data))
    click.echo(json.dumps(found.to_json(), indent=2) if output == "json" else report.table(found))
    if not found.healthy:
        raise SystemExit(1)


@click.command()
@data_option
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", help="Form of the answer.")
@plainly
def doctor(data: Path | None, output: str) -> None:
    """Check what this machine needs, and say how to put right what is wrong. Exit code 1 if something is. Run it as root.

    \b
    Examples:
      sudo vmcloud doctor
      sudo vmcloud doctor -o json | jq '.[] | select(.level != "OK")'
    """
    from vmcloud.local import doctor as checks

    results = checks.examine(_data(data))
    click.echo(json.dumps([each.to_json() for each in results], indent=2) if output == "json" else checks.table(results))
    if any(each.level == "FAIL" for each in results):
        raise SystemExit(1)


@click.command()
@data_option
@plainly
def env(data: Path | None) -> None:
    """Print what plain tools need to know: VMCLOUD_DATA, VMCLOUD_URL, VMCLOUD_TOKEN, LDAPURI, LDAPBASE, as lines for sh.

    Root gets the administrator's token and the local LDAP socket; others get addresses only.

    \b
    Examples:
      eval "$(vmcloud env)"
      curl -s -H "Authorization: Bearer $VMCLOUD_TOKEN" "$VMCLOUD_URL/api/v1/ves"
    """
    from vmcloud.local import environment

    click.echo(environment.exports(existing(data), root=os.geteuid() == 0))


@click.command()
@click.argument("user", default="admin")
@data_option
@click.option("--generate", is_flag=True, help="Make up a password and print it.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input (one line).")
@click.option("--create", is_flag=True, help="Make a new user of that name.")
@click.option("--admin", is_flag=True, help="With --create: an administrator, who sees and may do everything.")
@plainly
def passwd(user: str, data: Path | None, generate: bool, password_stdin: bool, create: bool, admin: bool) -> None:
    """Set the web password of USER (default: admin), as root of this machine: the way back in when it was lost.

    With --create it makes a new user, who sees and may do what is its own.

    \b
    Examples:
      sudo vmcloud passwd
      sudo vmcloud passwd --generate
      sudo vmcloud passwd ann --create --generate
      pass show cloud/bob | sudo vmcloud passwd bob --create --admin --password-stdin
    """
    from vmcloud.local import passwords

    from .common import ask_password, password_line

    if generate and password_stdin:
        raise click.UsageError("--generate and --password-stdin exclude each other", click.get_current_context())
    if admin and not create:
        raise click.UsageError("--admin needs --create", click.get_current_context())
    config = existing(data)
    passwords.check(config, user, create=create)
    if generate:
        click.echo(passwords.generate(config, user, create=create, admin=admin))
        return
    if password_stdin:
        password = password_line()
    else:
        password = ask_password("New password", confirm=True, otherwise="--password-stdin or --generate")
    passwords.set_password(config, user, password, create=create, admin=admin)
    _say(f"{'user' if create else 'the password of'} {user} is {'made' if create else 'set'}")


COMMANDS: list[click.Command] = [up, down, status, doctor, env, passwd]
"""What the command line registers."""
