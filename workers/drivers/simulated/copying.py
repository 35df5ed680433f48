"""Simulated guests under another name, and copied."""

from __future__ import annotations

import time
from dataclasses import replace

from vmcloud import faults
from vmcloud.domain.messages import Seen
from vmcloud.domain.vocabulary import Kind, Observed

from ..base import BadRequest, Copier, Guest, GuestRef, Renamer, Report, check_name, silent
from .acting import Acting, check_sizes
from .programs import host_name
from .store import MEMORY, Record

HOSTNAME = "/etc/hostname"


class Copying(Acting, Renamer, Copier):
    """See :class:`~workers.drivers.base.Renamer` and :class:`~workers.drivers.base.Copier`."""

    def rename(self, ref: GuestRef, native: str) -> None:
        """See :class:`Renamer`; at any time."""
        ends = self._trouble.begin("rename", ref.native)
        check_name(native, "rename")
        if self._is_called(ref, native):
            return
        faults.point("driver.simulated.rename.begun")
        self._trouble.work()
        with self._acting("rename"):
            if not self._is_called(ref, native):
                self._call(self._known("rename", ref.native), native)
        self._programs.end(ref.native)
        ends()

    def _is_called(self, ref: GuestRef, native: str) -> bool:
        """Whether the guest has its new name. Raises where it can not have it."""
        old, new = self._store.get(ref.native), self._store.get(native)
        if new is not None and new.seen.ve == ref.ve and (old is None or native == ref.native):
            self._known("rename", native)
            return True
        self._mine("rename", ref)
        if new is not None or self._store.incoming_named(native) is not None:
            raise BadRequest("rename", f"the name {native} belongs to another guest", todo="Choose another name.")
        return False

    def _call(self, known: Record, native: str) -> None:
        """Within a change."""
        before = known.seen.native
        self._store.rename(known, replace(known, seen=replace(known.seen, native=native)), "rename")
        files = dict(self._store.files(native))
        if files.get(HOSTNAME) == f"{host_name(before)}\n".encode():
            self._store.fill(native, files | {HOSTNAME: f"{host_name(native)}\n".encode()})

    def copy(self, source: GuestRef, guest: Guest, *, snapshot: str = "", report: Report = silent) -> None:
        """See :class:`Copier`; also of a guest that runs: all its files are read at one moment."""
        ends = self._trouble.begin("copy", guest.native)
        if self._is_copied(guest):
            return
        check_sizes(guest, "copy")
        self._check_source(source, snapshot)
        faults.point("driver.simulated.copy.begun")
        report("copy", 50)
        self._trouble.work()
        with self._acting("copy"):
            if not self._is_copied(guest):
                self._check_source(source, snapshot)
                self._make_copy(source, guest, snapshot)
        ends()

    def _is_copied(self, guest: Guest) -> bool:
        self._check_not_incoming("copy", guest)
        known = self._store.get(guest.native)
        if known is None or not known.whole:
            return False
        self._mine("copy", GuestRef(guest.ve, guest.native))
        return True

    def _check_source(self, source: GuestRef, snapshot: str) -> None:
        known = self._mine("copy", source)
        if snapshot and all(each.name != snapshot for each in known.seen.snapshots):
            raise BadRequest("copy", f"{source.native} has no snapshot {snapshot}")

    def _make_copy(self, source: GuestRef, guest: Guest, snapshot: str) -> None:
        """Within a change."""
        files = self._store.kept(source.native, snapshot) if snapshot else self._store.files(source.native)
        disk = {path: content for path, content in files.items() if not path.startswith(MEMORY)}
        address = guest.address.partition("/")[0]
        seen = Seen(
            native=guest.native,
            kind=Kind.SIMULATED,
            state=Observed.STOPPED,
            ve=guest.ve,
            addresses=(address,) if address else (),
            mac=guest.mac,
            since=time.time(),
            vcpus=guest.spec.vcpus,
            memory_mib=guest.spec.memory_mib,
        )
        self._store.put(Record(seen, disk_mib=guest.spec.disk_mib), "copy")
        self._store.put_layer(guest.native, self._store.layers().get(source.native))
        self._store.fill(guest.native, disk | {HOSTNAME: f"{host_name(guest.native)}\n".encode()})
