"""The LXC driver: see :mod:`workers.drivers.base` for the contract of each call."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from vmcloud.domain.messages import Seen, Snapshot, Usage
from vmcloud.domain.vocabulary import Kind, Observed
from workers.drivers.base import (
    Adopter,
    CannotLook,
    Check,
    Copier,
    Driver,
    DriverError,
    Fingerprint,
    Freezer,
    Gone,
    Guest,
    GuestRef,
    Layered,
    Meter,
    Renamer,
    Report,
    Runner,
    Saver,
    Snapshotter,
    always,
    silent,
)
from workers.drivers.session import Session

from . import (
    adoption,
    cgroups,
    checkpoint,
    exits,
    folder,
    making,
    meter,
    monitor,
    naming,
    power,
    preflight,
    process,
    save,
    sessions,
    snapshots,
)
from .config import LxcSettings
from .ears import Came, Ears, Ended, Left, Lost
from .folder import POWER, Marker
from .guests import LOG, Guests, changed, read
from .process import Life

LOG_MAX = 1 << 20
"""Bytes after which a running guest's liblxc log is emptied: a guest that reboots for ever must not fill the disk."""


STEADY, QUICK_LOSSES, PAUSE = 1.0, 3, 0.1
"""Seconds that a connection to lxc-monitord must last for its loss not to count against the next; how many may count, and the
seconds by which the pause grows with each. (One that begins while its predecessor is being killed ends as well.)"""


