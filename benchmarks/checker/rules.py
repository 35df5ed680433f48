"""What must hold of a cloud at rest, rule by rule; each finds its violations, in words. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise

from .facts import Entry, Facts, Guest, Job

OUTCOMES = ("ok", "failed", "cancelled", "timed-out")
OWN_LISTS = ("node.", "server", "monitor", "unacked")
Rule = Callable[[Facts], Iterator[str]]


def violations(facts: Facts) -> list[str]:
    """All of them, each with the name of its rule."""
    return [f"{rule.__name__}: {words}" for rule in RULES for words in rule(facts)]


def _native(entry: Entry) -> str:
    """What a VE's guest is called: its name and the first eight digits of its UUID."""
    return f"{entry.name}-{entry.ve[:8]}"


def _whole(facts: Facts) -> dict[str, Guest]:
    return {guest.native: guest for guest in facts.guests if guest.whole}


# ------------------------------------------------------------------------------------------------------------------- requests


def what_was_taken_is_there(facts: Facts) -> Iterator[str]:
    """A request that was answered with a job has that job, under its key."""
    jobs = {job.id: job for job in facts.jobs}
    for asked in facts.requests:
        if asked.answer != "taken":
            continue
        job = jobs.get(asked.job)
        if job is None:
            yield f"{asked.verb} {asked.target} was taken as job {asked.job}, which is not there"
        elif job.key != asked.key or (asked.verb and (job.verb, job.name) != (asked.verb, asked.target)):
            yield f"job {job.id} is {job.verb} {job.name} ({job.key}); asked for was {asked.verb} {asked.target} ({asked.key})"


def what_was_refused_left_nothing(facts: Facts) -> Iterator[str]:
    """A request that was refused made no job."""
    keys = {job.key: job for job in facts.jobs if job.key}
    for asked in facts.requests:
        if asked.answer == "refused" and asked.key in keys:
            yield f"{asked.verb} {asked.target} was refused, and is job {keys[asked.key].id}"


def no_request_is_there_twice(facts: Facts) -> Iterator[str]:
    """However often it was sent and whatever was answered, a request is at most one job."""
    for key, times in Counter(job.key for job in facts.jobs if job.key).items():
        if times > 1:
            yield f"{times} jobs have the key {key}"


# ----------------------------------------------------------------------------------------------------------------------- jobs


def every_job_has_one_end(facts: Facts) -> Iterator[str]:
    """All jobs are complete, with an outcome, ended once."""
    taken = {asked.job for asked in facts.requests if asked.answer == "taken"}
    for job in facts.jobs:
        if job.state != "C" or job.outcome not in OUTCOMES or job.ended is None:
            yield f"job {job.id} {job.verb} {job.name} is {job.state} with outcome {job.outcome!r}"
        elif job.ends > 1 or (job.ends == 0 and job.id in taken):
            yield f"job {job.id} {job.verb} {job.name} ended {job.ends} times"


def what_failed_says_why(facts: Facts) -> Iterator[str]:
    """A failure has a code, and none is a defect of the server's own; what could not be known is no failure."""
    for job in facts.jobs:
        if job.outcome in ("failed", "timed-out") and job.error in ("", "internal", "unavailable"):
            yield f"job {job.id} {job.verb} {job.name} {job.outcome} with code {job.error!r}"


def an_array_is_its_parts(facts: Facts) -> Iterator[str]:
    """Each index is one part; an array ends with its last part, well if and only if all did."""
    parts = defaultdict(list)
    for job in facts.jobs:
        if job.array is not None:
            parts[job.array].append(job)
    arrays = {job.id: job for job in facts.jobs if job.size}
    for number, array in arrays.items():
        of = parts[number]
        if len(of) != array.size or len({part.index for part in of}) != array.size:
            yield f"array {number} of {array.size} has parts {sorted(part.index or 0 for part in of)}"
        if (array.outcome == "ok") is not all(part.outcome == "ok" for part in of):
            yield f"array {number} is {array.outcome}; its parts are {', '.join(part.outcome for part in of)}"
        if any((part.ended or 0.0) > (array.ended or 0.0) for part in of):
            yield f"array {number} ended before its last part"
    yield from (f"parts of array {number}, which is not there" for number in sorted(set(parts) - set(arrays)))


def what_was_cancelled_before_it_began_never_ran(facts: Facts) -> Iterator[str]:
    """Of a job that ended without having run, no journal knows a begun step."""
    never = {job.id for job in facts.jobs if job.state == "C" and (job.result.get("never_ran") or job.started is None)}
    for step in facts.told:
        if step.job in never and step.starts:
            yield f"job {step.job} never ran, and node {step.node} began its step {step.step} {step.starts} times"


