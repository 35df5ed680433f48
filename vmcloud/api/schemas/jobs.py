"""Jobs, their terms and their history; events."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from ninja import Field, Schema

from vmcloud.domain import verbs
from vmcloud.domain.vocabulary import Ending, EventType, Outcome

from .common import Page, ProblemOut

_ON_VES: list[Any] = [each.name for each in verbs.about("ve") if not each.own_way]


class StepOut(Schema):
    """A part of a job on one node."""

    number: int
    verb: str
    node: str
    lane: str = Field(description="the resource that it has for itself")
    attempt: int
    state: Literal["planned", "sent", "accepted", "running", "done"]
    phase: str = Field(examples=["unpack"])
    percent: int | None = Field(examples=[40])
    outcome: str | None
    sent: datetime | None
    times_sent: int
    accepted: datetime | None
    ended: datetime | None


class ArrayOut(Schema):
    """How an array's parts are."""

    indices: str = Field(examples=["0-99"])
    size: int = Field(description="how many parts it has", examples=[100])
    slots: int | None = Field(description="how many may run at once; null: any number", examples=[5])
    states: dict[str, int] = Field(description="parts by state; X: ended", examples=[{"Q": 90, "R": 5, "X": 5}])
    outcomes: dict[str, int] = Field(description="ended parts by outcome", examples=[{"ok": 5}])


class PartOut(Schema):
    """A part that did not end well."""

    ref: str = Field(examples=["41[7]"])
    id: int
    index: int
    ve_name: str
    outcome: Outcome
    reason: str


class JobOut(Schema):
    """A requested action. `state` is Torque's letter: Q queued, R running, E exiting, C complete; B an array that has begun."""

    id: int = Field(examples=[12])
    ref: str = Field(description="what people call it: its number; an array `41[]`, a part of one `41[7]`", examples=["12"])
    array: ArrayOut | None = Field(description="null: it is no array")
    part_of: int | None = Field(description="the number of its array", examples=[None])
    index: int | None = Field(description="its index there", examples=[None])
    verb: str = Field(examples=["create"])
    ve: str | None = Field(description="the VE's UUID")
    ve_name: str | None = Field(examples=["web-1"])
    project: str = Field(examples=["main"])
    kind: str | None
    node: str | None
    owner: str = Field(examples=["admin"])
    state: Literal["Q", "H", "W", "R", "E", "T", "S", "B", "C"]
    state_name: str = Field(examples=["complete"])
    reason: str = Field(description="why it waits, or how it ended", examples=[""])
    outcome: Outcome | None = Field(description="once complete")
    error: dict[str, Any] | None = Field(description="what went wrong: code, what, where, why, todo")
    origin: str = Field(description="through which door: api, cli, admin, ldap, reconcile:Rn", examples=["api"])
    args: dict[str, Any]
    queue: str | None = Field(description="null: in none (a session, or what a rule asked for)", examples=["main"])
    jobs: list[int] = Field(description="of a reconcile that is over: the jobs that it made", examples=[[]])
    priority: int = Field(description="from -1024 to 1023; higher begins first", examples=[0])
    not_before: datetime | None
    holds: str = Field(description="who keeps it from beginning: u (user), o (operator), s (system)", examples=["u"])
    depend: str = Field(description="what it waits for, as in Torque; of jobs that have not begun", examples=["afterok:12"])
    walltime: float | None = Field(description="seconds from its begin, after which it is ended")
    retries: int = Field(description="how often it is tried again after a failure that is worth it")
    tries: int = Field(description="how often it has been")
    generation: int
    version: int = Field(description="grows with every change; for the long poll", examples=[4])
    directory_version: str | None = Field(description="of the entry as the job last wrote it; for `after` of a read")
    cancel_requested: bool
    ending: Ending | None = Field(description="how it is to end, once its end was asked for; null: undone")
    created: datetime | None
    started: datetime | None
    ended: datetime | None
    archived: bool = Field(description="whether it ended so long ago that it is in the archive")


ANSWERS: dict[int, Any] = {200: JobOut, 202: JobOut, **dict.fromkeys((400, 403, 404, 409, 422, 503), ProblemOut)}
"""What an action is answered with: its job, complete already (200) or to be followed (202); or why it is refused."""


class JobFullOut(JobOut):
    """A job with its steps."""

    steps: list[StepOut]
    failed_parts: list[PartOut] = Field(description="of an array: the first hundred that did not end well")


