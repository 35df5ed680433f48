"""Which class is the driver of which kind. Drivers are imported when asked for: a node needs only its own."""

from __future__ import annotations

from vmcloud.config import Config
from vmcloud.domain.vocabulary import Kind

from .base import Driver


def make_driver(kind: Kind, config: Config, node: str) -> Driver:
    """The driver of ``kind`` for ``node``. LookupError for a kind without one; ImportError where its binding is missing."""
    if kind is Kind.SIMULATED:
        from .simulated import SimulatedDriver

        return SimulatedDriver(config.node_home(node) / "simulated.sqlite3", delay=config.node.simulate_delay)
    if kind is Kind.LXC:
        from .lxc import LxcDriver

        return LxcDriver(config)
    raise LookupError(f"there is no driver for kind {kind}")
