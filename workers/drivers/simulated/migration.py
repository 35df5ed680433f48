"""Guests that move from one simulated node to another. All that passes is the state that :meth:`Migration.send` returns: sizes,
power, addresses, counters, snapshots, and the guest's files, which are few (an output is bounded)."""

from __future__ import annotations

import base64
import json
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self
from uuid import UUID

from vmcloud import faults
from vmcloud.domain.errors import VmcloudError
from vmcloud.domain.messages import Seen, Snapshot
from vmcloud.domain.vocabulary import Desired, Kind, Observed
from vmcloud.domain.wire import boolean, listing, moment, whole, word

from ..base import BadRequest, Guest, GuestRef, Migrator, NoSuchGuest, Report, silent
from .acting import Acting, check_sizes
from .store import MEMORY, Incoming, Record

FILES_MAX = 16 << 20
"""Bytes of all files together that an arriving guest may have: what is packed may have been forged."""
PARTS = 4
"""A transfer tells how far it is so many times."""


@dataclass(frozen=True)
class Arrival:
    """What travels. ``power``: the state before the guest was sent; ``frozen``: it comes with its memory. ``kept``: the files of
    each snapshot by its name."""

    ve: UUID
    power: Observed
    frozen: bool
    saved: bool
    booted: float
    vcpus: int
    memory_mib: int
    disk_mib: int
    addresses: tuple[str, ...]
    mac: str
    snapshots: tuple[Snapshot, ...]
    files: Mapping[str, bytes]
    kept: Mapping[str, Mapping[str, bytes]]

    def to_json(self) -> dict[str, Any]:
        """The form in which it crosses."""
        return {
            "ve": str(self.ve),
            "power": str(self.power),
            "frozen": self.frozen,
            "saved": self.saved,
            "booted": self.booted,
            "vcpus": self.vcpus,
            "memory_mib": self.memory_mib,
            "disk_mib": self.disk_mib,
            "addresses": list(self.addresses),
            "mac": self.mac,
            "snapshots": [each.to_json() for each in self.snapshots],
            "files": _packed({"": self.files, **self.kept}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of :meth:`to_json`. ValueError, TypeError, LookupError or :class:`VmcloudError` where it is none."""
        kept = _unpacked(data["files"])
        files = kept.pop("")
        snapshots = listing(data["snapshots"], Snapshot.from_json)
        if set(kept) != {each.name for each in snapshots}:
            raise ValueError("the files are not those of its snapshots")
        return cls(
            ve=UUID(word(data["ve"])),
            power=Observed(data["power"]),
            frozen=boolean(data["frozen"]),
            saved=boolean(data["saved"]),
            booted=moment(data["booted"]),
            vcpus=whole(data["vcpus"]),
            memory_mib=whole(data["memory_mib"]),
            disk_mib=whole(data["disk_mib"]),
            addresses=listing(data["addresses"], word),
            mac=word(data["mac"]),
            snapshots=snapshots,
            files=files,
            kept=kept,
        )


class Migration(Acting, Migrator):
    """See :class:`~workers.drivers.base.Migrator`."""

    # ---------------------------------------------------------------------------------------------------------- the target

    def prepare(self, guest: Guest, *, live: bool, report: Report = silent) -> None:
        """See :class:`Migrator`."""
        ends = self._trouble.begin("migrate-prepare", guest.native)
        self._check_place(guest)
        check_sizes(guest, "migrate-prepare")
        faults.point("driver.simulated.migrate-prepare.begun")
        self._trouble.work()
        with self._acting("migrate-prepare"):
            self._check_place(guest)
            self._store.put_incoming(Incoming(guest.ve, guest.native), "migrate-prepare")
        ends()

    def _check_place(self, guest: Guest) -> None:
        self._check_not_incoming("migrate-prepare", guest)
        for record in self._store.records():
            if record.seen.ve == guest.ve:
                raise BadRequest("migrate-prepare", f"VE {guest.ve} is on this node already, as {record.seen.native}")
            if record.seen.native == guest.native:
                owner = record.seen.ve or "a guest that is not ours"
                raise BadRequest("migrate-prepare", f"the name {guest.native} belongs to {owner}")

    def discard(self, ref: GuestRef) -> None:
        """See :class:`Migrator`."""
        ends = self._trouble.begin("migrate-discard", ref.native)
        if self._store.incoming(ref.ve) is None:
            return
        faults.point("driver.simulated.migrate-discard.begun")
        self._trouble.work()
        with self._acting("migrate-discard"):
            place = self._store.incoming(ref.ve)
            if place is not None:
                self._store.remove_incoming(place, "migrate-discard")
        ends()

    def receive(self, guest: Guest, state: dict[str, Any], report: Report = silent) -> None:
        """See :class:`Migrator`."""
        ends = self._trouble.begin("migrate-receive", guest.native)
        if self._arrived(guest):
            return
        arrival = _arrival("migrate-receive", guest.ve, state)
        spec = replace(guest.spec, vcpus=arrival.vcpus, memory_mib=arrival.memory_mib, disk_mib=arrival.disk_mib)
        check_sizes(replace(guest, spec=spec), "migrate-receive")
        self._place("migrate-receive", guest)
        faults.point("driver.simulated.migrate-receive.begun")
        report("receive", -1)
        self._trouble.work()
        with self._acting("migrate-receive"):
            place = self._place("migrate-receive", guest)
            self._store.put_incoming(replace(place, state=state), "migrate-receive")
        ends()

    def _arrived(self, ref: GuestRef | Guest) -> bool:
        """Whether it is an ordinary guest by now."""
        record = self._store.get(ref.native)
        return record is not None and record.whole and record.seen.ve == ref.ve

    def _place(self, operation: str, ref: GuestRef | Guest) -> Incoming:
        place = self._store.incoming(ref.ve)
        if place is None or place.native != ref.native:
            raise NoSuchGuest(operation, f"no place is prepared for {ref.native}")
        return place

    def activate(self, ref: GuestRef, *, power: Desired) -> None:
        """See :class:`Migrator`."""
        ends = self._trouble.begin("migrate-activate", ref.native)
        if not self._arrived(ref):
            self._whole_place(ref)
        faults.point("driver.simulated.migrate-activate.begun")
        self._trouble.work()
        with self._acting("migrate-activate"):
            if not self._arrived(ref):
                self._settle(ref, *self._whole_place(ref))
            known = self._mine("migrate-activate", ref)
            if power is Desired.RUNNING and known.seen.state is not Observed.RUNNING:
                self._store.arrive(known, Observed.RUNNING, "start")
            elif power is Desired.STOPPED and known.seen.state in (Observed.RUNNING, Observed.SUSPENDED):
                self._store.arrive(known, Observed.STOPPED, "stop")
        ends()

    def _whole_place(self, ref: GuestRef) -> tuple[Incoming, Arrival]:
        place = self._place("migrate-activate", ref)
        if place.state is None:
            raise BadRequest("migrate-activate", f"of {ref.native} nothing has arrived yet")
        return place, _arrival("migrate-activate", ref.ve, place.state)

    def _settle(self, ref: GuestRef, place: Incoming, arrival: Arrival) -> None:
        """Make an incoming guest an ordinary one, frozen if it came so. Within a change."""
        seen = Seen(
            native=ref.native,
            kind=Kind.SIMULATED,
            state=Observed.SUSPENDED if arrival.frozen else Observed.STOPPED,
            ve=ref.ve,
            addresses=arrival.addresses,
            mac=arrival.mac,
            since=time.time(),
            vcpus=arrival.vcpus,
            memory_mib=arrival.memory_mib,
            snapshots=tuple(sorted(arrival.snapshots, key=lambda each: (each.at, each.name))),
        )
        for snapshot in arrival.snapshots:
            self._store.put_kept(ref.native, snapshot, arrival.kept[snapshot.name])
        self._store.fill(ref.native, arrival.files)
        self._store.remove_incoming(place)
        record = Record(seen, saved=arrival.saved, booted=arrival.booted, disk_mib=arrival.disk_mib)
        self._store.put(record, "migrate-activate", event=True)

    # ---------------------------------------------------------------------------------------------------------- the source

    def send(self, ref: GuestRef, *, live: bool, grace: float, report: Report = silent) -> dict[str, Any]:
        """See :class:`Migrator`."""
        ends = self._trouble.begin("migrate-send", ref.native)
        if not self._is_sent(ref, live=live):
            faults.point("driver.simulated.migrate-send.begun")
            for part in range(PARTS):
                report("send", 100 * part // PARTS)
                self._trouble.work(1 / PARTS)
            with self._acting("migrate-send"):
                if not self._is_sent(ref, live=live):
                    self._leave(self._mine("migrate-send", ref), live=live)
        self._programs.end(ref.native)
        report("send", 100)
        ends()
        return self._departing(self._mine("migrate-send", ref)).to_json()

    def _is_sent(self, ref: GuestRef, *, live: bool) -> bool:
        known = self._mine("migrate-send", ref)
        if known.outgoing is None and known.seen.state is Observed.SUSPENDED and not live:
            what = f"{ref.native} is suspended, and what it has in memory would be lost"
            raise BadRequest("migrate-send", what, todo="Migrate it live, or resume or stop it first.")
        return known.outgoing is not None

    def _leave(self, known: Record, *, live: bool) -> None:
        """Make a guest outgoing. Within a change."""
        outgoing = replace(known, outgoing=known.seen.state)
        if known.seen.state is Observed.RUNNING:
            self._store.arrive(outgoing, Observed.SUSPENDED if live else Observed.STOPPED, "migrate-send")
        else:
            self._store.put(outgoing, "migrate-send")

    def _departing(self, known: Record) -> Arrival:
        seen, native = known.seen, known.seen.native
        assert seen.ve is not None
        assert known.outgoing is not None
        frozen, files = seen.state is Observed.SUSPENDED, self._store.files(native)
        return Arrival(
            ve=seen.ve,
            power=known.outgoing,
            frozen=frozen,
            saved=known.saved,
            booted=known.booted,
            vcpus=seen.vcpus,
            memory_mib=seen.memory_mib,
            disk_mib=known.disk_mib,
            addresses=seen.addresses,
            mac=seen.mac,
            snapshots=seen.snapshots,
            files={path: content for path, content in files.items() if frozen or known.saved or not path.startswith(MEMORY)},
            kept={each.name: self._store.kept(native, each.name) for each in seen.snapshots},
        )

    def keep(self, ref: GuestRef) -> None:
        """See :class:`Migrator`."""
        ends = self._trouble.begin("migrate-keep", ref.native)
        if self._mine("migrate-keep", ref).outgoing is None:
            return
        faults.point("driver.simulated.migrate-keep.begun")
        self._trouble.work()
        with self._acting("migrate-keep"):
            known = self._mine("migrate-keep", ref)
            if known.outgoing is Observed.RUNNING:
                self._store.arrive(replace(known, outgoing=None), Observed.RUNNING, "migrate-keep")
            elif known.outgoing is not None:
                self._store.put(replace(known, outgoing=None), "migrate-keep")
        ends()

    def clean(self, ref: GuestRef) -> None:
        """See :class:`Migrator`."""
        ends = self._trouble.begin("migrate-clean", ref.native)
        if self._sent(ref) is None:
            return
        faults.point("driver.simulated.migrate-clean.begun")
        self._trouble.work()
        with self._acting("migrate-clean"):
            if self._sent(ref) is not None:
                self._store.remove(ref.native, "migrate-clean")
        self._programs.end(ref.native)
        ends()

    def _sent(self, ref: GuestRef) -> Record | None:
        """The outgoing guest; None where the VE has none of this name here."""
        if not self._arrived(ref):
            return None
        known = self._mine("migrate-clean", ref)
        if known.outgoing is None:
            raise BadRequest("migrate-clean", f"{ref.native} was not sent to another node, so it is not deleted")
        return known


def _arrival(operation: str, ve: UUID, state: Mapping[str, Any]) -> Arrival:
    """What a state says. :class:`BadRequest`."""
    try:
        arrival = Arrival.from_json(state)
    except (VmcloudError, ValueError, TypeError, LookupError, AttributeError, zlib.error, RecursionError) as error:
        raise BadRequest(operation, f"what arrived can not be read: {type(error).__name__}: {error}") from error
    if arrival.ve != ve:
        raise BadRequest(operation, f"what arrived is of VE {arrival.ve}, not of {ve}")
    return arrival


def _packed(trees: Mapping[str, Mapping[str, bytes]]) -> str:
    text = json.dumps({name: {path: content.decode("latin-1") for path, content in tree.items()} for name, tree in trees.items()})
    return base64.b85encode(zlib.compress(text.encode(), 9)).decode()


def _unpacked(text: object) -> dict[str, dict[str, bytes]]:
    unpacker = zlib.decompressobj()
    plain = unpacker.decompress(base64.b85decode(str(text)), FILES_MAX)
    if not unpacker.eof:
        raise ValueError(f"more than {FILES_MAX} bytes of files, or not all of them")
    found = json.loads(plain)
    return {str(name): {str(path): content.encode("latin-1") for path, content in tree.items()} for name, tree in found.items()}
