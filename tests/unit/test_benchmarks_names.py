"""What benchmarks name inside the program, and at the doors of libraries, is there."""

from __future__ import annotations

import importlib
from operator import attrgetter

import pytest

from benchmarks import counts, trace

pytestmark = pytest.mark.unit

NAMES = sorted(
    {
        *((module, name) for table in trace.TRACED.values() for module, names in table.items() for name in names),
        *((module, name) for module, names in counts.DOORS.values() for name in names),
    }
)


@pytest.mark.parametrize(("module", "name"), NAMES)
def test_what_is_traced_or_counted_is_there(module: str, name: str) -> None:
    if module == "workers.drivers.lxc.driver":
        pytest.importorskip("lxc")
    assert callable(attrgetter(name)(importlib.import_module(module)))
