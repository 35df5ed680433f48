"""The steps of a migration, of a new name and of a copy, with journal, executor and voice: what two nodes say and remember."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.executor_kit import Node, eventually
from tests.worker_kit import NATIVE, VE, order
from vmcloud.domain.messages import Digest, Result, Sighting, StepOrder
from vmcloud.domain.vocabulary import Desired, Observed, Outcome, StepVerb
from vmcloud.domain.wire import OUTPUT_BYTES_MAX
from workers.accept import Refuse, Take, decide_step
from workers.drivers.base import GuestRef
from workers.drivers.simulated import effects, plan_fault
from workers.drivers.simulated.store import Store
from workers.journal import Presence, VERow

pytestmark = pytest.mark.unit
SPEC = {"kind": "simulated", "image": "x"}
OTHER = UUID("0b5dc6a4-7f4e-4e0e-9f0e-000000000001")


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[tuple[Node, Node]]:
    """The source, with a running guest, and the target."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    source, target = Node(tmp_path / "a"), Node(tmp_path / "b")
    done(source, order(1, verb=StepVerb.CREATE))
    yield source, target
    source.close()
    target.close()


def done(node: Node, each: StepOrder) -> Result:
    node.take(each)
    return node.result(each.job)


def step(job: int, verb: StepVerb, **args: Any) -> StepOrder:
    return order(job, verb=verb, generation=2, **args)


def migrate(source: Node, target: Node, *, job: int = 10, live: bool = False, power: str = "running") -> list[Result]:
    """The whole way, as the server orders it."""
    results = [done(target, step(job, StepVerb.MIGRATE_PREPARE, spec=SPEC, power=power, live=live))]
    results.append(done(source, step(job + 1, StepVerb.MIGRATE_SEND, live=live, grace=1)))
    given = results[-1].output
    results.append(done(target, step(job + 2, StepVerb.MIGRATE_RECEIVE, spec=SPEC, power=power, live=live, **given)))
    results.append(done(target, step(job + 3, StepVerb.MIGRATE_ACTIVATE, power=power)))
    results.append(done(source, step(job + 4, StepVerb.MIGRATE_CLEAN)))
    return results


def sightings(node: Node, since: int = 0) -> list[Sighting]:
    return [each for each in node.ears.heard[since:] if isinstance(each, Sighting)]


def row(node: Node, ve: UUID = VE) -> VERow:
    found = node.journal.ve(ve)
    assert found is not None
    return found


@pytest.mark.parametrize("live", [False, True], ids=["offline", "live"])
def test_a_guest_moves_and_each_node_knows_it(nodes: tuple[Node, Node], live: bool) -> None:
    source, target = nodes
    prepare, send, receive, activate, clean = migrate(source, target, live=live)
    assert {each.outcome for each in (prepare, send, receive, activate, clean)} == {Outcome.OK}
    assert prepare.seen is None and receive.seen is None and clean.seen is None
    assert send.seen is not None and send.seen.state is (Observed.SUSPENDED if live else Observed.STOPPED)
    assert activate.seen is not None and activate.seen.state is Observed.RUNNING and activate.seen.generation == 2
    assert (row(source).presence, row(target).presence) == (Presence.MOVED, Presence.PRESENT)
    assert row(source).generation_high == 2 and row(source).address == ""
    assert row(target).spec == SPEC and row(target).mac == activate.seen.mac


def test_a_guest_that_is_yet_to_come_is_neither_seen_nor_gone(nodes: tuple[Node, Node]) -> None:
    source, target = nodes
    done(target, step(10, StepVerb.MIGRATE_PREPARE, spec=SPEC, power="running"))
    given = done(source, step(11, StepVerb.MIGRATE_SEND)).output
    done(target, step(12, StepVerb.MIGRATE_RECEIVE, spec=SPEC, power="running", **given))
    assert sightings(target) == [] and row(target).presence is Presence.ABSENT
    activated = done(target, step(13, StepVerb.MIGRATE_ACTIVATE, power="running"))
    (sighting,) = sightings(target)
    assert sighting.mark == activated.mark and [seen.ve for seen in sighting.guests] == [VE]


