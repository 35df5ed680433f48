"""What the journal knows of guests: what a driver needs to make them, what a sighting says besides what was seen."""

from __future__ import annotations

import ipaddress
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from uuid import UUID

from vmcloud.domain.messages import Seen, StepOrder
from vmcloud.domain.spec import Spec
from vmcloud.domain.vocabulary import Outcome, Verb

from .drivers.base import BadRequest, Guest, NoSpace
from .journal import Journal, Presence, VERow
from .steps import Ended

ImagePath = Callable[[str], Path | None]


class GuestBook:
    """VEs of one node. ``subnet``: where addresses come from (empty: guests have none); its first host is the gateway."""

    def __init__(self, journal: Journal, image: ImagePath, subnet: str) -> None:
        self._journal, self._image = journal, image
        self._net = ipaddress.IPv4Network(subnet) if subnet else None
        self._lock = threading.Lock()

    def guests(self, order: StepOrder) -> tuple[Guest | None, Guest | None]:
        """The guest that the order asks for, and, for a resize, as it was. Gives a create its address, kept until it is undone or
        the VE deleted. Raises what :meth:`Spec.parse` does, :class:`NoSpace` without a free address, :class:`BadRequest`."""
        if order.ve is None or order.verb not in (Verb.CREATE, Verb.RESIZE):
            return None, None
        spec = Spec.parse(order.args.get("spec") or {})
        row = self._journal.ve(order.ve) or VERow(order.ve, order.native, str(order.kind))
        if order.verb is Verb.CREATE:
            row = self._housed(row)
        image = None
        if sha256 := str(order.args.get("image_sha256") or ""):
            image = self._image(sha256)
        guest = Guest(order.ve, order.native, spec, image, row.address, self._gateway(), row.mac)
        old = replace(guest, spec=Spec.parse(row.spec)) if order.verb is Verb.RESIZE and row.spec else None
        return guest, old

    def note(self, order: StepOrder, outcome: Outcome, ended: Ended) -> None:
        """Record what a step's end means for its VE. Within the transaction that records the end."""
        if order.ve is None or (row := self._journal.ve(order.ve)) is None:
            return
        row = replace(row, generation_done=max(row.generation_done, order.generation))
        ok = outcome is Outcome.OK
        if order.verb is Verb.DELETE and ok:
            row = replace(row, presence=Presence.DELETED, address="", spec=None)
        elif order.verb is Verb.CREATE and not ok and ended.undone:
            row = replace(row, presence=Presence.ABSENT, address="", spec=None)
        elif ended.seen is not None and (ok or order.verb is Verb.CREATE):
            row = replace(row, presence=Presence.PRESENT)
        if ok and order.verb in (Verb.CREATE, Verb.RESIZE):
            row = replace(row, spec=dict(order.args["spec"]))
        self._journal.put_ve(row)

    def merge(self, seen: Seen) -> Seen:
        """``seen`` with what only the journal knows: generation, hardware address, the address that was given."""
        row = self._journal.ve(seen.ve) if seen.ve is not None else None
        if row is None:
            return seen
        given = (row.address.partition("/")[0],) if row.address else ()
        return replace(seen, generation=row.generation_done, mac=seen.mac or row.mac, addresses=tuple(seen.addresses) or given)

    def _housed(self, row: VERow) -> VERow:
        """``row`` with an address and a hardware address, recorded before the guest is made."""
        if row.mac and (row.address or self._net is None):
            return row
        with self._lock:
            row = replace(row, mac=row.mac or hardware_address(row.ve), address=row.address or self._free())
            self._journal.put_ve(row)
        return row

    def _free(self) -> str:
        if self._net is None:
            return ""
        used = {row.address.partition("/")[0] for row in self._journal.ves() if row.address}
        hosts = iter(self._net.hosts())
        next(hosts, None)  # the gateway
        for host in hosts:
            if str(host) not in used:
                return f"{host}/{self._net.prefixlen}"
        raise NoSpace("address", f"no address of {self._net} is free", todo="Delete a VE, or give this node a larger subnet.")

    def _gateway(self) -> str:
        return str(next(iter(self._net.hosts()))) if self._net is not None else ""


def hardware_address(ve: UUID) -> str:
    """A locally administered MAC address (02:…) that follows from the UUID, so that it survives the journal."""
    return ":".join(("02", *(ve.hex[start : start + 2] for start in range(0, 10, 2))))


__all__ = ["BadRequest", "GuestBook", "hardware_address"]