def what_ended_well_was_done(facts: Facts) -> Iterator[str]:
    """Each step that SQL has as done is in its node's journal, with the same attempt and the same outcome. (One without a node is
    the server's own, a write to the directory: other rules look at what that says.)"""
    told = {(step.job, step.step): step for step in facts.told}
    for step in facts.steps:
        if step.state != "done" or not step.node:
            continue
        found = told.get((step.job, step.number))
        if found is None or (found.node, found.attempt, found.outcome) != (step.node, step.attempt, step.outcome):
            yield f"step {step.job}.{step.number} ended {step.outcome} on {step.node}, attempt {step.attempt}; there: {found}"


def no_step_is_open(facts: Facts) -> Iterator[str]:
    """Neither in SQL nor in any journal."""
    outcome = {job.id: job.outcome for job in facts.jobs}
    for step in facts.steps:
        # The steps after one that failed were never sent.
        if step.state != "done" and not (step.state == "planned" and outcome.get(step.job) not in (None, "", "ok")):
            yield f"step {step.job}.{step.number} on {step.node} is {step.state}"
    for told in facts.told:
        if told.state != "done":
            yield f"the journal of {told.node} has step {told.job}.{told.step} as {told.state}"


def one_step_at_a_time_in_a_lane(facts: Facts) -> Iterator[str]:
    """The times of two steps in one lane do not overlap."""
    lanes = defaultdict(list)
    for step in facts.steps:
        if step.sent is not None and step.ended is not None:
            lanes[step.lane].append(step)
    for lane, steps in lanes.items():
        steps.sort(key=lambda step: (step.ended or 0.0, step.sent or 0.0))
        for one, other in pairwise(steps):
            if (other.sent or 0.0) < (one.ended or 0.0) and (one.sent or 0.0) < (other.ended or 0.0):
                yield f"steps {one.job}.{one.number} and {other.job}.{other.number} overlap in {lane}"


def no_guest_was_made_twice(facts: Facts) -> Iterator[str]:
    """A guest is defined once, save where a try failed and was undone before."""
    tries = {f"{job.name}-{job.ve[:8]}": job.tries for job in facts.jobs if job.verb == "create"}
    for (node, native, operation), times in facts.effects.items():
        if operation == "define" and times > 1 + tries.get(native, 0):
            yield f"{native} was made {times} times on {node}"


# ------------------------------------------------------------------------------------------------------------------------ VEs


def no_guest_is_there_twice(facts: Facts) -> Iterator[str]:
    """Neither a guest on two nodes nor two guests of a name."""
    for native, times in Counter(guest.native for guest in facts.guests).items():
        if times > 1:
            nodes = ", ".join(guest.node for guest in facts.guests if guest.native == native)
            yield f"{native} is on {nodes}"
    for name, times in Counter(native.rpartition("-")[0] for native in _whole(facts)).items():
        if times > 1:
            yield f"{times} guests are called {name}"
    for name, times in Counter(entry.name for entry in facts.entries).items():
        if times > 1:
            yield f"{times} entries are called {name}"


def no_guest_is_half_made(facts: Facts) -> Iterator[str]:
    """What a killed call began is gone or whole."""
    for guest in facts.guests:
        if not guest.whole:
            yield f"{guest.native} on {guest.node} is half made"


def what_was_made_is_there_and_what_was_deleted_is_gone(facts: Facts) -> Iterator[str]:
    """A VE is recorded if and only if its create ended well and no delete of it did; what was deleted has a tombstone."""
    made: dict[str, Job] = {}
    deleted: dict[str, Job] = {}
    for job in facts.jobs:
        if job.outcome == "ok" and job.ve:
            made.update({job.ve: job} if job.verb == "create" else {})
            deleted.update({job.ve: job} if job.verb == "delete" else {})
    there = {entry.ve: entry for entry in facts.entries}
    natives = {f"{job.name}-{job.ve[:8]}": job.ve for job in facts.jobs if job.ve}
    for ve, job in made.items():
        if ve not in deleted and ve not in there:
            yield f"{job.name} ({ve}) was made by job {job.id} and is lost"
    for ve, entry in there.items():
        if ve in deleted:
            yield f"{entry.name} ({ve}) was deleted by job {deleted[ve].id} and is recorded"
        elif ve not in made:
            yield f"{entry.name} ({ve}) is recorded and no job made it"
    for guest in facts.guests:
        if (end := deleted.get(natives.get(guest.native, ""))) is not None:
            yield f"{guest.native} was deleted by job {end.id} and is on {guest.node}"
    for ve in deleted:
        if ve not in facts.tombstones:
            yield f"{ve} was deleted by job {deleted[ve].id} and has no tombstone"


