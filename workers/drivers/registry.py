"""Which class is the driver of which kind. Drivers are imported when asked for: a node needs only its own."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from vmcloud.config import Config
from vmcloud.domain.vocabulary import Kind

from .base import Driver, Layered


def make_driver(kind: Kind, config: Config, node: str) -> Driver:
    """The driver of ``kind`` for ``node``. LookupError for a kind without one; ImportError where its binding is missing."""
    if kind is Kind.SIMULATED:
        from .simulated import SimulatedDriver

        settings = config.node
        seed = f"{settings.simulate_seed}/{node}" if settings.simulate_seed else ""
        path = config.node_home(node) / "simulated.sqlite3"
        return SimulatedDriver(path, delay=settings.simulate_delay, fail=settings.simulate_fail, seed=seed)
    if kind is Kind.LXC:
        from .lxc import LxcDriver, LxcSettings

        settings = config.node
        lxcfs = config.node_home(node) / "lxcfs"
        return LxcDriver(
            LxcSettings(
                home=config.node_home(node),
                bridge=settings.bridge,
                idmap_base=settings.idmap_base,
                idmap_size=settings.idmap_size,
                lxcfs=lxcfs if os.path.ismount(lxcfs) else None,
            )
        )
    raise LookupError(f"there is no driver for kind {kind}")


def layers(kinds: Iterable[Kind], config: Config, node: str) -> frozenset[Path]:
    """The image trees that guests of these kinds are layers over, on ``node``. Raises
    :class:`~workers.drivers.base.CannotLook`."""
    drivers = [make_driver(kind, config, node) for kind in kinds]
    return frozenset[Path]().union(*(driver.layers() for driver in drivers if isinstance(driver, Layered)))
