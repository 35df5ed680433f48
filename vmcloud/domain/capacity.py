"""What a node claims to have, weighed against what it had when it was first heard, or when somebody confirmed it. Pure.

A node that claims less is believed: that harms only itself. One that claims much more would draw the creates of a whole cloud,
so placement goes by what was confirmed until somebody confirms the rise. Within :data:`RISE` a node is believed at once: memory
is plugged in while a machine runs.
"""

from __future__ import annotations

from dataclasses import dataclass

STRAYS_MAX = 1000
"""Guests of one node without a place that have an entry in the directory: a node could invent any number."""
RISE = 2
"""How many times what was confirmed a node may claim and still be believed."""


@dataclass(frozen=True)
class Capacity:
    """Processors, memory and disk (MiB) of a node, and the kinds that it runs."""

    cpus: int
    memory_mib: int
    disk_mib: int
    kinds: frozenset[str]


def believed(claimed: Capacity, confirmed: Capacity | None) -> Capacity:
    """What placement may count on; ``confirmed`` None: nothing was heard of the node before."""
    if confirmed is None:
        return claimed
    return Capacity(
        cpus=_weighed(claimed.cpus, confirmed.cpus),
        memory_mib=_weighed(claimed.memory_mib, confirmed.memory_mib),
        disk_mib=_weighed(claimed.disk_mib, confirmed.disk_mib),
        kinds=claimed.kinds & confirmed.kinds,
    )


def doubt(claimed: Capacity, confirmed: Capacity | None) -> str:
    """What of a claim is not believed, in words; empty where all is."""
    if confirmed is None:
        return ""
    numbers = (
        (claimed.cpus, confirmed.cpus, "CPUs"),
        (claimed.memory_mib, confirmed.memory_mib, "MiB of memory"),
        (claimed.disk_mib, confirmed.disk_mib, "MiB of disk"),
    )
    told = [f"{said} {unit} instead of {known}" for said, known, unit in numbers if _weighed(said, known) != said]
    told += [f"kind {kind}" for kind in sorted(claimed.kinds - confirmed.kinds)]
    return f"it claims {', '.join(told)}; not counted on until an administrator confirms it" if told else ""


def _weighed(claimed: int, confirmed: int) -> int:
    return claimed if claimed <= RISE * confirmed else confirmed
