"""The driver interface: what a kind of VE must be able to do on one node.

A driver is synchronous, node-local and idempotent; it knows no queue and no directory. Every call may be repeated after a crash
at any point of it, and ends in the same state. Native ids stay inside: callers speak of a VE by its UUID and its native name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID

from vmcloud.domain.errors import Invalid, Problem
from vmcloud.domain.messages import Seen, Snapshot, Usage
from vmcloud.domain.names import check_label
from vmcloud.domain.spec import Spec
from vmcloud.domain.vocabulary import Desired, Kind

from .session import Session

Report = Callable[[str, int], None]
"""Tells how far a long call is: the name of its phase and percent done (-1: not known)."""


def silent(name: str, percent: int) -> None:
    """A :data:`Report` that tells nobody."""


def always(native: str) -> bool:
    """Every guest's changes are wanted."""
    return True


class DriverError(Exception):
    """A driver could not do what it was asked. ``retryable``: the same call may work later without anybody's help."""

    retryable: ClassVar[bool] = False
    code: ClassVar[str] = "driver"

    def __init__(self, operation: str, what: str, *, exit_code: int | None = None, stderr: str = "", todo: str = "") -> None:
        self.operation, self.what, self.exit_code, self.stderr, self.todo = operation, what, exit_code, stderr, todo
        super().__init__(self.problem().sentence())

    def problem(self) -> Problem:
        """The error in the form that travels to people; ``why`` carries the exit code and the tail of stderr."""
        why = self.stderr.strip()[-600:]
        if self.exit_code is not None:
            why = f"exit code {self.exit_code}" + (f": {why}" if why else "")
        return Problem(code=self.code, what=self.what, where=self.operation, why=why, todo=self.todo)


class Unsupported(DriverError):
    """This node, tool version or kernel cannot do it at all."""

    code = "unsupported"


class BadRequest(DriverError):
    """The request itself is wrong (an unknown image, a limit that the kernel refuses)."""

    code = "bad-request"


class NoImage(BadRequest):
    """The image is not on this node (any more); the server has it fetched and tries again."""

    code = "no-image"


class NoSuchGuest(DriverError):
    """The guest is not there (the driver looked)."""

    code = "no-such-guest"


class CannotLook(DriverError):
    """The driver could not find out. Never taken for "not there"."""

    retryable = True
    code = "cannot-look"


class ToolFailed(DriverError):
    """An external tool failed in a way that another try might cure."""

    retryable = True
    code = "tool-failed"


class TimedOut(ToolFailed):
    """A tool or guest did not do it in time."""

    code = "timed-out"


class NoSpace(DriverError):
    """Out of disk or memory on this node."""

    retryable = True
    code = "no-space"


class Interrupted(Exception):
    """The step was cancelled or its time is up; only drivers that are not isolated raise it, others are killed."""


def check_name(name: str, operation: str) -> None:
    """Raise :class:`BadRequest` for a native name, or a snapshot's, that none of ours is: not a DNS label. Every call that acts
    begins with it, so that no name can leave a folder or be taken for an option or for two words."""
    try:
        check_label(name, where=operation)
    except Invalid as error:
        problem = error.problem
        raise BadRequest(operation, f"{name[:100]!r} cannot be a name", stderr=problem.why or problem.what) from error


@dataclass(frozen=True)
class Guest:
    """What a driver needs to know to make and keep one guest. ``image`` is the unpacked image's folder on this node.

    ``address`` is an IPv4 address with prefix length (``10.86.0.5/24``), or empty for no network.
    """

    ve: UUID
    native: str
    spec: Spec
    image: Path | None = None
    address: str = ""
    gateway: str = ""
    mac: str = ""


@dataclass(frozen=True)
class GuestRef:
    """Which guest is meant: the VE's UUID says which, the native name where it is found. A driver refuses what bears that name
    and another UUID."""

    ve: UUID
    native: str


@dataclass(frozen=True)
class Gone:
    """A guest, of ours or not, is there no more."""

    native: str


@dataclass(frozen=True)
class Check:
    """One requirement of a driver on this machine: whether it holds, and the exact fix if not."""

    name: str
    ok: bool
    detail: str = ""
    fix: str = ""


@dataclass(frozen=True)
class Fingerprint:
    """What the driver found on this machine: tool version and limits in words."""

    kind: Kind
    version: str
    healthy: bool
    detail: str = ""


