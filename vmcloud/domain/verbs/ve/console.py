"""Open a VE's console: a session between a person's terminal and that of the guest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from ...errors import Conflict
from ...hints import Hint
from ...steps import StepPlan
from ...vocabulary import Observed, Power
from ..base import Ended, Picture, Scene, Verb, Words, World

SECONDS_MAX = 86400.0
"""How long a session may last."""


class Session(Verb):
    """What verbs have in common that connect a person to a guest."""

    session = True
    wants_nothing = True
    fits = frozenset()
    not_offered: ClassVar[Mapping[str, str]] = {
        "pages": "a session needs a terminal: a VE's page shows the command for it",
        "ldap": "a session is a connection, and a directory has none",
    }

    def check(self, world: World, subject: Any, asked: Any) -> dict[str, Any]:
        if not subject.observed:
            made = Hint("Wait until it is made: {}.", "ve.show")
            raise Conflict(f"VE {subject.name!r} was not seen yet", where="ve", todo=made)
        if self.demands_running and subject.observed is not Observed.RUNNING:
            suspended = subject.observed is Observed.SUSPENDED
            text, action = ("Let it run on: {}.", "ve.resume") if suspended else ("Start it: {}.", "ve.start")
            todo = Hint(text, action, {"ve": subject.name})
            raise Conflict(f"VE {subject.name!r} is {subject.observed}", where="ve", todo=todo)
        return dict(vars(asked))

    demands_running = True
    """Whether the guest must run."""

    def steps(self, scene: Scene) -> Sequence[StepPlan]:
        return [scene.step(self.name, scene.args, lane=f"session:{scene.job}", timeout=SECONDS_MAX)]

    def to_settle(self, end: Ended) -> bool:
        return False

    def missing(self, end: Ended, ve: Any, picture: Picture) -> str:
        return ""


class Console(Session):
    name = "console"
    words = Words("Open a VE's console.")
    needs = Power.CONSOLE
    place = 30


VERB = Console()
