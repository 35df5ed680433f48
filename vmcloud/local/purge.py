"""``vmcloud down --purge``: remove what was made. Filled in with the worker's own functions."""

from __future__ import annotations

import shutil
from collections.abc import Callable

from vmcloud.config import Config

Tell = Callable[[str], None]


def announcement(config: Config) -> str:
    """What will be gone."""
    return f"This removes {config.data} with the cloud's jobs, directory, images and secrets, and every guest on this machine."


def stop_idle_companions(config: Config, tell: Tell) -> None:
    """Stop what guests need, where no guest is left."""


def purge(config: Config, tell: Tell) -> None:
    """Remove guests, companions, networks, then the data directory."""
    shutil.rmtree(config.data)
    tell(f"removed {config.data}")
