"""The list of verbs as a page: writes ``docs/verbs.md`` from the registry (``python -m tests.verbs``); a test compares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vmcloud.domain import verbs
from vmcloud.domain.verbs import Verb
from vmcloud.domain.verbs.request import UNSAID, About, needed

PAGE = Path(__file__).parent.parent / "docs" / "verbs.md"
COMMAND = "python -m tests.verbs"
TITLES = {"ve": "VEs", "node": "Nodes", "image": "Images", "cloud": "The cloud"}
LISTS = {"ve": "/ves/{ref}", "node": "/nodes/{ref}", "image": "/images/{ref}"}
OWN_COMMAND = {"create": "ve create", "adopt": "ve adopt", "import": "image import", "reconcile": "reconcile"}
OWN_ADDRESS = {
    "create": "POST /ves",
    "adopt": "POST /strays/{node}/{native}/adopt",
    "import": "PUT /images/{name}",
    "reconcile": "POST /reconcile",
}
DOORS = {"cli": "the command line", "rest": "REST", "pages": "the pages", "ldap": "the directory"}
HEAD = f"""# Verbs

All that can be asked of a cloud. Each verb is one module under `vmcloud/domain/verbs/`, from which every door takes it: the
command line, REST, the pages, and for what is wanted of a VE the [directory](directory.md). Written by `{COMMAND}`; a test
compares.
"""


def command_of(verb: Verb) -> str:
    """What it is called on the command line, below ``vmcloud``."""
    return OWN_COMMAND[verb.name] if verb.own_way else f"{verb.object} {verb.called}"


def address_of(verb: Verb) -> str:
    """Method and address in REST, below ``/api/v1``."""
    return OWN_ADDRESS[verb.name] if verb.own_way else f"POST {LISTS[verb.object]}/{verb.called}"


def page() -> str:
    """The whole page."""
    return "\n".join([HEAD, *(line for kind in verbs.OBJECTS for line in _object(kind))]).rstrip() + "\n"


def _object(kind: str) -> list[str]:
    return [f"## {TITLES[kind]}", "", *(line for verb in verbs.about(kind) for line in _verb(verb))]


def _verb(verb: Verb) -> list[str]:
    needs = f" The VE's [kind](kinds.md) must be able to: {verb.needs}." if verb.needs else ""
    inverse = f" Taken back by `{verb.words.inverse}`." if verb.words.inverse else ""
    lines = [
        f"### {verb}",
        "",
        f"{verb.words.summary} {verb.words.confirm}".strip(),
        "",
        f"`vmcloud {command_of(verb)}` · `{address_of(verb)}` · may: {verb.right}.{needs}{inverse}",
        "",
    ]
    if verb.fields:
        lines += ["| field | what it says | values | default |", "|---|---|---|---|"]
        lines += [_field(name, each, about) for name, (each, about) in verb.fields.items()]
        lines.append("")
    lines += [f"Not offered by {DOORS[door]}: {why}.\n" for door, why in verb.not_offered.items()]
    return lines


def _field(name: str, each: Any, about: About) -> str:
    values = about.sort.value
    if about.choices:
        values = ", ".join(f"`{choice}`" for choice in about.choices)
    elif about.low is not None and about.high is not None:
        values = f"{about.low:,.0f} to {about.high:,.0f} {about.unit}".strip()
    elif about.longest is not None:
        values = f"{values}, at most {about.longest} characters"
    default = each.default
    if needed(each):
        shown = "must be said"
    elif default is UNSAID:
        shown = "stays as it is" if name != "lease" else "as it is; of a new VE, as its queue says"
    else:
        shown = "" if default in (None, "") or each.default_factory is dict else f"`{_plain(default)}`"
    return f"| `{name}` | {about.words} | {values} | {shown} |"


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).lower()


if __name__ == "__main__":
    PAGE.write_text(page())
