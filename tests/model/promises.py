"""What ``docs/reliability.md`` promises, as functions: each is named by its sentence and yields how it was broken, in words.

The first group holds after every single thing that happens (:data:`ALWAYS`), the second once all is mended and has come to rest
(:data:`AT_REST`). Nothing here asks the engine whether something is right: it is compared with what was asked, what nodes did,
and what the directory says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from tests.model import engine
from tests.model.engine import Cloud, Rows
from tests.model.nodes import Begun

HOLDING = ("sent", "accepted", "running")
SILENT = ("behind", "to_review")
"""Columns of a job that nobody is shown: they say whether the leader has to look at it."""
WORST = ("failed", "timed-out", "cancelled", "ok")
GOES_BACK = ("stop", "suspend", "resize", "delete")
SESSIONS = ("console", "exec", "logs")
WANTING = ("start", "stop", "restart", "suspend", "resume", "resize", "delete", "alter")
"""Verbs that write what is wanted when they begin."""


@dataclass
class Asked:
    """What people asked for and were answered, by the numbers of jobs."""

    answered: dict[int, str] = field(default_factory=dict)
    """Jobs that an answer promised, with the key of the request."""
    keys: set[str] = field(default_factory=set)
    """Keys of all requests, also of those of which nobody knows what became of them."""
    held: set[int] = field(default_factory=set)
    """Jobs that were held before they began, and that nobody has asked to release since."""
    begun_when_held: dict[int, int] = field(default_factory=dict)
    """Of each of these, how many executions of it nodes had begun by then."""
    ends: set[int] = field(default_factory=set)
    """Jobs whose end somebody asked for, or may have asked for."""
    ended_unbegun: dict[int, int] = field(default_factory=dict)
    """Jobs that had not begun when the answer to their cancel was given, and how many executions of each there were."""
    forced: set[int] = field(default_factory=set)
    """Jobs that somebody wanted to end by force, whatever their nodes still do."""


@dataclass
class World:
    """All that promises look at: what SQL says now and said before, what was asked, what the nodes did."""

    cloud: Cloud
    asked: Asked = field(default_factory=Asked)
    before: Rows = field(default_factory=Rows)
    rows: Rows = field(default_factory=Rows)
    complete: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    """Every job that was ever seen complete, as it was then."""

    def look(self) -> None:
        """Read what SQL says now."""
        self.before, self.rows = self.rows, Rows.read()

    @property
    def begun(self) -> Iterator[Begun]:
        """Every execution that began on any node."""
        return (each for node in self.cloud.nodes.values() for each in node.begun)

    def executions(self, job: int) -> int:
        """How many executions of a job began."""
        return sum(each.job == job for each in self.begun)


Promise = Callable[[World], Iterator[str]]


# ------------------------------------------------------------------------------------------------------------------ always


def an_accepted_job_is_never_lost(world: World) -> Iterator[str]:
    """A job whose number was answered is there."""
    for number in world.asked.answered:
        if number not in world.rows.jobs:
            yield f"job {number} was answered and is not there"


def a_request_is_one_job_however_often_it_is_sent(world: World) -> Iterator[str]:
    """Every job is explained by one request, one part of one, or a rule."""
    keys = Counter(row["key"] for row in world.rows.jobs.values() if row["key"])
    yield from (f"{count} jobs have the key {key}" for key, count in keys.items() if count > 1)
    for number, row in world.rows.jobs.items():
        if row["array"] is None and not row["key"] and row["origin"] == "api":
            yield f"nobody asked for job {number}"
        if row["key"] and row["key"] not in world.asked.keys:
            yield f"nobody asked for job {number}, which has the key {row['key']}"
    parts = Counter(row["array"] for row in world.rows.jobs.values() if row["array"] is not None)
    for number, row in world.rows.jobs.items():
        if row["size"] and parts[number] != row["size"]:
            yield f"array {number} of {row['size']} has {parts[number]} parts"


def a_held_job_never_begins(world: World) -> Iterator[str]:
    """From the answer to its hold until somebody asks for its release no step of it is sent and no node carries it out."""
    for number in world.asked.held:
        row = world.rows.jobs.get(number)
        if row is not None and row["size"] == 0 and row["state"] == "R":
            yield f"job {number} was held (holds={row['holds']!r}) and runs"
        if world.executions(number) > world.asked.begun_when_held[number]:
            yield f"job {number} was held and a node carries it out"


def what_is_cancelled_before_it_begins_never_runs(world: World) -> Iterator[str]:
    """Where the job had not begun when its cancel was answered, no node ever begins it."""
    for number, before in world.asked.ended_unbegun.items():
        if world.executions(number) > before:
            yield f"job {number} was cancelled before it began, and a node carries it out"


def who_is_said_never_to_have_run_never_ran(world: World) -> Iterator[str]:
    """``never_ran`` in a job's result is true."""
    for number, row in world.rows.jobs.items():
        if row["state"] == "C" and (row["result"] or {}).get("never_ran") and world.executions(number):
            yield f"job {number} is said never to have run, and a node carried it out"


