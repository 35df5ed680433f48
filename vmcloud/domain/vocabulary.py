"""The closed vocabularies of the contract. Each value is spelt the same in code, SQL, directory, API and on screens."""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    """What sort of VE; each has a driver on the nodes that offer it."""

    LXC = "lxc"
    KVM = "kvm"
    XEN = "xen"
    OPENVZ = "openvz"
    SIMULATED = "simulated"


class Desired(StrEnum):
    """The power state that is wanted."""

    RUNNING = "running"
    STOPPED = "stopped"
    SUSPENDED = "suspended"
    ABSENT = "absent"


class Observed(StrEnum):
    """The state a node saw. A VE without any was never seen; ``UNKNOWN`` means its node could not look."""

    RUNNING = "running"
    STOPPED = "stopped"
    SUSPENDED = "suspended"
    CRASHED = "crashed"
    STARTING = "starting"
    STOPPING = "stopping"
    UNKNOWN = "unknown"


class Status(StrEnum):
    """What people are shown; derived by :func:`vmcloud.domain.status.derive`, never stored as a fact."""

    RUNNING = "running"
    STOPPED = "stopped"
    SUSPENDED = "suspended"
    CRASHED = "crashed"
    STARTING = "starting"
    STOPPING = "stopping"
    UNKNOWN = "unknown"
    PENDING = "pending"
    ERROR = "error"
    LOST = "lost"
    ORPHAN = "orphan"
    WRONG_NODE = "wrong-node"
    DUPLICATE = "duplicate"
    DELETING = "deleting"
    MIGRATING = "migrating"


class NodeState(StrEnum):
    """Whether a node is heard from."""

    UP = "up"
    DOWN = "down"
    UNKNOWN = "unknown"


class Restart(StrEnum):
    """What to do when a VE that should run is seen stopped."""

    ALWAYS = "always"
    ON_FAILURE = "on-failure"
    NEVER = "never"


class Drift(StrEnum):
    """What to do when somebody else changed a guest's power or shape."""

    REPORT = "report"
    APPLY = "apply"


class LeaseAction(StrEnum):
    """What becomes of a VE whose lease is over, besides being stopped."""

    STOP = "stop"
    DELETE = "delete"


class JobState(StrEnum):
    """Torque's letters. ``CLAIMING`` comes before them: the job's row exists, its VE's name is not yet claimed. ``BEGUN``: of an
    array of which parts have begun. (PBS's X, of a part that has ended, is what lists show for C.)"""

    CLAIMING = "-"
    QUEUED = "Q"
    HELD = "H"
    WAITING = "W"
    RUNNING = "R"
    EXITING = "E"
    MIGRATING = "T"
    SUSPENDED = "S"
    BEGUN = "B"
    COMPLETE = "C"


class Outcome(StrEnum):
    """How a complete job ended."""

    OK = "ok"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed-out"


class Ending(StrEnum):
    """How a job whose end was asked for is to end, where not by its undo: given up, or to begin anew."""

    FORCE = "force"
    RERUN = "rerun"


class Verb(StrEnum):
    """Every action a job can ask for."""

    CREATE = "create"
    START = "start"
    STOP = "stop"
    RESTART = "restart"
    SUSPEND = "suspend"
    RESUME = "resume"
    RESIZE = "resize"
    ALTER = "alter"
    SNAPSHOT = "snapshot"
    REVERT = "revert"
    DELETE_SNAPSHOT = "delete-snapshot"
    DELETE = "delete"
    ADOPT = "adopt"
    CONSOLE = "console"
    EXEC = "exec"
    LOGS = "logs"
    IMPORT = "import"
    CORDON = "cordon"
    UNCORDON = "uncordon"
    RECONCILE = "reconcile"


SESSIONS = frozenset({Verb.CONSOLE, Verb.EXEC, Verb.LOGS})
"""Verbs that open a data connection between a person and a guest. They change nothing that is wanted and hold no lane of the VE:
a console that stays open for a day keeps nobody from stopping its VE."""


class StepVerb(StrEnum):
    """All that a node can be told to do. A job's verb becomes one step or several, on one node or several; what a step does on
    its node is described with its phases and their undo in :mod:`workers.steps`."""

    CREATE = "create"
    START = "start"
    STOP = "stop"
    RESTART = "restart"
    SUSPEND = "suspend"
    RESUME = "resume"
    RESIZE = "resize"
    SNAPSHOT = "snapshot"
    REVERT = "revert"
    DELETE_SNAPSHOT = "delete-snapshot"
    DELETE = "delete"
    ADOPT = "adopt"
    CONSOLE = "console"
    EXEC = "exec"
    LOGS = "logs"
    FETCH = "fetch"
    MIGRATE_PREPARE = "migrate-prepare"
    MIGRATE_SEND = "migrate-send"
    MIGRATE_RECEIVE = "migrate-receive"
    MIGRATE_ACTIVATE = "migrate-activate"
    MIGRATE_CLEAN = "migrate-clean"
    MIGRATE_DISCARD = "migrate-discard"
    MIGRATE_KEEP = "migrate-keep"
    RENAME = "rename"
    COPY = "copy"
    REMOVE_IMAGE = "remove-image"


SESSION_STEPS = frozenset({StepVerb.CONSOLE, StepVerb.EXEC, StepVerb.LOGS})
"""Steps that carry a data connection between a person and a guest. They change no guest and hold no lane on their node."""


class EventType(StrEnum):
    """What an event is about: something that happened and that no job tells."""

    STATE = "state"
    PLACED = "placed"
    RULE = "rule"
    LEASE = "lease"
    FOREIGN = "foreign"
    REFUSED = "refused"
    NODE = "node"
    ORPHAN = "orphan"
    ADOPTED = "adopted"
    REMOVED = "removed"


class Power(StrEnum):
    """What a kind of VE may be able to do beyond being made, started, stopped and deleted."""

    CONSOLE = "console"
    BOOT_LOG = "boot-log"
    EXEC = "exec"
    FREEZE = "freeze"
    SAVE = "save"
    SNAPSHOT = "snapshot"
    RESIZE = "resize"
    LIVE_RESIZE = "live-resize"
    DISK_LIMIT = "disk-limit"
    METER = "meter"
    ADOPT = "adopt"
    MIGRATE = "migrate"
    RENAME = "rename"
    COPY = "copy"
