"""The LXC driver's records of a guest's power, without containers."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from vmcloud.domain.vocabulary import Observed
from workers.drivers.base import NoSpace
from workers.drivers.lxc import driver, folder
from workers.drivers.lxc.exits import End, how

pytestmark = pytest.mark.unit
LINE = "lxc-start g 20261121105044.932 INFO     error - ../src/lxc/error.c:lxc_error_set_and_log:34 - {}\n"


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("something else", End.NONE),
        ("Child <16> ended on signal Killed(9)", End.CRASHED),
        ("Child <16> ended on error (3)", End.CRASHED),
        ("Child <16> ended on signal Interrupt(2)", End.CLEAN),
        ("Container init process 16 exited", End.CLEAN),
    ],
)
def test_a_log_that_was_emptied_while_the_guest_ran_still_tells_its_end(text: str, end: End) -> None:
    assert how(LINE.format(text))[0] is end


def test_the_power_that_was_ordered_is_on_disk_before_it_is_acted_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(folder, "sync_directory", synced.append)
    (tmp_path / folder.POWER).write_text(Observed.STOPPED)
    driver._set_power(tmp_path, Observed.RUNNING)
    assert (tmp_path / folder.POWER).read_text() == Observed.RUNNING and synced == [tmp_path]
    driver._set_power(tmp_path, Observed.RUNNING)
    assert len(synced) == 1


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, text: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(folder, "write_durably", full)
    with pytest.raises(NoSpace):
        driver._set_power(tmp_path, Observed.RUNNING)