def a_job_whose_end_nobody_asked_for_is_not_cancelled(world: World) -> Iterator[str]:
    """A cancelled job was cancelled by somebody, or could never begin because of what it was to follow."""
    for number, row in world.rows.jobs.items():
        if (row["state"], row["outcome"]) != ("C", "cancelled") or row["size"] or number in world.asked.ends:
            continue
        if (row["error"] or {}).get("code") != "dependency":
            yield f"job {number} ({row['verb']}) ended cancelled, and nobody asked for its end: {row['reason']}"


def one_step_at_a_time_in_a_lane(world: World) -> Iterator[str]:
    """In SQL, among the jobs of a VE, and on all nodes together (but for what was given up by force)."""
    lanes = Counter(step["lane"] for step in world.rows.steps if step["state"] in HOLDING)
    yield from (f"{count} steps hold lane {lane}" for lane, count in lanes.items() if count > 1)
    under_way = Counter(
        row["ve"] for row in world.rows.jobs.values() if row["state"] == "R" and row["ve"] and row["verb"] not in SESSIONS
    )
    yield from (f"{count} jobs of VE {ve} are under way" for ve, count in under_way.items() if count > 1)
    doing: Counter[str] = Counter()
    for node in world.cloud.nodes.values():
        doing.update(row.order.lane for row in node.running() if row.order and row.job not in world.asked.forced)
    yield from (f"{count} executions in lane {lane} at once" for lane, count in doing.items() if count > 1)


def a_complete_job_never_changes(world: World) -> Iterator[str]:
    """What was seen complete stays as it was, in every column."""
    for number, row in world.rows.jobs.items():
        if (before := world.complete.get(number)) is None:
            if row["state"] == "C":
                world.complete[number] = row
        elif changed := [name for name in row if row[name] != before[name] and name not in SILENT]:
            yield f"job {number} was complete and changed: {', '.join(f'{x}: {before[x]!r} -> {row[x]!r}' for x in changed)}"


def versions_grow_and_each_change_is_on_the_feed(world: World) -> Iterator[str]:
    """Whoever waits for a job's next version is told of every change."""
    news = {int(key) for number, key in world.rows.news.items() if number not in world.before.news}
    for number, row in world.rows.jobs.items():
        before = world.before.jobs.get(number)
        if before is None:
            if row["state"] != "-" and number not in news:
                yield f"job {number} is new and not on the feed"
            continue
        if row["version"] < before["version"]:
            yield f"job {number} went from version {before['version']} back to {row['version']}"
        if changed := [name for name in row if row[name] != before[name] and name not in (*SILENT, "created_at", "version")]:
            if row["version"] == before["version"]:
                yield f"job {number} changed ({', '.join(changed)}) and kept its version"
            if number not in news:
                yield f"job {number} changed ({', '.join(changed)}) and is not on the feed"


def an_array_is_the_sum_of_its_parts(world: World) -> Iterator[str]:
    """It is complete when all parts are, with the worst of their outcomes and their numbers; it has begun when one has."""
    for number, row in world.rows.jobs.items():
        if not row["size"] or row["state"] == "-":
            continue
        parts = [each for each in world.rows.jobs.values() if each["array"] == number]
        over = all(part["state"] == "C" for part in parts)
        if over != (row["state"] == "C"):
            yield f"array {number} is {row['state']}, its parts are {''.join(part['state'] for part in parts)}"
        if over and row["state"] == "C":
            outcomes = Counter(part["outcome"] for part in parts)
            worst = next((each for each in WORST if outcomes[each]), "ok")
            if row["outcome"] != worst or row["result"]["parts"]["outcomes"] != dict(outcomes):
                yield f"array {number} ended {row['outcome']} {row['result']}, its parts {dict(outcomes)}"
        if row["slots"] and sum(part["state"] == "R" for part in parts) > row["slots"]:
            yield f"more than {row['slots']} parts of array {number} run"


def each_attempt_follows_the_end_of_the_one_before(world: World) -> Iterator[str]:
    """Words about an earlier attempt count once: no attempt is made that no ended attempt led to."""
    ended = {(job, attempt) for node in world.cloud.nodes.values() for job, _, attempt in node.ended}
    for step in world.rows.steps:
        if step["attempt"] > 1 and step["state"] != "planned" and (step["job_id"], step["attempt"] - 1) not in ended:
            job, number, attempt = step["job_id"], step["number"], step["attempt"]
            yield f"step {job}.{number} is in attempt {attempt}; attempt {attempt - 1} of it never ended anywhere"


def an_effect_comes_once(world: World) -> Iterator[str]:
    """No attempt of a step is carried out twice."""
    times = Counter((each.job, each.step, each.attempt, each.node) for each in world.begun)
    yield from (f"{about} was carried out {count} times" for about, count in times.items() if count > 1)


def who_was_deposed_writes_nothing(world: World) -> Iterator[str]:
    """A statement that changes jobs comes from who leads, or from a request."""
    while world.cloud.trespasses:
        yield world.cloud.trespasses.pop()