def test_what_was_prepared_is_discarded_also_where_nothing_was(nodes: tuple[Node, Node]) -> None:
    _, target = nodes
    done(target, step(10, StepVerb.MIGRATE_PREPARE, spec=SPEC, power="running"))
    for job in (11, 12):
        assert done(target, step(job, StepVerb.MIGRATE_DISCARD)).outcome is Outcome.OK
    assert row(target).presence is Presence.ABSENT and row(target).spec is None and sightings(target) == []
    assert done(target, step(13, StepVerb.MIGRATE_ACTIVATE, power="running")).outcome is Outcome.FAILED


def test_a_send_that_fails_leaves_the_guest_running(nodes: tuple[Node, Node]) -> None:
    source, _ = nodes
    plan_fault(source.guests, "migrate-send", "error")
    result = done(source, step(10, StepVerb.MIGRATE_SEND))
    assert result.outcome is Outcome.FAILED and result.retryable and result.undone
    assert result.seen is not None and result.seen.state is Observed.RUNNING and result.output == {}


def test_a_send_that_gives_too_much_is_undone_and_says_why(nodes: tuple[Node, Node]) -> None:
    source, _ = nodes
    store = Store(source.guests)
    store.write_file(NATIVE, "/root/more", os.urandom(2 * OUTPUT_BYTES_MAX))
    store.close()
    result = done(source, step(10, StepVerb.MIGRATE_SEND))
    assert result.error is not None and result.error.code == "too-large" and result.undone
    assert result.seen is not None and result.seen.state is Observed.RUNNING
    assert done(source, step(11, StepVerb.STOP)).outcome is Outcome.OK, "it is an ordinary guest"


def test_a_cancelled_send_leaves_the_guest_running(nodes: tuple[Node, Node]) -> None:
    source, _ = nodes
    plan_fault(source.guests, "migrate-send", "hang")
    source.take(step(10, StepVerb.MIGRATE_SEND, live=True))
    assert eventually(lambda: source.executor._running)
    source.journal.cancel((10, 1), 1)
    source.executor.cancel((10, 1))
    result = source.result(10)
    assert result.outcome is Outcome.CANCELLED and result.undone
    assert result.seen is not None and result.seen.state is Observed.RUNNING


@pytest.mark.parametrize("verb", [StepVerb.START, StepVerb.RESUME, StepVerb.RESTART])
def test_an_outgoing_guest_is_not_started_by_other_steps(nodes: tuple[Node, Node], verb: StepVerb) -> None:
    source, _ = nodes
    done(source, step(10, StepVerb.MIGRATE_SEND, live=True))
    result = done(source, step(11, verb, force=True))
    assert result.error is not None and "another node" in result.error.what and "cancel" in result.error.todo
    assert result.seen is not None and result.seen.state is Observed.SUSPENDED
    kept = done(source, step(12, StepVerb.MIGRATE_KEEP))
    assert kept.outcome is Outcome.OK and kept.seen is not None and kept.seen.state is Observed.RUNNING


def test_a_guest_comes_back_to_a_node_that_it_left(nodes: tuple[Node, Node]) -> None:
    source, target = nodes
    migrate(source, target)
    prepare = replace(step(20, StepVerb.MIGRATE_PREPARE, spec=SPEC, power="running"), generation=3)
    assert done(source, prepare).outcome is Outcome.OK
    given = done(target, replace(step(21, StepVerb.MIGRATE_SEND), generation=3)).output
    done(source, replace(step(22, StepVerb.MIGRATE_RECEIVE, spec=SPEC, power="running", **given), generation=3))
    result = done(source, replace(step(23, StepVerb.MIGRATE_ACTIVATE, power="running"), generation=3))
    assert result.outcome is Outcome.OK and row(source).presence is Presence.PRESENT


def test_an_activation_that_was_given_up_says_whether_the_guest_is_there(nodes: tuple[Node, Node]) -> None:
    """There is no way back: what has become an ordinary guest stays one, and the journal expects it."""
    source, target = nodes
    done(target, step(10, StepVerb.MIGRATE_PREPARE, spec=SPEC, power="running"))
    given = done(source, step(11, StepVerb.MIGRATE_SEND)).output
    done(target, step(12, StepVerb.MIGRATE_RECEIVE, spec=SPEC, power="running", **given))
    target.driver.activate(GuestRef(VE, NATIVE), power=Desired.RUNNING)
    plan_fault(target.guests, "migrate-activate", "error")
    result = done(target, step(13, StepVerb.MIGRATE_ACTIVATE, power="running"))
    assert result.outcome is Outcome.FAILED and result.seen is not None and result.seen.state is Observed.RUNNING
    assert row(target).presence is Presence.PRESENT and row(target).spec == SPEC


