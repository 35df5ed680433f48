"""Restart a VE: stop it, and start it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from ...steps import StepPlan
from ...vocabulary import Observed
from ..base import Right, Scene, Words
from .start import Starting
from .stop import Request, stopping_step


class Restart(Starting):
    name = "restart"
    request = Request
    words = Words(
        "Restart a VE.",
        confirm="It is stopped and started again. Whoever uses it is cut off for that time.",
        examples=("web-1 --wait", "web-1 web-2 --grace 1m", "web-1 --force"),
    )
    right = Right.OWNER
    fits = frozenset({Observed.RUNNING, Observed.UNKNOWN})
    place = 3
    not_offered: ClassVar[Mapping[str, str]] = {"ldap": "an entry says what is wanted, and a restart leaves that as it was"}

    def steps(self, scene: Scene) -> Sequence[StepPlan]:
        return [stopping_step(self, scene)]


VERB = Restart()
