"""The LXC driver: see :mod:`workers.drivers.base` for the contract of each call."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from vmcloud.domain.messages import Seen, Snapshot, Usage
from vmcloud.domain.vocabulary import Kind, Observed
from workers.drivers.base import (
    CannotLook,
    Check,
    Driver,
    DriverError,
    Fingerprint,
    Freezer,
    Guest,
    Meter,
    Report,
    Runner,
    Saver,
    Snapshotter,
    silent,
)
from workers.drivers.session import Session

from . import cgroups, checkpoint, exits, folder, making, meter, monitor, power, preflight, process, save, sessions, snapshots
from .config import LxcSettings
from .folder import POWER, Marker
from .guests import LOG, Guests, changed, read
from .process import Life

LOG_MAX = 1 << 20
"""Bytes after which a running guest's liblxc log is emptied: a guest that reboots for ever must not fill the disk."""


class LxcDriver(Driver, Freezer, Runner, Snapshotter, Saver, Meter):
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
        try:
            return _foreign(path.name, process.look(self.guests, path.name).state)
        except CannotLook:
            # Such as for a name that is no text: what others do here must not hide our guests.
            return _foreign(path.name, Observed.UNKNOWN)

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
            if end is not exits.End.CLEAN:
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

    def events(self) -> Iterator[Seen]:
        """A lost connection is made again, and then every guest is said once, since changes may have been missed."""
        folder.prepare(self.guests, self.settings.idmap_base)
        while True:
            with monitor.connect(self.guests) as client:
                yield from self.list()
                for event in monitor.listen(client):
                    seen = self._after(event)
                    if seen is not None:
                        yield seen

    def _after(self, event: monitor.Event) -> Seen | None:
        """The guest as the event says it is. A guest of ours that is gone by now is no news here."""
        if "/" in event.native or event.native.startswith("."):
            return None
        state = process.STATES[event.state]
        path = self.guests / event.native
        try:
            marker = folder.read_marker(path)
        except DriverError:
            return None
        if marker is None:
            return _foreign(event.native, state) if (path / "config").exists() else None
        life = Life(state)
        if state in (Observed.RUNNING, Observed.SUSPENDED):
            life = self._guests.look(marker)
            life = life if life.state is state else Life(state)
        return self._seen(path, marker, life)

    # -------------------------------------------------------------------------------------- made, resized and removed

    def define(self, guest: Guest, report: Report = silent) -> None:
        making.define(self._guests, guest, report)

    def delete(self, native: str, report: Report = silent) -> None:
        making.delete(self._guests, native, report)

    def apply(self, guest: Guest) -> bool:
        return making.apply(self._guests, guest)

    def layers(self) -> frozenset[Path]:
        """The image trees that guests here are layers over; they must not be removed. Raises CannotLook."""
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


def _foreign(native: str, state: Observed) -> Seen:
    """A guest that somebody else made, under a name that can be written down."""
    name = native.encode("utf-8", "backslashreplace").decode()
    if not name.isprintable():
        name = name.encode("unicode_escape").decode()
    return Seen(native=name[:255], kind=Kind.LXC, state=state)


def _bound_log(path: Path) -> None:
    with suppress(OSError):
        if (path / LOG).stat().st_size > LOG_MAX:
            os.truncate(path / LOG, 0)