def test_of_a_guest_that_is_being_cleaned_away_no_miss_is_counted(nodes: tuple[Node, Node]) -> None:
    """As after the death of a worker between the deletion and its record."""
    source, target = nodes
    migrate(source, target)
    source.journal.put_ve(replace(row(source), presence=Presence.PRESENT))
    accepted = source.journal.accept(step(30, StepVerb.MIGRATE_CLEAN), 2.0)
    observer = source.executor._observer
    observer._make_facts = lambda kinds: None  # type: ignore[assignment, return-value]
    observer._current_facts = lambda fresh: None  # type: ignore[assignment, return-value, method-assign]

    def missing() -> tuple[UUID, ...]:
        heard = len(source.ears.heard)
        observer.list_all()
        assert eventually(lambda: any(isinstance(each, Digest) for each in source.ears.heard[heard:]))
        return next(each for each in source.ears.heard[heard:] if isinstance(each, Digest)).missing

    assert missing() == ()
    source.executor.offer(accepted)
    assert source.result(30).outcome is Outcome.OK and row(source).presence is Presence.MOVED
    assert missing() == ()
    source.journal.put_ve(replace(row(source), presence=Presence.PRESENT))
    assert missing() == (VE,), "else it would be"


# --------------------------------------------------------------------------------------------------------------- accepting


def known(presence: Presence, high: int = 2) -> VERow:
    return VERow(VE, NATIVE, "simulated", generation_high=high, presence=presence)


def test_what_moved_away_is_not_refused_as_deleted() -> None:
    for verb in (StepVerb.MIGRATE_PREPARE, StepVerb.MIGRATE_DISCARD, StepVerb.MIGRATE_CLEAN):
        assert isinstance(decide_step(step(1, verb), None, known(Presence.MOVED)), Take)
        assert isinstance(decide_step(step(1, verb), None, known(Presence.DELETED)), Take), "a stray of it was deleted here"
    assert decide_step(step(1, StepVerb.MIGRATE_ACTIVATE), None, known(Presence.DELETED)) == Refuse(
        "gone", f"VE {VE} was deleted on this node"
    )


@pytest.mark.parametrize("presence", list(Presence))
def test_a_late_preparation_is_refused_and_a_late_clearing_up_is_not(presence: Presence) -> None:
    late = decide_step(step(1, StepVerb.MIGRATE_PREPARE), None, known(presence, high=3))
    assert isinstance(late, Refuse) and late.code == "stale"
    assert isinstance(decide_step(step(1, StepVerb.MIGRATE_DISCARD), None, known(presence, high=3)), Take)


# ------------------------------------------------------------------------------------------------------- new names, copies


def test_a_renamed_guest_is_remembered_under_its_new_name(nodes: tuple[Node, Node]) -> None:
    node, _ = nodes
    result = done(node, step(10, StepVerb.RENAME, native="b-0b5dc6a4"))
    assert result.outcome is Outcome.OK and result.seen is not None and result.seen.native == "b-0b5dc6a4"
    assert row(node).native == "b-0b5dc6a4" and row(node).presence is Presence.PRESENT and row(node).address
    assert sightings(node)[-1].gone == ()
    again = done(node, step(11, StepVerb.RENAME, native="b-0b5dc6a4"))
    assert again.outcome is Outcome.OK and again.seen is not None and again.seen.native == "b-0b5dc6a4"
    assert effects(node.guests)["b-0b5dc6a4", "rename"] == 1
    assert done(node, replace(step(12, StepVerb.DELETE), native="b-0b5dc6a4")).outcome is Outcome.OK
    assert row(node).presence is Presence.DELETED


def test_a_rename_that_was_cancelled_gives_the_old_name_back(nodes: tuple[Node, Node]) -> None:
    node, _ = nodes
    node.executor.stop(0.0)
    node.executor._leaving.clear()
    node.driver.rename(GuestRef(VE, NATIVE), "b-0b5dc6a4")
    accepted = node.journal.accept(step(10, StepVerb.RENAME, native="b-0b5dc6a4"), 1.0)
    node.journal.cancel((10, 1), 1)
    node.executor.start()
    node.executor.offer(accepted)
    result = node.result(10)
    assert result.outcome is Outcome.CANCELLED and result.seen is not None and result.seen.native == NATIVE
    assert row(node).native == NATIVE


