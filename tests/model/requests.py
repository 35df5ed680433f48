"""Requests as data: what somebody asks for, the call of the service that it is, and what its answer means."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from tests.model.engine import Rows
from tests.model.promises import World

NAMES = ("web-0", "web-1", "web-2")
"""The VEs that people ask for, and by index the elements of the arrays."""
PATTERN = "web-%i"
UNBEGUN = ("Q", "H", "W")
ABOUT_A_JOB = (
    "hold",
    "release",
    "alter",
    "depend",
    "slots",
    "move",
    "order",
    "run",
    "cancel",
    "force",
    "rerun",
    "retry",
    "signal",
)


@dataclass(frozen=True)
class Request:
    """``what``: a verb on a VE, ``create``, ``array``, ``batch``, or one of :data:`ABOUT_A_JOB`. ``job`` and ``other`` choose
    among the jobs that there are; ``part``: of an array that one. ``ve``: index of a name. ``terms``: of the new job."""

    what: str
    ve: int = 0
    job: int = 0
    other: int = 0
    part: bool = False
    kind: str = "simulated"
    size: int = 256
    depend: str = "afterany"
    terms: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        said = (f"{each.name}={value!r}" for each in fields(self) if (value := getattr(self, each.name)) != _PLAIN.get(each.name))
        return f"Request({', '.join(said)})"


_PLAIN = {"ve": 0, "job": 0, "other": 0, "part": False, "kind": "simulated", "size": 256, "depend": "afterany", "terms": {}}


BEGUN, ENDED = ("R", "E"), ("C",)
SUITABLE = {"rerun": ("R",), "signal": ("R",), "force": ("R", "E"), "cancel": (*UNBEGUN, "R"), "retry": ENDED}
"""The states of the jobs of which something is asked mostly: that of others is refused, which is soon tried enough."""


def ref_of(rows: Rows, choice: int, what: str = "hold", *, part: bool = False) -> str:
    """What people call one of the jobs; empty where there is none. Those of which ``what`` makes sense come first, and of these
    the newest."""
    suitable = SUITABLE.get(what, UNBEGUN)
    numbers = sorted(rows.jobs, key=lambda each: (rows.jobs[each]["state"] in suitable, each), reverse=True)
    if what == "retry":
        numbers.sort(key=lambda each: rows.jobs[each]["outcome"] in ("", "ok"))
    if not numbers:
        return ""
    number = numbers[choice % len(numbers)]
    row = rows.jobs[number]
    if row["array"] is not None:
        return f"{row['array']}[{row['index']}]" if part else f"{row['array']}[]"
    return f"{number}[]" if row["size"] else str(number)


def sensible(request: Request, rows: Rows) -> Request:
    """The request; or, where it is about a job and there is none of which it makes sense, one for a new job instead."""
    if request.what not in ABOUT_A_JOB:
        return request
    suitable = SUITABLE.get(request.what, UNBEGUN)
    if any(row["state"] in suitable for row in rows.jobs.values()):
        return request
    return replace(request, what=("stop", "restart", "start")[request.size % 3], ve=request.job)


def call_of(request: Request, rows: Rows, key: str) -> Callable[[], Any] | None:
    """The call of the service; None where there is nothing that could be asked for."""
    from vmcloud.domain.vocabulary import Verb
    from vmcloud.fleet.services import jobs, queues, submit, waiting
    from vmcloud.fleet.services.accounts import Actor

    admin, what, name = Actor("admin", is_admin=True), request.what, NAMES[request.ve % len(NAMES)]
    terms = dict(request.terms)
    if depend := terms.pop("depend", None):
        if not (ref := ref_of(rows, request.other)):
            return None
        terms["depend"] = f"{depend}:{ref}"
    if what == "create":
        body = {"name": name, "kind": request.kind, "image": "busybox", "job": terms}
        return lambda: submit.create_ve(admin, body, key=key)
    if what == "create-array":
        body = {"name": PATTERN, "kind": request.kind, "image": "busybox", "job": {**terms, "array": "0-2"}}
        return lambda: submit.create_ve(admin, body, key=key)
    if what == "array":
        verb = (Verb.START, Verb.STOP, Verb.RESTART)[request.ve % 3]
        asked = {"job": {**terms, "array": "0-2%1" if request.part else "0-2"}}
        return lambda: submit.act(admin, PATTERN, verb, asked, key=key)
    if what == "batch":
        each = [
            {"verb": verb, "ve": one, "key": f"{key}-{one}"}
            for one, verb in zip(NAMES, ("stop", "start", "restart"), strict=True)
        ]
        return lambda: submit.act_many(admin, each)
    if what not in ABOUT_A_JOB:
        args = {"resize": {"memory_mib": request.size}, "alter-ve": {"description": f"size {request.size}"}}.get(what, {})
        args = {"snapshot": f"s{request.size}"} if what == "snapshot" else args
        verb = Verb.ALTER if what == "alter-ve" else Verb(what)
        return lambda: submit.act(admin, name, verb, {**args, "job": terms}, key=key)
    ref, other = ref_of(rows, request.job, what, part=request.part), ref_of(rows, request.other)
    if not ref:
        return None
    calls: dict[str, Callable[[], Any]] = {
        "hold": lambda: waiting.hold(admin, ref),
        "release": lambda: waiting.release(admin, ref),
        "alter": lambda: waiting.alter(admin, ref, {"priority": request.size % 100}),
        "depend": lambda: waiting.alter(admin, ref, {"depend": f"{request.depend}:{other}"}),
        "slots": lambda: waiting.alter(admin, ref, {"slots": 1 + request.size % 2}),
        "move": lambda: queues.move(admin, ref, "slow"),
        "order": lambda: waiting.exchange(admin, ref, ref_of(rows, request.other, part=True)),
        "run": lambda: waiting.run_now(admin, ref),
        "cancel": lambda: jobs.cancel(admin, ref),
        "force": lambda: jobs.cancel(admin, ref, force=True),
        "rerun": lambda: jobs.rerun(admin, ref),
        "retry": lambda: submit.retry(admin, ref, key=key),
        "signal": lambda: jobs.signal(admin, ref, "TERM" if request.size % 2 else "KILL"),
    }
    return calls[what]


def meant(rows: Rows, ref: str) -> set[int]:
    """The numbers of the jobs that somebody means by this: of an array it and all of its parts."""
    number, _, rest = ref.partition("[")
    array = int(number)
    if not rest:
        return {array}
    if index := rest.rstrip("]"):
        return {pk for pk, row in rows.jobs.items() if row["array"] == array and row["index"] == int(index)}
    return {array} | {pk for pk, row in rows.jobs.items() if row["array"] == array}


def note_before(world: World, request: Request, ref: str, key: str) -> None:
    """What may become true as soon as this is asked for, whatever is answered."""
    asked = world.asked
    asked.keys.add(key)
    if request.what == "batch":
        asked.keys |= {f"{key}-{name}" for name in NAMES}
    if ref and request.what in ("cancel", "force", "signal"):
        asked.ends |= meant(world.rows, ref)
    if ref and request.what == "force":
        asked.forced |= meant(world.rows, ref)
    if ref and request.what == "release":
        asked.held -= meant(world.rows, ref)


def note_answer(world: World, request: Request, ref: str, key: str, answer: Any) -> None:
    """What an answer promises."""
    from vmcloud.fleet.models import Job

    asked, rows = world.asked, Rows.read()
    for job in answer if isinstance(answer, list | tuple) else [answer]:
        if isinstance(job, Job):
            asked.answered[job.pk] = key
    if request.what not in ("hold", "cancel"):
        return
    for number in meant(rows, ref) & set(rows.jobs):
        if rows.jobs[number]["state"] not in UNBEGUN or rows.jobs[number]["size"]:
            continue
        if request.what == "cancel":
            asked.ended_unbegun.setdefault(number, world.executions(number))
        else:
            asked.held.add(number)
            asked.begun_when_held[number] = world.executions(number)