class Driver(ABC):
    """One kind's driver on one node. ``isolated``: calls may hang or crash, so they run in a child process of their own."""

    kind: ClassVar[Kind]
    isolated: ClassVar[bool] = True

    @abstractmethod
    def fingerprint(self) -> Fingerprint:
        """What is installed here. Never raises: an unhealthy driver says so."""

    @abstractmethod
    def preflight(self) -> Sequence[Check]:
        """Every requirement of this driver, with fixes."""

    @abstractmethod
    def list(self) -> Sequence[Seen]:
        """Every guest of this kind on this node, foreign ones too (``ve`` None).

        Raises :class:`CannotLook` where it could not look, and never answers an empty list instead.

        ``generation`` and ``mac`` may be left at their defaults: the worker's journal knows them. The address that the guest was
        made with is said also while it is stopped: should the journal be lost, nobody else gets it.
        """

    @abstractmethod
    def inspect(self, native: str) -> Seen | None:
        """One guest now; None if it is not there. Raises :class:`CannotLook`."""

    @abstractmethod
    def define(self, guest: Guest, report: Report = silent) -> None:
        """Make the guest, stopped. Does nothing where the same guest (same UUID) is already whole; finishes a half-made one."""

    @abstractmethod
    def delete(self, native: str, report: Report = silent) -> None:
        """Remove the guest and all that :meth:`define` made, stopping it first. Absent is success."""

    @abstractmethod
    def start(self, native: str) -> None:
        """Boot it. Running is success. Raises :class:`NoSuchGuest`."""

    @abstractmethod
    def stop(self, native: str, *, force: bool = False, grace: float = 30.0) -> None:
        """Shut it down; after ``grace`` seconds, or at once with ``force``, take its power. Stopped is success."""

    @abstractmethod
    def apply(self, guest: Guest) -> bool:
        """Make the guest's sizes those of ``guest.spec``, live where it runs. True if a restart is needed for all of it."""

    @abstractmethod
    def console(self, native: str) -> Session:
        """The guest's own console, as a terminal. Raises :class:`NoSuchGuest`, and :class:`BadRequest` if it does not run."""

    @abstractmethod
    def boot_log(self, native: str) -> bytes:
        """What the guest has written to its console since its last start, or the end of it. Raises :class:`NoSuchGuest`."""

    @abstractmethod
    def events(self, wanted: Callable[[str], bool] = always) -> Iterator[Seen | Gone]:
        """State changes as they happen, for ever, and guests that come or go without a call of ours; blocks. What may have been
        missed, such as before the first call, is made good by saying every guest. Before a guest that changed is looked at,
        ``wanted`` is asked about its native name: where nobody wants to know, it is not said. Raises :class:`CannotLook` when the
        source is lost."""


class Freezer(ABC):
    """Optional power: freeze a running guest in memory and thaw it."""

    @abstractmethod
    def freeze(self, native: str) -> None:
        """Suspend; suspended is success."""

    @abstractmethod
    def thaw(self, native: str) -> None:
        """Resume; running is success."""


class Saver(ABC):
    """Optional power: write a running guest's memory to disk and end it; its next start goes on from there."""

    @abstractmethod
    def can_save(self) -> Check:
        """Whether guests can be saved on this node, by a real trial that is made once for each kernel and tool version."""

    @abstractmethod
    def save(self, native: str, report: Report = silent) -> None:
        """Save; afterwards the guest is stopped. Saved is success. Raises :class:`Unsupported` where :meth:`can_save` says no,
        and leaves the guest running where it fails."""

    @abstractmethod
    def saved(self, native: str) -> bool:
        """Whether the next start goes on from a saved state."""


class Snapshotter(ABC):
    """Optional power: keep states of a guest's root file system under names. :class:`~vmcloud.domain.messages.Seen` lists them.
    Memory and sizes are not part of a snapshot."""

    @abstractmethod
    def snapshot(self, native: str, snapshot: Snapshot, report: Report = silent) -> None:
        """Keep the present state, of a running guest as a power cut would leave it. The same snapshot (name and job) is success,
        another one of that name :class:`BadRequest`."""

    @abstractmethod
    def revert(self, native: str, name: str, report: Report = silent) -> None:
        """Make the root file system what it was; the snapshot stays, a saved state is forgotten (it belongs to other files).
        :class:`BadRequest` while the guest runs, and for a name that there is none of."""

    @abstractmethod
    def delete_snapshot(self, native: str, name: str) -> None:
        """Remove a snapshot; absent is success."""


class Meter(ABC):
    """Optional power: what guests use."""

    @abstractmethod
    def usage(self) -> Sequence[Usage]:
        """That of every running guest of ours; one that ends meanwhile is left out. Raises :class:`CannotLook`."""


class Runner(ABC):
    """Optional power: run a program inside a running guest."""

    @abstractmethod
    def exec(self, native: str, argv: Sequence[str], *, environment: Mapping[str, str], tty: bool) -> Session:
        """Start ``argv`` as the guest's root, with ``environment`` added to a clean one; with ``tty`` on a terminal of its own. A
        program that is not there ends with 127, one that can not be run with 126. Raises as :meth:`Driver.console` does."""


