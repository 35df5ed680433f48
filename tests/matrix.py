"""Which kind has which power, as the contract suite of the drivers proved it: counts its cases and keeps ``docs/kinds.md`` true.

Where the whole suite of a kind ran, a page that says otherwise fails the run; ``--matrix`` writes it anew instead. Nothing in it
depends on the machine: a power that only some nodes have is shown without a number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from vmcloud.domain.kinds import KINDS, Capability, Support
from vmcloud.domain.vocabulary import Kind, Power

SUITE = Path(__file__).parent / "contract" / "driver"
PAGE = Path(__file__).parent.parent / "docs" / "kinds.md"
ABOUT = "test_driver_table.py"
"""Its cases are about the suite and prove nothing of a kind."""
COMMAND = "./runtests --only contract --matrix tests/contract/driver"

Cell = tuple[Kind, Power | None]
"""None is what every kind with a driver must be able to do."""


def kind_of(item: pytest.Item) -> Kind | None:
    """The kind that a case of the contract suite is run against."""
    callspec = getattr(item, "callspec", None)
    return callspec.params.get("kind") if callspec is not None and item.path.is_relative_to(SUITE) else None


def powers_of(item: pytest.Item) -> tuple[Power, ...]:
    """The powers that a case needs."""
    return tuple(dict.fromkeys(power for mark in item.iter_markers("power") for power in mark.args))


class Matrix:
    """The pytest plugin."""

    def __init__(self, config: pytest.Config) -> None:
        self._write = bool(config.getoption("--matrix"))
        self._cells: dict[str, tuple[Cell, ...]] = {}
        self._partly: set[Kind] = set()
        self._failed = False
        self.proved: Counter[Cell] = Counter()
        self.defects: dict[Cell, set[str]] = {}
        self.wrong = ""

    def pytest_deselected(self, items: Iterable[pytest.Item]) -> None:
        self._partly |= {kind for item in items if (kind := kind_of(item)) is not None}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        cases = [item for item in session.items if kind_of(item) is not None]
        for item in cases:
            kind = kind_of(item)
            assert kind is not None
            cells = () if item.path.name == ABOUT else proves(kind, powers_of(item))
            if mark := item.get_closest_marker("xfail"):
                self.defects.update({cell: {*self.defects.get(cell, ()), str(mark.kwargs["reason"])} for cell in cells})
            else:
                self._cells[item.nodeid] = cells
        files = {path.name for path in SUITE.glob("test_*.py")}
        for kind in Kind:
            if not KINDS[kind].driver:
                continue
            if {item.path.name for item in cases if kind_of(item) is kind} != files or any(
                "::" in arg for arg in session.config.args
            ):
                self._partly.add(kind)

    def whole(self, kind: Kind) -> bool:
        """Whether every case of a kind is in this run."""
        return kind not in self._partly

    def has(self, cell: Cell) -> bool:
        """Whether this run has a case of it, passed or not."""
        return any(cell in cells for cells in self._cells.values())

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        cells = self._cells.get(report.nodeid, ())
        if report.failed:
            self._failed = self._failed or bool(cells)
        elif report.when == "call" and report.passed:
            self.proved.update(cells)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._failed or session.shouldstop or session.shouldfail or session.config.option.collectonly:
            if self._write:
                self.wrong = "docs/kinds.md was not written: not every case of the contract suite passed."
            return
        drivers = [kind for kind, info in KINDS.items() if info.driver]
        if not all(map(self.whole, drivers)):
            if self._write:
                self.wrong = f"docs/kinds.md was not written: only a part of the suite ran. Run: {COMMAND}"
        else:
            page = render(self.proved, self.defects)
            if self._write:
                PAGE.write_text(page)
            elif not PAGE.exists() or PAGE.read_text() != page:
                self.wrong = f"docs/kinds.md does not say what the contract suite proved. Run: {COMMAND}"
        if self.wrong:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.wrong:
            terminalreporter.section("kinds")
            terminalreporter.line(f"FAIL: {self.wrong}", red=True)


def proves(kind: Kind, powers: tuple[Power, ...]) -> tuple[Cell, ...]:
    """The cells that a case counts for. One that needs a power of some nodes proves no other: elsewhere it does not run."""
    some = tuple((kind, power) for power in powers if _support((kind, power)).support is Support.NODE)
    return some or tuple((kind, power) for power in powers) or ((kind, None),)


def render(proved: Mapping[Cell, int], defects: Mapping[Cell, Collection[str]] = MappingProxyType({})) -> str:
    """The page."""
    notes: list[str] = []

    def note(text: str) -> str:
        if text not in notes:
            notes.append(text)
        return f"[{notes.index(text) + 1}]"

    def cell(kind: Kind, power: Power | None) -> str:
        capability, cases = _support((kind, power)), proved.get((kind, power), 0)
        found = f"{capability.support}"
        if capability.support is Support.YES:
            found = f"yes ({cases})"
        elif capability.support is Support.NODE:
            found = "on some nodes"
        why = [capability.why + (f" ([upstream]({capability.source}))" if capability.source else "")] if capability.why else []
        why += [f"known defect: {text}" for text in sorted(defects.get((kind, power), ()))]
        return " ".join([found, *map(note, why)])

    rows = [("power", *KINDS), ("---",) * (len(KINDS) + 1)]
    rows += [(power or "made, started, stopped, deleted", *(cell(kind, power) for kind in KINDS)) for power in (None, *Power)]
    limits = [("kind", "what it is", "virtual CPUs", "memory, MiB", "disk, MiB"), ("---",) * 5]
    for kind, info in KINDS.items():
        vcpus, memory, disk = (f"{low} to {high}" for low, high in (info.vcpus, info.memory_mib, info.disk_mib))
        limited = info.capability(Power.DISK_LIMIT).support is Support.YES
        limits.append((kind, info.title, vcpus, memory, disk if limited else "not limited yet"))
    return f"""\
# Kinds: what each can do

Written by `{COMMAND}` from the table of kinds
([kinds.py](../vmcloud/domain/kinds.py)) and the results of the drivers' contract suite; every full run of the tests fails where
this page says anything else. In brackets: the number of cases that prove a cell, on guests of that kind. What a kind can not do
is refused when it is asked for, with the reason given here.

{_table(rows)}

{chr(10).join(f"{number}. {text[:1].upper()}{text[1:]}." for number, text in enumerate(notes, 1))}

*On some nodes*: the node's driver tries it out and says what it found; the cases are run only where it can.

## Limits

{_table(limits)}

A disk of 0 MiB has no limit of its own. A node may have less than a kind allows; then the scheduler says why no node is found.

How a driver is written and what the cases ask of it: [drivers](drivers.md).
"""


def _support(cell: Cell) -> Capability:
    kind, power = cell
    if power is not None:
        return KINDS[kind].capability(power)
    return Capability(Support.YES) if KINDS[kind].driver else KINDS[kind].capability(Power.CONSOLE)


def _table(rows: Iterable[Iterable[object]]) -> str:
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)
