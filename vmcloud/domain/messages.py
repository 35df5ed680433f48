"""What server, nodes and monitor say to each other, as frozen values.

On the wire each is one JSON object: ``{"v": 1, "type": "<type>", ...fields}``. Orders (server to node) travel inside a signed
envelope (:mod:`vmcloud.dispatch.envelope`); reports (node to server and monitor) are believed because of the list they arrive
on, which only that node's broker user can write. Times are seconds since the epoch (float, UTC).
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Self
from uuid import UUID

from .errors import Invalid, Problem
from .names import check_label
from .vocabulary import Kind, Observed, Outcome, StepVerb
from .wire import (
    BYTES_MAX,
    COUNT_MAX,
    CPUS_MAX,
    DISK_MIB_MAX,
    IMAGES_MAX,
    MEMORY_MIB_MAX,
    MOMENT_MAX,
    NODE_MAX,
    RELEASE_MAX,
    TEXT_MAX,
    address,
    boolean,
    check_output,
    distinct,
    listing,
    mac,
    moment,
    name,
    prose,
    whole,
    word,
)

VERSION = 1
NOTES_MAX = 20
"""Notes of one result that are kept."""


@dataclass(frozen=True)
class Message:
    """Base of all messages. Subclasses set ``type`` and register themselves for :func:`parse`."""

    type: ClassVar[str] = ""
    registry: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        Message.registry[cls.type] = cls

    def to_json(self) -> dict[str, Any]:
        """The wire form."""
        data: dict[str, Any] = {"v": VERSION, "type": self.type}
        for each in fields(self):
            data[each.name] = _encode(getattr(self, each.name))
        return data

    @classmethod
    def decode(cls, data: dict[str, Any]) -> Self:
        """Build from the wire form's fields, each of its type and in its range (:mod:`.wire`). Unknown fields are dropped."""
        raise NotImplementedError


def parse(data: object) -> Message:
    """The message in ``data``; :class:`Invalid` if it is none, or of a version this program does not speak."""
    if not isinstance(data, dict):
        raise Invalid("a message is a JSON object")
    if data.get("v") != VERSION:
        raise Invalid(
            f"message version {_short(data.get('v'))} is not spoken here",
            why=f"this program speaks version {VERSION}",
            todo="Run the same release of vmcloud on every machine.",
            code="version",
        )
    name = data.get("type")
    kind: type[Message] | None = Message.registry.get(name) if isinstance(name, str) else None
    if kind is None:
        raise Invalid(f"no message is called {_short(name)}")
    try:
        return kind.decode(data)
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        raise Invalid(f"a malformed {kind.type} message: {type(error).__name__}: {str(error)[:300]}") from error


def _short(value: object) -> str:
    """For a refusal: what is no text or number is not looked into."""
    return repr(value)[:100] if isinstance(value, str | int | float | None) else f"a {type(value).__name__}"


def _encode(value: Any) -> Any:
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, Problem):
        return value.to_json()
    if isinstance(value, tuple | list):
        return [_encode(item) for item in value]
    if isinstance(value, dict):
        return {key: _encode(item) for key, item in value.items()}
    if hasattr(value, "to_json"):
        return value.to_json()
    return value.value if hasattr(value, "value") else value


# ---------------------------------------------------------------------------------------------------------------- orders


