"""What every call that changes a simulated guest has in common."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vmcloud import faults
from vmcloud.domain.kinds import KINDS
from vmcloud.domain.vocabulary import Kind

from ..base import BadRequest, Guest, GuestRef, NoSuchGuest
from .programs import Programs
from .store import Record, Store
from .trouble import ACTS, Trouble
from .weather import Weather

for _act in ACTS:
    # Before anything is changed; in the middle of the change, which must then not have happened; after it.
    faults.declare("worker", *(f"driver.simulated.{_act}.{where}" for where in ("begun", "half", "done")))


class Acting:
    """The guests of one node, what can go wrong with calls on them, and the programs that run in them."""

    def __init__(self, path: Path, weather: Weather) -> None:
        self._store = Store(path)
        self._trouble = Trouble(self._store, weather)
        self._programs = Programs(self._store)

    def _known(self, operation: str, native: str) -> Record:
        """A guest of ours. :class:`NoSuchGuest`; :class:`BadRequest` for a foreign one, and for an
        outgoing one where it is to be changed."""
        record = self._store.get(native)
        if record is None or not record.whole:
            raise NoSuchGuest(operation, f"there is no guest {native}")
        self._check_ours(operation, record)
        if record.outgoing is not None and operation in ACTS:
            what = f"{native} was sent to another node, which has it or is about to"
            raise BadRequest(operation, what, todo="Wait until its migration has ended, or cancel that.")
        return record

    def _mine(self, operation: str, ref: GuestRef) -> Record:
        """The guest of a VE, an outgoing one too. :class:`NoSuchGuest`; :class:`BadRequest` for another one of its name."""
        record = self._store.get(ref.native)
        if record is None or not record.whole:
            raise NoSuchGuest(operation, f"there is no guest {ref.native}")
        if record.seen.ve != ref.ve:
            raise BadRequest(operation, f"the name {ref.native} belongs to {record.seen.ve or 'a guest that is not ours'}")
        return record

    def _check_not_incoming(self, operation: str, guest: Guest) -> None:
        """:class:`BadRequest` where the guest's name is kept for another one that is to come from another node."""
        place = self._store.incoming_named(guest.native)
        if place is not None and place.ve != guest.ve:
            raise BadRequest(operation, f"the name {guest.native} is kept for VE {place.ve}, which is to come here")

    def _check_ours(self, operation: str, record: Record) -> None:
        if record.seen.ve is None:
            raise BadRequest(operation, f"{record.seen.native} was not made by vmcloud", todo="Use the tools it was made with.")

    @contextmanager
    def _acting(self, operation: str) -> Iterator[None]:
        """One transaction, with the fault points in it and after it."""
        with self._store.change():
            yield
            faults.point(f"driver.simulated.{operation}.half")
        faults.point(f"driver.simulated.{operation}.done")


def check_sizes(guest: Guest, operation: str) -> None:
    """:class:`BadRequest` for what a simulated guest can not have."""
    limits = KINDS[Kind.SIMULATED]
    for what, (low, high), value in (
        ("virtual CPUs", limits.vcpus, guest.spec.vcpus),
        ("MiB of memory", limits.memory_mib, guest.spec.memory_mib),
        ("MiB of disk", limits.disk_mib, guest.spec.disk_mib),
    ):
        if not low <= value <= high:
            raise BadRequest(operation, f"a simulated guest cannot have {value} {what}", todo=f"Choose {low} to {high}.")
