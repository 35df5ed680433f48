"""The monitor's decisions: what a sighting changes, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from monitor.diff import ClearStray, Known, NoteStray, ObserveNode, ObserveVE, diff
from vmcloud.domain.messages import Mark, NodeFacts, Seen, Sighting, Snapshot
from vmcloud.domain.names import native_name
from vmcloud.domain.records import NodeRecord, Observation, StrayRecord, VERecord
from vmcloud.domain.spec import Spec
from vmcloud.domain.vocabulary import Desired, Kind, Observed

pytestmark = pytest.mark.unit

VE = UUID(int=1)
NATIVE = native_name("web-1", VE)
FACTS = NodeFacts(kinds=(Kind.LXC,), cpus=4, memory_mib=4096, disk_mib=9000, version="0.1.0")
NODE = NodeRecord(name="n1", facts=FACTS, mark=Mark(1, 1))
OLD = Observation(state=Observed.RUNNING, node="n1", mark=Mark(1, 5), generation=1, addresses=("10.0.0.1",), since=100.0)


def record(**changes: Any) -> VERecord:
    made = VERecord(
        ve=VE,
        name="web-1",
        project="main",
        owner="alice",
        spec=Spec(kind=Kind.LXC, image="busybox"),
        desired=Desired.RUNNING,
        generation=1,
        job=1,
        node="n1",
        observed=OLD,
    )
    return replace(made, **changes)


def guest(**changes: Any) -> Seen:
    made = Seen(NATIVE, Kind.LXC, Observed.RUNNING, ve=VE, generation=1, addresses=("10.0.0.1",), since=100.0)
    return replace(made, **changes)


def sighting(*guests: Seen, **changes: Any) -> Sighting:
    return replace(Sighting(node="n1", mark=Mark(1, 6), at=200.0, full=False, guests=guests), **changes)


def known(*ves: VERecord, strays: tuple[StrayRecord, ...] = (), node: NodeRecord | None = NODE) -> Known:
    return Known(node, {each.ve: each for each in ves}, {each.seen.native: each for each in strays})


def stray(seen: Seen, mark: Mark = Mark(1, 4)) -> StrayRecord:  # noqa: B008 - frozen
    return StrayRecord(node="n1", seen=seen, mark=mark)


def test_nothing_new_writes_nothing() -> None:
    assert diff(sighting(guest(), facts=FACTS), known(record())) == []
    assert diff(sighting(guest(), full=True), known(record())) == []


@pytest.mark.parametrize(
    "change",
    [
        {"state": Observed.STOPPED},
        {"generation": 2},
        {"addresses": ()},
        {"mac": "02:00:00:00:00:01"},
        {"vcpus": 3},
        {"memory_mib": 64},
        {"error": "it broke"},
        {"since": 150.0},
    ],
)
def test_every_difference_is_written_with_its_mark(change: dict[str, Any]) -> None:
    [write] = diff(sighting(guest(**change)), known(record()))
    assert isinstance(write, ObserveVE)
    assert write.seen.mark == Mark(1, 6)
    assert write.record == record()


def test_a_first_sighting_is_written_whole() -> None:
    [write] = diff(sighting(guest(since=0.0)), known(record(observed=None)))
    assert isinstance(write, ObserveVE)
    assert write.seen == replace(OLD, mark=Mark(1, 6), since=200.0)


def test_a_state_without_a_since_keeps_the_one_it_has_while_it_lasts() -> None:
    assert diff(sighting(guest(since=0.0)), known(record())) == []
    assert diff(sighting(guest(since=100.4)), known(record())) == []
    [write] = diff(sighting(guest(since=0.0, state=Observed.STOPPED)), known(record()))
    assert isinstance(write, ObserveVE)
    assert write.seen.since == 200.0


@pytest.mark.parametrize("mark", [Mark(1, 5), Mark(1, 4), Mark(0, 9)])
def test_an_old_sighting_writes_nothing(mark: Mark) -> None:
    assert diff(sighting(guest(state=Observed.STOPPED), mark=mark), known(record())) == []


def test_the_first_word_of_a_new_node_counts_whatever_its_mark() -> None:
    [write] = diff(sighting(guest(), mark=Mark(0, 1)), known(record(observed=replace(OLD, node="n0"))))
    assert isinstance(write, ObserveVE)


def test_a_recorded_ve_that_a_full_list_leaves_out_gets_no_write() -> None:
    assert diff(sighting(full=True), known(record())) == []


@pytest.mark.parametrize("where", ["n2", ""])
def test_a_ve_placed_elsewhere_is_a_stray(where: str) -> None:
    assert diff(sighting(guest()), known(record(node=where))) == [NoteStray(stray(guest(), Mark(1, 6)))]


def test_a_guest_of_nobody_and_one_without_an_entry_are_strays() -> None:
    foreign = guest(ve=None, native="odd")
    assert diff(sighting(foreign), known()) == [NoteStray(stray(foreign, Mark(1, 6)))]
    assert diff(sighting(guest()), known()) == [NoteStray(stray(guest(), Mark(1, 6)))]


def test_a_stray_is_written_again_only_when_it_differs() -> None:
    foreign = guest(ve=None, native="odd")
    assert diff(sighting(foreign), known(strays=(stray(foreign),))) == []
    assert diff(sighting(replace(foreign, since=0.0)), known(strays=(stray(foreign),))) == []
    stopped = replace(foreign, state=Observed.STOPPED)
    assert diff(sighting(stopped), known(strays=(stray(foreign),))) == [NoteStray(stray(stopped, Mark(1, 6)))]
    assert diff(sighting(stopped), known(strays=(stray(foreign, Mark(2, 1)),))) == []


def test_a_stray_is_cleared_when_a_full_list_leaves_it_out() -> None:
    there = known(strays=(stray(guest(ve=None, native="odd")),))
    assert diff(sighting(), there) == []
    assert diff(sighting(full=True), there) == [ClearStray("n1", "odd", Mark(1, 6))]
    assert diff(sighting(full=True, mark=Mark(1, 3)), there) == []


def test_a_stray_that_became_proper_is_cleared() -> None:
    there = known(record(), strays=(stray(guest()),))
    assert diff(sighting(guest()), there) == [ClearStray("n1", NATIVE, Mark(1, 6))]


def test_a_stray_named_gone_is_cleared() -> None:
    assert diff(sighting(gone=(VE,)), known(strays=(stray(guest()),))) == [ClearStray("n1", NATIVE, Mark(1, 6))]


def test_a_stray_that_is_said_to_have_left_is_cleared_unless_it_was_seen_later() -> None:
    there = known(strays=(stray(guest(ve=None, native="odd")),))
    assert diff(sighting(left=("odd",)), there) == [ClearStray("n1", "odd", Mark(1, 6))]
    assert diff(sighting(left=("other",)), there) == []
    assert diff(sighting(left=("odd",), mark=Mark(1, 3)), there) == []


def test_of_two_guests_with_one_uuid_the_rightly_named_one_speaks() -> None:
    copy = guest(native="copy", state=Observed.STOPPED)
    for pair in ((guest(), copy), (copy, guest())):
        assert diff(sighting(*pair), known(record())) == [NoteStray(stray(copy, Mark(1, 6)))]


def test_facts_are_written_when_they_differ_and_are_newer() -> None:
    more = replace(FACTS, memory_mib=8192)
    assert diff(sighting(facts=more), known()) == [ObserveNode("n1", more, Mark(1, 6))]
    assert diff(sighting(facts=more, mark=Mark(1, 1)), known()) == []
    assert diff(sighting(facts=FACTS), known(node=NodeRecord(name="n1"))) == [ObserveNode("n1", FACTS, Mark(1, 6))]


def test_nothing_is_written_of_a_node_that_is_not_in_the_directory() -> None:
    assert diff(sighting(guest(), facts=FACTS), known(record(), node=None)) == []


def test_snapshots_are_news_by_name_and_job_and_not_by_a_rounded_time() -> None:
    kept = Snapshot("a", 7, 150.25), Snapshot("b", 8, 160.0)
    old = record(observed=replace(OLD, snapshots=kept))
    again = Snapshot("b", 8, 160.0000004), Snapshot("a", 7, 150.25), Snapshot("a", 7, 150.25)
    assert diff(sighting(guest(snapshots=again)), known(old)) == []
    for other in ((kept[0],), (*kept, Snapshot("c", 9, 170.0)), (kept[0], Snapshot("b", 9, 160.0)), ()):
        (write,) = diff(sighting(guest(snapshots=other)), known(old))
        assert isinstance(write, ObserveVE) and write.seen.snapshots == other


def test_a_strays_snapshots_are_noted_once() -> None:
    kept = Snapshot("b", 8, 160.0), Snapshot("a", 7, 150.25)
    foreign = guest(ve=None, native="odd", snapshots=kept)
    noted = stray(replace(foreign, snapshots=tuple(sorted(kept))))
    assert diff(sighting(foreign), known(strays=(noted,))) == []
    (write,) = diff(sighting(replace(foreign, snapshots=())), known(strays=(noted,)))
    assert isinstance(write, NoteStray)
