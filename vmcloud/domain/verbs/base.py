"""What a verb is to the engine and to the doors. Defaults are those of a plain verb; a module overrides what is its own.

The life of a request, in the order in which it meets these functions. :meth:`Verb.parse` makes the request of untrusted data.
:meth:`Verb.check` refuses what could never work, and answers with the job's arguments: plain JSON, kept in its row. Once the job
is the first in all of its :meth:`Verb.lanes`, :meth:`Verb.wants` says what is wanted from now on, and :meth:`Verb.steps` what is
to be done. When the steps are over, :meth:`Verb.settle` says what that means for what is wanted, and :meth:`Verb.missing` what
the read model must show before the job is complete. All of them are pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Protocol
from uuid import UUID

from ..errors import Conflict, NotFound
from ..steps import StepPlan
from ..vocabulary import Desired, Kind, Observed, Outcome, Power, Status
from . import request
from .request import About

if TYPE_CHECKING:  # they would cost a command of the command line as much time again
    from ..messages import Snapshot
    from ..placement import Candidate
    from ..records import ImageRecord, VERecord
    from ..wish import Wish


class Right(StrEnum):
    """Who may ask. Administrators may everything."""

    OWNER = "owner"
    """The owner of what the verb is about."""
    OPERATOR = "operator"
    """The owner, and those whom the cloud lets switch the power of every VE."""
    ADMINISTRATOR = "administrator"


@dataclass(frozen=True)
class Words:
    """What doors say of a verb."""

    summary: str
    """What it does, as a sentence: the help of its command, its title in the documents."""
    button: str = ""
    """Its word on a button; empty: its name."""
    confirm: str = ""
    """What to know before it is done; empty: nobody is asked."""
    danger: bool = False
    """Whether it takes something away for good."""
    examples: tuple[str, ...] = ()
    """What may follow its command, where that shows more than its operands."""
    primary: bool = False
    """Whether it is what is mostly wanted where it is offered."""
    inverse: str = ""
    """The verb that takes it back, if there is one."""


@dataclass(frozen=True)
class Lane:
    """A resource for which jobs queue up. Those that are ``shared`` may have it together."""

    name: str
    shared: bool = False


@dataclass(frozen=True)
class VEFacts:
    """A VE as a request finds it."""

    ve: UUID
    name: str
    project: str
    owner: str
    kind: Kind
    node: str
    desired: Desired
    observed: Observed | None
    spec: Mapping[str, Any]


class World(Protocol):
    """What a check may look at besides its subject. Read when asked for, at most once for one request or batch."""

    now: float

    def candidates(self) -> Sequence[Candidate]:
        """All nodes as placement sees them."""

    def image(self, name: str) -> ImageRecord | None:
        """The image with this name."""

    def image_names(self) -> Sequence[str]:
        """Some of the images that there are, to be named where one is not."""

    def snapshots(self, ve: UUID) -> Mapping[str, Snapshot]:
        """By name, the snapshots that a VE will have when its open jobs have ended well; one not taken yet is of no time (0)."""

    def taken(self, project: str, name: str) -> bool:
        """Whether a VE of the project is called so."""

    def made_from(self, image: str) -> Sequence[str]:
        """Names of the VEs that were made from an image."""

    def new_uuid(self) -> UUID:
        """A UUID that no VE has."""


@dataclass(frozen=True)
class Scene:
    """What the steps of a job are planned from, in the moment in which it begins."""

    job: int
    args: Mapping[str, Any]
    """What :meth:`Verb.check` answered."""
    node: str
    """Where the subject is; for a new VE, where it was placed."""
    ve: UUID | None
    native: str
    """The VE's name in its hypervisor."""
    record: VERecord | None
    """The VE's entry as the job found it; None where there is none."""
    wish: Wish | None
    """What is wanted of the VE once the job has begun."""
    now: float
    image: Callable[[str], ImageRecord | None]
    """The image with a name."""
    stored: Callable[[str, str], bool]
    """Whether a node has an image (node, SHA-256), as far as it is known."""
    holders: Callable[[str], Sequence[str]]
    """The nodes that are up and have an image (SHA-256) which nobody else needs: no other image is the same."""

    @property
    def lane(self) -> str:
        """The lane of the VE on its node."""
        return f"ve:{self.ve}@{self.node}"

    def spec(self) -> dict[str, Any]:
        """The shape that is wanted of the VE, as plain values."""
        assert self.wish is not None
        return self.wish.spec.to_json()

    def step(self, verb: str, args: Mapping[str, Any] | None = None, **more: Any) -> StepPlan:
        """A step about the VE, on its node unless told otherwise."""
        node = more.pop("node", self.node)
        plan = {"key": verb, "lane": f"ve:{self.ve}@{node}", "ve": self.ve, "native": self.native, **more}
        return StepPlan(verb=verb, node=node, args=dict(args or {}), **plan)