@dataclass(frozen=True)
class StepOrder(Message):
    """Server to node: carry out one step. Key: (``job``, ``step``); ``attempt`` grows when the server decides to try anew.

    ``lane`` is the resource that the step has for itself; ``generation`` is the VE's desired generation that this step brings
    about (0 for steps on no VE); ``args`` holds what the verb needs:

    - create: ``spec`` (:class:`~vmcloud.domain.spec.Spec` JSON), ``power``, ``image_sha256``
    - stop, restart: ``force`` (bool), ``grace`` (seconds before a graceful stop is forced)
    - resize: ``spec``
    - adopt: ``orphan`` (the guest's native name so far), ``spec``, and ``sizes`` (those of ``spec`` that were asked for; the
      others are as the guest has them)
    - snapshot, revert, delete-snapshot: ``snapshot`` (:class:`Snapshot` JSON)
    - console, exec, logs: ``url`` and ``ticket`` of the data connection (:mod:`vmcloud.domain.session`), and for exec ``argv``,
      ``environment``, ``tty``; for logs ``follow``
    - fetch: ``image``, ``sha256``, ``size`` (bytes), ``url``, ``ticket``
    - remove-image: ``sha256``
    - rename: ``native`` (the new one; the order's own is the old one)
    - copy: ``source`` (``ve`` and ``native`` of the guest to be copied; the order's own are the copy's), ``spec``, ``power``, and
      ``snapshot`` where not its present state is to be copied
    - migrate-prepare, on the target: ``spec``, ``power``, ``live``
    - migrate-send, on the source: ``live``, ``grace``; gives ``state``
    - migrate-receive, on the target: ``spec``, ``power``, ``live``, ``state``
    - migrate-activate, on the target: ``power``
    - migrate-clean and migrate-keep, on the source, and migrate-discard, on the target: nothing

    ``timeout`` is how many seconds the step may run on the node. ``owner``, ``project`` and ``queue`` are the job's, for hooks.
    """

    type: ClassVar[str] = "step"

    job: int
    step: int
    attempt: int
    node: str
    verb: StepVerb
    lane: str
    ve: UUID | None
    native: str
    kind: Kind | None
    generation: int
    args: dict[str, Any]
    timeout: float
    owner: str = ""
    project: str = ""
    queue: str = ""

    @classmethod
    def decode(cls, data: dict[str, Any]) -> Self:
        return cls(
            job=int(data["job"]),
            step=int(data["step"]),
            attempt=int(data["attempt"]),
            node=str(data["node"]),
            verb=StepVerb(data["verb"]),
            lane=str(data["lane"]),
            ve=UUID(data["ve"]) if data.get("ve") else None,
            native=str(data["native"]),
            kind=Kind(data["kind"]) if data.get("kind") else None,
            generation=int(data["generation"]),
            args=dict(data["args"]),
            timeout=float(data["timeout"]),
            owner=str(data.get("owner", "")),
            project=str(data.get("project", "")),
            queue=str(data.get("queue", "")),
        )


@dataclass(frozen=True)
class CancelOrder(Message):
    """Server to node: do not begin, or stop and undo, this step. Overtakes all work."""

    type: ClassVar[str] = "cancel"

    job: int
    step: int
    attempt: int
    node: str

    @classmethod
    def decode(cls, data: dict[str, Any]) -> Self:
        return cls(**_about(data))


@dataclass(frozen=True)
class SignalOrder(Message):
    """Server to node: send a signal to what carries out this step now. Of a step that does not run, nothing becomes of it."""

    type: ClassVar[str] = "signal"

    job: int
    step: int
    attempt: int
    node: str
    signal: str

    @classmethod
    def decode(cls, data: dict[str, Any]) -> Self:
        return cls(**_about(data), signal=word(data["signal"]))


@dataclass(frozen=True)
class RelistOrder(Message):
    """Server to node: say now everything that you see."""

    type: ClassVar[str] = "relist"

    node: str

    @classmethod
    def decode(cls, data: dict[str, Any]) -> Self:
        return cls(node=name(data["node"], most=NODE_MAX))


# --------------------------------------------------------------------------------------------------------------- reports


@dataclass(frozen=True, order=True)
class Snapshot:
    """A kept state of a guest's root file system: its name, the job that took it, and when (seconds since the epoch). The job
    makes two of the same name different, so that a repeated order is known from a second one."""

    name: str
    job: int
    at: float

    def to_json(self) -> dict[str, Any]:
        """Wire form."""
        return {"name": self.name, "job": self.job, "at": self.at}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Inverse of :meth:`to_json`."""
        return cls(check_label(data["name"], where="snapshot"), whole(data["job"]), moment(data["at"]))


@dataclass(frozen=True)
class Usage:
    """What one guest has used since it was started (processor time, bytes moved) and uses now (memory, processes)."""

    ve: UUID
    cpu_seconds: float
    memory_bytes: int
    memory_peak_bytes: int
    disk_read_bytes: int
    disk_written_bytes: int
    received_bytes: int
    sent_bytes: int
    processes: int

    def to_json(self) -> dict[str, Any]:
        """Wire form."""
        return {each.name: _encode(getattr(self, each.name)) for each in fields(self)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Inverse of :meth:`to_json`."""
        counts = {each.name: whole(data[each.name], high=BYTES_MAX) for each in fields(cls) if each.type == "int"}
        return cls(ve=_uuid(data["ve"]), cpu_seconds=moment(data["cpu_seconds"]), **counts)