def nothing_breaks_a_turn(world: World) -> Iterator[str]:
    """Whatever is away or was changed by others, no part of a turn meets an error that nobody expects."""
    while world.cloud.broke:
        yield world.cloud.broke.pop()


ALWAYS: tuple[Promise, ...] = (
    an_accepted_job_is_never_lost,
    a_request_is_one_job_however_often_it_is_sent,
    a_held_job_never_begins,
    what_is_cancelled_before_it_begins_never_runs,
    who_is_said_never_to_have_run_never_ran,
    a_job_whose_end_nobody_asked_for_is_not_cancelled,
    one_step_at_a_time_in_a_lane,
    a_complete_job_never_changes,
    versions_grow_and_each_change_is_on_the_feed,
    an_array_is_the_sum_of_its_parts,
    each_attempt_follows_the_end_of_the_one_before,
    an_effect_comes_once,
    who_was_deposed_writes_nothing,
    nothing_breaks_a_turn,
)


# ----------------------------------------------------------------------------------------------------------------- at rest


def every_job_ends(world: World) -> Iterator[str]:
    """With everything mended and nodes that answer, nothing stays open."""
    for number, row in world.rows.jobs.items():
        if row["state"] != "C":
            steps = [(each["number"], each["state"], each["attempt"]) for each in world.rows.steps if each["job_id"] == number]
            yield f"job {number} ({row['verb']}) is {row['state']}, behind={row['behind']}: {row['reason']!r}; steps {steps}"


def the_read_model_agrees_with_the_directory(world: World) -> Iterator[str]:
    """Nothing that the watch told is forgotten."""
    yield from (f"the read model does not show VE {name} as it is" for name in engine.read_model_differs(world.cloud.directory))


def what_is_wanted_is_what_the_last_job_says_or_goes_back_to(world: World) -> Iterator[str]:
    """Of each entry: its last job that did not end in vain. One that did, where its verb goes back, left what was before it."""
    accepted = engine.accepted_wishes()
    for record in world.cloud.directory.ves():
        said = engine.wish_of(record)
        wish, writing = accepted.get(record.ve, (None, False))
        if wish != said or writing:
            more = " and a write is announced" if writing else ""
            yield f"VE {record.name} says {_short(said)}, accepted was {_short(wish)}{more}"
        history = world.cloud.directory.written[record.ve]
        first = next((at for at, each in enumerate(history) if each.job == record.job), 0)
        job = world.rows.jobs.get(record.job)
        if job is None or first == 0 or job["origin"] != "api":
            continue
        before = engine.wish_of(history[first - 1])
        wanted = engine.asked_by(job, before)
        never_began = (job["result"] or {}).get("never_ran") or (job["result"] or {}).get("mark") == [0, 0]
        if job["outcome"] != "ok" and job["verb"] in GOES_BACK and (job["verb"] != "delete" or never_began):
            wanted = before
        if said != wanted:
            what = f"job {job['id']} ({job['verb']}) ended {job['outcome']}"
            yield f"VE {record.name} says {_short(said)}; {what}, so {_short(wanted)} is wanted"


def every_job_that_wants_something_wrote_it(world: World) -> Iterator[str]:
    """A job that ended well and wants something covers a generation of its VE's entry."""
    for number, row in world.rows.jobs.items():
        if row["outcome"] != "ok" or row["verb"] not in WANTING or not row["ve"] or row["origin"] != "api" or row["size"]:
            continue
        history = world.cloud.directory.written.get(_uuid(row["ve"]), [])
        gone = world.cloud.directory.ve(_uuid(row["ve"])) is None
        if not gone and not any(record.job == number for record in history):
            yield f"job {number} ({row['verb']}) ended well and never wrote what it wants"


def a_name_is_free_when_nothing_has_it(world: World) -> Iterator[str]:
    """Each entry was made by a job that is known, and no create that was undone has left one."""
    for record in world.cloud.directory.ves():
        made = world.cloud.directory.written[record.ve][0]
        job = world.rows.jobs.get(made.job)
        if job is None:
            yield f"the entry of VE {record.name} was made by job {made.job}, which is not there"
        elif job["outcome"] != "ok" and (job["result"] or {}).get("undone"):
            yield f"the create of VE {record.name}, job {made.job}, was undone and its entry is there"


def _short(wish: Mapping[str, Any] | None) -> str:
    if wish is None:
        return "nothing"
    spec = wish["spec"]
    return f"{wish['desired']}, {spec.get('vcpus')} CPUs, {spec.get('memory_mib')} MiB, {spec.get('description', '')!r}"


def _uuid(value: UUID | str) -> UUID:
    return value if isinstance(value, UUID) else UUID(value)


AT_REST: tuple[Promise, ...] = (
    every_job_ends,
    the_read_model_agrees_with_the_directory,
    what_is_wanted_is_what_the_last_job_says_or_goes_back_to,
    every_job_that_wants_something_wrote_it,
    a_name_is_free_when_nothing_has_it,
)


def broken(world: World, promises: tuple[Promise, ...]) -> list[str]:
    """Every promise of these that does not hold, and how."""
    return [f"{promise.__name__}: {how}" for promise in promises for how in promise(world)]
