"""The shapes that the API answers with and takes, for its description (OpenAPI).

Bodies are checked by :mod:`vmcloud.domain` alone, so that every door refuses the same things in the same words; the input
schemas here only describe them. Tests hold answers and schemas together.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from ninja import Field, Schema

from vmcloud.domain.kinds import Support
from vmcloud.domain.spec import DESCRIPTION_MAX
from vmcloud.domain.vocabulary import (
    Desired,
    Drift,
    Ending,
    EventType,
    Kind,
    LeaseAction,
    NodeState,
    Observed,
    Outcome,
    Power,
    Restart,
    Status,
    Verb,
)

NAME = "DNS label (RFC 1123)"


class ProblemOut(Schema):
    """RFC 9457 problem details; `code` is stable and meant for programs."""

    type: str = Field(examples=["urn:vmcloud:problem:name-taken"])
    title: str = Field(examples=["Conflict"])
    status: int = Field(examples=[409])
    detail: str = Field(description="what and why, in one sentence", examples=["the name 'web-1' is taken in project 'main'"])
    code: str = Field(examples=["name-taken"])
    what: str
    where: str = Field("", description="the field or object in question")
    why: str = ""
    todo: str = Field("", description="what to do next")


class SnapshotOut(Schema):
    """A kept state of a VE's root file system."""

    name: str = Field(description=NAME, examples=["before-upgrade"])
    job: int = Field(description="the job that took it", examples=[17])
    at: datetime | None


class LeaseOut(Schema):
    """How long a VE may live."""

    end: datetime | None
    action: LeaseAction = Field(description="what becomes of it, besides being stopped at the end")
    grace: int = Field(description="seconds from the end until it is deleted, or stopped by force", examples=[3600])
    over: bool = Field(description="the end has passed: it is not started until the lease is renewed")


class VEOut(Schema):
    """A VE (virtual environment): container or virtual machine."""

    id: str = Field(description="UUID; stays for the VE's life", examples=["0d2c4a6e-5b1f-4c1e-9a55-0c2b6f0f6a11"])
    name: str = Field(description=NAME, examples=["web-1"])
    project: str = Field(examples=["main"])
    kind: Kind
    node: str | None = Field(description="where it is placed; null: not yet", examples=["node-1"])
    status: Status = Field(description="derived from wanted and seen")
    reason: str = Field(description="why the status is what it is, where that needs words", examples=[""])
    refusal: str = Field(description="why the last change that somebody made in the directory was undone", examples=[""])
    desired: Desired
    observed: Observed | None = Field(description="as its node last saw it; null: never seen")
    image: str | None = Field(examples=["busybox"])
    vcpus: int | None = Field(examples=[1])
    memory_mib: int | None = Field(description="MiB", examples=[128])
    disk_mib: int | None = Field(description="MiB; 0: no limit", examples=[0])
    addresses: list[str] = Field(examples=[["10.86.0.12"]])
    snapshots: list[SnapshotOut] = Field(description="oldest first")
    mac: str | None = Field(examples=["02:00:0a:56:00:0c"])
    owner: str = Field(examples=["admin"])
    restart: Restart | None
    drift: Drift | None
    lease: LeaseOut | None = Field(description="null: for ever")
    privileged: bool = Field(examples=[False])
    description: str = Field(examples=["the shop's front end"])
    generation: int = Field(description="counts changes of what is wanted", examples=[3])
    observed_generation: int = Field(description="the highest generation its node has finished work on", examples=[3])
    job: int = Field(description="the job that made this generation", examples=[12])
    since: datetime | None = Field(description="when the observed state began")


class StrayOut(Schema):
    """A guest that does not belong where it was seen."""

    name: str = Field(description="node and native name", examples=["node-1/their-own"])
    node: str = Field(examples=["node-1"])
    native: str = Field(description="what its hypervisor calls it", examples=["their-own"])
    kind: Kind
    status: Literal["orphan", "duplicate", "wrong-node", "deleting"]
    reason: str
    observed: Observed
    ve: str | None = Field(description="the UUID that it bears; null: vmcloud did not make it")
    vcpus: int | None = Field(description="null: not known, or without a limit")
    memory_mib: int | None = Field(description="MiB; null: not known, or without a limit")
    addresses: list[str]
    mac: str | None
    since: datetime | None


class UseOut(Schema):
    """What a VE has used since it was started (processor time, bytes moved) and uses now (memory, processes)."""

    at: datetime = Field(description="when it was measured, by the node's clock")
    cpu_seconds: float = Field(examples=[12.5])
    cpu_percent: float | None = Field(description="of one processor, since the last measurement; null: not known", examples=[3.1])
    memory_bytes: int
    memory_peak_bytes: int
    disk_read_bytes: int
    disk_written_bytes: int
    received_bytes: int
    sent_bytes: int
    processes: int


