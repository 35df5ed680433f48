"""Times as people and programs are shown them."""

from __future__ import annotations

from vmcloud.domain.clocks import as_iso as moment

__all__ = ["moment"]
