"""Look, compare, write: one sighting at a time.

The directory is read for every sighting and nothing is kept in between, so any number of monitors may share the lists: with a
kept copy one could call unchanged what another has written meanwhile. Reading costs half a millisecond, a write two.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from vmcloud.directory.errors import Gone
from vmcloud.directory.port import Store
from vmcloud.domain.capacity import STRAYS_MAX
from vmcloud.domain.messages import Sighting

from .diff import ClearStray, Known, LeaveOut, NoteStray, ObserveNode, ObserveVE, Write, diff

log = logging.getLogger(__name__)

ROUNDS = 5
"""How often to look and decide again. A round is lost only where somebody else's write to the same entry went through."""


@dataclass(frozen=True)
class Outcome:
    """What one sighting led to: writes made, rounds needed, whether the directory knows the node."""

    writes: int
    rounds: int
    node_known: bool = True


class Publisher:
    """Makes the directory show sightings. Raises only what the store raises: Unavailable, and Denied or Rejected, which no
    repetition cures."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def publish(self, sighting: Sighting) -> Outcome:
        """1. look at what the directory holds of it; 2. compute the writes; 3. carry them out, each guarded; 4. if one lost
        against somebody else's write, look again. Safe to repeat after any error, and in any order."""
        writes = 0
        for number in range(1, ROUNDS + 1):
            known = self.look(sighting)
            if known.node is None:
                return Outcome(writes, number, node_known=False)
            results = [self._carry_out(write) for write in diff(sighting, known)]
            writes += sum(results)
            if all(results):
                return Outcome(writes, number)
        log.warning(
            "sighting %s of node %s lost %d times against other writes; left to the next list",
            sighting.mark,
            sighting.node,
            ROUNDS,
        )
        return Outcome(writes, ROUNDS)

    def look(self, sighting: Sighting) -> Known:
        """What the directory holds of the things in ``sighting``."""
        node, strays = self._store.node_with_strays(sighting.node)
        if node is None:
            return Known(None)
        found = self._store.ves_on(sighting.node) if sighting.full else []
        ves = {record.ve: record for record in found}
        rest = {guest.ve for guest in sighting.guests if guest.ve is not None and guest.ve not in ves}
        ves.update((record.ve, record) for record in self._store.ves_with(rest))
        return Known(node, ves, {stray.seen.native: stray for stray in strays})

    def _carry_out(self, write: Write) -> bool:
        """True if it was written; False if the directory is not as it was when we looked."""
        try:
            match write:
                case ObserveVE(record, seen):
                    return self._store.observe_ve(record, seen)
                case ObserveNode(name, facts, mark):
                    return self._store.observe_node(name, facts, mark)
                case NoteStray(stray):
                    return self._store.note_stray(stray)
                case ClearStray(node, native, mark):
                    return self._store.clear_stray(node, native, mark)
                case LeaveOut(node, count):
                    log.warning("%d guests of node %s are left out: %d are shown that belong nowhere", count, node, STRAYS_MAX)
                    return True
        except Gone:
            return False
