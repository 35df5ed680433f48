"""What every implementation of the directory port must do; the same cases against the fake and a real slapd."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from tests.slapd import make_slapd
from vmcloud.directory.errors import Exists, Gone, Stale
from vmcloud.directory.fake import FakeDirectory
from vmcloud.directory.port import Store
from vmcloud.domain.messages import Mark, NodeFacts, Seen
from vmcloud.domain.records import ImageRecord, NodeRecord, Observation, StrayRecord, Tombstone, VERecord
from vmcloud.domain.spec import Spec
from vmcloud.domain.vocabulary import Desired, Drift, Kind, Observed, Restart

pytestmark = pytest.mark.contract
Open = Callable[[str], Store]
FACTS = NodeFacts(kinds=(Kind.LXC,), cpus=4, memory_mib=4096, disk_mib=9000, version="0.1.0", address="10.0.0.1")


@pytest.fixture(params=["fake", "slapd"])
def store(request: pytest.FixtureRequest) -> Iterator[Open]:
    """Opens the same store as any identity."""
    if request.param == "fake":
        fake = FakeDirectory()
        yield lambda identity: fake
        return
    for server in make_slapd():
        yield server.directory


def a_ve(name: str = "web-1", **changes: object) -> VERecord:
    spec = Spec(kind=Kind.LXC, image="busybox", vcpus=2, memory_mib=256, description="Grüße\tund (so) * weiter\\")
    record = VERecord(
        ve=uuid4(), name=name, project="main", owner="alice", spec=spec, desired=Desired.RUNNING, generation=1, job=7
    )
    return replace(record, **changes)  # type: ignore[arg-type]


FIRST = Mark(1, 1)


def seen(node: str = "n1", mark: Mark = FIRST, **changes: object) -> Observation:
    return replace(Observation(state=Observed.RUNNING, node=node, mark=mark, generation=1), **changes)  # type: ignore[arg-type]


def placed(store: Open, node: str = "n1") -> VERecord:
    server = store("server")
    return server.change_ve(server.claim(a_ve()), node=node)


def same(left: VERecord, right: VERecord) -> bool:
    return replace(left, version="") == replace(right, version="")


def test_a_claimed_ve_reads_back_whole(store: Open) -> None:
    full = Spec(
        kind=Kind.SIMULATED,
        image="img",
        vcpus=3,
        memory_mib=99,
        disk_mib=5,
        restart=Restart.ALWAYS,
        drift=Drift.APPLY,
        node="n9",
        privileged=True,
        description="d\ne",
    )
    record = a_ve(spec=full)
    claimed = store("web").claim(record)
    assert same(claimed, record)
    assert claimed.version
    reader = store("reader")
    assert reader.ves() == [claimed]
    assert reader.ve(record.ve) == reader.ve_named("main", "web-1") == claimed
    assert reader.ve(uuid4()) is None
    assert reader.ve_named("main", "other") is None


def test_a_name_is_claimed_once(store: Open) -> None:
    web = store("web")
    web.claim(a_ve())
    with pytest.raises(Exists):
        web.claim(a_ve())


def test_a_uuid_is_claimed_once(store: Open) -> None:
    web, record = store("web"), a_ve()
    web.claim(record)
    with pytest.raises(Exists):
        web.claim(replace(record, name="other"))


def test_the_same_claim_again_is_the_first_one(store: Open) -> None:
    web, record = store("web"), a_ve()
    assert web.claim(record) == web.claim(record)


def test_a_claim_needs_its_project(store: Open) -> None:
    with pytest.raises(Gone):
        store("web").claim(a_ve(project="nowhere"))
    server = store("server")
    server.add_project("nowhere")
    store("web").claim(a_ve(project="nowhere"))
    assert server.projects() == ["main", "nowhere"]
    with pytest.raises(Exists):
        server.add_project("nowhere")


def test_a_desired_write_counts_the_generation(store: Open) -> None:
    server = store("server")
    old = server.claim(a_ve())
    new = server.change_ve(old, job=8, desired=Desired.STOPPED)
    assert same(new, replace(old, desired=Desired.STOPPED, generation=2, job=8))
    assert server.ve(old.ve) == new
    assert new.version != old.version


def test_a_job_counts_the_generation_even_when_nothing_differs(store: Open) -> None:
    server = store("server")
    new = server.change_ve(server.claim(a_ve()), job=8, desired=Desired.RUNNING)
    assert (new.generation, new.job) == (2, 8)


def test_a_desired_write_needs_a_job(store: Open) -> None:
    server = store("server")
    with pytest.raises(ValueError):
        server.change_ve(server.claim(a_ve()), desired=Desired.STOPPED)


def test_placement_and_refusal_do_not_count(store: Open) -> None:
    server = store("server")
    old = server.claim(a_ve())
    new = server.change_ve(old, node="n1", refusal="no (such) * rights")
    assert same(new, replace(old, node="n1", refusal="no (such) * rights"))
    cleared = server.change_ve(new, node="", refusal="")
    assert same(cleared, old)


def test_the_second_writer_from_the_same_reading_loses(store: Open) -> None:
    server = store("server")
    old = server.claim(a_ve())
    server.change_ve(old, job=8, desired=Desired.STOPPED)
    with pytest.raises(Stale):
        server.change_ve(old, job=9, desired=Desired.SUSPENDED)
    with pytest.raises(Stale):
        server.change_ve(old, node="n1")


def test_a_write_repeated_after_an_unknown_result_is_the_first_one(store: Open) -> None:
    server = store("server")
    old = server.claim(a_ve())
    first = server.change_ve(old, job=8, desired=Desired.STOPPED)
    assert server.change_ve(old, job=8, desired=Desired.STOPPED) == first


def test_two_placements_of_one_generation_clash(store: Open) -> None:
    server = store("server")
    old = server.claim(a_ve())
    server.change_ve(old, node="n1")
    with pytest.raises(Stale):
        server.change_ve(old, node="n2")


def test_what_is_seen_never_stands_in_the_way_of_what_is_wanted(store: Open) -> None:
    record = placed(store)
    assert store("monitor").observe_ve(record, seen())
    new = store("server").change_ve(record, job=8, desired=Desired.STOPPED)
    assert new.observed is not None
    assert new.observed.state is Observed.RUNNING


def test_every_kind_of_spec_change_is_written(store: Open) -> None:
    server = store("server")
    old = server.claim(a_ve())
    other = Spec(kind=Kind.LXC, image="alpine", disk_mib=7, restart=Restart.NEVER, drift=Drift.APPLY, node="n3")
    new = server.change_ve(old, job=8, spec=other, owner="bob")
    assert (new.spec, new.owner) == (other, "bob")


def test_a_changed_ve_that_is_gone_is_gone(store: Open) -> None:
    server = store("server")
    old = server.claim(a_ve())
    server.remove_ve(old)
    server.remove_ve(old)
    assert server.ves() == []
    with pytest.raises(Gone):
        server.change_ve(old, job=8, desired=Desired.STOPPED)


def test_only_the_ve_that_was_meant_is_removed(store: Open) -> None:
    server = store("server")
    old = server.claim(a_ve())
    changed = server.change_ve(old, job=8, desired=Desired.STOPPED)
    with pytest.raises(Stale):
        server.remove_ve(old)
    server.remove_ve(changed)
    server.claim(a_ve())
    with pytest.raises(Stale):
        server.remove_ve(changed)


def test_an_observation_reads_back_whole(store: Open) -> None:
    record = placed(store)
    what = seen(
        state=Observed.CRASHED,
        mark=Mark(3, 41),
        generation=5,
        addresses=("10.0.0.5", "fd00::5"),
        mac="02:00:00:00:00:05",
        since=1763700000.25,
        vcpus=2,
        memory_mib=256,
        error="it went (wrong)",
    )
    monitor = store("monitor")
    assert monitor.observe_ve(record, what)
    stored = monitor.ve(record.ve)
    assert stored is not None
    assert stored.observed == what
    bare = seen(mark=Mark(3, 42), generation=5)
    assert monitor.observe_ve(record, bare)
    stored = monitor.ve(record.ve)
    assert stored is not None
    assert stored.observed == bare


def test_old_and_repeated_sightings_change_nothing(store: Open) -> None:
    record, monitor = placed(store), store("monitor")
    assert monitor.observe_ve(record, seen(mark=Mark(2, 5)))
    for mark in (Mark(2, 5), Mark(2, 4), Mark(1, 99)):
        assert not monitor.observe_ve(record, seen(mark=mark, state=Observed.STOPPED))
    assert monitor.observe_ve(record, seen(mark=Mark(3, 1), state=Observed.STOPPED))


def test_only_the_assigned_node_speaks(store: Open) -> None:
    record, monitor = placed(store), store("monitor")
    assert not monitor.observe_ve(record, seen(node="n2"))
    assert monitor.observe_ve(record, seen(node="n1", mark=Mark(9, 9)))
    moved = store("server").ve(record.ve)
    assert moved is not None
    moved = store("server").change_ve(moved, node="n2")
    assert not monitor.observe_ve(record, seen(node="n1", mark=Mark(9, 10)))
    assert monitor.observe_ve(record, seen(node="n2", mark=Mark(1, 1)))


def test_nothing_is_seen_of_a_ve_that_is_not_placed(store: Open) -> None:
    assert not store("monitor").observe_ve(store("server").claim(a_ve()), seen())


def test_a_sighting_of_a_removed_ve_is_gone_and_of_its_successor_stale(store: Open) -> None:
    record, server, monitor = placed(store), store("server"), store("monitor")
    server.remove_ve(record)
    with pytest.raises(Gone):
        monitor.observe_ve(record, seen())
    server.change_ve(server.claim(a_ve()), node="n1")
    assert not monitor.observe_ve(record, seen())


def test_a_node_and_its_facts(store: Open) -> None:
    server, monitor = store("server"), store("monitor")
    added = server.add_node(NodeRecord(name="n1", labels=("b=2", "a=1"), description="rack 3"))
    assert (added.labels, added.facts, added.mark) == (("a=1", "b=2"), None, None)
    with pytest.raises(Exists):
        server.add_node(NodeRecord(name="n1"))
    with pytest.raises(Gone):
        monitor.observe_node("n2", FACTS, Mark(1, 1))
    assert monitor.observe_node("n1", FACTS, Mark(1, 2))
    assert not monitor.observe_node("n1", FACTS, Mark(1, 1))
    node = server.node("n1")
    assert node is not None
    assert (node.facts, node.mark) == (FACTS, Mark(1, 2))
    assert server.nodes() == [node]
    bare = replace(FACTS, kinds=(Kind.LXC, Kind.SIMULATED), simulated=True, address="")
    assert monitor.observe_node("n1", bare, Mark(1, 3))
    node = server.node("n1")
    assert node is not None
    assert node.facts == bare


def test_switches_of_a_node_are_compared_and_swapped(store: Open) -> None:
    server = store("server")
    old = server.add_node(NodeRecord(name="n1"))
    store("monitor").observe_node("n1", FACTS, Mark(1, 1))
    new = server.change_node(old, cordoned=True, labels=("x",), description="d")
    assert (new.cordoned, new.labels, new.description, new.facts) == (True, ("x",), "d", FACTS)
    with pytest.raises(Stale):
        server.change_node(replace(old, cordoned=False), cordoned=True, maintenance=True)
    assert not server.change_node(new, cordoned=False, maintenance=True).cordoned
    with pytest.raises(Gone):
        server.change_node(NodeRecord(name="n2"), cordoned=True)


def test_strays_stand_below_the_node_that_saw_them(store: Open) -> None:
    server, monitor = store("server"), store("monitor")
    stray = StrayRecord(
        node="n1",
        seen=Seen(native="odd, name+=\\ (x)", kind=Kind.LXC, state=Observed.RUNNING, ve=UUID(int=5), addresses=("10.0.0.9",)),
        mark=Mark(1, 3),
    )
    with pytest.raises(Gone):
        monitor.note_stray(stray)
    server.add_node(NodeRecord(name="n1"))
    server.add_node(NodeRecord(name="n2"))
    assert monitor.note_stray(stray)
    assert not monitor.note_stray(stray)
    assert [replace(each, version="") for each in server.strays()] == [stray]
    later = replace(stray, mark=Mark(1, 4), seen=replace(stray.seen, state=Observed.STOPPED, addresses=(), ve=None))
    assert monitor.note_stray(later)
    assert [replace(each, version="") for each in server.strays("n1")] == [later]
    assert server.strays("n2") == server.strays("n3") == []
    assert not monitor.clear_stray("n1", stray.seen.native, Mark(1, 3))
    assert monitor.clear_stray("n1", stray.seen.native, Mark(1, 4))
    assert monitor.clear_stray("n1", stray.seen.native)
    assert server.strays() == []


def test_a_removed_node_takes_its_strays_with_it(store: Open) -> None:
    server = store("server")
    server.add_node(NodeRecord(name="n1"))
    guest = Seen(native="x", kind=Kind.LXC, state=Observed.RUNNING)
    store("monitor").note_stray(StrayRecord(node="n1", seen=guest, mark=Mark(1, 1)))
    server.remove_node("n1")
    server.remove_node("n1")
    assert (server.nodes(), server.strays()) == ([], [])


def test_many_are_read_at_once(store: Open) -> None:
    server = store("server")
    server.add_node(NodeRecord(name="n1"))
    guest = Seen(native="x", kind=Kind.LXC, state=Observed.RUNNING)
    store("monitor").note_stray(StrayRecord(node="n1", seen=guest, mark=Mark(1, 1)))
    here = server.change_ve(server.claim(a_ve("here")), node="n1")
    there = server.change_ve(server.claim(a_ve("there")), node="n2")
    monitor = store("monitor")
    assert monitor.ves_on("n1") == [here]
    assert monitor.ves_with([]) == []
    assert sorted(each.name for each in monitor.ves_with({here.ve, there.ve, uuid4()})) == ["here", "there"]
    assert monitor.node_with_strays("n1") == (server.node("n1"), server.strays("n1"))
    assert monitor.node_with_strays("n2") == (None, [])


def test_images(store: Open) -> None:
    server = store("server")
    image = ImageRecord(name="busybox", kind="lxc", sha256="a" * 64, size=5 << 30, description="small")
    added = server.add_image(image)
    assert replace(added, version="") == image
    assert server.image("busybox") == added
    assert server.images() == [added]
    with pytest.raises(Exists):
        server.add_image(image)
    server.remove_image("busybox")
    server.remove_image("busybox")
    assert server.image("busybox") is None


def test_tombstones_are_forgotten_by_age(store: Open) -> None:
    server = store("server")
    old = Tombstone(ve=uuid4(), name="a", project="main", at=1000.5)
    new = Tombstone(ve=uuid4(), name="b", project="main", at=2000.0)
    for each in (old, new, new):
        server.bury(each)
    found = server.tombstone(old.ve)
    assert found is not None
    assert replace(found, version="") == old
    assert server.forget_tombstones(1500.0) == 1
    assert [each.ve for each in server.tombstones()] == [new.ve]
