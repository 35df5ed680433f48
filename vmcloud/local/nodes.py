"""Names for nodes."""

from __future__ import annotations

import re

from vmcloud.domain.names import LABEL_MAX


def label(hostname: str) -> str:
    """A node name made from a host name: its first part as a DNS label."""
    cleaned = re.sub(r"[^a-z0-9-]+", "-", hostname.split(".")[0].lower()).strip("-")
    return cleaned[:LABEL_MAX].rstrip("-") or "node"
