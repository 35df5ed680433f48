"""The page of kinds and powers: the same on every machine."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.matrix import Cell, proves, render
from vmcloud.domain.kinds import KINDS, Support
from vmcloud.domain.vocabulary import Kind, Power

pytestmark = pytest.mark.unit

PROVED: Counter[Cell] = Counter({(Kind.LXC, None): 12, (Kind.LXC, Power.EXEC): 3, (Kind.LXC, Power.SAVE): 2})


def row(page: str, name: str) -> list[str]:
    (found,) = [line for line in page.splitlines() if line.startswith(f"| {name} |")]
    return [cell.strip() for cell in found.strip("|").split("|")]


def test_each_power_has_a_row_and_each_kind_a_column_and_limits() -> None:
    page = render(PROVED)
    assert row(page, "power")[1:] == list(KINDS)
    for power in Power:
        assert len(row(page, power)) == len(KINDS) + 1
    for kind, info in KINDS.items():
        assert row(page, kind)[1:3] == [info.title, f"{info.vcpus[0]} to {info.vcpus[1]}"]


def test_a_cell_says_how_often_it_was_proved_or_why_not() -> None:
    page = render(PROVED)
    lxc = list(KINDS).index(Kind.LXC) + 1
    assert row(page, Power.EXEC)[lxc] == "yes (3)"
    assert row(page, "made, started, stopped, deleted")[lxc] == "yes (12)"
    for power in Power:
        capability = KINDS[Kind.LXC].capability(power)
        if capability.support is not Support.YES:
            number = row(page, power)[lxc].rpartition("[")[2].rstrip("]")
            assert f"\n{number}. {capability.why[:1].upper()}{capability.why[1:]}" in page


def test_a_known_defect_is_told() -> None:
    page = render(PROVED, {(Kind.LXC, Power.EXEC): {"it stutters"}})
    number = row(page, Power.EXEC)[list(KINDS).index(Kind.LXC) + 1].removeprefix("yes (3) [").rstrip("]")
    assert f"\n{number}. Known defect: it stutters." in page


def test_a_case_that_only_some_nodes_run_counts_for_nothing_that_all_have() -> None:
    assert KINDS[Kind.LXC].capability(Power.SAVE).support is Support.NODE
    assert proves(Kind.LXC, (Power.SAVE, Power.EXEC)) == ((Kind.LXC, Power.SAVE),)
    assert proves(Kind.SIMULATED, (Power.SAVE, Power.EXEC)) == ((Kind.SIMULATED, Power.SAVE), (Kind.SIMULATED, Power.EXEC))
    assert proves(Kind.LXC, ()) == ((Kind.LXC, None),)
