"""VEs' entries as the watch told them last, so that nobody has to read what they are about to write.

Every write is guarded by what it replaces, so an entry that has changed since costs a second try, not a lost change.
"""

from __future__ import annotations

from uuid import UUID

from vmcloud.domain.records import VERecord

from . import memory

MOST = 5000
"""Entries that are kept: those that changed last."""


class Entries:
    """A bounded memory of entries."""

    def __init__(self) -> None:
        self._known = memory.Dict[UUID, VERecord]()

    def get(self, ve: UUID) -> VERecord | None:
        """The entry; None where it is not remembered, which says nothing about whether there is one."""
        return self._known.get(ve)

    def learn(self, record: VERecord) -> None:
        """An entry as it is now, unless a later version is known."""
        known: VERecord | None = self._known.pop(record.ve, None)
        self._known[record.ve] = known if known is not None and known.version > record.version else record
        if len(self._known) > MOST:
            del self._known[next(iter(self._known))]

    def forget(self, ve: UUID | None) -> bool:
        """It may not be so any more; whether it was known."""
        return ve is not None and self._known.pop(ve, None) is not None

    def clear(self) -> None:
        """Whatever was told may not be so any more."""
        self._known.clear()
