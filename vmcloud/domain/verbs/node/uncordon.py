"""Uncordon a node: it gets new VEs again."""

from __future__ import annotations

from ..base import Words
from .cordon import Switch


class Uncordon(Switch):
    name = "uncordon"
    words = Words("Uncordon a node: it gets new VEs again.", inverse="cordon", primary=True)
    cordoned = False
    place = 2


VERB = Uncordon()
