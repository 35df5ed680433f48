"""Resume a suspended VE."""

from __future__ import annotations

from ...vocabulary import Observed, Power
from ..base import Words
from .start import Starting


class Resume(Starting):
    name = "resume"
    words = Words("Resume a suspended VE.", inverse="suspend", primary=True, examples=("web-1 --wait", "web-1 web-2"))
    needs = Power.FREEZE
    fits = frozenset({Observed.SUSPENDED})
    place = 0


VERB = Resume()
