"""What tests and demonstrations do to simulated guests behind their driver's back, from any process."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from uuid import UUID

from vmcloud.domain.messages import Seen
from vmcloud.domain.vocabulary import Kind, Observed

from .store import Record, Store


def outside(path: Path, native: str, state: Observed | None, *, ve: UUID | None = None) -> None:
    """Change a guest's state, or (None) remove it; an unknown one appears as a foreign guest, or as one of ``ve``."""
    with closing(Store(path)) as store, store.change():
        known = store.get(native)
        if state is None:
            store.remove(native, event=True)
            return
        if known is None:
            known = Record(Seen(native=native, kind=Kind.SIMULATED, state=state, ve=ve, vcpus=1, memory_mib=64))
        store.arrive(known, state)


def appear(path: Path, seen: Seen) -> None:
    """A guest is there that no call of ours made."""
    with closing(Store(path)) as store, store.change():
        store.put(Record(seen), event=True)


def plan_fault(path: Path, operation: str, what: str, times: int = 1) -> None:
    """Let the next ``times`` calls of ``operation`` fail: ``error`` (worth another try), ``look`` (could not look), ``stuck``
    (its tool does not end in time), ``hang`` (it never ends)."""
    with closing(Store(path)) as store:
        store.plan_fault(operation, what, times)


def effects(path: Path) -> dict[tuple[str, str], int]:
    """How often each operation really changed each guest: (native name, operation) → times."""
    with closing(Store(path)) as store:
        return store.effects()