@dataclass(frozen=True)
class Seen:
    """One guest as its node saw it. ``generation`` is the highest desired generation that the node has finished work on.

    ``ve`` is None for a guest that vmcloud did not make (foreign). ``since`` is when the state last changed, as far as the
    node knows. Sizes are what is really applied; 0 means not known.
    """

    native: str
    kind: Kind
    state: Observed
    ve: UUID | None = None
    generation: int = 0
    addresses: tuple[str, ...] = ()
    mac: str = ""
    since: float = 0.0
    vcpus: int = 0
    memory_mib: int = 0
    error: str = ""
    snapshots: tuple[Snapshot, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Wire form."""
        return {each.name: _encode(getattr(self, each.name)) for each in fields(self)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Inverse of :meth:`to_json`."""
        return cls(
            native=name(data["native"]),
            kind=Kind(data["kind"]),
            state=Observed(data["state"]),
            ve=_uuid(data["ve"]) if data.get("ve") else None,
            generation=whole(data.get("generation", 0)),
            addresses=distinct(data.get("addresses", ()), address),
            mac=mac(data.get("mac", "")),
            since=moment(data.get("since", 0.0)),
            vcpus=whole(data.get("vcpus", 0), high=CPUS_MAX),
            memory_mib=whole(data.get("memory_mib", 0), high=MEMORY_MIB_MAX),
            error=prose(data.get("error", ""), most=TEXT_MAX),
            snapshots=distinct(data.get("snapshots", ()), Snapshot.from_json),
        )


@dataclass(frozen=True, order=True)
class Mark:
    """A point in one node's voice: its journal's epoch (one more at each start of the worker) and a sequence within it."""

    epoch: int
    sequence: int

    def to_json(self) -> list[int]:
        """Wire form: a pair."""
        return [self.epoch, self.sequence]

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """Inverse of :meth:`to_json`."""
        epoch, sequence = listing(data, whole)
        return cls(epoch, sequence)


@dataclass(frozen=True)
class NodeFacts:
    """What a node can do and has. Memory and disk in MiB; ``simulated`` nodes say so wherever they show."""

    kinds: tuple[Kind, ...]
    cpus: int
    memory_mib: int
    disk_mib: int
    version: str
    simulated: bool = False
    address: str = ""

    def to_json(self) -> dict[str, Any]:
        """Wire form."""
        return {each.name: _encode(getattr(self, each.name)) for each in fields(self)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Inverse of :meth:`to_json`."""
        return cls(
            kinds=distinct(data["kinds"], Kind),
            cpus=whole(data["cpus"], high=CPUS_MAX),
            memory_mib=whole(data["memory_mib"], high=MEMORY_MIB_MAX),
            disk_mib=whole(data["disk_mib"], high=DISK_MIB_MAX),
            version=word(data["version"], most=RELEASE_MAX),
            simulated=boolean(data.get("simulated", False)),
            address=address(data["address"]) if data.get("address") else "",
        )


@dataclass(frozen=True)
class Sighting(Message):
    """Node to monitor (list ``monitor.<node>``): guests seen at ``mark``.

    ``full`` means: these are all guests there are on this node; what is recorded for the node and not listed was not there.
    A node that could not look sends no full sighting at all. ``gone`` names VEs known to be absent (after a delete), ``left`` the
    native names of guests that were not ours and are there no more.
    """

    type: ClassVar[str] = "sighting"

    node: str
    mark: Mark
    at: float
    full: bool
    guests: tuple[Seen, ...] = ()
    gone: tuple[UUID, ...] = ()
    facts: NodeFacts | None = None
    left: tuple[str, ...] = ()

    @classmethod
    def decode(cls, data: dict[str, Any]) -> Self:
        return cls(
            node=name(data["node"], most=NODE_MAX),
            mark=Mark.from_json(data["mark"]),
            at=moment(data["at"]),
            full=boolean(data["full"]),
            guests=listing(data["guests"], Seen.from_json),
            gone=listing(data["gone"], _uuid),
            facts=NodeFacts.from_json(data["facts"]) if data.get("facts") else None,
            left=listing(data.get("left", ()), name),
        )


@dataclass(frozen=True)
class Accepted(Message):
    """Node to server (list ``server.<node>``): the step is in the journal. Also the answer to a second delivery of a step
    that waits or runs: then ``running`` says which."""

    type: ClassVar[str] = "accepted"

    node: str
    job: int
    step: int
    attempt: int
    at: float
    running: bool = False

    @classmethod
    def decode(cls, data: dict[str, Any]) -> Self:
        return cls(**_about(data), at=moment(data["at"]), running=boolean(data.get("running", False)))


@dataclass(frozen=True)
class Refused(Message):
    """Node to server: the order was not taken. ``code``: clock, expired, signature, wrong-node, version, stale, gone."""

    type: ClassVar[str] = "refused"

    node: str
    job: int
    step: int
    attempt: int
    at: float
    code: str
    message: str

    @classmethod
    def decode(cls, data: dict[str, Any]) -> Self:
        return cls(**_about(data), at=moment(data["at"]), code=word(data["code"]), message=prose(data["message"]))


@dataclass(frozen=True)
class Progress(Message):
    """Node to server: the running step is in phase ``name``, ``percent`` of it done (0 to 100, or -1: not known)."""

    type: ClassVar[str] = "progress"

    node: str
    job: int
    step: int
    attempt: int
    at: float
    name: str
    percent: int = -1

    @classmethod
    def decode(cls, data: dict[str, Any]) -> Self:
        percent = whole(data.get("percent", -1), low=-1, high=100)
        return cls(**_about(data), at=moment(data["at"]), name=prose(data["name"]), percent=percent)


@dataclass(frozen=True)
class Result(Message):
    """Node to server: the step has ended. Stored in the journal first, and said again whenever it is asked for.

    ``mark`` names the sighting that shows what the step led to: the job is complete when the directory shows that much.
    ``seen`` is the guest afterwards, None when it is not there. ``undone``: nothing of a failed create is left. ``exit_code`` is
    that of the program which an exec ran. ``spec`` is what an adopted guest was found to be (Spec JSON). ``notes`` are lines for
    the job's history, such as what a hook wrote. ``output`` is what the step gives to later steps of its job
    (:func:`.wire.check_output`); the server merges it into their ``args``.
    """

    type: ClassVar[str] = "result"

    node: str
    job: int
    step: int
    attempt: int
    at: float
    outcome: Outcome
    mark: Mark
    seen: Seen | None = None
    error: Problem | None = None
    retryable: bool = False
    undone: bool = False
    seconds: float = 0.0
    exit_code: int | None = None
    spec: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()
    output: dict[str, Any] = field(default_factory=dict, hash=False)

    @classmethod
    def decode(cls, data: dict[str, Any]) -> Self:
        return cls(
            **_about(data),
            at=moment(data["at"]),
            outcome=Outcome(data["outcome"]),
            mark=Mark.from_json(data["mark"]),
            seen=Seen.from_json(data["seen"]) if data.get("seen") else None,
            error=_problem(data["error"]) if data.get("error") else None,
            retryable=boolean(data.get("retryable", False)),
            undone=boolean(data.get("undone", False)),
            # By the node's clock, which may have been set back meanwhile.
            seconds=max(0.0, moment(data.get("seconds", 0.0), low=-MOMENT_MAX)),
            exit_code=whole(data["exit_code"], low=-COUNT_MAX, high=COUNT_MAX) if data.get("exit_code") is not None else None,
            spec=dict(data["spec"]) if data.get("spec") else None,
            notes=listing(data.get("notes", ()), prose)[:NOTES_MAX],
            output=check_output(data.get("output") or {}),
        )


@dataclass(frozen=True)
class Digest(Message):
    """Node to server, with each full list: liveness, and what the directory does not hold.

    ``count`` guests were listed at ``mark``. ``images`` are the SHA-256 sums of images on the node. ``working`` are the
    (job, step, attempt) that the journal holds unfinished. ``missing`` are VEs that the journal says should be here and the
    list did not show. Where ``full`` is False, some driver could not look: ``count`` and ``missing`` then say nothing.
    ``usage`` is that of the running guests, where their driver meters.
    """

    type: ClassVar[str] = "digest"

    node: str
    mark: Mark
    at: float
    count: int
    facts: NodeFacts
    missing: tuple[UUID, ...] = ()
    images: tuple[str, ...] = ()
    working: tuple[tuple[int, int, int], ...] = field(default=())
    full: bool = True
    usage: tuple[Usage, ...] = ()

    @classmethod
    def decode(cls, data: dict[str, Any]) -> Self:
        return cls(
            node=name(data["node"], most=NODE_MAX),
            mark=Mark.from_json(data["mark"]),
            at=moment(data["at"]),
            count=whole(data["count"], high=COUNT_MAX),
            facts=NodeFacts.from_json(data["facts"]),
            missing=listing(data.get("missing", ()), _uuid),
            images=listing(data.get("images", ()), word, most=IMAGES_MAX),
            working=listing(data.get("working", ()), _triple),
            full=boolean(data.get("full", True)),
            usage=listing(data.get("usage", ()), Usage.from_json),
        )


@dataclass(frozen=True)
class Wake(Message):
    """To the server's list ``server`` (or the monitor's list ``monitor``): something changed, look now. Loss is harmless.

    ``topic``: jobs, nodes.
    """

    type: ClassVar[str] = "wake"

    topic: str

    @classmethod
    def decode(cls, data: dict[str, Any]) -> Self:
        return cls(topic=word(data["topic"]))


def _about(data: dict[str, Any]) -> dict[str, Any]:
    """Which step of which node a message is about."""
    return {"node": name(data["node"], most=NODE_MAX), **{name: whole(data[name]) for name in ("job", "step", "attempt")}}


def _problem(data: dict[str, Any]) -> Problem:
    return Problem.from_json({name: prose(data.get(name, "")) for name in ("code", "what", "where", "why", "todo")})


def _uuid(value: object) -> UUID:
    return UUID(word(value))


def _triple(value: object) -> tuple[int, int, int]:
    job, step, attempt = listing(value, whole)
    return job, step, attempt
