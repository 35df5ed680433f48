"""The LXC driver's records of a guest's power, without containers."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from vmcloud.domain.vocabulary import Observed
from workers.drivers.base import NoSpace
from workers.drivers.lxc import LxcSettings, folder
from workers.drivers.lxc.config import Host
from workers.drivers.lxc.exits import End, how
from workers.drivers.lxc.guests import Guests

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


@pytest.fixture
def guests(tmp_path: Path) -> Guests:
    (tmp_path / "lxc" / "web").mkdir(parents=True)
    return Guests(LxcSettings(tmp_path, "br7", 1000000, 65536), Host(1))


def test_the_power_that_was_ordered_is_on_disk_before_it_is_acted_on(guests: Guests, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(folder, "sync_directory", synced.append)
    (guests.path / "web" / folder.POWER).write_text(Observed.STOPPED)
    guests.set_power("web", Observed.RUNNING)
    assert guests.power("web") == Observed.RUNNING and synced == [guests.path / "web"]
    guests.set_power("web", Observed.RUNNING)
    assert len(synced) == 1


def test_a_full_disk_is_named_and_nothing_is_left(guests: Guests, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(NoSpace):
        guests.set_power("web", Observed.RUNNING)
    assert list((guests.path / "web").iterdir()) == []
