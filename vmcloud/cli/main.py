"""The program ``vmcloud``: which commands there are, and the one place where every error becomes words and an exit code."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

import click

from .errors import FAILED, INTERRUPTED, OK, USAGE, CliError, brief, lines, printable

PROGRAM = "vmcloud"
COMMANDS = {
    "ve": ("ve", "group"),
    "node": ("node", "group"),
    "kind": ("kind", "group"),
    "image": ("image", "group"),
    "job": ("job", "group"),
    "queue": ("queue", "group"),
    "webhook": ("webhook", "group"),
    "audit": ("audit", "group"),
    "why": ("job", "why"),
    "reconcile": ("reconcile", "reconcile"),
    "database": ("database", "group"),
    "directory": ("directory", "group"),
    "login": ("account", "login"),
    "whoami": ("account", "whoami"),
    "completion": ("completion", "completion"),
    **dict.fromkeys(("up", "down", "status", "doctor", "env", "passwd"), ("local_commands", "")),
}
"""Command → module of this package, and the name there; "": in the module's list ``COMMANDS``."""


class Lazy(click.Group):
    """A group that imports a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name]
        found = import_module(f".{module}", __package__)
        if name:
            command: click.Command = getattr(found, name)
            return command
        return next((command for command in found.COMMANDS if command.name == cmd_name), None)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does it, with a guess at what was meant among all commands."""
        if args and not args[0].startswith("-") and args[0] not in COMMANDS and not ctx.resilient_parsing:
            raise click.exceptions.NoSuchCommand(args[0], possibilities=[*self._below(ctx, args[0]), *COMMANDS], ctx=ctx)
        return super().resolve_command(ctx, args)

    def _below(self, ctx: click.Context, name: str) -> list[str]:
        """Groups that have a command of this name: who types ``vmcloud start web`` means ``vmcloud ve start web``."""
        groups = ((each, self.get_command(ctx, each)) for each in COMMANDS)
        return [f"{each} {name}" for each, group in groups if isinstance(group, click.Group) and group.get_command(ctx, name)]

    def invoke(self, ctx: click.Context) -> Any:
        """As click does it; only that who read our output and has seen enough (`| head`) makes no failure of it."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except BrokenPipeError:
            # The interpreter flushes once more at its end, and must not complain then.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return OK

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The first steps."""
        with formatter.section("First steps"):
            formatter.write_dl(
                [
                    ("vmcloud up --detach", "start a cloud on this machine"),
                    ("vmcloud ve create web-1 --image busybox --wait", "make and start a container"),
                    ("vmcloud ve list", "see it run"),
                    ("vmcloud COMMAND --help", "examples of each command"),
                ]
            )


def _version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from importlib.metadata import PackageNotFoundError, version

        try:
            click.echo(f"vmcloud {version('vmcloud')}")
        except PackageNotFoundError:
            click.echo("vmcloud (not installed as a package)")
        ctx.exit()


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Print the version.")
def cli() -> None:
    """A private cloud driven by a batch queue: containers and virtual machines on your own machines.

    Which cloud: VMCLOUD_URL and VMCLOUD_TOKEN, else the one of `vmcloud login`, else (for root) the one of this machine.
    """


def main(arguments: list[str] | None = None) -> int:
    """Run one command line; the exit code. Nothing but KeyboardInterrupt at the wrong moment ever gets past this."""
    try:
        code = cli.main(args=arguments, prog_name=PROGRAM, standalone_mode=False)
        return code if isinstance(code, int) else OK
    except CliError as error:
        return _end(lines(error.problem), error.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        return _end([error.format_message()], USAGE)
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else PROGRAM
        text = brief(printable(error.format_message()))
        return _end([f"vmcloud: {text[:1].lower()}{text[1:].rstrip('.')}", f"  do: see `{path} --help`"], USAGE)
    except click.ClickException as error:
        return _end([f"vmcloud: {error.format_message()}"], error.exit_code)
    except click.Abort as error:
        return _end(["vmcloud: stopped"], INTERRUPTED if isinstance(error.__cause__, KeyboardInterrupt) else FAILED)
    except KeyboardInterrupt:
        return _end(["vmcloud: stopped"], INTERRUPTED)
    except Exception as error:
        if os.environ.get("VMCLOUD_DEBUG"):
            raise
        hint = "  do: run it again with VMCLOUD_DEBUG=1 for the traceback, and report it as a defect"
        return _end([f"vmcloud: internal error: {type(error).__name__}: {error}", hint], FAILED)


def _end(text: list[str], code: int) -> int:
    for line in text:
        click.echo(line, err=True)
    return code