class UsageOut(Schema):
    """A VE and what it uses."""

    id: str
    name: str = Field(examples=["web-1"])
    project: str = Field(examples=["main"])
    kind: Kind
    node: str | None
    owner: str
    vcpus: int
    memory_mib: int = Field(description="what it may use")
    usage: UseOut | None = Field(description="null: it does not run, its node is not up, or its kind is not metered")


class NodeOut(Schema):
    """A physical machine (or one that a worker simulates)."""

    name: str = Field(examples=["node-1"])
    state: NodeState
    cordoned: bool = Field(description="no new placements")
    maintenance: bool = Field(description="observed only")
    kinds: list[Kind]
    simulated: bool
    cpus: int = Field(examples=[8])
    memory_mib: int = Field(examples=[32768])
    memory_placed_mib: int = Field(description="sum of its VEs' memory", examples=[512])
    disk_mib: int
    ves: int = Field(description="how many VEs are placed here")
    guests_seen: int | None = Field(description="how many guests its last full list had")
    labels: list[str]
    address: str | None
    version: str = Field(description="vmcloud's version there")
    description: str
    heard: datetime | None = Field(description="when it was last heard")
    reason: str = Field(description="why it refused its last order, if it did")


class PowerOut(Schema):
    """Whether a kind can do something. `node`: where a trial on the node has passed; `later`: not in this release."""

    power: Power
    support: Support
    why: str = Field(description="in words, for all but yes")
    source: str = Field(description="for a no: where its upstream says so")


class RangeOut(Schema):
    """The least and the most that may be asked for."""

    lowest: int
    highest: int


class LimitsOut(Schema):
    """Limits of a kind, whatever its nodes have."""

    vcpus: RangeOut
    memory_mib: RangeOut
    disk_mib: RangeOut


class KindOut(Schema):
    """A sort of VE and what it can do."""

    kind: Kind
    title: str
    driver: bool = Field(description="whether this release can make VEs of it")
    nodes: int = Field(description="how many offer it")
    nodes_up: int
    limits: LimitsOut
    verbs: list[Verb] = Field(description="what can be asked of a VE of this kind")
    powers: list[PowerOut]


class KindPage(Schema):
    """All kinds; always one page."""

    items: list[KindOut]
    next: None = None


class ImageOut(Schema):
    """A template root file system: one archive known by its SHA-256."""

    name: str = Field(examples=["busybox"])
    kind: str = Field(description="the kind it is for, or `any`", examples=["lxc"])
    sha256: str
    size: int = Field(description="bytes of the archive")
    description: str


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


class JobOut(Schema):
    """A requested action. `state` is Torque's letter: Q queued, R running, E exiting, C complete."""

    id: int = Field(examples=[12])
    verb: str = Field(examples=["create"])
    ve: str | None = Field(description="the VE's UUID")
    ve_name: str | None = Field(examples=["web-1"])
    project: str = Field(examples=["main"])
    kind: str | None
    node: str | None
    owner: str = Field(examples=["admin"])
    state: Literal["Q", "H", "W", "R", "E", "T", "S", "C"]
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


class JobFullOut(JobOut):
    """A job with its steps."""

    steps: list[StepOut]


class EventOut(Schema):
    """One line of a job's history."""

    id: int
    at: datetime | None
    text: str = Field(examples=["submitted by admin through api"])


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


class FindingOut(Schema):
    """Something that is not as it is wanted, and what becomes of it."""

    rule: str = Field(description="as in the design: R1 to R12", examples=["R2"])
    name: str = Field(description="of the VE; node/name of a guest that is none", examples=["web-1"])
    project: str | None
    ve: str | None = Field(description="UUID")
    node: str | None
    action: str = Field(
        description="what the server does by itself: a verb, `want-stopped` (the guest's own doing is what is wanted now), "
        "`report` (nothing), `wait` (before it tries again)",
        examples=["report"],
    )
    reason: str = Field(examples=["seen running, wanted stopped"])
    fix: str | None = Field(description="what it does if it is asked to; null: nothing can be done by a rule", examples=["stop"])


class FindingsOut(Schema):
    """All that is not as it is wanted, by rule and name."""

    items: list[FindingOut]


class ReconcileIn(Schema):
    """Which part of it to mend; all where nothing is said."""

    ve: str = Field("", description="a name or UUID")
    project: str = Field("main", description="of the name")
    node: str = ""


class _Page(Schema):
    next: str | None = Field(description="cursor of the next page; null on the last one")


class VEPage(_Page):
    """A page of VEs, by project and name."""

    items: list[VEOut]


class StrayPage(_Page):
    """A page of guests that do not belong where they were seen, by node and native name."""

    items: list[StrayOut]


class NodePage(_Page):
    """A page of nodes, by name."""

    items: list[NodeOut]


