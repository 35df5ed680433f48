"""Prologue and epilogue: a site's own executables around each step that changes a guest (docs/hooks.md).

They are called as Torque's MOM calls them: same names, same order of arguments, same meaning of the prologue's exit status.

============  =========================================================================  ===============================
prologue's    meaning                                                                    what becomes of the step
============  =========================================================================  ===============================
0             go on                                                                      it is carried out
1             abort the job                                                              ``failed`` (code ``prologue``)
2 and more    not now (also: killed by a signal)                                         ``failed`` (code ``requeue``):
-1            it may not be run: not root's, writable by others, no x bit, bad shebang   the server puts the job back
-3            what watches over it failed                                                into its queue, some times
-4            its time was up
============  =========================================================================  ===============================

An epilogue changes no outcome; what went wrong with it is told in the job's history, as is the end of what either of them wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from vmcloud.domain.errors import REQUEUE, Problem
from vmcloud.domain.messages import StepOrder
from vmcloud.domain.vocabulary import SESSION_STEPS, Outcome, StepVerb
from vmcloud.hooks import files
from vmcloud.hooks.run import NOT_RUN, Limits, Ran, Running, run

PROLOGUE, EPILOGUE = "prologue", "epilogue"
NOT_HOOKED = frozenset(
    {
        *(StepVerb.FETCH, StepVerb.REMOVE_IMAGE, *SESSION_STEPS),
        *(StepVerb.MIGRATE_RECEIVE, StepVerb.MIGRATE_ACTIVATE, StepVerb.MIGRATE_CLEAN),
        *(StepVerb.MIGRATE_DISCARD, StepVerb.MIGRATE_KEEP),
    }
)
"""Steps that change no guest; and of a migration those after its target and its source were asked: one that is half done has to
come to its end, or back."""
ABORT = 1
TORQUE_CODES = {Outcome.OK: 0, Outcome.FAILED: -1, Outcome.TIMED_OUT: -11, Outcome.CANCELLED: 271}
RETRY = -3
"""Torque's code of a job that failed and is worth another try."""


@dataclass(frozen=True)
class Occasion:
    """What a hook is called for. ``server``: the cloud's name; ``start``: which one it is of this step; ``spec``: the guest's, as
    far as it is known."""

    order: StepOrder
    server: str
    start: int
    spec: Mapping[str, Any] | None = None

    @property
    def name(self) -> str:
        """The VE's name."""
        order = self.order
        tail = f"-{order.ve.hex[:8]}" if order.ve else ""
        return order.native.removesuffix(tail) if tail else order.native

    def limits(self) -> str:
        """What the step may take, as a list of Torque's resources."""
        spec = self.order.args.get("spec") or self.spec or {}
        found = {"neednodes": self.order.node, "walltime": clock(self.order.timeout)}
        if spec.get("vcpus"):
            found["ncpus"] = str(spec["vcpus"])
        if spec.get("memory_mib"):
            found["mem"] = f"{spec['memory_mib']}mb"
        return ",".join(f"{name}={value}" for name, value in sorted(found.items()))

    def prologue(self) -> list[str]:
        """Torque's arguments: job id, user, group, job name, limits, queue, account."""
        order = self.order
        job = f"{order.job}.{self.server}"
        return [job, order.owner, order.project, self.name, self.limits(), order.queue, ""]

    def epilogue(self, outcome: Outcome, seconds: float, *, retryable: bool) -> list[str]:
        """Torque's arguments: job id, user, group, job name, session, limits, used, queue, account, exit code."""
        job, user, group, name, limits, queue, account = self.prologue()
        code = RETRY if outcome is Outcome.FAILED and retryable else TORQUE_CODES[outcome]
        return [job, user, group, name, "0", limits, f"walltime={clock(seconds)}", queue, account, str(code)]

    def environment(self, hook: str, **more: str) -> dict[str, str]:
        """All that there is, besides a PATH."""
        order = self.order
        told = {
            "HOOK": hook,
            "JOB": str(order.job),
            "STEP": str(order.step),
            "ATTEMPT": str(order.attempt),
            "START": str(self.start),
            "VERB": str(order.verb),
            "NODE": order.node,
            "VE": self.name,
            "VE_ID": str(order.ve or ""),
            "NATIVE": order.native,
            "KIND": str(order.kind or ""),
            "OWNER": order.owner,
            "PROJECT": order.project,
            "QUEUE": order.queue,
            **more,
        }
        return {"HOME": "/root", "LANG": "C.UTF-8", **{f"VMCLOUD_{name}": value for name, value in told.items()}}


def clock(seconds: float) -> str:
    """Seconds as Torque writes them: hours, minutes, seconds."""
    whole = max(0, round(seconds))
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}"


class Killing(Protocol):
    """Whoever calls ``kill`` when a hook is to be stopped."""

    def __call__(self, kill: Callable[[], None]) -> Any:
        """A context in which that may happen."""


class NodeHooks:
    """The hooks of one node."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self._folder, self._limits = files.Folder(folder), limits

    def has(self, hook: str, verb: StepVerb) -> Path | None:
        """The hook of this name, where there is one and the verb is one for it. One ``stat`` where there is none."""
        return None if verb in NOT_HOOKED else self._folder.find(hook)

    def run(self, path: Path, arguments: list[str], environment: dict[str, str], killing: Killing, lane: int) -> Ran:
        """Run one. It is stopped by whom ``killing`` tells how to; the lane stays locked until all of it has ended."""
        if why := files.refusal(path):
            return Ran(NOT_RUN, why)
        running = Running()
        with killing(running.stop):
            try:
                return run(path, arguments, environment, limits=self._limits, keep=(lane,), running=running)
            except OSError as error:
                return Ran(NOT_RUN, f"could not be begun: {error}")


def verdict(ran: Ran, node: str) -> Problem | None:
    """What the end of a prologue means; None: go on."""
    if ran.code == 0:
        return None
    said = ran.output.strip().rpartition("\n")[2]
    why = ran.trouble or f"exit status {ran.code}" + (f": {said[:300]}" if said else "")
    if ran.code == ABORT:
        return Problem(PROLOGUE, f"the prologue of node {node} refuses the job", why=why)
    return Problem(REQUEUE, f"the prologue of node {node} asks for another try later", why=why)