class CauseOut(Schema):
    """One thing that a job waits for, or that happened to it."""

    what: Literal[
        "server",
        "cancel",
        "hold",
        "dependency",
        "time",
        "lane",
        "queue",
        "node",
        "room",
        "step",
        "hung",
        "directory",
        "walltime",
        "array",
        "ended",
    ]
    text: str = Field(examples=["it is held by its user"])
    todo: str = Field(description="what lets it go on", examples=["`vmcloud job release 12`"])


class NodeWhyOut(Schema):
    """Why a node does not take a VE now."""

    name: str = Field(examples=["node-1"])
    reason: str = Field(examples=["3 GiB short"])


class QueueWhyOut(Schema):
    """The queue that it is in."""

    name: str
    enabled: bool
    started: bool
    priority: int
    queued: int
    running: int
    limits: dict[str, int] = Field(description="those of running jobs that are set", examples=[{"max_running": 5}])
    ahead: int = Field(description="queued jobs of it that come before this one")


class WhyOut(Schema):
    """Why a job is where it is."""

    id: int
    state: Literal["Q", "H", "W", "R", "E", "T", "S", "C"]
    state_name: str
    reason: str
    outcome: Outcome | None
    causes: list[CauseOut]
    nodes: list[NodeWhyOut] = Field(description="of a create that no node takes now")
    queue: QueueWhyOut | None


class JobPage(Page):
    """A page of jobs, newest first."""

    items: list[JobOut]


class TermsIn(Schema):
    """When and how a job may run; the member `job` of any action."""

    queue: str = Field("", description="default `main`")
    priority: int = Field(0, ge=-1024, le=1023)
    not_before: datetime | None = Field(None, description="ISO 8601; without an offset: UTC")
    hold: bool = Field(False, description="held by its user until it is released")
    depend: str = Field("", description="after afterok afternotok afterany before… on, as in Torque", examples=["afterok:12:13"])
    walltime: float | None = Field(None, description="seconds from its begin, after which it is ended")
    retries: int = Field(0, ge=0, le=20)
    array: str = Field("", description="many at once, one for each index; `%5`: five at a time. The name has `%i` for the index")


class AlterIn(Schema):
    """Other terms of a job; what is not given stays."""

    priority: int | None = None
    not_before: datetime | None = None
    depend: str | None = None
    walltime: float | None = None
    retries: int | None = None
    slots: int | None = Field(None, description="of an array: how many of its parts may run at once; null: any number")


class MoveIn(Schema):
    """The queue to move to."""

    queue: str = Field(examples=["batch"])


class HoldIn(Schema):
    """Whose hold."""

    who: Literal["u", "o", "s"] = "u"


class CancelIn(Schema):
    """How it is to end."""

    force: bool = Field(False, description="now, without its undo; administrators only")


class SignalIn(Schema):
    """The signal."""

    signal: str = Field(description="a name with or without SIG, or a number", examples=["TERM"])


class OrderIn(Schema):
    """The other job."""

    job: int | str = Field(examples=[13])


class RequestIn(Schema):
    """One action of a batch."""

    verb: str = Field(examples=["start"], json_schema_extra={"enum": _ON_VES})
    ve: str = Field(description="name or UUID", examples=["web-1"])
    project: str = "main"
    args: dict[str, Any] = Field({}, description="as the body of the single request")
    key: str = Field("", description="its Idempotency-Key")


class BatchIn(Schema):
    """Many actions."""

    requests: list[RequestIn]


class AnswerOut(Schema):
    """One of the two."""

    job: dict[str, Any] | None = None
    problem: dict[str, Any] | None = None


class BatchOut(Schema):
    """Answers in the order of the requests."""

    items: list[AnswerOut]


class EventOut(Schema):
    """One line of a job's history."""

    id: int
    at: datetime | None
    text: str = Field(examples=["submitted by admin through api"])


class EventPage(Page):
    """A page of a job's events, oldest first."""

    items: list[EventOut]


class HappeningOut(Schema):
    """Something that happened and that no job tells."""

    id: int
    at: datetime | None
    type: EventType
    text: str = Field(examples=["crashed on node node-1, before running"])
    project: str | None
    ve: str | None = Field(description="the VE's UUID")
    ve_name: str | None = Field(examples=["web-1"])
    node: str | None
    job: int | None = Field(description="the job that it led to, or that it is about")


class HappeningPage(Page):
    """A page of events, newest first."""

    items: list[HappeningOut]