class Adopter(ABC):
    """Optional power: take over a guest that somebody else made."""

    @abstractmethod
    def adopt(self, orphan: str, guest: Guest, report: Report = silent) -> Guest:
        """Make the stopped guest that is called ``orphan`` ours: under the UUID and native name of ``guest``, with its files as
        they are. A size of 0 in ``guest.spec`` is the one that it has. Returns the guest as it is from now on; the same again
        where it is ours by now. Whoever is killed leaves an orphan as before, or a guest of ours.

        Raises :class:`NoSuchGuest`, and :class:`BadRequest` for one that runs, is of ours, or cannot be kept whole."""

    @abstractmethod
    def disown(self, native: str, orphan: str) -> None:
        """Make a guest that was adopted an orphan again, as it was and under the name it had. One that was not adopted, or only
        in part, is success. :class:`BadRequest` where it runs."""


class Migrator(ABC):
    """Optional power: move a guest from this node (the source) to another one (the target), whose driver is another object in
    another process. All that passes between the two is what :meth:`send` returns.

    On the target a guest is *incoming* from :meth:`prepare` until :meth:`activate` or :meth:`discard`: no list shows it, nothing
    starts it, and its name is taken. On the source it is *outgoing* from :meth:`send` until :meth:`keep` or :meth:`clean`: it is
    listed in the state that it was left in, and nothing but these two, and :meth:`Driver.delete`, changes it; every other acting
    call is :class:`BadRequest`. Each method may be called again, also after it was killed anywhere, and ends in the same state.
    """

    @abstractmethod
    def prepare(self, guest: Guest, *, live: bool, report: Report = silent) -> None:
        """On the target: make an empty place for the guest, whatever an earlier migration left there. ``live``: it is to arrive
        with its memory. :class:`BadRequest` where it is on this node already or its name is another's, :class:`Unsupported` and
        :class:`NoSpace` where this node can not have it."""

    @abstractmethod
    def discard(self, ref: GuestRef) -> None:
        """On the target: remove the place and all in it. None is success; an ordinary guest is never touched."""

    @abstractmethod
    def send(self, ref: GuestRef, *, live: bool, grace: float, report: Report = silent) -> dict[str, Any]:
        """On the source: make the guest outgoing, and return what the target needs to complete it (JSON, the same each time).
        ``live``: it runs until the end and is frozen then; else it is stopped as :meth:`Driver.stop` does with ``grace``. One
        that does not run goes as it is. :class:`BadRequest` for a suspended guest whose memory is not to go with it."""

    @abstractmethod
    def keep(self, ref: GuestRef) -> None:
        """On the source: make an outgoing guest an ordinary one again, which runs if it ran before :meth:`send`. One that is not
        outgoing is success. :class:`NoSuchGuest`."""

    @abstractmethod
    def receive(self, guest: Guest, state: dict[str, Any], report: Report = silent) -> None:
        """On the target: complete the incoming guest from what :meth:`send` returned, which may be forged: :class:`BadRequest`
        where it is damaged or of another VE. :class:`NoSuchGuest` where no place is prepared."""

    @abstractmethod
    def activate(self, ref: GuestRef, *, power: Desired) -> None:
        """On the target: make the incoming guest an ordinary one in this state of power. One that came with its memory goes on
        from there, or is thrown out of it where it is to be stopped. An ordinary guest of this VE is brought into that state.
        :class:`NoSuchGuest`; :class:`BadRequest` where nothing was received."""

    @abstractmethod
    def clean(self, ref: GuestRef) -> None:
        """On the source: delete the outgoing guest. Absent is success; :class:`BadRequest` for one that is not outgoing."""


class Layered(ABC):
    """Optional power: share unpacked images between guests."""

    @abstractmethod
    def layers(self) -> frozenset[Path]:
        """The image trees that guests here are layers over; they must not be removed. Raises :class:`CannotLook`."""


class Renamer(ABC):
    """Optional power: give a guest another native name."""

    @abstractmethod
    def rename(self, ref: GuestRef, native: str) -> None:
        """Call the guest ``native`` from now on. One of this VE that is called so already is success, where none has the old
        name. :class:`NoSuchGuest`; :class:`BadRequest` where another guest has either name, or where it must be stopped first."""


class Copier(ABC):
    """Optional power: make a guest from another one of the same node."""

    @abstractmethod
    def copy(self, source: GuestRef, guest: Guest, *, snapshot: str = "", report: Report = silent) -> None:
        """Make ``guest``, stopped, with the root file system of ``source`` as it is, or as it was kept under the name
        ``snapshot``; memory, saved state and snapshots are not copied. Where the same guest (same UUID) is already whole nothing
        is done; a half-made one is finished. :class:`NoSuchGuest` without a source; :class:`BadRequest` where that must be
        stopped first, or for a name that is another guest's."""
