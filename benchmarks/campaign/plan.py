"""What a campaign does and when: all of it drawn from the seed before it begins, as data that can be written down and replayed.

Nothing here depends on what the cloud answers: a request about a job names the request that made it, and is left out where that
one was not answered.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

PARTS = ("broker", "directory", "web", "server", "second", "monitor", "sim-a", "sim-b", "lxc-1", "lxc-2")
"""What can be killed and frozen. ``second`` is the other server; each of the last four is a worker with its node or nodes."""
MACHINES = ("second", "sim-a", "sim-b", "lxc-1", "lxc-2")
"""What can lose its power: a supervisor with all it has started."""
LINKS = (
    *("centre-broker", "centre-directory", "second-broker", "second-directory"),
    *("sim-a-broker", "sim-b-broker", "lxc-1-broker", "lxc-2-broker"),
)
"""Connections that can be cut off, delayed, torn and left half open: whose, and to what."""
SIMULATED = tuple(f"v{number}" for number in range(24))
ARRAYS = ("a-%i", "b-%i")
"""Names of VEs that are asked for many at once."""
CONTAINERS = tuple(f"c{number}" for number in range(4))

VERBS = {
    **{"create": 3, "delete": 12, "start": 11, "stop": 12, "restart": 8, "suspend": 6, "resume": 7, "resize": 9},
    **{"snapshot": 6, "revert": 2, "delete-snapshot": 3, "alter": 3},
}
"""Verbs on VEs, and how often each is asked for."""
OF_JOBS = {"cancel": 9, "hold": 3, "release": 3, "run": 2, "order": 2, "retry": 2, "priority": 2}
"""Requests about jobs that were asked for before."""
FAULTS = {
    **{"kill": 26, "freeze": 20, "power": 5, "flush": 5},
    **{"cut": 10, "delay": 7, "tear": 9, "half-open": 7, "guest": 11},
}
OTHERS = ("batch", "ldap")
"""Requests for several jobs at once, and changes of an entry by an LDAP tool."""
LEASE = 40.0
"""Seconds: the longest lease of a VE is half of it; all are over when the campaign ends."""
CALM = 1.5
"""Seconds at the beginning without a fault."""


@dataclass(frozen=True)
class Act:
    """One thing to be done. ``at``: seconds since the beginning; ``what``: request or fault; ``number`` counts the requests.

    ``target``: a VE's name, a part, a link, or the number of the request that made the job; ``args``: what the verb or the fault
    needs besides. ``stubborn``: who asks repeats it under its key until it is answered."""

    at: float
    what: str
    verb: str
    target: str
    number: int = 0
    args: dict[str, Any] = field(default_factory=dict)
    stubborn: bool = False

    def line(self) -> str:
        """As one line of JSON."""
        return json.dumps(asdict(self), sort_keys=True)


def read(lines: Iterable[str]) -> list[Act]:
    """The acts of a plan or of a campaign's log, where they are among other lines."""
    found = (json.loads(line) for line in lines if line.strip())
    return [Act(**{name: each[name] for name in Act.__dataclass_fields__}) for each in found if "what" in each]


def make(seed: int, seconds: float, *, rate: float = 4.0, pause: float = 1.75) -> list[Act]:
    """All acts of a campaign in their order. ``rate``: requests in a second; ``pause``: seconds between two faults."""
    requests, faults = random.Random(f"requests {seed}"), random.Random(f"faults {seed}")
    acts = [*_requests(requests, seconds, rate), *_faults(faults, seconds, pause)]
    return sorted(acts, key=lambda act: act.at)


def _requests(dice: random.Random, seconds: float, rate: float) -> list[Act]:
    acts: list[Act] = []
    there: set[str] = set()  # if all went well
    at = 0.0
    while (at := at + dice.expovariate(rate)) < seconds:
        number = len(acts) + 1
        kind = dice.random()
        if kind < 0.16 and number > 5:
            acts.append(_about_a_job(dice, at, number))
        elif kind < 0.20 and len(there) > 8:
            acts.append(_batch(dice, at, number))
        elif kind < 0.23:
            verb = dice.choice(["create", "create", "start", "stop", "restart", "delete"])
            asked = {**_arguments(dice, verb, ""), "array": dice.choice(["0-3", "0-5%2", "1,3"])}
            acts.append(Act(round(at, 3), "request", verb, dice.choice(ARRAYS), number, asked, stubborn=dice.random() < 0.6))
        elif kind < 0.27:
            wish = dice.choice(
                [{"vmcDesiredState": dice.choice(["running", "stopped"])}, {"vmcMemoryMiB": dice.choice(["64", "96"])}]
            )
            acts.append(Act(round(at, 3), "request", "ldap", dice.choice(SIMULATED), number, wish))
        else:
            name = dice.choice(CONTAINERS if dice.random() < 0.14 else SIMULATED)
            verb = _draw(dice, VERBS)
            if dice.random() < 0.9:  # else somebody is mistaken
                verb = ("start" if verb == "create" else verb) if name in there else "create"
            there = there | {name} if verb == "create" else there - {name} if verb == "delete" else there
            args = {**_arguments(dice, verb, name), **_terms(dice, number)}
            if verb == "create" and dice.random() < 0.12 and at < seconds - LEASE:
                lasts = {"for": round(dice.uniform(4, LEASE / 2), 1), "action": dice.choice(["stop", "delete"]), "grace": 2}
                args["lease"] = lasts
            acts.append(Act(round(at, 3), "request", verb, name, number, args, stubborn=dice.random() < 0.6))
    return acts