class ImagePage(_Page):
    """A page of images, by name."""

    items: list[ImageOut]


class SnapshotPage(_Page):
    """A VE's snapshots, oldest first; always all of them."""

    items: list[SnapshotOut]


class UsagePage(_Page):
    """A page of VEs and what they use, by project and name."""

    items: list[UsageOut]


class JobPage(_Page):
    """A page of jobs, newest first."""

    items: list[JobOut]


class HappeningPage(_Page):
    """A page of events, newest first."""

    items: list[HappeningOut]


class QueueOut(Schema):
    """A named line of jobs with limits; 0 is no limit."""

    name: str = Field(description=NAME, examples=["batch"])
    enabled: bool = Field(description="takes jobs")
    started: bool = Field(description="its jobs may begin")
    priority: int
    max_running: int
    max_user_running: int
    max_queued: int
    max_user_queued: int
    min_vcpus: int
    max_vcpus: int
    min_memory_mib: int
    max_memory_mib: int
    default_lease: int = Field(description="seconds; for creates that say nothing of a lease")
    max_lease: int = Field(description="seconds; of creates and renewals")
    users: list[str] = Field(description="who may submit; none: everybody")
    routes: list[str] = Field(description="hands its jobs to the first of these that takes them")
    labels: list[str] = Field(description="what the nodes of its creates must have")
    queued: int = Field(description="jobs that have not begun")
    running: int


class QueuePage(Schema):
    """All queues; always one page."""

    items: list[QueueOut]
    next: None = None


class EventPage(_Page):
    """A page of a job's events, oldest first."""

    items: list[EventOut]


class WhoOut(Schema):
    """Who is asking."""

    username: str = Field(examples=["admin"])
    is_admin: bool


class TokenOut(Schema):
    """A new token. Its text is told once and not kept."""

    token: str = Field(examples=["vmc_…"])
    username: str
    name: str


class HealthOut(Schema):
    """The web part answers, and reaches its database."""

    status: Literal["ok"]


class TermsIn(Schema):
    """When and how a job may run; the member `job` of any action."""

    queue: str = Field("", description="default `main`")
    priority: int = Field(0, ge=-1024, le=1023)
    not_before: datetime | None = Field(None, description="ISO 8601; without an offset: UTC")
    hold: bool = Field(False, description="held by its user until it is released")
    depend: str = Field("", description="after afterok afternotok afterany before… on, as in Torque", examples=["afterok:12:13"])
    walltime: float | None = Field(None, description="seconds from its begin, after which it is ended")
    retries: int = Field(0, ge=0, le=20)


class AlterIn(Schema):
    """Other terms of a job; what is not given stays."""

    priority: int | None = None
    not_before: datetime | None = None
    depend: str | None = None
    walltime: float | None = None
    retries: int | None = None


class QueueIn(Schema):
    """A queue's limits; 0 is no limit. `name` only for a new one."""

    name: str = ""
    enabled: bool = True
    started: bool = True
    priority: int = 0
    max_running: int = 0
    max_user_running: int = 0
    max_queued: int = 0
    max_user_queued: int = 0
    min_vcpus: int = 0
    max_vcpus: int = 0
    min_memory_mib: int = 0
    max_memory_mib: int = 0
    default_lease: int = 0
    max_lease: int = 0
    users: list[str] = []
    routes: list[str] = []
    labels: list[str] = []


class MoveIn(Schema):
    """The queue to move to."""

    queue: str = Field(examples=["batch"])


class RequestIn(Schema):
    """One action of a batch."""

    verb: Verb = Field(examples=["start"])
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
    problem: dict[str, str] | None = None


class BatchOut(Schema):
    """Answers in the order of the requests."""

    items: list[AnswerOut]


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

    job: int = Field(examples=[13])


class LeaseIn(Schema):
    """How long a VE may live: `for` or `until`; an hour before the end it is told, at the end the VE is stopped."""

    for_: float | None = Field(None, alias="for", description="seconds from now (of a create: from its `not_before`)")
    until: datetime | None = Field(None, description="ISO 8601; without an offset: UTC")
    action: LeaseAction = Field(LeaseAction.STOP, description="`delete`: it is deleted when the grace is over too")
    grace: int = Field(3600, description="seconds from the end until it is deleted, or stopped by force")


class CreateIn(Schema):
    """What a new VE should be. Fields that are not given have the defaults shown."""

    name: str = Field(description=f"{NAME}, at most 50 characters", examples=["web-1"])
    image: str = Field(examples=["busybox"])
    project: str = "main"
    kind: Kind = Kind.LXC
    vcpus: int = 1
    memory_mib: int = Field(128, description="MiB")
    disk_mib: int = Field(0, description="MiB; 0: no limit")
    power: Literal["running", "stopped"] = "running"
    restart: Restart = Restart.ON_FAILURE
    drift: Drift = Drift.REPORT
    lease: LeaseIn | None = Field(None, description="null: none; not given: that of the queue")
    node: str = Field("", description="a request for one node; empty: the scheduler chooses")
    privileged: bool = Field(False, description="shares the host's user ids; administrators only")
    description: str = Field("", max_length=DESCRIPTION_MAX)
    job: TermsIn | None = None