def the_directory_is_what_is_real(facts: Facts) -> Iterator[str]:
    """Each entry has its guest, on its node, in the state and shape that it shows; and each guest its entry."""
    real, recorded = _whole(facts), {_native(entry): entry for entry in facts.entries}
    for native in sorted(set(recorded) - set(real)):
        yield f"{native} is recorded on {recorded[native].node} and is nowhere"
    for native in sorted(set(real) - set(recorded)):
        yield f"{native} is on {real[native].node} and not recorded"
    for native in sorted(set(real) & set(recorded)):
        guest, entry = real[native], recorded[native]
        if not guest.node == entry.node == entry.observed_node:
            yield f"{native} is on {guest.node}; recorded on {entry.node}, seen on {entry.observed_node}"
        if guest.state != entry.observed:
            yield f"{native} is {guest.state}; the directory says {entry.observed}"
        if guest.memory and guest.memory != entry.observed_memory:
            yield f"{native} has {guest.memory} MiB; the directory says {entry.observed_memory}"
        if guest.snapshots != entry.snapshots:
            yield f"{native} has snapshots {sorted(guest.snapshots)}; the directory says {sorted(entry.snapshots)}"
    yield from (f"stray {stray}" for stray in facts.strays)


def what_is_wanted_is_so(facts: Facts) -> Iterator[str]:
    """Power and shape are as wanted, save where a rule reports why not."""
    for entry in facts.entries:
        if entry.desired == "absent":
            yield f"{entry.name} is wanted absent and recorded"
        elif entry.ve not in facts.findings and entry.desired != entry.observed:
            yield f"{entry.name} is wanted {entry.desired} and {entry.observed}"
        if entry.ve not in facts.findings and entry.memory != entry.observed_memory:
            yield f"{entry.name} is wanted with {entry.memory} MiB and has {entry.observed_memory}"


def the_read_model_is_the_directory(facts: Facts) -> Iterator[str]:
    """Nothing more, nothing less, nothing else; and so is what SQL has as accepted."""
    shown, there = {row.ve: row for row in facts.shown}, {entry.ve: entry for entry in facts.entries}
    for ve in sorted(set(shown) ^ set(there)):
        yield f"{ve} is {'shown and not recorded' if ve in shown else 'recorded and not shown'}"
    for ve in sorted(set(shown) & set(there)):
        row, entry = shown[ve], there[ve]
        for name in ("name", "node", "desired", "observed", "memory", "generation", "snapshots"):
            if getattr(row, name) != getattr(entry, name):
                yield f"{entry.name}: {name} is shown as {getattr(row, name)!r} and is {getattr(entry, name)!r}"
    accepted = {row.ve: row for row in facts.accepted}
    for ve in sorted(set(accepted) - set(there)):
        yield f"{ve} is accepted and not recorded"
    for ve, entry in there.items():
        row_ = accepted.get(ve)
        if row_ is None or row_.writing or (row_.generation, row_.desired) != (entry.generation, entry.desired):
            yield f"{entry.name}: accepted is {row_}, the entry has generation {entry.generation}, {entry.desired}"


def journals_know_their_guests(facts: Facts) -> Iterator[str]:
    """What a journal has as present is there, and nothing else; no address is given twice on a node."""
    present = {(row.node, row.native) for row in facts.known if row.presence == "present"}
    real = {(guest.node, guest.native) for guest in facts.guests}
    for node, native in sorted(present - real):
        yield f"{native} is present in the journal of {node} and is not there"
    for node, native in sorted(real - present):
        yield f"{native} is on {node} and is not present in its journal"
    addresses = Counter((row.node, row.address) for row in facts.known if row.address and row.presence == "present")
    for (node, address), times in addresses.items():
        if times > 1:
            yield f"{address} was given {times} times on {node}"


# ------------------------------------------------------------------------------------------------------------------ left over


def nothing_is_left_over(facts: Facts) -> Iterator[str]:
    """No message, no report that is kept, no budget or miss of what is gone, no process, folder, mount, cable or group."""
    for name, length in facts.lists.items():
        if name.startswith(OWN_LISTS) and length:
            yield f"the broker's {name} has {length} items"
    for node, count in facts.outbox.items():
        if count:
            yield f"node {node} keeps {count} reports"
    there = {entry.ve for entry in facts.entries}
    yield from (f"a budget of {ve}, which is gone" for ve in sorted(facts.budgets - there))
    yield from (f"{ve} is counted as missing" for ve in sorted(facts.misses))
    yield from facts.left


def one_server_leads(facts: Facts) -> Iterator[str]:
    """The lease is held, by one."""
    if len(facts.leaders) != 1:
        yield f"leaders: {', '.join(facts.leaders) or 'none'}"


RULES: tuple[Rule, ...] = (
    what_was_taken_is_there,
    what_was_refused_left_nothing,
    no_request_is_there_twice,
    every_job_has_one_end,
    what_failed_says_why,
    an_array_is_its_parts,
    what_was_cancelled_before_it_began_never_ran,
    what_ended_well_was_done,
    no_step_is_open,
    one_step_at_a_time_in_a_lane,
    no_guest_was_made_twice,
    no_guest_is_there_twice,
    no_guest_is_half_made,
    what_was_made_is_there_and_what_was_deleted_is_gone,
    the_directory_is_what_is_real,
    what_is_wanted_is_so,
    the_read_model_is_the_directory,
    journals_know_their_guests,
    nothing_is_left_over,
    one_server_leads,
)
