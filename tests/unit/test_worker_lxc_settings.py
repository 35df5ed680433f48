"""The LXC driver's records of a guest's power, without containers."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from vmcloud.domain.vocabulary import Observed
from workers.drivers import tools
from workers.drivers.base import NoSpace, ToolFailed
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
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    path = guests.path / "web" / folder.POWER
    path.write_text(Observed.STOPPED)
    number = path.stat().st_ino
    guests.set_power("web", Observed.RUNNING)
    assert guests.power("web") == Observed.RUNNING and path.stat().st_ino == number and synced == [number]
    guests.set_power("web", Observed.RUNNING)
    assert synced == [number, number]  # the first writer may have been killed before its own


def test_power_that_is_recorded_while_it_is_carried_out_is_on_disk_when_that_is_done(
    guests: Guests, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    (guests.path / "web" / folder.POWER).write_text(Observed.STOPPED)
    recorded = guests.order_power("web", Observed.RUNNING)
    assert guests.power("web") == Observed.RUNNING and not synced
    tools.run(["/bin/true"], operation="start", timeout=5, daemonizes=True, meanwhile=recorded)
    assert len(synced) == 1


@pytest.mark.parametrize("before", [None, "?"])
def test_power_without_a_former_one_of_its_length_takes_the_place_of_the_file(guests: Guests, before: str | None) -> None:
    path = guests.path / "web" / folder.POWER
    if before is not None:
        path.write_text(before)
    guests.order_power("web", Observed.RUNNING)()
    assert path.read_text() == Observed.RUNNING and list(path.parent.iterdir()) == [path]


def test_a_disk_that_fails_is_named(guests: Guests, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    (guests.path / "web" / folder.POWER).write_text(Observed.STOPPED)
    monkeypatch.setattr(os, "fdatasync", broken)
    with pytest.raises(ToolFailed, match="Input/output error"):
        guests.set_power("web", Observed.RUNNING)


def test_a_full_disk_is_named_and_nothing_is_left(guests: Guests, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(NoSpace):
        guests.set_power("web", Observed.RUNNING)
    assert list((guests.path / "web").iterdir()) == []
