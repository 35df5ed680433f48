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
from .vocabulary import Desired, Kind, Observed, Outcome, Verb

VERSION = 1


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
        """Build from the wire form's fields; subclasses convert what is not plain JSON. Unknown fields are dropped."""
        known = {each.name for each in fields(cls)}
        return cls(**{name: value for name, value in data.items() if name in known})


def parse(data: object) -> Message:
    """The message in ``data``; :class:`Invalid` if it is none, or of a version this program does not speak."""
    if not isinstance(data, dict):
        raise Invalid("a message is a JSON object")
    if data.get("v") != VERSION:
        raise Invalid(
            f"message version {data.get('v')!r} is not spoken here",
            why=f"this program speaks version {VERSION}",
            todo="Run the same release of vmcloud on every machine.",
            code="version",
        )
    kind: type[Message] | None = Message.registry.get(str(data.get("type")))
    if kind is None:
        raise Invalid(f"no message is called {data.get('type')!r}")
    try:
        return kind.decode(data)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise Invalid(f"a malformed {kind.type} message: {error}") from error


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
    - fetch: ``image``, ``sha256``, ``size`` (bytes), ``url``, ``ticket``

    ``timeout`` is how many seconds the step may run on the node.
    """

    type: ClassVar[str] = "step"

    job: int
    step: int
    attempt: int
    node: str
    verb: Verb
    lane: str
    ve: UUID | None
    native: str
    kind: Kind | None
    generation: int
    args: dict[str, Any]
    timeout: float

    @classmethod
    def decode(cls, data: dict[str, Any]) -> Self:
        return cls(
            job=int(data["job"]),
            step=int(data["step"]),
            attempt=int(data["attempt"]),
            node=str(data["node"]),
            verb=Verb(data["verb"]),
            lane=str(data["lane"]),
            ve=UUID(data["ve"]) if data.get("ve") else None,
            native=str(data["native"]),
            kind=Kind(data["kind"]) if data.get("kind") else None,
            generation=int(data["generation"]),
            args=dict(data["args"]),
            timeout=float(data["timeout"]),
        )


@dataclass(frozen=True)
class CancelOrder(Message):
    """Server to node: do not begin, or stop and undo, this step. Overtakes all work."""

    type: ClassVar[str] = "cancel"

    job: int
    step: int
    attempt: int
    node: str


@dataclass(frozen=True)
class RelistOrder(Message):
    """Server to node: say now everything that you see."""

    type: ClassVar[str] = "relist"

    node: str


# --------------------------------------------------------------------------------------------------------------- reports


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

    def to_json(self) -> dict[str, Any]:
        """Wire form."""
        return {each.name: _encode(getattr(self, each.name)) for each in fields(self)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Inverse of :meth:`to_json`."""
        return cls(
            native=str(data["native"]),
            kind=Kind(data["kind"]),
            state=Observed(data["state"]),
            ve=UUID(data["ve"]) if data.get("ve") else None,
            generation=int(data.get("generation", 0)),
            addresses=tuple(str(item) for item in data.get("addresses", ())),
            mac=str(data.get("mac", "")),
            since=float(data.get("since", 0.0)),
            vcpus=int(data.get("vcpus", 0)),
            memory_mib=int(data.get("memory_mib", 0)),
            error=str(data.get("error", "")),
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
        epoch, sequence = data
        return cls(int(epoch), int(sequence))


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
            kinds=tuple(Kind(kind) for kind in data["kinds"]),
            cpus=int(data["cpus"]),
            memory_mib=int(data["memory_mib"]),
            disk_mib=int(data["disk_mib"]),
            version=str(data["version"]),
            simulated=bool(data.get("simulated", False)),
            address=str(data.get("address", "")),
        )


@dataclass(frozen=True)
class Sighting(Message):
    """Node to monitor (list ``monitor.<node>``): guests seen at ``mark``.

    ``full`` means: these are all guests there are on this node; what is recorded for the node and not listed was not there.
    A node that could not look sends no full sighting at all. ``gone`` names VEs known to be absent (after a delete).
    """

    type: ClassVar[str] = "sighting"

    node: str
    mark: Mark
    at: float
    full: bool
    guests: tuple[Seen, ...] = ()
    gone: tuple[UUID, ...] = ()
    facts: NodeFacts | None = None

    @classmethod
    def decode(cls, data: dict[str, Any]) -> Self:
        return cls(
            node=str(data["node"]),
            mark=Mark.from_json(data["mark"]),
            at=float(data["at"]),
            full=bool(data["full"]),
            guests=tuple(Seen.from_json(item) for item in data["guests"]),
            gone=tuple(UUID(item) for item in data["gone"]),
            facts=NodeFacts.from_json(data["facts"]) if data.get("facts") else None,
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


@dataclass(frozen=True)
class Result(Message):
    """Node to server: the step has ended. Stored in the journal first, and said again whenever it is asked for.

    ``mark`` names the sighting that shows what the step led to: the job is complete when the directory shows that much.
    ``seen`` is the guest afterwards, None when it is not there. ``undone``: nothing of a failed create is left.
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

    @classmethod
    def decode(cls, data: dict[str, Any]) -> Self:
        return cls(
            node=str(data["node"]),
            job=int(data["job"]),
            step=int(data["step"]),
            attempt=int(data["attempt"]),
            at=float(data["at"]),
            outcome=Outcome(data["outcome"]),
            mark=Mark.from_json(data["mark"]),
            seen=Seen.from_json(data["seen"]) if data.get("seen") else None,
            error=Problem.from_json(data["error"]) if data.get("error") else None,
            retryable=bool(data.get("retryable", False)),
            undone=bool(data.get("undone", False)),
            seconds=float(data.get("seconds", 0.0)),
        )


@dataclass(frozen=True)
class Digest(Message):
    """Node to server, with each full list: liveness, and what the directory does not hold.

    ``count`` guests were listed at ``mark``. ``images`` are the SHA-256 sums of images on the node. ``working`` are the
    (job, step, attempt) that the journal holds unfinished. ``missing`` are VEs that the journal says should be here and the
    list did not show. Where ``full`` is False, some driver could not look: ``count`` and ``missing`` then say nothing.
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

    @classmethod
    def decode(cls, data: dict[str, Any]) -> Self:
        return cls(
            node=str(data["node"]),
            mark=Mark.from_json(data["mark"]),
            at=float(data["at"]),
            count=int(data["count"]),
            facts=NodeFacts.from_json(data["facts"]),
            missing=tuple(UUID(item) for item in data.get("missing", ())),
            images=tuple(str(item) for item in data.get("images", ())),
            working=tuple((int(job), int(step), int(attempt)) for job, step, attempt in data.get("working", ())),
            full=bool(data.get("full", True)),
        )


@dataclass(frozen=True)
class Wake(Message):
    """To the server's list ``server`` (or the monitor's list ``monitor``): something changed, look now. Loss is harmless.

    ``topic``: jobs, nodes.
    """

    type: ClassVar[str] = "wake"

    topic: str


POWER_AFTER: dict[Verb, Desired] = {
    Verb.START: Desired.RUNNING,
    Verb.RESTART: Desired.RUNNING,
    Verb.RESUME: Desired.RUNNING,
    Verb.STOP: Desired.STOPPED,
    Verb.SUSPEND: Desired.SUSPENDED,
    Verb.DELETE: Desired.ABSENT,
}
"""The desired power that each verb asks for; verbs not listed leave it as it is."""