@dataclass(frozen=True)
class Ended:
    """A job whose steps are over."""

    outcome: Outcome
    args: Mapping[str, Any]
    result: Mapping[str, Any]
    before: Mapping[str, Any]
    """What a failure goes back to, as it was kept when the job began; empty where nothing was."""
    node: str
    generation: int
    job: int

    @property
    def ok(self) -> bool:
        """Whether it ended well."""
        return self.outcome is Outcome.OK

    @property
    def undone(self) -> bool:
        """Whether nothing of what it did is left."""
        return bool(self.result.get("undone"))

    @property
    def never_began(self) -> bool:
        """Whether it is certain that no node did anything for it."""
        return bool(self.result.get("never_ran")) or self.result.get("mark") == [0, 0]

    @property
    def changed(self) -> bool:
        """Whether what was wanted before was kept, so that there is something to go back to."""
        return "desired" in self.before


class Settlement(StrEnum):
    """What a job's end means for what is wanted of its VE."""

    KEEP = "keep"
    """It stays as it is."""
    BURY = "bury"
    """The entry is removed; a tombstone says that late words about the guest are of one that is gone."""
    FORGET = "forget"
    """The entry is removed, and nothing is said about guests that bear the UUID: they may be somebody else's."""
    ABSENT = "absent"
    """It is wanted no more: reconcile removes what is left."""
    SHAPE = "shape"
    """The shape that the result names is the one wanted."""
    BACK = "back"
    """What the job had changed is as it was, unless somebody wants something else by now."""


class Picture(Protocol):
    """What the read model shows when a job is about to be complete."""

    def ve(self, ve: UUID) -> Any:
        """The VE's row (:class:`vmcloud.fleet.read_models.VE`); None if there is none."""

    def image(self, name: str) -> bool:
        """Whether there is an image with this name."""

    def cordoned(self, node: str) -> bool | None:
        """Whether a node takes no new VEs; None if there is no such node."""

    def stray(self, key: str) -> bool:
        """Whether a guest is shown as one that does not belong where it is."""


