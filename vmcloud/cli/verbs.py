"""Commands made of the registry of verbs: one for each verb of an object that has no command made by hand.

A verb's module is imported when its command is asked for: to list the commands of a group takes the names of the modules only.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import vmcloud.domain

from .common import Mebibytes, Name, Seconds, act_all, action_options, client, names, project_option
from .errors import Refused
from .follow import Job
from .rest import batch, segment
from .terms import patience, submit_options, with_terms

if TYPE_CHECKING:
    from vmcloud.domain.verbs.base import Verb
    from vmcloud.domain.verbs.request import About

LISTS = {"ve": "/ves", "node": "/nodes", "image": "/images"}
"""Where the objects of each kind are."""
EXAMPLES = {"ve": "web-1", "node": "node-1", "image": "busybox"}
FIELD = "field_"
"""What the parameters of a request's fields begin with: a field may be called like an option that every command has."""


class Verbs(click.Group):
    """The commands about one kind of object (``kind``): those made by hand, and one for each verb that has none."""

    kind = ""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All of both."""
        return sorted({*self.commands, *modules(self.kind)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the verb, if it is one without a command."""
        if cmd_name not in self.commands and cmd_name in modules(self.kind):
            verb = import_module(f"vmcloud.domain.verbs.{self.kind}.{modules(self.kind)[cmd_name]}").VERB
            if "cli" in verb.not_offered:
                return None
            self.add_command(made(verb))
        return super().get_command(ctx, cmd_name)


class OfVE(Verbs):
    """Of VEs."""

    kind = "ve"


class OfNode(Verbs):
    """Of nodes."""

    kind = "node"


class OfImage(Verbs):
    """Of images."""

    kind = "image"


def modules(kind: str) -> dict[str, str]:
    """What each verb of a kind of object is called, and its module's name."""
    folder = Path(vmcloud.domain.__file__).parent / "verbs" / kind
    return {each.stem.rstrip("_").replace("_", "-"): each.stem for each in folder.glob("[a-z]*.py")}


def made(verb: Verb) -> click.Command:
    """The command of a verb: what it is about as operands, what must be said after that, the rest of its fields as options."""
    from vmcloud.domain.verbs.request import needed

    kind = verb.object
    operands = [name for name, (each, _) in verb.fields.items() if needed(each)]
    options = {name: about for name, (_, about) in verb.fields.items() if name not in operands}
    several = not operands

    def command(
        names: tuple[str, ...] | str,
        form: str,
        wait: bool,
        timeout: float | None,
        key: str | None,
        project: str = "",
        **given: Any,
    ) -> None:
        body = {name.removeprefix(FIELD): value for name, value in given.items() if value is not None}
        wanted = (names,) if isinstance(names, str) else names
        ask_each(verb, wanted, body, project, form=form, wait=wait, timeout=timeout, key=key)

    decorate: list[Callable[[Any], Any]] = [
        click.argument(
            "names",
            nargs=-1 if several else 1,
            required=True,
            type=Name(many=kind == "ve"),
            metavar="NAME..." if several else kind.upper(),
            shell_complete=_names(LISTS[kind]),
        ),
        *(click.argument(FIELD + name, metavar=_metavar(name), required=True) for name in operands),
        *(option for name, about in options.items() if (option := _option(name, about, verb)) is not None),
        *([project_option, submit_options] if kind == "ve" else []),
        action_options,
    ]
    result: Any = command
    for each in reversed(decorate):
        result = each(result)
    return click.command(verb.called, help=_help(verb, operands))(result)


_names = names


def _metavar(name: str) -> str:
    return name.upper().replace("_", "-")


def _help(verb: Verb, operands: list[str]) -> str:
    example = " ".join([EXAMPLES[verb.object], *(str(verb.fields[name][1].example or _metavar(name)) for name in operands)])
    lines = "\n".join(f"  vmcloud {verb.object} {verb.called} {each}" for each in verb.words.examples or (f"{example} --wait",))
    words = f"{verb.words.summary}\n\n{verb.words.confirm}" if verb.words.confirm else verb.words.summary
    return f"{words}\n\n\b\nExamples:\n{lines}"


def _option(name: str, about: About, verb: Verb) -> Callable[[Any], Any] | None:
    """One field as an option; None for what a command made by hand says better."""
    from vmcloud.domain.verbs.request import Sort

    shown, target = f"--{name.removesuffix('_mib').replace('_', '-')}", FIELD + name
    default = verb.fields[name][0].default
    words = about.words
    match about.sort:
        case Sort.FLAG if default:
            return click.option(f"{shown}/--no-{shown[2:]}", target, default=None, help=words)
        case Sort.FLAG:
            letter = ["-f"] if name == "force" else []
            return click.option(*letter, shown, target, is_flag=True, default=None, help=words)
        case Sort.SECONDS:
            words = f"{words.rstrip('.')} (default: {default:g}s)." if isinstance(default, float) else words
            return click.option(shown, target, type=Seconds(), metavar="TIME", help=words)
        case Sort.WHOLE if about.unit.startswith("MiB"):
            return click.option(shown, target, type=Mebibytes(), metavar="SIZE", help=words)
        case Sort.WHOLE:
            return click.option(shown, target, type=int, metavar="N", help=words)
        case Sort.CHOICE:
            return click.option(shown, target, type=click.Choice(about.choices), help=words)
        case Sort.LABEL:
            complete = _names(LISTS[name]) if name in LISTS else None
            return click.option(shown, target, metavar="NAME", help=words, shell_complete=complete)
        case Sort.TEXT:
            return click.option(shown, target, metavar="TEXT", help=words)
    return None


OWN_ADDRESS: dict[str, tuple[str, str]] = {"resize": ("PATCH", ""), "delete": ("DELETE", "")}
"""How a verb on one VE is asked for, where it has an address besides that of its name."""


def ask_each(
    verb: Verb | str,
    names: tuple[str, ...],
    body: dict[str, Any] | None,
    project: str = "",
    *,
    form: str,
    wait: bool,
    timeout: float | None,
    key: str | None,
) -> None:
    """Ask for one verb on each object; of many VEs in one request. A verb given by its name is one on VEs."""
    kind, name_of, called = ("ve", verb, verb) if isinstance(verb, str) else (verb.object, verb.name, verb.called)
    api, args = client(), with_terms(body or None)
    query = {"project": project} if project else None

    def asking(its_keys: dict[str, str]) -> Callable[[str], Job]:
        if kind == "ve" and len(its_keys) > 1:
            asked = {"verb": str(name_of), "project": project, "args": args or {}}
            answers = batch(api, ({**asked, "ve": name, "key": its_key} for name, its_key in its_keys.items()))
            return lambda name: _or_raise(next(answers))
        method, action = OWN_ADDRESS.get(called, ("POST", f"/{called}")) if kind == "ve" else ("POST", f"/{called}")
        about: dict[str, Any] = {"query": query, "timeout": patience()}
        return lambda name: api.act(method, f"{LISTS[kind]}{segment(name)}{action}", args, key=its_keys[name], **about)

    act_all(api, names, key, asking, form=form, wait=wait, timeout=timeout)


def _or_raise(answer: Job | Refused) -> Job:
    if isinstance(answer, Refused):
        raise answer
    return answer
