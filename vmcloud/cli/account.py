"""``vmcloud login`` and ``vmcloud whoami``."""

from __future__ import annotations

import sys

import click

from . import settings
from .common import client, output_option, say
from .errors import CliError
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
    api = Client(settings.Access(address, ""))
    api.get("/healthz")
    if not user and password_stdin:
        raise click.UsageError("--password-stdin needs --user")
    username = user or click.prompt("User name", err=True)
    if password_stdin:
        password = sys.stdin.readline().rstrip("\n")
    else:
        password = click.prompt(f"Password of {username}", hide_input=True, err=True)
    if not password:
        raise CliError.say("no password was given", todo="Type it, or pipe it in with --password-stdin.")
    body = {"username": username, "password": password, "name": f"vmcloud login on {platform.node()}"[:100]}
    token = api.request("POST", "/tokens", body=body)["token"]
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
