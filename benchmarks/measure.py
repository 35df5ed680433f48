"""Samples, summaries and their table. All times are kept in seconds and shown in milliseconds."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Wishes:
    """What the caller asked for. ``count`` 0: the benchmark's own number of repetitions. ``smoke``: everything once, as small as
    it can be; the times mean nothing. For `scale`: ``nodes`` and ``ves``, 0 for its own numbers. For `chaos`: ``seed`` 0 is the
    time; ``replay`` the lines of a log; ``log`` takes the lines of this one."""

    count: int = 0
    seconds: float = 60.0
    trace: bool = False
    smoke: bool = False
    nodes: int = 0
    ves: int = 0
    minutes: float = 5.0
    seed: int = 0
    replay: Sequence[str] = ()
    log: Callable[[str], object] = len

    def repetitions(self, usual: int) -> int:
        """How often to repeat."""
        return self.count or self.size(usual, 2)

    def size(self, usual: T, smoke: T) -> T:
        """The usual size of something, or that of a smoke run."""
        return smoke if self.smoke else usual


def quantile(samples: Sequence[float], part: float) -> float:
    """The nearest-rank quantile of a non-empty series."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, max(0, round(part * len(ordered) + 0.5) - 1))]


@dataclass
class Series:
    """One measured thing. ``raw``: the name of the series it is compared with. ``target``: most seconds that p50 may be, or, if
    there is ``raw``, may be above raw's p50."""

    name: str
    samples: list[float] = field(default_factory=list)
    raw: str = ""
    target: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Summary and samples, in seconds."""
        found = {f"p{percent}": quantile(self.samples, percent / 100) for percent in (50, 95, 99)}
        return {"name": self.name, "count": len(self.samples), **found, "raw": self.raw, "samples": self.samples}


@dataclass(frozen=True)
class Table:
    """Numbers by row and column."""

    title: str
    columns: tuple[str, ...]
    rows: dict[str, tuple[float, ...]]


class Report:
    """What one benchmark found: series, plain values, tables and notes; ``result`` is anything else, for JSON. ``failed``:
    something that must hold does not."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.series: dict[str, Series] = {}
        self.values: list[tuple[str, float, str, float]] = []
        self.tables: list[Table] = []
        self.notes: list[str] = []
        self.result: dict[str, Any] = {}
        self.failed = False
        self.load = [os.getloadavg()[0]]

    def add(self, name: str, seconds: float, *, raw: str = "", target: float = 0.0) -> None:
        """One more sample of a series."""
        self.series.setdefault(name, Series(name, raw=raw, target=target)).samples.append(seconds)

    def value(self, name: str, number: float, unit: str, target: float = 0.0) -> None:
        """A number that is no series."""
        self.values.append((name, number, unit, target))

    def table(self, title: str, columns: Sequence[str], rows: Mapping[str, Sequence[float]]) -> None:
        """Several numbers of several things."""
        self.tables.append(Table(title, tuple(columns), {name: tuple(row) for name, row in rows.items()}))

    def note(self, text: str) -> None:
        """A line below the table."""
        self.notes.append(text)

    def begins(self, text: str) -> None:
        """Tell who waits what is being measured."""
        print(f"{self.name}: {text} …", file=sys.stderr, flush=True)

    def show(self, seconds: float) -> None:
        """Print it."""
        self.load.append(os.getloadavg()[0])
        print(
            f"\n{self.name}: {time.strftime('%Y-%m-%d %H:%M')}, {os.cpu_count()} processors, {seconds:.0f} s, "
            f"load {self.load[0]:.2f} before and {self.load[-1]:.2f} after"
        )
        if self.series:
            print(f"  {'milliseconds':52}{'n':>5}{'p50':>9}{'p95':>9}{'p99':>9}{'added':>9}{'ratio':>8}{'target':>9}")
        for each in self.series.values():
            p50, p95, p99 = (quantile(each.samples, part) * 1000 for part in (0.5, 0.95, 0.99))
            line = f"  {each.name:52}{len(each.samples):5}{p50:9.2f}{p95:9.2f}{p99:9.2f}"
            if each.raw in self.series:
                raw = quantile(self.series[each.raw].samples, 0.5) * 1000
                line += f"{p50 - raw:9.2f}{p50 / raw:8.2f}"
            elif each.target:
                line += " " * 17
            print(line + (f"{each.target * 1000:9.0f}" if each.target else ""))
        for name, number, unit, target in self.values:
            print(f"  {name:52}{number:10.2f} {unit}" + (f"  (target {target:g})" if target else ""))
        for table in self.tables:
            print(f"\n  {table.title:40}" + "".join(f"{column:>12}" for column in table.columns))
            for name, row in table.rows.items():
                print(f"  {name:40}" + "".join(f"{number:12.2f}" for number in row))
        for text in self.notes:
            print(f"  {text}")
        print(flush=True)

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return {
            "benchmark": self.name,
            "at": time.time(),
            "processors": os.cpu_count(),
            "load": self.load,
            "series": [each.to_json() for each in self.series.values()],
            "values": [dict(zip(("name", "value", "unit", "target"), each, strict=True)) for each in self.values],
            "tables": [{"title": each.title, "columns": each.columns, "rows": each.rows} for each in self.tables],
            "notes": self.notes,
            "result": self.result,
        }