def _arguments(dice: random.Random, verb: str, name: str) -> dict[str, Any]:
    match verb:
        case "create":
            power = dice.choice(["running", "running", "running", "stopped"])
            return {
                "power": power,
                "memory_mib": dice.choice([64, 96]),
                "restart": dice.choice(["on-failure", "always", "never"]),
            }
        case "stop" | "restart":
            return {"force": dice.random() < 0.5, "grace": 2}
        case "resize":
            return {"memory_mib": dice.choice([64, 96, 128])}
        case "snapshot" | "revert" | "delete-snapshot":
            return {"snapshot": dice.choice(["one", "two"])}
        case "alter":
            return {"description": f"altered {dice.randrange(1000)}"}
    return {}


def _terms(dice: random.Random, number: int) -> dict[str, Any]:
    """When and how it may run, of some; ``after`` names requests, ``wait`` seconds from when it is asked for."""
    kind = dice.random()
    if kind < 0.06:
        return {"job": {"wait": round(dice.uniform(0.5, 8), 2)}}
    if kind < 0.12 and number > 10:
        others = sorted(dice.sample(range(max(1, number - 12), number), dice.choice([1, 1, 2])))
        return {"job": {"after": others, "type": dice.choice(["afterok", "afterany", "afternotok", "after"])}}
    if kind < 0.16:
        return {"job": {"hold": True}}
    if kind < 0.22:
        return {"job": {"priority": dice.randrange(-100, 100), "retries": dice.choice([0, 1, 2])}}
    if kind < 0.26:
        return {"job": {"walltime": round(dice.uniform(1, 20), 1)}}
    return {}


def _about_a_job(dice: random.Random, at: float, number: int) -> Act:
    verb = _draw(dice, OF_JOBS)
    about = dice.randrange(max(1, number - 15), number)
    args: dict[str, Any] = {}
    if verb == "order":
        args = {"other": dice.randrange(max(1, number - 15), number)}
    if verb == "priority":
        args = {"priority": dice.randrange(-100, 100)}
    return Act(round(at, 3), "request", verb, str(about), number, args)


def _batch(dice: random.Random, at: float, number: int) -> Act:
    """Several verbs on VEs that may exist, in one request."""
    asked = []
    for name in dice.sample(SIMULATED, dice.randrange(2, 9)):
        verb = dice.choice(["start", "stop", "restart", "resize"])
        asked.append({"verb": verb, "ve": name, "args": _arguments(dice, verb, name)})
    return Act(round(at, 3), "request", "batch", "", number, {"requests": asked}, stubborn=dice.random() < 0.5)


def _faults(dice: random.Random, seconds: float, pause: float) -> list[Act]:
    acts: list[Act] = []
    at = CALM
    while (at := at + dice.uniform(0.1, 1.9) * pause) < seconds - 1:
        verb = _draw(dice, FAULTS)
        lasts = round(min(dice.choice([dice.uniform(0.2, 2), dice.uniform(1, 5), dice.uniform(4, 11)]), seconds - at), 2)
        match verb:
            case "kill":
                acts.append(Act(round(at, 3), "fault", verb, dice.choice(PARTS)))
            case "freeze":
                acts.append(Act(round(at, 3), "fault", verb, dice.choice(PARTS), args={"seconds": lasts}))
            case "power":
                acts.append(Act(round(at, 3), "fault", verb, dice.choice(MACHINES), args={"seconds": lasts}))
            case "flush":
                acts.append(Act(round(at, 3), "fault", verb, "broker"))
            case "cut" | "half-open":
                acts.append(Act(round(at, 3), "fault", verb, dice.choice(LINKS), args={"seconds": lasts}))
            case "delay":
                late = {"late": round(dice.uniform(0.02, 0.8), 3)}
                acts.append(Act(round(at, 3), "fault", verb, dice.choice(LINKS), args={"seconds": lasts, **late}))
            case "tear":
                acts.append(Act(round(at, 3), "fault", verb, dice.choice(LINKS), args={"bytes": dice.randrange(1, 400)}))
            case "guest":
                name = dice.choice(CONTAINERS if dice.random() < 0.4 else SIMULATED)
                acts.append(Act(round(at, 3), "fault", verb, name))
    return acts


def _draw(dice: random.Random, weights: dict[str, int]) -> str:
    return dice.choices(list(weights), list(weights.values()))[0]
