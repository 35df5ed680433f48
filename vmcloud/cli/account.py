"""``vmcloud login`` and ``vmcloud whoami``."""

from __future__ import annotations

import sys

import click

from . import settings
from .common import ask_password, client, output_option, password_line, say
from .errors import CliError, Refused
from .output import Column, Shape, show_objects
from .rest import Client

WHO = Shape((Column("USERNAME", lambda item: item["username"]), Column("ADMIN", lambda item: item["is_admin"])), name="username")


@click.command()
@click.argument("url", required=False)
@click.option("-u", "--user", metavar="NAME", help="User name (default: asked for).")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
def login(url: str | None, user: str | None, password_stdin: bool) -> None:
    """Exchange a password for a token and keep it for later commands (mode 0600).

    URL defaults to the cloud that is known already, else this machine's.

    \b
    Examples:
      vmcloud login http://cloud.example.org:8470 --user ann
      pass show cloud | vmcloud login --user ann --password-stdin
    """
    import platform

    address = (url or _known_url()).rstrip("/")
    if "://" not in address:
        address = f"http://{address}"
    if not user and password_stdin:
        raise click.UsageError("--password-stdin needs --user", click.get_current_context())
    api = Client(settings.Access(address, ""))
    api.get("/healthz")
    if not user and not sys.stdin.isatty():
        raise CliError.say(
            "the user name can not be asked for", why="there is no terminal", todo="Give --user and --password-stdin."
        )
    username = user or str(click.prompt("User name", err=True))
    password = password_line() if password_stdin else ask_password(f"Password of {username}")
    if not password:
        raise CliError.say("no password was given", todo="Type it, or pipe it in with --password-stdin.")
    body = {"username": username, "password": password, "name": f"vmcloud login on {platform.node()}"[:100]}
    try:
        token = api.request("POST", "/tokens", body=body)["token"]
    except Refused as error:
        if error.status != 401:
            raise
        todo = f"A lost password is reset as root of the cloud's machine: vmcloud passwd {username}."
        raise CliError.say("wrong user name or password", where=address, todo=todo) from error
    path = settings.save(settings.Access(address, token), username)
    say(f"logged in at {address} as {username}; the token is in {path}")


def _known_url() -> str:
    try:
        return settings.find().url
    except CliError:
        return settings.DEFAULT_URL


@click.command()
@output_option()
def whoami(form: str) -> None:
    """Show which cloud is asked, and as whom.

    \b
    Examples:
      vmcloud whoami
      vmcloud whoami -o name
    """
    api = client()
    who = api.get("/whoami")
    say(f"at {api.url}")
    show_objects([who], WHO, form, single=True)
