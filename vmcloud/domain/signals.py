"""Signals to jobs (Torque's qsig): which make sense for the jobs of a cloud, and what they lead to. Pure.

A job here is no process of its user's. What runs is an action, carried out by a process on a node that must leave either all of
it or nothing, or a session, which is a program in a guest with a person at its end.
"""

from __future__ import annotations

from enum import StrEnum

from . import verbs
from .errors import Conflict, Invalid
from .vocabulary import JobState

ENDING = ("TERM", "INT", "HUP", "QUIT")
"""Signals that ask for the end of what gets them."""
FREEZING = ("STOP", "TSTP", "CONT")
KNOWN = (*ENDING, "KILL", *FREEZING, "USR1", "USR2", "suspend", "resume")
NUMBERS = {1: "HUP", 2: "INT", 3: "QUIT", 9: "KILL", 10: "USR1", 12: "USR2", 15: "TERM", 18: "CONT", 19: "STOP", 20: "TSTP"}
"""signal(7), as qsig takes them too."""


class Effect(StrEnum):
    """What a signal leads to: the job is cancelled; or the process that carries out its step is killed and begins again."""

    CANCEL = "cancel"
    KICK = "kick"


def parse(text: object) -> str:
    """A signal's name without its SIG; :class:`Invalid` for what is none. Numbers are understood, and ``suspend``, ``resume``."""
    name = str(text).strip()
    if name.isascii() and name.isdigit() and len(name) < 4:
        name = NUMBERS.get(int(name), name)
    name = name.lower() if name.lower() in ("suspend", "resume") else name.upper().removeprefix("SIG")
    if name not in KNOWN:
        raise Invalid(f"{str(text)[:40]!r} is no signal that is known here", where="signal", todo=f"Known: {', '.join(KNOWN)}.")
    return name


def effect(number: int | str, name: str, verb: str, state: JobState) -> Effect:
    """What becomes of a signal to this job. :class:`Conflict` where it makes no sense, in words that say what does."""
    if state is not JobState.RUNNING:
        has = "is complete" if state is JobState.COMPLETE else "is ending" if state is JobState.EXITING else "has not begun"
        todo = "" if state in (JobState.COMPLETE, JobState.EXITING) else f"Keep it from beginning: `vmcloud job hold {number}`."
        raise Conflict(f"job {number} {has}", where="job", why="signals are for jobs that run", todo=todo, code="signal")
    if name in ENDING or (name == "KILL" and verb in verbs.sessions()):
        return Effect.CANCEL
    if name == "KILL":
        return Effect.KICK
    if name in ("suspend", "resume", *FREEZING):
        why = (
            "a session is a person's own" if verb in verbs.sessions() else "half of an action is worse than all or nothing of it"
        )
        todo = "A VE is frozen by `vmcloud ve suspend NAME`; a job is kept from beginning by `vmcloud job hold ID`."
        raise Conflict(f"job {number} can not be suspended while it runs", where="signal", why=why, todo=todo, code="signal")
    why = f"no {verb} listens for it"
    todo = f"TERM asks for its end, as `vmcloud job cancel {number}` does. To a guest's program: `vmcloud ve exec NAME -- kill`."
    raise Conflict(f"signal {name} means nothing to job {number}", where="signal", why=why, todo=todo, code="signal")
