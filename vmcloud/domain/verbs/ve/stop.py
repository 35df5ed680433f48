"""Stop a VE: its guest is asked to shut down and has a grace for that, or the plug is pulled at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...steps import TIMEOUT, StepPlan
from ...vocabulary import Desired, Observed, Status
from .. import request
from ..base import Right, Scene, Verb, Words

GRACE = (0.0, 3600.0)
"""Seconds that a graceful stop may take before it is forced: lowest and highest."""
DEFAULT_GRACE = 10.0


@dataclass(frozen=True)
class Request:
    """How a VE is to be stopped."""

    force: bool = request.flag(False, "By force: at once, without waiting for its processes.")
    grace: float = request.seconds(DEFAULT_GRACE, "How long the guest may take to shut itself down; it is forced then.", *GRACE)


def stopping_step(verb: Verb, scene: Scene) -> StepPlan:
    """The step of a verb that stops the guest first."""
    args = {**scene.args, "spec": scene.spec()}
    return scene.step(verb.name, args, timeout=TIMEOUT + float(scene.args.get("grace", 0.0)))


class Stop(Verb):
    name = "stop"
    request = Request
    words = Words(
        "Stop a VE.",
        confirm="Processes are asked to end and are ended after the grace time. Nothing on disk is lost.",
        inverse="start",
        examples=("web-1 --wait", "web-1 web-2 --grace 1m", "web-1 --force"),
    )
    right = Right.OPERATOR
    power_after = Desired.STOPPED
    goes_back = True
    plain = True
    fits = frozenset(Observed) - {Observed.STOPPED}
    place = 2

    def steps(self, scene: Scene) -> Sequence[StepPlan]:
        return [stopping_step(self, scene)]

    def status(self, desired: Desired, observed: Observed) -> Status | None:
        return Status.STOPPING if observed is Observed.RUNNING else None


VERB = Stop()
