"""The table of kinds, the drivers and this suite say the same. Runs last of all cases."""

from __future__ import annotations

import pytest

from tests.matrix import Matrix
from vmcloud.domain.kinds import KINDS, Support
from vmcloud.domain.vocabulary import Kind, Power
from workers.drivers.base import (
    Adopter,
    Copier,
    Driver,
    Freezer,
    Guest,
    Meter,
    Migrator,
    Renamer,
    Runner,
    Saver,
    Snapshotter,
    Unsupported,
)

from .bench import BENCHES, Bench
from .talk import check_runs

pytestmark = pytest.mark.contract

PROTOCOLS: dict[Power, type] = {
    Power.CONSOLE: Driver,
    Power.BOOT_LOG: Driver,
    Power.RESIZE: Driver,
    Power.LIVE_RESIZE: Driver,
    Power.DISK_LIMIT: Driver,
    Power.EXEC: Runner,
    Power.FREEZE: Freezer,
    Power.SAVE: Saver,
    Power.SNAPSHOT: Snapshotter,
    Power.METER: Meter,
    Power.ADOPT: Adopter,
    Power.MIGRATE: Migrator,
    Power.RENAME: Renamer,
    Power.COPY: Copier,
}
"""What a driver with a power implements."""


def test_a_driver_implements_the_powers_of_its_kind_and_no_others(bench: Bench) -> None:
    info = KINDS[bench.driver.kind]
    for power in Power:
        support, protocol = info.capability(power).support, PROTOCOLS.get(power)
        if support in (Support.YES, Support.NODE):
            assert protocol is not None and isinstance(bench.driver, protocol), f"the table says {support} of {power}"
        elif protocol is not None and protocol is not Driver:
            assert not isinstance(bench.driver, protocol), f"the table says {support} of {power}, and the driver has it"


def test_every_power_of_the_kind_was_proved_by_a_case(bench: Bench, request: pytest.FixtureRequest) -> None:
    kind = bench.driver.kind
    matrix = request.config.pluginmanager.get_plugin("matrix")
    assert isinstance(matrix, Matrix)
    if matrix.whole(kind):
        support = {power: KINDS[kind].capability(power).support for power in Power}
        assert not [power for power in Power if support[power] is Support.YES and not matrix.proved[kind, power]], "none passed"
        # Where this node cannot, its cases are skipped: they must be there all the same.
        assert not [power for power in Power if support[power] is Support.NODE and not matrix.has((kind, power))], "no case"


def test_what_a_node_cannot_do_is_refused_in_words_and_harms_no_guest(bench: Bench, running: Guest) -> None:
    driver = bench.driver
    if isinstance(driver, Saver) and not driver.can_save().ok:
        assert driver.can_save().detail
        with pytest.raises(Unsupported) as caught:
            driver.save(running.native)
        assert caught.value.problem().what
    check_runs(bench, running)


def test_every_kind_with_a_driver_has_a_bench() -> None:
    assert set(BENCHES) == {kind for kind in Kind if KINDS[kind].driver}
