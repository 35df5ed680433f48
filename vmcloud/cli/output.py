"""Lists and single objects as tables, JSON, YAML or bare names."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any

import click

from .errors import printable

FORMATS = ("table", "wide", "json", "yaml", "name")
Item = dict[str, Any]

_COLOURS = {
    **dict.fromkeys(("running", "up", "ok"), "green"),
    **dict.fromkeys(
        ("pending", "starting", "stopping", "deleting", "suspended", "unknown", "cancelled", "up, cordoned"), "yellow"
    ),
    **dict.fromkeys(("error", "crashed", "lost", "orphan", "wrong-node", "duplicate", "down", "failed", "timed-out"), "red"),
}
SQUEEZED = 8
"""Characters below which a flexible column is not squeezed."""


@dataclass(frozen=True)
class Column:
    """One column.

    ``flexible``: may be cut to fit the terminal, not below ``least`` characters. ``spare``: left out before anything is cut.
    ``wide``: only with ``-o wide``; ``narrow``: never then. ``coloured``: by its value.
    """

    title: str
    value: Callable[[Item], Any]
    flexible: bool = False
    least: int = SQUEEZED
    spare: bool = False
    wide: bool = False
    narrow: bool = False
    coloured: bool = False


@dataclass(frozen=True)
class Shape:
    """How one sort of object is shown; ``name`` is the field that ``-o name`` prints."""

    columns: tuple[Column, ...]
    name: str = "name"


def show_list(items: Sequence[Item], shape: Shape, form: str) -> None:
    """Print many objects. JSON and YAML are a list with the API's field names."""
    if form == "json":
        click.echo(_json(list(items)))
    elif form == "yaml":
        click.echo(_yaml(list(items)), nl=False)
    elif form == "name":
        for item in items:
            click.echo(printable(str(item[shape.name])))
    elif not items:
        click.echo("nothing to show", err=True)
    else:
        wide = form == "wide"
        columns = [column for column in shape.columns if not (column.narrow if wide else column.wide)]
        for line in table(items, columns, None if wide else terminal_width(), colour=colourful()):
            click.echo(line)


def show_objects(items: Sequence[Item], shape: Shape, form: str, *, single: bool) -> None:
    """Print what was asked for by name: fields one below the other; ``single`` JSON and YAML are an object, not a list."""
    if form in ("json", "yaml") and single and items:
        click.echo(_json(items[0]) if form == "json" else _yaml(items[0]), nl=form == "json")
    elif form == "table" and items:
        for number, item in enumerate(items):
            if number:
                click.echo()
            for line in fields(item):
                click.echo(line)
    elif items or form in ("json", "yaml"):
        show_list(items, shape, form)


def table(items: Sequence[Item], columns: Sequence[Column], width: int | None, *, colour: bool) -> list[str]:
    """The lines of a table that fits into ``width`` characters (None: as wide as it is)."""
    cells = [[cell(column.value(item)) for column in columns] for item in items]
    widths = [max(len(column.title), *(len(row[place]) for row in cells)) for place, column in enumerate(columns)]
    kept = list(range(len(columns)))
    if width:
        said = [any(row[place] != "-" for row in cells) for place in kept]
        kept = _fitting(widths, columns, said, width)
        _squeeze(widths, columns, kept, width)
    lines = ["  ".join(columns[place].title.ljust(widths[place]) for place in kept).rstrip()]
    for row in cells:
        shown = []
        for place in kept:
            text = _cut(row[place], widths[place]).ljust(widths[place] if place != kept[-1] else 0)
            known = _COLOURS.get(row[place]) if colour and columns[place].coloured else None
            shown.append(click.style(text, fg=known) if known else text)
        lines.append("  ".join(shown).rstrip())
    return lines


def _fitting(widths: Sequence[int], columns: Sequence[Column], said: Sequence[bool], width: int) -> list[int]:
    """The columns that are shown: those without a value go first, then spare ones, then from the right; the first two stay."""
    kept = list(range(len(columns)))

    def excess(places: Sequence[int], *, squeezed: bool) -> int:
        taken = (min(widths[at], columns[at].least) if squeezed and columns[at].flexible else widths[at] for at in places)
        return sum(taken) + 2 * (len(places) - 1) - width

    for place in [place for place in kept[:1:-1] if not said[place]]:
        if excess(kept, squeezed=False) > 0:
            kept.remove(place)
    for place in [place for place in kept[:1:-1] if columns[place].spare]:
        if excess(kept, squeezed=True) > 0:
            kept.remove(place)
    while len(kept) > 2 and excess(kept, squeezed=True) > 0:
        kept.pop()
    return kept