class LxcDriver(Driver, Freezer, Runner, Snapshotter, Saver, Meter, Adopter, Layered, Renamer, Copier):
    """Containers in ``settings.home/lxc``. Guests there that vmcloud did not make are listed and never touched."""

    kind = Kind.LXC

    def __init__(self, settings: LxcSettings) -> None:
        self.settings = settings
        self.guests = settings.guests
        self.host = cgroups.look_at_host(overlay=preflight.overlay_usable(settings.home))
        self._guests = Guests(settings, self.host)

    # ------------------------------------------------------------------------------------------------------- looking

    def fingerprint(self) -> Fingerprint:
        return preflight.fingerprint(self.settings)

    def preflight(self) -> Sequence[Check]:
        return preflight.checks(self.settings)

    def list(self) -> Sequence[Seen]:
        return [self._look(path, marker) for path, marker in folder.entries(self.guests)]

    def inspect(self, native: str) -> Seen | None:
        path = self._guests.folder(native)
        marker = folder.read_marker(path)
        return self._look(path, marker) if marker is not None or (path / "config").exists() else None

    def _look(self, path: Path, marker: Marker | None) -> Seen:
        if marker is not None:
            return self._seen(path, marker, self._guests.look(marker))
        return adoption.seen(path, _foreign_life(self.guests, path.name).state)

    def _seen(self, path: Path, marker: Marker, life: Life) -> Seen:
        guest = marker.guest
        state, error, since = life.state, "", changed(path / POWER)
        vcpus, memory = guest.spec.vcpus, guest.spec.memory_mib
        if life.init:
            # The ordered power does not change when a guest that crashed is started again; its init is then a new one.
            since = max(since, life.since)
            with suppress(DriverError):
                # Those of a guest that is just ending are gone.
                enforced = life.groups.sizes()
                vcpus, memory = enforced[0] or vcpus, enforced[1] or memory
            _bound_log(path)
        elif state is Observed.STOPPED and self._guests.power(guest.native) == Observed.RUNNING:
            # Nobody ordered this stop: the log tells a shutdown from inside and a crash apart. One that says nothing was emptied
            # while the guest ran, or the guest was to be started and the power went: no shutdown from inside.
            end, error = exits.how(read(path / LOG))
            if end in (exits.End.REBOOT, exits.End.CUT) and process.held(self.guests, guest.native):
                state, error = Observed.STARTING, ""  # its next run begins, or has begun by now
            elif end is not exits.End.CLEAN:
                state, error = Observed.CRASHED, error or exits.NO_TRACE
            since = max(since, changed(path / LOG))
        return Seen(
            native=guest.native,
            kind=Kind.LXC,
            state=state,
            ve=guest.ve,
            addresses=(guest.address.partition("/")[0],) if guest.address else (),
            mac=guest.mac,
            since=since,
            vcpus=vcpus,
            memory_mib=memory,
            error=error,
            snapshots=snapshots.listed(path),
        )

    def events(self, wanted: Callable[[str], bool] = always) -> Iterator[Seen | Gone]:
        """A lost connection is made again at once, and then every guest is said, since changes may have been missed. One that is
        lost again and again is the caller's to wait for."""
        folder.prepare(self.guests, self.settings.idmap_base)
        short = 0
        with Ears(self.guests) as ears:
            while True:
                ears.connect()
                connected = time.monotonic()
                told: dict[str, Observed] = {}
                yield from self._everything(ears, told)
                for heard in ears.hear():
                    match heard:
                        case Lost("lxc-monitord"):
                            break
                        case Lost():
                            yield from self._everything(ears, told)
                        case Left(native):
                            told.pop(native, None)
                            yield Gone(folder.printable(native))
                        case _:
                            seen = self._after(ears, heard, told, wanted)
                            if seen is not None:
                                told[heard.native] = seen.state
                                yield seen
                short = short + 1 if time.monotonic() - connected < STEADY else 0
                if short > QUICK_LOSSES:
                    raise CannotLook("events", f"lxc-monitord ended {short} times, each within {STEADY:g} s")
                time.sleep(short * PAUSE)

    def _everything(self, ears: Ears, told: dict[str, Observed]) -> Iterator[Seen]:
        """Every guest, with its monitor process held from before it was looked at."""
        for path, marker in folder.entries(self.guests):
            life = self._guests.look(marker) if marker else _foreign_life(self.guests, path.name)
            ears.hold(path.name, life.monitor)
            seen = self._seen(path, marker, life) if marker else adoption.seen(path, life.state)
            told[path.name] = seen.state
            yield seen

    def _after(
        self,
        ears: Ears,
        heard: monitor.Event | monitor.Exit | Ended | Came,
        told: dict[str, Observed],
        wanted: Callable[[str], bool],
    ) -> Seen | None:
        """The guest after what was heard of it. A guest of ours that is gone by now is no news here."""
        native = heard.native
        if "/" in native or native.startswith("."):
            return None
        if isinstance(heard, monitor.Event) and not wanted(native):
            told[native] = process.STATES[heard.state]
            if told[native] is Observed.RUNNING:
                ears.hold(native, process.holder(self.guests, native))
            return None
        path = self.guests / native
        try:
            marker = folder.read_marker(path)
        except DriverError:
            return None
        if marker is None and not (path / "config").exists():
            return None
        match heard:
            case monitor.Exit(status=status):
                if marker is not None:
                    _complete_log(self.guests, native, status)
                return None
            case Ended() if told.get(native) in (Observed.STOPPED, Observed.CRASHED):
                return None  # as liblxc has said before it ended
            case Ended() | Came():
                life = self._guests.look(marker) if marker else _foreign_life(self.guests, native)
                ears.hold(native, life.monitor)
            case monitor.Event(state=word):
                life = Life(process.STATES[word])
                if life.state in (Observed.RUNNING, Observed.SUSPENDED):
                    found = self._guests.look(marker) if marker else _foreign_life(self.guests, native)
                    ears.hold(native, found.monitor)
                    life = found if found.state is life.state else life
        return self._seen(path, marker, life) if marker else adoption.seen(path, life.state)

    # -------------------------------------------------------------------------------------- made, resized and removed

    def define(self, guest: Guest, report: Report = silent) -> None:
        making.define(self._guests, guest, report)

    def delete(self, native: str, report: Report = silent) -> None:
        making.delete(self._guests, native, report)

    def apply(self, guest: Guest) -> bool:
        return making.apply(self._guests, guest)

    def adopt(self, orphan: str, guest: Guest, report: Report = silent) -> Guest:
        return adoption.adopt(self._guests, orphan, guest)

    def disown(self, native: str, orphan: str) -> None:
        adoption.disown(self._guests, native, orphan)

    def rename(self, ref: GuestRef, native: str) -> None:
        naming.rename(self._guests, ref, native)

    def copy(self, source: GuestRef, guest: Guest, *, snapshot: str = "", report: Report = silent) -> None:
        making.copy(self._guests, source, guest, snapshot, report)

    def layers(self) -> frozenset[Path]:
        markers = [marker for _, marker in folder.entries(self.guests)]
        return frozenset(marker.guest.image for marker in markers if marker and marker.guest.image and not marker.copied)

    # ------------------------------------------------------------------------------------------------------------- power

    def start(self, native: str) -> None:
        power.start(self._guests, native)

    def stop(self, native: str, *, force: bool = False, grace: float = 30.0) -> None:
        power.stop(self._guests, native, force=force, grace=grace)

    def freeze(self, native: str) -> None:
        power.freeze(self._guests, native, True)

    def thaw(self, native: str) -> None:
        power.freeze(self._guests, native, False)

    # ------------------------------------------------------------------------------------------- sessions, snapshots, use

    def console(self, native: str) -> Session:
        return sessions.console(self._guests, native)

    def boot_log(self, native: str) -> bytes:
        return sessions.boot_log(self._guests, native)

    def exec(self, native: str, argv: Sequence[str], *, environment: Mapping[str, str], tty: bool) -> Session:
        return sessions.run(self._guests, native, argv, environment, tty=tty)

    def snapshot(self, native: str, snapshot: Snapshot, report: Report = silent) -> None:
        snapshots.take(self._guests, native, snapshot, report)

    def revert(self, native: str, name: str, report: Report = silent) -> None:
        snapshots.revert(self._guests, native, name, report)

    def delete_snapshot(self, native: str, name: str) -> None:
        snapshots.delete(self._guests, native, name)

    def can_save(self) -> Check:
        return save.can_save(self._guests)

    def save(self, native: str, report: Report = silent) -> None:
        save.save(self._guests, native, report)

    def saved(self, native: str) -> bool:
        self._guests.marker(native, "save")
        return checkpoint.saved(self.guests / native)

    def usage(self) -> Sequence[Usage]:
        return meter.usage(self._guests)


def _foreign_life(guests: Path, native: str) -> Life:
    """That of a guest that somebody else made. Unknown where liblxc cannot tell, such as for a name that is no text: what others
    do here must not hide our guests."""
    try:
        return process.look(guests, native)
    except CannotLook:
        return Life(Observed.UNKNOWN)


def _complete_log(guests: Path, native: str, status: int) -> None:
    """Write how a run ended into our log of the guest, where liblxc was told to log it elsewhere: a run begun by hand."""
    init = process.last_init(guests, native)
    if init and not exits.tells_of(read(guests / native / LOG), init):
        with suppress(OSError), (guests / native / LOG).open("a") as log:
            log.write(exits.words(init, status))


def _bound_log(path: Path) -> None:
    with suppress(OSError):
        if (path / LOG).stat().st_size > LOG_MAX:
            os.truncate(path / LOG, 0)
