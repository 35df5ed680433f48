"""What the docs tell people to type is what the command line knows."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from itertools import takewhile
from pathlib import Path

import click
import pytest

from vmcloud.cli.main import PROGRAM, cli

pytestmark = pytest.mark.unit
ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(page: Path) -> Iterator[str]:
    """Lines of code that begin with our program's name, without what a shell makes of their ends."""
    code, blocks = False, []
    for line in page.read_text().splitlines():
        if line.startswith("```"):
            code = not code
        elif code or line.startswith("    "):
            blocks.append(line.strip())
    yield from typed(blocks)


def examples(command: click.Command = cli, name: str = PROGRAM) -> Iterator[tuple[str, str]]:
    """What the help of each command shows as examples."""
    yield from ((f"{name} --help", each) for each in typed(map(str.strip, (command.help or "").splitlines())))
    if isinstance(command, click.Group):
        context = click.Context(command)
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            assert found is not None
            yield from examples(found, f"{name} {below}")


def typed(lines: Iterable[str]) -> Iterator[str]:
    """The lines that begin with our program's name."""
    for line in lines:
        text = re.sub(r"\s+#.*$", "", line).removeprefix("sudo ")
        if re.match(rf"{PROGRAM} [a-z]", text):
            yield text


def words_of(command: str) -> list[str]:
    """The first command of a line as a shell splits it; a variable stands for a number."""
    lexer = shlex.shlex(re.sub(r"\$\w+", "1", command), posix=True, punctuation_chars=True)
    lexer.commenters = ""
    lexer.whitespace_split = True
    return list(takewhile(lambda word: not word or not set(word) <= set("();<>|&"), lexer))


FOUND = [*((page.name, command) for page in PAGES for command in commands(page)), *examples()]


def test_there_are_such_commands() -> None:
    assert {"README.md", "start.md"} <= {page for page, _ in FOUND} and len(FOUND) > 100


@pytest.mark.parametrize(("page", "command"), FOUND)
def test_a_command_in_the_docs_can_be_typed(page: str, command: str) -> None:
    words = words_of(command)[1:]
    context: click.Context = click.Context(cli, info_name=PROGRAM)
    found: click.Command = cli
    while isinstance(found, click.Group) and words:
        name, found_next, words = found.resolve_command(context, words)
        assert found_next is not None
        context, found = click.Context(found_next, info_name=name, parent=context), found_next
    if "--help" not in words:
        found.make_context(found.name, words, parent=context.parent)
