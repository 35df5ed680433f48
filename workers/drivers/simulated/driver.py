"""The simulated driver: see :mod:`workers.drivers.base` for the contract of each call."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from vmcloud import faults
from vmcloud.domain.messages import Seen, Snapshot, Usage
from vmcloud.domain.vocabulary import Kind, Observed

from ..base import (
    Adopter,
    BadRequest,
    CannotLook,
    Check,
    Driver,
    Fingerprint,
    Freezer,
    Gone,
    Guest,
    Layered,
    Meter,
    NoSuchGuest,
    Report,
    Runner,
    Saver,
    Snapshotter,
    always,
    check_name,
    silent,
)
from ..session import Session
from .acting import check_sizes
from .copying import Copying
from .migration import Migration
from .programs import host_name
from .store import Record
from .trouble import End
from .weather import Weather

POLL = 0.5
"""Seconds between two looks for changes from outside; those of this process are told at once."""


class SimulatedDriver(Migration, Copying, Driver, Freezer, Saver, Snapshotter, Meter, Runner, Adopter, Layered):
    """See the package; ``delay``, ``fail`` and ``seed`` are its :class:`~.weather.Weather`."""

    kind: ClassVar[Kind] = Kind.SIMULATED
    isolated: ClassVar[bool] = False

    def __init__(self, path: Path, *, delay: float = 0.0, fail: float = 0.0, seed: str = "") -> None:
        super().__init__(path, Weather(delay, fail, seed))
        self._told = self._store.last
        self._closed = False

    # ------------------------------------------------------------------------------------------------------------ looking

    def fingerprint(self) -> Fingerprint:
        """Always healthy, and says what it is."""
        return Fingerprint(Kind.SIMULATED, "simulated", healthy=True, detail="simulated guests are rows of a file")

    def preflight(self) -> Sequence[Check]:
        """Nothing is required."""
        return [Check("simulated", ok=True, detail="simulated guests need nothing")]

    def list(self) -> Sequence[Seen]:
        """See :class:`Driver`."""
        self._trouble.fault("list")
        return [record.seen for record in self._store.records()]

    def inspect(self, native: str) -> Seen | None:
        """See :class:`Driver`."""
        self._trouble.fault("inspect")
        record = self._store.get(native)
        return record.seen if record is not None and record.whole else None

    def usage(self) -> Sequence[Usage]:
        """Made up from the time since the start; the same guest never uses less than before."""
        self._trouble.fault("usage")
        now = time.time()
        running = (record for record in self._store.records() if record.seen.state is Observed.RUNNING)
        return [_usage(record, now) for record in running if record.seen.ve is not None]

    def events(self, wanted: Callable[[str], bool] = always) -> Iterator[Seen | Gone]:
        """Every change of state, in order, also of our own calls; those from outside after :data:`POLL` at the latest."""
        position = self._told
        while not self._closed:
            try:
                fresh, position = self._store.changes(position)
            except LookupError:
                self._told = self._store.last
                raise CannotLook("events", "more happened than is kept") from None
            self._told = max(self._told, position)
            yield from (seen for seen in fresh if wanted(seen.native))
            with self._store.changed:
                if not self._closed and self._store.last <= position:
                    self._store.changed.wait(POLL)

    def close(self) -> None:
        """End :meth:`events`."""
        with self._store.changed:
            self._closed = True
            self._store.changed.notify_all()

    # ------------------------------------------------------------------------------------------------------------- acting

    def define(self, guest: Guest, report: Report = silent) -> None:
        """Make a half guest first and its files next; only then it is whole."""
        native = guest.native
        ends = self._trouble.begin("define", native)
        if self._is_there(guest):
            return
        check_sizes(guest, "define")
        address = guest.address.partition("/")[0]
        seen = Seen(
            native=native,
            kind=Kind.SIMULATED,
            state=Observed.STOPPED,
            ve=guest.ve,
            addresses=(address,) if address else (),
            mac=guest.mac,
            since=time.time(),
            vcpus=guest.spec.vcpus,
            memory_mib=guest.spec.memory_mib,
        )
        with self._store.change():
            if self._is_there(guest):
                return
            self._store.put(Record(seen, whole=False, disk_mib=guest.spec.disk_mib))
        faults.point("driver.simulated.define.begun")
        report("root file system", 50)
        self._trouble.work()
        with self._acting("define"):
            if self._is_there(guest):
                return
            self._store.put(Record(replace(seen, since=time.time()), disk_mib=guest.spec.disk_mib), "define")
            self._store.fill(native, {"/etc/hostname": f"{host_name(native)}\n".encode()})
            self._store.put_layer(native, guest.image)
        ends()

    def layers(self) -> frozenset[Path]:
        """See :class:`Layered`. Guests that came from another node have none: they brought all their files."""
        return frozenset(self._store.layers().values())

    def _is_there(self, guest: Guest) -> bool:
        """Whether the guest is whole. :class:`BadRequest` where another one has its name."""
        self._check_not_incoming("define", guest)
        known = self._store.get(guest.native)
        if known is None or not known.whole:
            return False
        if known.seen.ve != guest.ve:
            raise BadRequest("define", f"the name {guest.native} belongs to {known.seen.ve or 'a guest that is not ours'}")
        return True

    def delete(self, native: str, report: Report = silent) -> None:
        """See :class:`Driver`."""
        ends = self._trouble.begin("delete", native)
        known = self._store.get(native)
        if known is None:
            return
        self._check_ours("delete", known)
        faults.point("driver.simulated.delete.begun")
        self._trouble.work()
        with self._acting("delete"):
            known = self._store.get(native)
            if known is not None:
                self._store.remove(native, "delete" if known.whole else "")
        self._programs.end(native)
        ends()

    def start(self, native: str) -> None:
        """See :class:`Driver`."""
        self._change("start", native, Observed.RUNNING)

    def stop(self, native: str, *, force: bool = False, grace: float = 30.0) -> None:
        """See :class:`Driver`."""
        self._change("stop", native, Observed.STOPPED)

    def freeze(self, native: str) -> None:
        """See :class:`Freezer`."""
        self._change("freeze", native, Observed.SUSPENDED, needs=Observed.RUNNING)

    def thaw(self, native: str) -> None:
        """See :class:`Freezer`."""
        self._change("thaw", native, Observed.RUNNING, needs=Observed.SUSPENDED)

    def apply(self, guest: Guest) -> bool:
        """See :class:`Driver`."""
        ends = self._trouble.begin("resize", guest.native, planned="apply")
        known = self._known("resize", guest.native)
        if known.seen.ve != guest.ve:
            raise BadRequest("resize", f"{guest.native} belongs to VE {known.seen.ve}")
        check_sizes(guest, "resize")
        sizes = (guest.spec.vcpus, guest.spec.memory_mib, guest.spec.disk_mib)
        if (known.seen.vcpus, known.seen.memory_mib, known.disk_mib) == sizes:
            return False
        faults.point("driver.simulated.resize.begun")
        self._trouble.work()
        with self._acting("resize"):
            known = self._known("resize", guest.native)
            seen = replace(known.seen, vcpus=guest.spec.vcpus, memory_mib=guest.spec.memory_mib)
            self._store.put(replace(known, seen=seen, disk_mib=guest.spec.disk_mib), "apply")
        ends()
        return False

    # -------------------------------------------------------------------------------------------------- saving, snapshots

    def can_save(self) -> Check:
        """See :class:`Saver`."""
        return Check("save", ok=True, detail="a simulated guest's memory is a few rows")

    def save(self, native: str, report: Report = silent) -> None:
        """See :class:`Saver`."""
        if not self.saved(native):
            self._change("save", native, Observed.STOPPED, needs=Observed.RUNNING)

    def saved(self, native: str) -> bool:
        """See :class:`Saver`."""
        check_name(native, "save")
        return self._known("save", native).saved

    def snapshot(self, native: str, snapshot: Snapshot, report: Report = silent) -> None:
        """See :class:`Snapshotter`."""
        ends = self._begin_snapshot("snapshot", native, snapshot.name)
        if self._is_kept(native, snapshot):
            return
        faults.point("driver.simulated.snapshot.begun")
        self._trouble.work()
        with self._acting("snapshot"):
            if not self._is_kept(native, snapshot):
                self._store.keep(self._known("snapshot", native), snapshot)
        ends()

    def _is_kept(self, native: str, snapshot: Snapshot) -> bool:
        """Whether it is there. :class:`BadRequest` where another one has its name."""
        found = _snapshot(self._known("snapshot", native), snapshot.name)
        if found is not None and found.job != snapshot.job:
            what = f"{native} has a snapshot {snapshot.name} of job {found.job}"
            raise BadRequest("snapshot", what, todo="Choose another name.")
        return found is not None

    def revert(self, native: str, name: str, report: Report = silent) -> None:
        """See :class:`Snapshotter`."""
        ends = self._begin_snapshot("revert", native, name)
        self._check_revert(native, name)
        faults.point("driver.simulated.revert.begun")
        self._trouble.work()
        with self._acting("revert"):
            known = self._check_revert(native, name)
            self._store.bring_back(native, name)
            self._store.put(replace(known, saved=False), "revert")
        ends()

    def _check_revert(self, native: str, name: str) -> Record:
        known = self._known("revert", native)
        if _snapshot(known, name) is None:
            raise BadRequest("revert", f"{native} has no snapshot {name}")
        if known.seen.state in (Observed.RUNNING, Observed.SUSPENDED):
            raise BadRequest("revert", f"{native} runs", todo="Stop it first.")
        return known

    def delete_snapshot(self, native: str, name: str) -> None:
        """See :class:`Snapshotter`."""
        ends = self._begin_snapshot("delete-snapshot", native, name)
        if _snapshot(self._known("delete-snapshot", native), name) is None:
            return
        faults.point("driver.simulated.delete-snapshot.begun")
        self._trouble.work()
        with self._acting("delete-snapshot"):
            self._store.drop(self._known("delete-snapshot", native), name)
        ends()

    # ---------------------------------------------------------------------------------------------------------- adoption

    def adopt(self, orphan: str, guest: Guest, report: Report = silent) -> Guest:
        """See :class:`Adopter`."""
        ends = self._trouble.begin("adopt", guest.native)
        if not self._is_there(guest):
            self._orphan(orphan)
            faults.point("driver.simulated.adopt.begun")
            self._trouble.work()
            with self._acting("adopt"):
                if not self._is_there(guest):
                    self._take_over(self._orphan(orphan), guest)
        ends()
        known = self._known("adopt", guest.native)
        seen = known.seen
        spec = replace(guest.spec, vcpus=seen.vcpus, memory_mib=seen.memory_mib, disk_mib=known.disk_mib)
        return replace(guest, spec=spec, address="".join(seen.addresses[:1]), mac=seen.mac)

    def _orphan(self, orphan: str) -> Record:
        record = self._store.get(orphan)
        if record is None or not record.whole:
            raise NoSuchGuest("adopt", f"there is no guest {orphan}")
        if record.seen.ve is not None:
            raise BadRequest("adopt", f"{orphan} is VE {record.seen.ve}")
        if record.seen.state not in (Observed.STOPPED, Observed.CRASHED):
            what = f"{orphan} is {record.seen.state}, and only what is stopped can be given another name"
            raise BadRequest("adopt", what, todo="Stop it first.")
        return record

    def _take_over(self, record: Record, guest: Guest) -> None:
        before, spec = record.seen, guest.spec
        vcpus, memory = spec.vcpus or before.vcpus, spec.memory_mib or before.memory_mib
        if not (vcpus and memory):
            raise BadRequest("adopt", f"{before.native} has no limit", todo="Say which one it is to have.")
        check_sizes(replace(guest, spec=replace(spec, vcpus=vcpus, memory_mib=memory, disk_mib=record.disk_mib)), "adopt")
        after = replace(
            before, native=guest.native, ve=guest.ve, state=Observed.STOPPED, vcpus=vcpus, memory_mib=memory, error=""
        )
        self._store.rename(record, replace(record, seen=after), "adopt")
        self._store.note_adopted(guest.native, before)

    def disown(self, native: str, orphan: str) -> None:
        """See :class:`Adopter`."""
        ends = self._trouble.begin("disown", native)
        record = self._store.get(native)
        if record is None:
            return
        self._check_ours("disown", record)
        before = self._store.adopted(native)
        if before is None or before.native != orphan:
            raise BadRequest("disown", f"{native} was not adopted from {orphan}")
        if record.seen.state in (Observed.RUNNING, Observed.SUSPENDED):
            raise BadRequest("disown", f"{native} runs", todo="Stop it first.")
        faults.point("driver.simulated.disown.begun")
        self._trouble.work()
        with self._acting("disown"):
            record = self._store.get(native)
            if record is not None:
                self._store.rename(record, replace(record, seen=replace(before, since=record.seen.since)), "disown")
                self._store.note_adopted(native, None)
        ends()

    # ---------------------------------------------------------------------------------------------------------- sessions

    def console(self, native: str) -> Session:
        """See :class:`Driver`."""
        return self._session("console", native, None, {}, tty=True)

    def exec(self, native: str, argv: Sequence[str], *, environment: Mapping[str, str], tty: bool) -> Session:
        """See :class:`Runner`."""
        return self._session("exec", native, argv, environment, tty=tty)

    def boot_log(self, native: str) -> bytes:
        """See :class:`Driver`."""
        self._trouble.begin("boot-log", native)
        known = self._known("boot-log", native)
        if not known.booted:
            return b""
        return f"vmcloud: {host_name(native)} ready (simulated: no real system has booted)\n".encode()

    def _session(
        self, operation: str, native: str, argv: Sequence[str] | None, environment: Mapping[str, str], *, tty: bool
    ) -> Session:
        self._trouble.begin(operation, native)
        if self._known(operation, native).seen.state is not Observed.RUNNING:
            raise BadRequest(operation, f"{native} does not run", todo="Start it first.")
        return self._programs.begin(native, argv, environment, tty=tty)

    # ------------------------------------------------------------------------------------------------------------- within

    @property
    def interruptible(self) -> Callable[[threading.Event, float], AbstractContextManager[None]]:
        """See :meth:`.trouble.Trouble.interruptible`."""
        return self._trouble.interruptible

    def _change(self, operation: str, native: str, state: Observed, *, needs: Observed | None = None) -> None:
        """Bring a guest into a state, from any or only from the one that the operation ``needs``."""
        ends = self._trouble.begin(operation, native)

        def there() -> Record | None:
            known = self._known(operation, native)
            if known.seen.state is state and operation != "save":
                return None
            if needs is not None and known.seen.state is not needs:
                raise BadRequest(operation, f"{native} is {known.seen.state}", todo="Start it first.")
            return known

        if there() is None:
            return
        faults.point(f"driver.simulated.{operation}.begun")
        self._trouble.work()
        with self._acting(operation):
            known = there()
            if known is not None:
                self._store.arrive(known, state, operation)
        if state is not Observed.RUNNING:
            self._programs.end(native)
        ends()

    def _begin_snapshot(self, operation: str, native: str, name: str) -> End:
        check_name(name, operation)
        return self._trouble.begin(operation, native)


def _snapshot(record: Record, name: str) -> Snapshot | None:
    return next((each for each in record.seen.snapshots if each.name == name), None)


def _usage(record: Record, now: float) -> Usage:
    seen = record.seen
    assert seen.ve is not None
    ran = max(now - record.booted, 0.0)
    memory = (seen.memory_mib << 20) // 4
    return Usage(
        seen.ve, ran * seen.vcpus * 0.05, memory, memory, int(ran * 4096), int(ran * 1024), int(ran * 600), int(ran * 300), 2
    )
