"""One bench per kind; and which cases a kind is spared, by the table of kinds alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.matrix import kind_of, powers_of
from vmcloud.domain.kinds import KINDS, Support
from vmcloud.domain.vocabulary import Kind, Power
from workers.drivers.base import Guest

from .bench import BENCHES, Bench

DEFECTS: dict[str, tuple[str, bool]] = {}
"""Cases that a driver is known not to pass, what is wrong, and whether they can be run at all. Shown in docs/kinds.md. An entry
goes with its defect: what passes all the same is listed at the end of a run."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if defect := DEFECTS.get(item.name):
            item.add_marker(pytest.mark.xfail(reason=defect[0], run=defect[1]))
        kind = kind_of(item)
        if kind is None:
            continue
        for power in powers_of(item):
            capability = KINDS[kind].capability(power)
            if capability.support in (Support.LATER, Support.NO):
                item.add_marker(pytest.mark.skip(f"{kind}: {power} {capability.support}: {capability.why}"))


def _marks(kind: Kind) -> list[pytest.MarkDecorator]:
    return [] if kind is Kind.SIMULATED else [pytest.mark.integration]


@pytest.fixture(params=[pytest.param(kind, id=kind.value, marks=_marks(kind)) for kind in BENCHES], scope="package")
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


@pytest.fixture(scope="package")
def shared(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """One bench per kind for all cases: it takes a while to set up."""
    yield from BENCHES[kind](tmp_path_factory.mktemp("driver"))


@pytest.fixture
def bench(shared: Bench, request: pytest.FixtureRequest) -> Bench:
    for power in powers_of(request.node):
        if KINDS[shared.driver.kind].capability(power).support is Support.NODE:
            # So far only saving has a probe of its own.
            assert power is Power.SAVE
            check = shared.driver.can_save()
            if not check.ok:
                pytest.skip(f"{shared.driver.kind}: this node cannot {power}: {check.detail}")
    return shared


@pytest.fixture
def made(bench: Bench) -> Iterator[Guest]:
    """A stopped guest."""
    guest = bench.guest("web")
    bench.driver.define(guest)
    yield guest
    bench.driver.delete(guest.native)


@pytest.fixture
def running(bench: Bench, made: Guest) -> Guest:
    """A guest that runs and answers."""
    from .talk import boot

    boot(bench, made)
    return made


@pytest.fixture
def folder(place: Path) -> Path:
    """For the files of fault points."""
    return place / "faults"
