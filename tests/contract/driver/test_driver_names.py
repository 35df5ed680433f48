"""Names that none of ours is, refused before anything is done: no path, no option, no second word ever comes from a name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from vmcloud.domain.messages import Snapshot
from vmcloud.domain.vocabulary import Power
from workers.drivers.base import BadRequest, Guest

from .bench import Bench
from .talk import found

pytestmark = pytest.mark.contract

NAMES = {
    "parent": "../x",
    "command": "a;b",
    "option": "-x",
    "empty": "",
    "long": "a" * 300,
    "capital": "A",
    "unicode": "ä",
    "folder": "a/b",
    "nul": "a\0b",
    "line": "a\nb",
    "space": "a b",
    "hidden": ".x",
}
SNAPSHOT = Snapshot("before", 1, 1000.0)
CALLS: dict[str, tuple[Power | None, Callable[[Any, str], object]]] = {
    "delete": (None, lambda driver, name: driver.delete(name)),
    "start": (None, lambda driver, name: driver.start(name)),
    "stop": (None, lambda driver, name: driver.stop(name, force=True)),
    "console": (Power.CONSOLE, lambda driver, name: driver.console(name)),
    "boot-log": (Power.BOOT_LOG, lambda driver, name: driver.boot_log(name)),
    "exec": (Power.EXEC, lambda driver, name: driver.exec(name, ["true"], environment={}, tty=False)),
    "freeze": (Power.FREEZE, lambda driver, name: driver.freeze(name)),
    "thaw": (Power.FREEZE, lambda driver, name: driver.thaw(name)),
    "save": (Power.SAVE, lambda driver, name: driver.save(name)),
    "snapshot": (Power.SNAPSHOT, lambda driver, name: driver.snapshot(name, SNAPSHOT)),
    "revert": (Power.SNAPSHOT, lambda driver, name: driver.revert(name, "before")),
    "delete-snapshot": (Power.SNAPSHOT, lambda driver, name: driver.delete_snapshot(name, "before")),
    "disown": (Power.ADOPT, lambda driver, name: driver.disown(name, "theirs")),
}


def marked(calls: list[str]) -> list[Any]:
    """Each call with the power it needs."""
    return [pytest.param(call, marks=[pytest.mark.power(power)] if (power := CALLS[call][0]) else []) for call in calls]


def natives(bench: Bench) -> list[str]:
    return sorted(seen.native for seen in bench.driver.list())


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_no_guest_of_such_a_name_is_made(bench: Bench, name: str) -> None:
    before = natives(bench)
    with pytest.raises(BadRequest):
        bench.driver.define(replace(bench.guest(), native=name))
    with pytest.raises(BadRequest):
        bench.driver.apply(replace(bench.guest(), native=name))
    assert natives(bench) == before


@pytest.mark.parametrize("call", marked(list(CALLS)))
def test_no_call_takes_such_a_name(bench: Bench, made: Guest, call: str) -> None:
    before = natives(bench), bench.look(made.native)
    for name in [*NAMES.values(), f"{made.native}/", f"./{made.native}", f"{made.native}\0", made.native.upper()]:
        with pytest.raises(BadRequest):
            CALLS[call][1](bench.driver, name)
    assert (natives(bench), bench.look(made.native)) == before


@pytest.mark.power(Power.SNAPSHOT)
@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_no_snapshot_has_such_a_name(bench: Bench, made: Guest, name: str) -> None:
    before = bench.look(made.native)
    for call in (
        lambda: bench.driver.snapshot(made.native, Snapshot(name, 1, 1000.0)),
        lambda: bench.driver.revert(made.native, name),
        lambda: bench.driver.delete_snapshot(made.native, name),
    ):
        with pytest.raises(BadRequest):
            call()
    assert bench.look(made.native) == before
    assert found(bench, made).snapshots == ()