class Verb:
    """A verb; its defaults are those of one on an existing VE that changes nothing which is wanted."""

    name: ClassVar[str]
    object: ClassVar[str] = "ve"
    request: ClassVar[type] = request.Nothing
    words: ClassVar[Words]
    right: ClassVar[Right] = Right.OWNER
    needs: ClassVar[Power | None] = None
    """What a kind of VE must be able to do for it; None: every kind with a driver can."""
    session: ClassVar[bool] = False
    """Whether it connects a person to a guest: such a job begins at once, wants nothing and holds up nobody."""
    claims: ClassVar[bool] = False
    """Whether it makes a VE with a name that must be free."""
    moves: ClassVar[bool] = False
    """Whether another node is to have the VE: ``node`` of its arguments, chosen when it begins where none is named."""
    command: ClassVar[str] = ""
    """What it is called among the verbs of its object; empty: its name."""
    power_after: ClassVar[Desired | None] = None
    """The power that is wanted once it has begun; None: as before."""
    goes_back: ClassVar[bool] = False
    """Whether what was wanted before is wanted again where it failed."""
    wants_nothing: ClassVar[bool] = False
    """Whether no generation of the VE is its own: nothing is written to the directory when it begins."""
    leaves_power: ClassVar[bool] = False
    """Whether it never changes whether a VE runs."""
    while_absent: ClassVar[bool] = False
    """Whether it may be asked for of a VE that is being deleted."""
    without_node: ClassVar[bool] = False
    """Whether it begins also while the VE's node is down, or where the VE has none."""
    fits: ClassVar[frozenset[Observed]] = frozenset(Observed)
    """The states in which pages offer it."""
    place: ClassVar[int] = 50
    """Its place among the verbs of its object where they are shown."""
    plain: ClassVar[bool] = False
    """Whether pages need no form for it."""
    page: ClassVar[str] = ""
    """The form of pages that has it, among others; empty: one of its own, made of its request."""
    own_way: ClassVar[bool] = False
    """Whether doors have a way of their own to ask for it: what it is about is not there yet, or is no object of theirs."""
    not_offered: ClassVar[Mapping[str, str]] = {}
    """Doors (cli, rest, pages, ldap) that do not offer it, and why not."""

    def __str__(self) -> str:
        return self.name

    @property
    def called(self) -> str:
        """What it is called among the verbs of its object: its module's name there, a command's, and a part of an address."""
        return self.command or self.name

    @property
    def fields(self) -> Mapping[str, tuple[Field[Any], About]]:
        """The fields of its request that doors ask for: all but the one that names what it is about."""
        return {name: each for name, each in request.fields_of(self.request).items() if name != self.object}

    # ----------------------------------------------------------------------------------------------------------- when asked

    def parse(self, data: Mapping[str, Any]) -> Any:
        """The request that untrusted data is; :class:`Invalid` for what is none."""
        return request.read(self.request, data, self.name)

    def check(self, world: World, subject: Any, asked: Any) -> dict[str, Any]:
        """The job's arguments; raises what is refused. ``subject``: :class:`VEFacts` of a VE."""
        return dict(vars(asked))

    def lanes(self, job: int, ve: UUID | None, node: str, args: Mapping[str, Any]) -> tuple[Lane, ...]:
        """The resources that a job must be the first to have before it begins."""
        if self.session:
            return ()
        return (Lane(f"ve:{ve}"),)

    def again(self, args: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The request of a job that is to be asked for once more; None: that needs the command anew."""
        return args if not self.leaves_power and not self.session else None

    # ------------------------------------------------------------------------------------------------------- when it begins

    def wants(self, wish: Wish, args: Mapping[str, Any]) -> Wish:
        """What is wanted once it has begun, of a VE of which ``wish`` was wanted before."""
        return wish.with_power(self.power_after) if self.power_after is not None else wish

    def steps(self, scene: Scene) -> Sequence[StepPlan]:
        """What is to be done; the result of the last one is the job's. No step: to want it was all."""
        return ()

    def without_entry(self, args: Mapping[str, Any], buried: bool) -> bool:
        """Whether it has something to do of a VE that is recorded no more; raises :class:`NotFound` where it makes no sense."""
        raise NotFound("the VE is recorded no more", where="ve", todo="It was deleted before this job began.")

    def back(self, args: Mapping[str, Any], before: Wish, now: Wish) -> Wish:
        """What is wanted after it failed: what it had changed is as ``before``, what somebody wants by ``now`` stays."""
        return now.taking(before, ("desired",)) if now.desired is self.power_after else now

    # --------------------------------------------------------------------------------------------------- when it is over

    def to_settle(self, end: Ended) -> bool:
        """Whether the directory may have to be told how it ended."""
        return not end.ok and (end.changed or not end.never_began)

    def settle(self, end: Ended, placed: bool) -> Settlement:
        """What its end means. ``placed``: the VE has a node."""
        return Settlement.BACK if self.goes_back and not end.ok and end.changed else Settlement.KEEP

    def gone(self, end: Ended) -> bool:
        """Whether no VE is left of which anything could be wanted."""
        return False

    def missing(self, end: Ended, ve: UUID | None, picture: Picture) -> str:
        """What the read model does not show yet of what it led to; empty if all."""
        row = picture.ve(ve) if ve is not None else None
        return self.not_seen(end, row)

    def not_seen(self, end: Ended, row: Any) -> str:
        """The same of what its node saw."""
        result = end.result
        if row is None or "mark" not in result or not result.get("seen"):
            return ""
        node = result.get("node") or end.node
        if row.observed_node == node and [row.observed_epoch, row.observed_sequence] >= list(result["mark"]):
            return ""
        if what := self.not_listed(end, row):
            return what
        seen = result["seen"]
        same = row.observed_generation >= int(seen.get("generation", 0)) and row.observed_state == seen["state"]
        if same and row.observed_node == node:
            return ""
        return f"{seen['state']} as node {node} saw it"

    def not_listed(self, end: Ended, row: Any) -> str:
        """What else of what its node saw must be shown, where a list that was under way may show the rest already."""
        return ""

    def status(self, desired: Desired, observed: Observed) -> Status | None:
        """How a VE reads while a job with this verb is under way; None: as it was seen."""
        return None


class MakesVE(Verb):
    """A verb that makes the VE which it is about."""

    def gone(self, end: Ended) -> bool:
        return not end.ok and (end.undone or not end.node)

    def missing(self, end: Ended, ve: UUID | None, picture: Picture) -> str:
        assert ve is not None
        if self.gone(end):
            return "" if picture.ve(ve) is None else "the entry's removal"
        return super().missing(end, ve, picture)


class OnNode(Verb):
    """A verb on a node."""

    object = "node"
    right = Right.ADMINISTRATOR
    not_offered: ClassVar[Mapping[str, str]] = {"ldap": "a node's switches are attributes, which administrators write themselves"}

    def lanes(self, job: int, ve: UUID | None, node: str, args: Mapping[str, Any]) -> tuple[Lane, ...]:
        return (Lane(f"node:{node}"),)

    def to_settle(self, end: Ended) -> bool:
        return False

    def idle(self, cordoned: bool) -> bool:
        """Whether it would change nothing on a node that is cordoned or not: pages do not offer it then."""
        return False


class OnImage(Verb):
    """A verb on an image."""

    object = "image"
    right = Right.ADMINISTRATOR

    def lanes(self, job: int, ve: UUID | None, node: str, args: Mapping[str, Any]) -> tuple[Lane, ...]:
        return (Lane(f"image:{args['image']}"),)

    def to_settle(self, end: Ended) -> bool:
        return False


def refuse_absent(subject: VEFacts, verb: Verb) -> None:
    """Raise :class:`Conflict` for a verb on a VE that is being deleted, unless that is allowed."""
    if subject.desired is Desired.ABSENT and not verb.while_absent:
        raise Conflict(f"VE {subject.name!r} is being deleted", where="ve", todo="Create it anew once it is gone.")