def copying(job: int, **more: Any) -> StepOrder:
    args = {"source": {"ve": str(VE), "native": NATIVE}, "spec": SPEC, "power": "running", **more}
    return order(job, verb=StepVerb.COPY, ve=OTHER, generation=1, **args)


def test_a_copy_is_a_guest_with_an_address_of_its_own(nodes: tuple[Node, Node]) -> None:
    node, _ = nodes
    result = done(node, replace(copying(10), native="copy-0b5dc6a4"))
    assert result.outcome is Outcome.OK and result.seen is not None
    assert (result.seen.ve, result.seen.state, result.seen.native) == (OTHER, Observed.RUNNING, "copy-0b5dc6a4")
    assert row(node, OTHER).presence is Presence.PRESENT and row(node, OTHER).address not in ("", row(node).address)
    assert row(node, OTHER).spec == SPEC


def test_a_copy_that_fails_is_removed_and_its_address_is_free(nodes: tuple[Node, Node]) -> None:
    node, _ = nodes
    plan_fault(node.guests, "start", "error")
    result = done(node, replace(copying(10), native="copy-0b5dc6a4"))
    assert result.outcome is Outcome.FAILED and result.undone and result.seen is None
    assert row(node, OTHER).presence is Presence.ABSENT and row(node, OTHER).address == ""


@pytest.mark.parametrize("source", [None, {}, {"ve": "x", "native": NATIVE}, {"ve": str(OTHER), "native": NATIVE}])
def test_a_copy_of_what_is_not_said_well_is_refused(nodes: tuple[Node, Node], source: object) -> None:
    node, _ = nodes
    result = done(node, replace(copying(10, source=source), native="copy-0b5dc6a4"))
    assert result.error is not None and result.error.code == "bad-request" and result.seen is None


@pytest.mark.parametrize("verb", [StepVerb.CREATE, StepVerb.COPY])
def test_a_refused_guest_takes_none_along_that_has_its_name(nodes: tuple[Node, Node], verb: StepVerb) -> None:
    """VE A's guest runs; one of VE B is ordered that has the same native name, and fails."""
    node, _ = nodes
    args = copying(10).args
    refused = replace(order(10, verb=verb, ve=OTHER, **args), native=NATIVE)
    result = done(node, refused)
    assert result.outcome is Outcome.FAILED and result.error is not None and "belongs to" in result.error.what
    seen = node.driver.inspect(NATIVE)
    assert seen is not None and (seen.ve, seen.state) == (VE, Observed.RUNNING)


def test_a_cancelled_guest_takes_none_along_that_has_its_name(nodes: tuple[Node, Node]) -> None:
    node, _ = nodes
    node.executor.stop(0.0)
    node.executor._leaving.clear()
    accepted = node.journal.accept(replace(order(10, verb=StepVerb.CREATE, ve=OTHER), native=NATIVE), 1.0)
    node.journal.cancel((10, 1), 1)
    node.executor.start()
    node.executor.offer(accepted)
    assert node.result(10).outcome is Outcome.CANCELLED
    seen = node.driver.inspect(NATIVE)
    assert seen is not None and (seen.ve, seen.state) == (VE, Observed.RUNNING)


# ------------------------------------------------------------------------------------------------------------------- images

SUM = "ab" * 32


def removing(job: int) -> StepOrder:
    return replace(
        order(job, verb=StepVerb.REMOVE_IMAGE, sha256=SUM), ve=None, native="", kind=None, generation=0, lane="image:1@n1"
    )


def test_an_image_is_removed_once_no_guest_is_made_from_it(nodes: tuple[Node, Node]) -> None:
    node, _ = nodes
    node.images.mkdir()
    (node.images / SUM).touch()
    made = replace(order(10, verb=StepVerb.CREATE, ve=OTHER, image_sha256=SUM), native="b-00000000")
    assert done(node, made).outcome is Outcome.OK
    result = done(node, removing(11))
    assert result.outcome is Outcome.FAILED and result.error is not None and "in use" in result.error.what
    assert (node.images / SUM).exists()
    done(node, replace(order(12, verb=StepVerb.DELETE, ve=OTHER, generation=2), native="b-00000000"))
    for job in (13, 14):
        assert done(node, removing(job)).outcome is Outcome.OK
        assert not (node.images / SUM).exists()