class AdoptIn(Schema):
    """What an orphan becomes. Its root file system, its network and its privileges stay what they are."""

    name: str = Field(description=f"{NAME}, at most 50 characters", examples=["web-9"])
    project: str = "main"
    owner: str = Field("", description="a user; empty: who asks")
    vcpus: int | None = Field(None, description="not given: what it has; all of the node's where it has no limit")
    memory_mib: int | None = Field(None, description="MiB; not given: what it has; needed where it has no limit")
    restart: Restart = Restart.ON_FAILURE
    drift: Drift = Drift.REPORT
    description: str = Field("", max_length=DESCRIPTION_MAX)


class ResizeIn(Schema):
    """New sizes; at least one."""

    vcpus: int | None = Field(None, examples=[2])
    memory_mib: int | None = Field(None, examples=[256])
    disk_mib: int | None = None
    job: TermsIn | None = None


class AboutIn(Schema):
    """What only the record shows; at least one."""

    restart: Restart | None = Field(None, examples=["always"])
    drift: Drift | None = None
    description: str | None = Field(None, examples=["Sells things."])
    lease: LeaseIn | None = Field(None, description="null: none from now on; a later end calls off what the old one led to")
    job: TermsIn | None = None


class PowerIn(Schema):
    """For stop and restart; the other verbs take nothing."""

    force: bool = Field(False, description="cut the power at once")
    grace: float = Field(10, description="seconds before a graceful stop is forced, 0 to 3600")
    job: TermsIn | None = None


class SnapshotIn(Schema):
    """A new snapshot."""

    name: str = Field(description=f"{NAME}; unique in its VE", examples=["before-upgrade"])
    job: TermsIn | None = None


class RevertIn(Schema):
    """Back to a snapshot."""

    snapshot: str = Field(examples=["before-upgrade"])
    job: TermsIn | None = None


class ExecIn(Schema):
    """A program to run inside a VE, as its root."""

    argv: list[str] = Field(description="the program and its arguments; no shell reads them", examples=[["ls", "-l"]])
    environment: dict[str, str] = Field({}, description="added to a clean environment", examples=[{"LANG": "C.UTF-8"}])
    tty: bool = Field(False, description="on a terminal of its own")


class LogsIn(Schema):
    """How a boot log is to be told."""

    follow: bool = Field(False, description="tell also what is added, until you leave")


class LoginIn(Schema):
    """Password for a token."""

    username: str = Field(examples=["admin"])
    password: str = Field(examples=["…"])
    name: str = Field("api", description="what the token is for, at most 100 characters")


def body(schema: type[Schema], *, required: bool = True) -> dict[str, Any]:
    """``openapi_extra`` for an operation that reads its JSON body itself."""
    described = schema.model_json_schema(ref_template="#/components/schemas/{model}")
    definitions = described.pop("$defs", {})
    for name, definition in [*definitions.items()] * 2:  # a definition may name another one
        described = _inline(described, name, definition)
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": described}}}}


def _inline(value: Any, name: str, definition: Any) -> Any:
    """``value`` with references to ``name`` replaced by its definition: what one operation takes stands in one place."""
    if isinstance(value, dict):
        if value.get("$ref") == f"#/components/schemas/{name}":
            rest = {key: item for key, item in value.items() if key != "$ref"}
            return {**definition, **rest}
        return {key: _inline(item, name, definition) for key, item in value.items()}
    if isinstance(value, list):
        return [_inline(item, name, definition) for item in value]
    return value


def query_parameters(*parameters: tuple[str, str]) -> list[dict[str, Any]]:
    """Optional query parameters as OpenAPI describes them: pairs of name and words."""
    return [
        {"name": name, "in": "query", "required": False, "schema": {"type": "string"}, "description": text}
        for name, text in parameters
    ]


PROJECT = query_parameters(("project", "where a name is looked up; default `main`; a UUID needs none"))
AFTER = query_parameters(("after", "`directory_version` of a job: wait up to half a second until the answer shows that write"))
PAGES = query_parameters(("limit", "rows in one page, 1 to 1000; default 100"), ("cursor", "`next` of the page before"))
KEY: list[dict[str, Any]] = [
    {
        "name": "Idempotency-Key",
        "in": "header",
        "required": False,
        "schema": {"type": "string", "maxLength": 255},
        "description": "the same request with the same key is done once",
    }
]
