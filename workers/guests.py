"""What the journal knows of guests: what a driver needs to make them, what a sighting says besides what was seen."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

from vmcloud.domain.messages import Seen, StepOrder
from vmcloud.domain.spec import Spec
from vmcloud.domain.vocabulary import Outcome, StepVerb

from .drivers.base import Guest
from .journal import Journal, Presence, VERow
from .network.addresses import allocate, gateway, hardware_address, parse_subnet
from .steps import Ended

log = logging.getLogger(__name__)

MAKES = (StepVerb.CREATE, StepVerb.COPY)
"""Steps that make a guest, which gets an address here."""
BRINGS_ADDRESS = (StepVerb.ADOPT, StepVerb.MIGRATE_PREPARE, StepVerb.MIGRATE_RECEIVE)
"""Steps whose guest has an address already."""
SHAPED = (*MAKES, *BRINGS_ADDRESS, StepVerb.RESIZE)
"""Steps whose order has a spec."""
UNSEEN = (StepVerb.MIGRATE_PREPARE, StepVerb.MIGRATE_RECEIVE, StepVerb.MIGRATE_DISCARD)
"""Steps about a guest that is yet to come: that none is seen says nothing."""
ImagePath = Callable[[str], Path | None]
Announce = Callable[[VERow, bool], None]
"""Tell the network about a guest: that it is (True) or is no more."""


class GuestBook:
    """VEs of one node. ``subnet``: where addresses come from; its first host is the gateway."""

    def __init__(self, journal: Journal, image: ImagePath, subnet: str, announce: Announce = lambda row, there: None) -> None:
        self._journal, self._image, self._announce = journal, image, announce
        self._net = parse_subnet(subnet)
        self._lock = threading.Lock()

    def guests(self, order: StepOrder) -> tuple[Guest | None, Guest | None]:
        """The guest that the order asks for (to adopt, or to come from another node: without an address, which it has), and, for
        a resize, as it was. Gives a create or a copy its address, kept until it is undone or the VE deleted. Raises what
        :meth:`Spec.parse` does, and :class:`~workers.drivers.base.NoSpace` without a free address."""
        if order.ve is None or order.verb not in SHAPED:
            return None, None
        spec = Spec.parse(order.args.get("spec") or {})
        row = self._journal.ve(order.ve) or VERow(order.ve, order.native, str(order.kind))
        if order.verb in BRINGS_ADDRESS:
            return Guest(order.ve, order.native, spec), None
        if order.verb in MAKES:
            row = self._housed(row)
        image = None
        if sha256 := str(order.args.get("image_sha256") or ""):
            image = self._image(sha256)
        guest = Guest(order.ve, order.native, spec, image, row.address, gateway(self._net), row.mac)
        old = replace(guest, spec=Spec.parse(row.spec)) if order.verb is StepVerb.RESIZE and row.spec else None
        return guest, old

    def note(self, order: StepOrder, outcome: Outcome, ended: Ended) -> None:
        """Record what a step's end means for its VE. Within the transaction that records the end."""
        if order.ve is None or (row := self._journal.ve(order.ve)) is None:
            return
        if order.verb in (StepVerb.DELETE, StepVerb.MIGRATE_CLEAN) and row.native != order.native:
            return  # the VE's other guest, which strayed here; its own one stays
        row = replace(row, generation_done=max(row.generation_done, order.generation))
        ok = outcome is Outcome.OK
        if order.verb is StepVerb.DELETE and ok:
            row = replace(row, presence=Presence.DELETED, address="", spec=None)
        elif order.verb in (*MAKES, StepVerb.ADOPT) and not ok and ended.undone:
            row = replace(row, presence=Presence.ABSENT, address="", spec=None)
        elif order.verb is StepVerb.MIGRATE_CLEAN and ended.seen is None and (ok or ended.undone):
            presence = Presence.DELETED if row.presence is Presence.DELETED else Presence.MOVED
            row = replace(row, presence=presence, address="", spec=None)
        elif order.verb in UNSEEN:
            if ended.seen is None and row.presence is Presence.ABSENT:
                keeps = ok and order.verb is not StepVerb.MIGRATE_DISCARD
                row = replace(row, spec=dict(order.args["spec"]) if keeps else None)
        elif ended.seen is not None and (ok or order.verb in (*MAKES, StepVerb.ADOPT, StepVerb.MIGRATE_ACTIVATE)):
            arrives = order.verb is StepVerb.MIGRATE_ACTIVATE and row.presence is not Presence.PRESENT
            row = replace(row, presence=Presence.PRESENT)
            if arrives:
                row = replace(row, mac=ended.seen.mac, address=self._full_address(ended.seen))
        if ok and order.verb in (*MAKES, StepVerb.RESIZE):
            row = replace(row, spec=dict(order.args["spec"]))
        elif ended.seen is not None and order.verb is StepVerb.RENAME:
            row = replace(row, native=ended.seen.native)
        elif ok and order.verb is StepVerb.ADOPT and ended.seen is not None:
            row = replace(row, spec=ended.spec, mac=ended.seen.mac, address=self._full_address(ended.seen))
        self._journal.put_ve(row)
        if not row.address or order.verb in (StepVerb.ADOPT, StepVerb.MIGRATE_ACTIVATE, StepVerb.RENAME):
            self._announce(row, bool(row.address and row.mac))

    def discover(self, seen: Seen) -> None:
        """Record a guest that is here and that the journal does not know, as after the loss of its file: its address is taken."""
        if seen.ve is None:
            return
        with self._lock, self._journal.transaction(synced=False):
            row = self._journal.ve(seen.ve)
            if row is not None and (row.address or row.presence is not Presence.PRESENT):
                return
            address = self._full_address(seen)
            if row is not None and not address:
                return
            row = row or VERow(seen.ve, seen.native, str(seen.kind), presence=Presence.PRESENT)
            row = replace(row, address=address, mac=row.mac or seen.mac or hardware_address(seen.ve))
            self._journal.put_ve(row)
        log.info("guest %s was here before the journal", seen.native)
        if row.address:
            self._announce(row, True)

    def _full_address(self, seen: Seen) -> str:
        """The guest's address as the journal keeps it; empty where it has none or another guest has it."""
        for text in seen.addresses:
            with contextlib.suppress(ValueError):
                if IPv4Address(text) not in self._net:
                    continue  # of a network that is not ours to give addresses of
                address = f"{text}/{self._net.prefixlen}"
                others = (row for row in self._journal.ves() if row.ve != seen.ve)
                if all(other.address.partition("/")[0] != text for other in others):
                    return address
                log.error("guest %s has address %s, which another guest has too", seen.native, text)
        return ""

    def merge(self, seen: Seen) -> Seen:
        """``seen`` with what only the journal knows: generation, hardware address, the address that was given."""
        row = self._journal.ve(seen.ve) if seen.ve is not None else None
        if row is None:
            return seen
        given = (row.address.partition("/")[0],) if row.address else ()
        return replace(seen, generation=row.generation_done, mac=seen.mac or row.mac, addresses=tuple(seen.addresses) or given)

    def _housed(self, row: VERow) -> VERow:
        """``row`` with an address and a hardware address, recorded before the guest is made."""
        with self._lock:
            if not row.address:
                used = {other.address for other in self._journal.ves() if other.address}
                row = replace(row, mac=hardware_address(row.ve), address=allocate(self._net, used))
                self._journal.put_ve(row)
        self._announce(row, True)
        return row