def _squeeze(widths: list[int], columns: Sequence[Column], kept: Sequence[int], width: int) -> None:
    """Take from the widest flexible column until all fits."""
    while sum(widths[place] for place in kept) + 2 * (len(kept) - 1) > width:
        loose = [place for place in kept if columns[place].flexible and widths[place] > columns[place].least]
        if not loose:
            return
        widths[max(loose, key=widths.__getitem__)] -= 1


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def fields(item: Item, indent: str = "") -> list[str]:
    """One object as lines ``name: value``; lists of objects (a job's steps) as a table below their name."""
    longest = max(map(len, item), default=0)
    lines = []
    for name, value in item.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            used = (key for key in value[0] if any(cell(each[key]) != "-" for each in value))
            columns = STEPS if name == "steps" else [Column(key.upper(), itemgetter(key)) for key in used]
            width = PAGE_WIDTH - len(indent) - 2 if name == "steps" else None
            lines += [f"{indent}{name}:", *(f"{indent}  {line}" for line in table(value, columns, width, colour=False))]
        elif isinstance(value, dict) and value:
            lines += [f"{indent}{name}:", *fields(value, indent + "  ")]
        else:
            lines.append(f"{indent}{name + ':':<{longest + 1}}  {cell(value)}")
    return lines


def cell(value: Any) -> str:
    """A value as text in a table: a dash for nothing."""
    if value is None or value in ("", []):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ",".join(map(str, value))
    if isinstance(value, dict):
        return " ".join(f"{key}={cell(item)}" for key, item in value.items()) or "-"
    return printable(str(value))


def age(moment: str | None, now: datetime | None = None) -> str:
    """How long ago an ISO time was, in its largest unit: ``40s``, ``5m``, ``3h``, ``12d``."""
    if not moment:
        return "-"
    seconds = max(0, int(((now or datetime.now(UTC)) - datetime.fromisoformat(moment)).total_seconds()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size * (2 if unit != "m" else 1):
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def mebibytes(value: int | None) -> str:
    """MiB for people: ``64M``, ``1.5G``, ``2T``; a dash for none or unlimited."""
    if not value:
        return "-"
    for unit, letter in ((1 << 20, "T"), (1 << 10, "G")):
        if value >= unit and value % (unit // 2) == 0:
            return f"{value // unit}{'.5' * bool(value % unit)}{letter}"
    return f"{value}M"


def size(count: int) -> str:
    """Bytes for people."""
    number = float(count)
    for unit in ("B", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} GiB"


def _phase(step: Item) -> str:
    percent = step.get("percent")
    return " ".join([step.get("phase") or "", *([f"{percent} %"] if percent is not None else [])]).strip()


PAGE_WIDTH = 100
STEPS: Sequence[Column] = (
    Column("STEP", itemgetter("number")),
    Column("VERB", itemgetter("verb")),
    Column("NODE", itemgetter("node"), flexible=True),
    Column("STATE", itemgetter("state")),
    Column("OUTCOME", itemgetter("outcome")),
    Column("PHASE", _phase, flexible=True),
    Column("SENT", lambda step: age(step.get("sent"))),
    Column("TIMES", lambda step: step.get("times_sent")),
    Column("ACCEPTED", lambda step: age(step.get("accepted"))),
    Column("ENDED", lambda step: age(step.get("ended"))),
)
"""A job's steps; what is left out is in ``-o json``. Times are ages."""


def terminal_width() -> int | None:
    """The terminal's width; None where stdout is none (nothing is cut for programs)."""
    if not sys.stdout.isatty():
        return None
    import shutil

    return shutil.get_terminal_size().columns


def colourful() -> bool:
    """Whether colours are wanted: on a terminal, unless ``NO_COLOR`` is set (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _json(value: Any) -> str:
    import json

    return json.dumps(value, indent=2, ensure_ascii=False)


def _yaml(value: Any) -> str:
    import yaml

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text: str = yaml.dump(value, Dumper=dumper, sort_keys=False, allow_unicode=True)
    return text
