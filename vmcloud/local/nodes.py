"""Which nodes this machine stands for."""

from __future__ import annotations

import re

from vmcloud.config import Config
from vmcloud.domain.names import LABEL_MAX


def names(config: Config) -> list[str]:
    """The node itself, or as many simulated ones as the settings say: ``<name>-0001``, ``<name>-0002``, …"""
    if config.node.simulate:
        return [f"{config.node.name}-{number:04d}" for number in range(1, config.node.simulate + 1)]
    return [config.node.name] if config.node.name else []


def label(hostname: str) -> str:
    """A node name made from a host name: its first part as a DNS label."""
    cleaned = re.sub(r"[^a-z0-9-]+", "-", hostname.split(".")[0].lower()).strip("-")
    return cleaned[:LABEL_MAX].rstrip("-") or "node"
