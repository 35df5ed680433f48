"""The directory against a real slapd: rights, connections, the watch, installation and migrations."""

from __future__ import annotations

import itertools
import queue
import shutil
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import ldap
import pytest
from ldap.controls import AssertionControl

from ldap_schema import access, install, migrate
from ldap_schema.tree import TREE_VERSION
from tests.slapd import PASSWORDS, SUFFIX, Slapd, make_slapd, slapd
from vmcloud.directory import codec
from vmcloud.directory.client import Settings, connect
from vmcloud.directory.errors import Denied, Rejected, Stale, Unavailable
from vmcloud.directory.port import Changed, Down, Event, Malformed, Removed, Synced
from vmcloud.directory.store import Directory
from vmcloud.directory.watch import Watcher
from vmcloud.domain.messages import Mark, NodeFacts, Seen, Snapshot
from vmcloud.domain.records import ImageRecord, NodeRecord, Observation, StrayRecord, Tombstone, VERecord
from vmcloud.domain.spec import Spec
from vmcloud.domain.vocabulary import Desired, Kind, LeaseAction, Observed

pytestmark = pytest.mark.integration
__all__ = ["slapd"]

TREE = codec.Tree(SUFFIX)
VE_DN = TREE.ve("main", "web-1")
NODE_DN = TREE.node("n1")
STRAY_DN = TREE.stray("n1", "odd")
FACTS = NodeFacts(kinds=(Kind.LXC,), cpus=4, memory_mib=4096, disk_mib=9000, version="0.1.0")


def a_ve(name: str = "web-1", **changes: Any) -> VERecord:
    spec = Spec(kind=Kind.LXC, image="busybox")
    record = VERecord(
        ve=uuid4(), name=name, project="main", owner="alice", spec=spec, desired=Desired.RUNNING, generation=1, job=7
    )
    return replace(record, **changes)


def seen(sequence: int = 1, **changes: Any) -> Observation:
    return replace(Observation(state=Observed.RUNNING, node="n1", mark=Mark(1, sequence), generation=1), **changes)


@pytest.fixture(scope="module")
def shared() -> Iterator[Slapd]:
    """One slapd with one VE on one node and one stray, for the cases about rights."""
    for server in make_slapd():
        store, monitor = server.directory("server"), server.directory("monitor")
        store.add_node(NodeRecord(name="n1"))
        record = store.change_ve(store.claim(a_ve()), node="n1")
        monitor.observe_ve(record, seen())
        odd = Seen(native="odd", kind=Kind.LXC, state=Observed.RUNNING)
        monitor.note_stray(StrayRecord(node="n1", seen=odd, mark=Mark(1, 1)))
        store.add_image(ImageRecord(name="busybox", kind="lxc", sha256="a" * 64, size=1))
        person = {"objectClass": [b"inetOrgPerson"], "uid": [b"alice"], "cn": [b"Alice"], "sn": [b"A"], "userPassword": [b"x"]}
        link(server, "root").add_s(f"uid=alice,ou=people,{SUFFIX}", list(person.items()))
        yield server


def link(server: Slapd, identity: str) -> Any:
    """A bare connection."""
    if identity == "anonymous":
        bare = ldap.initialize(server.uri)
        bare.simple_bind_s()
        return bare
    return connect(server.directory(identity).settings)


def allowed(operation: Callable[[], Any]) -> bool:
    """Whether the access rules let it pass; what fails later for another reason was allowed."""
    try:
        operation()
    except (ldap.INSUFFICIENT_ACCESS, ldap.STRONG_AUTH_REQUIRED):
        return False
    except ldap.ASSERTION_FAILED:
        return True
    return True


# Values that each attribute takes; a write that changes nothing is a write all the same.
VALUES = {
    **{name: values[0] for name, values in codec.encode_ve(a_ve()).items() if name not in ("objectClass", "cn")},
    **{name: values[0] for name, values in codec.facts_attributes(FACTS, Mark(1, 1)).items() if values},
    "description": b"text",
    "vmcLeaseEnd": b"20300101000000Z",
    "vmcLeaseAction": b"delete",
    "vmcLeaseGrace": b"60",
    "vmcOwner": b"alice",
    "vmcRequestedNode": b"n1",
    "vmcNodeName": b"n1",
    "vmcRefusal": b"no",
    "vmcObservedState": b"running",
    "vmcObservedNode": b"n1",
    "vmcObservedGeneration": b"1",
    "vmcStateSince": b"20260101000000Z",
    "vmcObservedVCPUs": b"1",
    "vmcObservedMemoryMiB": b"128",
    "vmcLastError": b"none",
    "vmcSnapshot": b"before 7 20260101000000.000000Z",
    "macAddress": b"02:00:00:00:00:01",
    "ipHostNumber": b"10.0.0.1",
    "vmcCordoned": b"TRUE",
    "vmcMaintenance": b"TRUE",
    "vmcLabel": b"rack=1",
    "vmcVersion": b"0.1.0",
    "userPassword": b"secret",
}
# Who may replace it; everybody else may not.
WRITERS = {
    **{(VE_DN, name): {"server", "root"} for name in access.DESIRED},
    **{(VE_DN, name): {"server"} for name in access.BOOKKEEPING},
    **{(VE_DN, name): {"monitor"} for name in access.OBSERVED},
    **{(NODE_DN, name): {"server", "root"} for name in access.NODE_SWITCHES},
    **{(NODE_DN, name): {"monitor"} for name in access.NODE_FACTS},
    (f"uid=alice,ou=people,{SUFFIX}", "userPassword"): {"root"},
    (TREE.service("server"), "description"): {"root"},
    (TREE.image("busybox"), "description"): {"server", "root"},
    (STRAY_DN, "vmcLastError"): {"monitor", "server", "root"},
    (f"cn=administrators,ou=groups,{SUFFIX}", "description"): {"root"},
    (f"cn=schema,{SUFFIX}", "description"): {"root"},
}
IDENTITIES = ("web", "server", "monitor", "reader", "root", "anonymous")


@pytest.mark.parametrize("identity", IDENTITIES)
def test_each_attribute_has_its_writers_and_no_others(shared: Slapd, identity: str) -> None:
    bare = link(shared, identity)
    # Rights are checked before the schema: a write that breaks the schema was allowed and changes nothing.
    wrong = []
    for (dn, name), writers in WRITERS.items():

        def write(dn: str = dn, name: str = name) -> None:
            try:
                bare.modify_s(dn, [(ldap.MOD_REPLACE, name, [VALUES[name]])])
            except ldap.OBJECT_CLASS_VIOLATION:
                pass

        if allowed(write) != (identity in writers):
            wrong.append((dn, name, "allowed" if identity not in writers else "denied"))
    assert wrong == []


def test_only_server_and_root_delete_ves(shared: Slapd) -> None:
    for identity, may in (("web", False), ("monitor", False), ("reader", False), ("server", True), ("root", True)):
        record = shared.directory("server").claim(a_ve("victim"))
        bare = link(shared, identity)
        assert allowed(lambda bare=bare: bare.delete_s(TREE.ve("main", "victim"))) == may, identity
        if not may:
            shared.directory("server").remove_ve(record)


def test_the_web_only_adds_claims(shared: Slapd) -> None:
    web = shared.directory("web")
    record = web.claim(a_ve("claimed", owner=""))
    for extra in ({"vmcNodeName": [b"n1"]}, {"vmcObservedState": [b"running"]}, {"vmcRefusal": [b"x"]}, {"serialNumber": [b"x"]}):
        with pytest.raises(Denied):
            web.client.add(TREE.ve("main", "more"), {**codec.encode_ve(a_ve("more")), **extra})
    host = {"objectClass": [b"device", b"vmcVE", b"ipHost"], "ipHostNumber": [b"10.0.0.1"]}
    with pytest.raises(Denied):
        web.client.add(TREE.ve("main", "host"), {**codec.encode_ve(a_ve("host")), **host})
    for action in (
        lambda: web.change_ve(record, job=8, desired=Desired.ABSENT),
        lambda: web.change_ve(record, node="n1"),
        lambda: web.add_project("p2"),
        lambda: web.add_node(NodeRecord(name="n2")),
        lambda: web.add_image(ImageRecord(name="i", kind="lxc", sha256="b" * 64, size=1)),
        lambda: web.bury(Tombstone(ve=uuid4(), name="x", project="main", at=1.0)),
        lambda: web.note_stray(StrayRecord("n1", Seen("y", Kind.LXC, Observed.RUNNING), Mark(1, 1))),
        lambda: web.client.add(f"cn=disk,{VE_DN}", {"objectClass": [b"device"], "cn": [b"disk"]}),
    ):
        with pytest.raises(Denied):
            action()


def test_the_web_adds_nothing_to_a_placed_ve(shared: Slapd) -> None:
    bare = link(shared, "web")
    record = shared.directory("server").claim(a_ve("bare", owner=""))
    shared.directory("server").change_ve(record, node="n1")
    dn = TREE.ve("main", "bare")
    for name in ("description", "vmcOwner", "vmcRequestedNode", "vmcRefusal", "vmcLastError", "cn", "vmcJob"):
        values = b"99" if name == "vmcJob" else VALUES.get(name, b"other")
        with pytest.raises((ldap.INSUFFICIENT_ACCESS, ldap.CONSTRAINT_VIOLATION)):
            bare.modify_s(dn, [(ldap.MOD_ADD, name, [values])])
    with pytest.raises(ldap.INSUFFICIENT_ACCESS):
        bare.modify_s(dn, [(ldap.MOD_ADD, "objectClass", [b"ipHost"]), (ldap.MOD_ADD, "ipHostNumber", [b"10.0.0.1"])])


def test_the_monitor_adds_no_ve_and_no_node(shared: Slapd) -> None:
    monitor = shared.directory("monitor")
    for action in (
        lambda: monitor.claim(a_ve("m")),
        lambda: monitor.add_node(NodeRecord(name="n2")),
        lambda: monitor.change_node(NodeRecord(name="n1", description="text"), cordoned=True),
        lambda: monitor.bury(Tombstone(ve=uuid4(), name="x", project="main", at=1.0)),
    ):
        with pytest.raises((Denied, Stale)):
            action()


def test_nobody_reads_passwords_and_anonymous_reads_nothing(shared: Slapd) -> None:
    for identity in ("web", "server", "monitor", "reader", "root"):
        found = link(shared, identity).search_s(SUFFIX, ldap.SCOPE_SUBTREE, "(objectClass=*)", ["userPassword"])
        assert len(found) > 10
        assert all("userPassword" not in values for _, values in found)
    anonymous = link(shared, "anonymous")
    with pytest.raises(ldap.INSUFFICIENT_ACCESS):
        anonymous.search_s(SUFFIX, ldap.SCOPE_SUBTREE)
    assert anonymous.search_s("", ldap.SCOPE_BASE, attrlist=["namingContexts"])[0][1]["namingContexts"]
    assert anonymous.read_subschemasubentry_s("cn=Subschema", attrs=["objectClasses"])["objectClasses"]


def test_only_root_reads_the_configuration_and_only_server_and_root_the_log(shared: Slapd) -> None:
    for identity in ("web", "server", "monitor", "reader"):
        with pytest.raises(ldap.NO_SUCH_OBJECT):
            link(shared, identity).search_s("cn=config", ldap.SCOPE_BASE)
    assert link(shared, "root").search_s("cn=config", ldap.SCOPE_BASE)
    with pytest.raises(ldap.NO_SUCH_OBJECT):
        link(shared, "web").search_s("cn=accesslog", ldap.SCOPE_BASE)


def test_the_log_names_who_wrote_each_attribute_last(slapd: Slapd) -> None:
    server = slapd.directory("server")
    record = server.change_ve(server.claim(a_ve()), node="n1")
    slapd.directory("monitor").observe_ve(record, seen())
    names = {"vmcDesiredState", "vmcMemoryMiB", "vmcDrift"}
    link(slapd, "root").modify_s(VE_DN, [(ldap.MOD_REPLACE, "vmcMemoryMiB", [b"64"])])
    link(slapd, "root").modify_s(VE_DN, [(ldap.MOD_REPLACE, "vmcDesiredState", [b"stopped"])])
    slapd.directory("monitor").observe_ve(record, seen(2))
    found = server.find_ve(record.ve)
    assert found is not None and found.record is not None
    assert (found.record.desired, found.generation) == (Desired.STOPPED, 1)
    root, ours = TREE.service("root"), TREE.service("server")
    logged = server.writers(found, names, 0.0)
    assert logged is not None and list(logged.items()) == [("vmcDrift", ours), ("vmcMemoryMiB", root), ("vmcDesiredState", root)]
    assert server.writers(found, names, time.time() + 60) == {}
    assert server.writers(replace(found, version="20260101000000.000000Z#000000#000#000000"), names, 0.0) is None
    assert server.who(root).groups == {"administrators", "operators"} and not server.who(root).person
    assert server.remover(VE_DN, 0.0) == ""
    link(slapd, "root").delete_s(VE_DN)
    assert server.remover(VE_DN, 0.0) == root and server.remover(VE_DN, time.time() + 60) == ""


def test_an_entry_that_can_not_be_read_is_found_and_restored(slapd: Slapd) -> None:
    server = slapd.directory("server")
    record = server.change_ve(server.claim(a_ve()), node="n1")
    link(slapd, "root").modify_s(VE_DN, [(ldap.MOD_REPLACE, "vmcMemoryMiB", [b"9" * 40])])
    found = server.find_ve(record.ve)
    assert found is not None and found.record is None
    assert (found.generation, found.job, "more than 15 digits" in found.reason) == (1, 7, True)
    wanted = {"desired": record.desired, "spec": record.spec, "owner": record.owner}
    restored = server.restore_ve(found, **wanted, job=9, generation=2, refusal="no")
    assert (restored.spec, restored.generation, restored.job, restored.refusal) == (record.spec, 2, 9, "no")
    assert restored.node == "n1"
    with pytest.raises(Stale):
        server.restore_ve(found, **wanted, job=9, generation=2, refusal="no")


def test_who_a_ve_is_can_not_be_changed_by_hand(slapd: Slapd) -> None:
    server, root = slapd.directory("server"), link(slapd, "root")
    record = server.claim(a_ve())
    server.add_project("other")
    for attribute, value in (("vmcUUID", str(uuid4())), ("vmcProject", "other"), ("vmcKind", "kvm"), ("vmcGeneration", "9")):
        with pytest.raises(ldap.INSUFFICIENT_ACCESS):
            root.modify_s(VE_DN, [(ldap.MOD_REPLACE, attribute, [value.encode()])])
    for leaf, parent in (("cn=x", None), ("cn=web-1", TREE.project("other")), ("cn=web-1", TREE.unit("ves"))):
        for delete_old in (0, 1):
            with pytest.raises((ldap.INSUFFICIENT_ACCESS, ldap.CONSTRAINT_VIOLATION)):
                root.rename_s(VE_DN, leaf, parent, delold=delete_old)
    root.rename_s(VE_DN, "cn=web-1", TREE.unit("images"))
    found = server.find_ve(record.ve)
    assert found is not None and found.dn == f"cn=web-1,{TREE.unit('images')}"
    server.move_back(found, "main", "web-1")
    assert server.ve(record.ve) is not None


def test_the_owner_may_change_what_is_theirs(slapd: Slapd) -> None:
    server, root = slapd.directory("server"), link(slapd, "root")
    server.change_ve(server.claim(a_ve()), node="n1")
    for name in ("alice", "bob"):
        person = {"objectClass": [b"inetOrgPerson"], "uid": [name.encode()], "cn": [b"x"], "sn": [b"x"], "userPassword": [b"x"]}
        root.add_s(f"uid={name},ou=people,{SUFFIX}", list(person.items()))
    alice, bob = (connect(Settings(slapd.uri, f"uid={name},ou=people,{SUFFIX}", "x")) for name in ("alice", "bob"))
    values = {
        "vmcDesiredState": b"stopped",
        "description": b"mine",
        "vmcDrift": b"apply",
        **dict.fromkeys(access.OWNED[:3], b"2"),
    }
    for attribute, value in values.items():
        with pytest.raises(ldap.INSUFFICIENT_ACCESS):
            bob.modify_s(VE_DN, [(ldap.MOD_REPLACE, attribute, [value])])
        alice.modify_s(VE_DN, [(ldap.MOD_REPLACE, attribute, [value])])
    for attribute, value in {"vmcOwner": b"bob", "vmcImageName": b"x", "vmcPrivileged": b"TRUE", "vmcNodeName": b"n2"}.items():
        with pytest.raises(ldap.INSUFFICIENT_ACCESS):
            alice.modify_s(VE_DN, [(ldap.MOD_REPLACE, attribute, [value])])


def test_a_foreign_change_makes_a_desired_write_stale(slapd: Slapd) -> None:
    server = slapd.directory("server")
    old = server.claim(a_ve())
    link(slapd, "root").modify_s(VE_DN, [(ldap.MOD_REPLACE, "vmcVCPUs", [b"9"])])
    with pytest.raises(Stale):
        server.change_ve(old, job=8, desired=Desired.STOPPED)
    current = server.ve(old.ve)
    assert current is not None
    assert server.change_ve(current, job=8).spec.vcpus == 9


def test_a_short_foreign_entry_is_readable_and_writable(slapd: Slapd) -> None:
    entry = {
        "objectClass": [b"device", b"vmcVE"],
        "cn": [b"web-1"],
        "vmcUUID": [str(uuid4()).encode()],
        "vmcProject": [b"main"],
        "vmcKind": [b"lxc"],
        "vmcDesiredState": [b"running"],
        "vmcImageName": [b"busybox"],
        "serialNumber": [b"ours to ignore"],
    }
    link(slapd, "root").add_s(VE_DN, list(entry.items()))
    server = slapd.directory("server")
    [record] = server.ves()
    assert (record.generation, record.job, record.spec) == (0, 0, Spec(kind=Kind.LXC, image="busybox"))
    adopted = server.change_ve(record, job=5, owner="bob")
    assert (adopted.generation, adopted.job, adopted.owner) == (1, 5, "bob")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("vmcDesiredState", b"on"),
        ("vmcKind", b"docker"),
        ("vmcRestartPolicy", b"sometimes"),
        ("vmcDrift", b"ignore"),
        ("vmcVCPUs", b"many"),
        ("vmcImageName", b"Not A Label"),
        ("vmcUUID", b"12"),
    ],
)
def test_the_directory_refuses_words_outside_the_vocabulary(shared: Slapd, name: str, value: bytes) -> None:
    with pytest.raises(Rejected):
        shared.directory("server").client.modify(VE_DN, {name: [value]}, "(objectClass=*)")


def test_a_wrong_password_is_denied(slapd: Slapd) -> None:
    with pytest.raises(Denied):
        Directory.of(slapd.uri, SUFFIX, "web", "wrong").ves()
    with pytest.raises(Denied):
        Directory.of(slapd.uri, SUFFIX, "web", "").ves()


def test_a_restart_of_the_directory_is_not_noticed_by_the_next_operation(slapd: Slapd) -> None:
    server = slapd.directory("server")
    old = server.claim(a_ve())
    slapd.stop()
    with pytest.raises(Unavailable):
        server.ves()
    slapd.start()
    assert server.change_ve(old, node="n1").node == "n1"
    slapd.stop()
    slapd.start()
    assert server.ve(old.ve) is not None


def test_a_frozen_directory_is_unavailable_in_time(slapd: Slapd) -> None:
    import os
    import signal

    store = Directory.of(slapd.uri, SUFFIX, "server", PASSWORDS["server"], timeout=0.3)
    store.check()
    assert slapd.process is not None
    os.kill(slapd.process.pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        with pytest.raises(Unavailable):
            store.claim(a_ve())
        assert time.monotonic() - began < 1.5
    finally:
        os.kill(slapd.process.pid, signal.SIGCONT)
    store.claim(a_ve("other"))


def test_many_threads_share_a_store(slapd: Slapd) -> None:
    server = slapd.directory("server")
    record = server.claim(a_ve())
    wins = []
    jobs = itertools.count(100)

    def work() -> None:
        for _ in range(10):
            while True:
                current = server.ve(record.ve)
                assert current is not None
                try:
                    wins.append(server.change_ve(current, job=next(jobs)).generation)
                    break
                except Stale:
                    continue

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(wins) == list(range(2, 42))


# ------------------------------------------------------------------------------------------------------------------ watch


class Watching:
    """A watch in a thread, with its events in a queue."""

    def __init__(self, slapd: Slapd) -> None:
        self.events: queue.Queue[tuple[float, Event]] = queue.Queue()
        self.stop = threading.Event()
        watcher = Watcher(slapd.directory("server").settings, SUFFIX)
        self.thread = threading.Thread(target=watcher.run, args=(self.take, self.stop), daemon=True)

    def take(self, event: Event) -> None:
        self.events.put((time.perf_counter(), event))

    def next(self) -> Event:
        return self.events.get(timeout=5)[1]

    def until_synced(self) -> list[Event]:
        """Events up to the next Synced, without Downs."""
        found = []
        while not isinstance(event := self.next(), Synced):
            if not isinstance(event, Down):
                found.append(event)
        return found

    def __enter__(self) -> Watching:
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop.set()
        self.thread.join(5)
        assert not self.thread.is_alive()


def test_the_watch_tells_everything_then_every_change(slapd: Slapd) -> None:
    server = slapd.directory("server")
    first = server.claim(a_ve())
    with Watching(slapd) as watching:
        assert watching.until_synced() == [Changed(first)]
        second = server.change_ve(first, job=8, desired=Desired.STOPPED)
        assert watching.next() == Changed(second)
        node = server.add_node(NodeRecord(name="n1"))
        assert watching.next() == Changed(node)
        server.remove_ve(second)
        assert watching.next() == Removed("ve", str(first.ve))
        slapd.directory("monitor").note_stray(StrayRecord("n1", Seen("y", Kind.LXC, Observed.RUNNING), Mark(1, 1)))
        assert isinstance(watching.next(), Changed)
        server.remove_node("n1")
        assert [watching.next(), watching.next()] == [Removed("stray", "n1/y"), Removed("node", "n1")]


@pytest.mark.parametrize("kill", [False, True])
def test_the_watch_survives_a_restart_and_tells_what_happened_meanwhile(slapd: Slapd, kill: bool) -> None:
    server = slapd.directory("server")
    kept, lost = server.claim(a_ve("kept")), server.claim(a_ve("lost"))
    with Watching(slapd) as watching:
        watching.until_synced()
        slapd.stop(kill=kill)
        assert isinstance(watching.next(), Down)
        quiet = slapd.start_elsewhere()
        meanwhile = quiet("server")
        meanwhile.remove_ve(lost)
        new = meanwhile.claim(a_ve("new"))
        meanwhile.close()
        slapd.stop()
        slapd.start()
        told = watching.until_synced()
        assert sorted(str(type(event).__name__) for event in told) == ["Changed", "Removed"]
        assert Removed("ve", str(lost.ve)) in told
        assert Changed(new) in told
        again = server.change_ve(kept, node="n1")
        assert watching.next() == Changed(again)


def test_a_malformed_entry_is_told_and_not_fatal(slapd: Slapd) -> None:
    server = slapd.directory("server")
    record = server.claim(a_ve())
    with Watching(slapd) as watching:
        watching.until_synced()
        link(slapd, "root").modify_s(VE_DN, [(ldap.MOD_REPLACE, "vmcMemoryMiB", [b"9" * 5000])])
        event = watching.next()
        assert isinstance(event, Malformed)
        assert (event.dn, event.ve, "vmcMemoryMiB" in event.reason) == (VE_DN, record.ve, True)
        assert server.ves() == []
        link(slapd, "root").modify_s(VE_DN, [(ldap.MOD_REPLACE, "vmcMemoryMiB", [b"128"])])
        event = watching.next()
        assert isinstance(event, Changed)
        server.remove_ve(record)
        assert watching.next() == Removed("ve", str(record.ve))


def test_the_watch_is_quick(slapd: Slapd) -> None:
    record = slapd.directory("server").change_ve(slapd.directory("server").claim(a_ve()), node="n1")
    monitor = slapd.directory("monitor")
    with Watching(slapd) as watching:
        watching.until_synced()
        delays, writes = [], []
        for sequence in range(1, 101):
            began = time.perf_counter()
            assert monitor.observe_ve(record, seen(sequence))
            writes.append(time.perf_counter() - began)
            delays.append(watching.events.get(timeout=5)[0] - began)
    print(f"observe p50 {statistics.median(writes) * 1e3:.2f} ms, to watch p50 {statistics.median(delays) * 1e3:.2f} ms")
    assert statistics.median(delays) < 0.05


# ----------------------------------------------------------------------------------------------- installation, migrations


def test_a_half_made_directory_is_made_anew(tmp_path: Path) -> None:
    folder = tmp_path / "directory"
    (folder / "slapd.d.new").mkdir(parents=True)
    (folder / "slapd.d.new" / "cn=config.ldif").write_text("rubbish")
    (folder / "db").mkdir()
    (folder / "db" / "data.mdb").write_text("rubbish")
    assert install.initialise(folder, SUFFIX, PASSWORDS, None)
    assert not install.initialise(folder, SUFFIX, PASSWORDS, None)
    assert (folder / "slapd.d").is_dir()
    assert not (folder / "slapd.d.new").exists()


def test_no_password_stands_in_the_folder_in_clear_and_there_is_no_root_password(tmp_path: Path) -> None:
    folder = tmp_path / "directory"
    install.initialise(folder, SUFFIX, PASSWORDS, None)
    everything = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert b"olcRootPW" not in everything
    assert not any(password.encode() in everything for password in PASSWORDS.values())


def test_slapd_runs_as_its_own_user() -> None:
    import os
    import pwd

    if os.getuid() != 0:
        pytest.fail("the access rules for root can only be tried as root: sudo ./runtests")
    for server in make_slapd("openldap"):
        assert server.process is not None
        assert Path(f"/proc/{server.process.pid}").stat().st_uid == pwd.getpwnam("openldap").pw_uid
        server.directory("web").claim(a_ve())
        assert len(server.directory("root").ves()) == 1


def test_a_fresh_tree_needs_no_migration_and_an_old_one_is_migrated_once(slapd: Slapd) -> None:
    root = connect(Settings(slapd.ldapi))
    assert migrate.migrate(root, SUFFIX) == []

    def step(connection: Any, suffix: str) -> None:
        connection.modify_s(f"cn=schema,{suffix}", [(ldap.MOD_REPLACE, "description", [b"two"])])

    following = TREE_VERSION + 1
    migrations = {following: ("a test", step)}
    assert migrate.migrate(root, SUFFIX, migrations, following) == [f"version {following}: a test"]
    assert migrate.migrate(root, SUFFIX, migrations, following) == []
    with pytest.raises(migrate.TooNew):
        migrate.migrate(root, SUFFIX)


def test_the_schema_of_a_running_directory_is_brought_up_to_date(slapd: Slapd, monkeypatch: pytest.MonkeyPatch) -> None:
    root = connect(Settings(slapd.ldapi))
    older = migrate.SCHEMA.read_text()
    newer = slapd.folder / "newer.schema"
    newer.write_text(
        older.replace("power that is wanted", "the power that is wanted").replace(
            "# Classes:",
            "attributetype ( vmcAttribute:999 NAME 'vmcTest'\n\tDESC 'a test'\n\tEQUALITY integerMatch\n"
            "\tSYNTAX 1.3.6.1.4.1.1466.115.121.1.27 )\n\n# Classes:",
        )
    )
    monkeypatch.setattr(migrate, "SCHEMA", newer)
    assert migrate.migrate(root, SUFFIX) == ["schema: vmcDesiredState", "schema: vmcTest"]
    assert migrate.migrate(root, SUFFIX) == []
    slapd.directory("server").claim(a_ve())


def test_a_tree_of_version_1_gets_what_snapshots_need(slapd: Slapd) -> None:
    """Without the attribute and with the rules of before, as an earlier release left it; then the monitor writes it."""
    root = connect(Settings(slapd.ldapi))
    ours = f"(&(objectClass=olcMdbConfig)(olcSuffix={SUFFIX}))"
    [(database, values)] = root.search_s("cn=config", ldap.SCOPE_ONELEVEL, ours, ["olcAccess"])
    rules = [value.replace(b"vmcSnapshot,", b"") for value in values["olcAccess"]]
    assert rules != values["olcAccess"]
    root.modify_s(database, [(ldap.MOD_REPLACE, "olcAccess", rules)])
    [(schema, values)] = root.search_s("cn=schema,cn=config", ldap.SCOPE_ONELEVEL, "(cn=*vmcloud)")
    for sort in ("olcObjectClasses", "olcAttributeTypes"):
        for value in values[sort]:
            mods = [(ldap.MOD_DELETE, sort, [value])]
            if sort == "olcObjectClasses":
                mods.append((ldap.MOD_ADD, sort, [value.replace(b" $ vmcSnapshot", b"")]))
            if b"vmcSnapshot" in value:
                root.modify_s(schema, mods)
    root.modify_s(f"cn=schema,{SUFFIX}", [(ldap.MOD_REPLACE, "vmcTreeVersion", [b"1"])])
    server, monitor = slapd.directory("server"), slapd.directory("monitor")
    server.add_node(NodeRecord(name="n1"))
    record = server.change_ve(server.claim(a_ve()), node="n1")
    kept = seen(snapshots=(Snapshot("b", 7, 1763700000.25), Snapshot("a", 9, 1763700001.5)))
    with pytest.raises((Denied, Rejected)):
        monitor.observe_ve(record, kept)

    done = migrate.migrate(root, SUFFIX)
    assert done[0] == "schema: vmcSnapshot" and "version 2: the monitor may write vmcSnapshot" in done
    assert migrate.migrate(root, SUFFIX) == []
    assert monitor.observe_ve(record, kept)
    stored = server.ve(record.ve)
    assert stored is not None and stored.observed == replace(kept, snapshots=tuple(sorted(kept.snapshots)))
    assert monitor.observe_ve(record, seen(2))
    stored = server.ve(record.ve)
    assert stored is not None and stored.observed is not None and stored.observed.snapshots == ()


def test_a_tree_of_version_3_gets_leases(slapd: Slapd) -> None:
    """Without their attributes and rules, as an earlier release left it; then the server writes one, and nonsense is refused."""
    root = connect(Settings(slapd.ldapi))
    [(overlay, values)] = root.search_s("cn=config", ldap.SCOPE_SUBTREE, "(objectClass=olcConstraintConfig)")
    kept = [value for value in values["olcConstraintAttribute"] if b"vmcLease" not in value]
    root.modify_s(overlay, [(ldap.MOD_REPLACE, "olcConstraintAttribute", kept)])
    ours = f"(&(objectClass=olcMdbConfig)(olcSuffix={SUFFIX}))"
    [(database, values)] = root.search_s("cn=config", ldap.SCOPE_ONELEVEL, ours, ["olcAccess"])
    rules = [value.replace(b",vmcLeaseEnd,vmcLeaseAction,vmcLeaseGrace", b"") for value in values["olcAccess"]]
    assert rules != values["olcAccess"]
    root.modify_s(database, [(ldap.MOD_REPLACE, "olcAccess", rules)])
    [(schema, values)] = root.search_s("cn=schema,cn=config", ldap.SCOPE_ONELEVEL, "(cn=*vmcloud)")
    with_leases = [value for value in values["olcObjectClasses"] if b"vmcLease" in value]
    root.modify_s(schema, [(ldap.MOD_DELETE, "olcObjectClasses", with_leases)])
    older = [value.replace(b" $ vmcLeaseEnd $ vmcLeaseAction $ vmcLeaseGrace", b"") for value in with_leases]
    root.modify_s(schema, [(ldap.MOD_ADD, "olcObjectClasses", older)])
    for value in [value for value in values["olcAttributeTypes"] if b"vmcLease" in value]:
        [(_, now)] = root.search_s(schema, ldap.SCOPE_BASE, attrlist=["olcAttributeTypes"])
        name = value.split(b"NAME '")[1].split(b"'")[0]
        root.modify_s(
            schema, [(ldap.MOD_DELETE, "olcAttributeTypes", [each for each in now["olcAttributeTypes"] if name in each])]
        )
    root.modify_s(f"cn=schema,{SUFFIX}", [(ldap.MOD_REPLACE, "vmcTreeVersion", [b"3"])])

    done = migrate.migrate(root, SUFFIX)
    assert "schema: vmcLeaseEnd" in done and done[-1].startswith("version 4: VEs may have a lease")
    assert migrate.migrate(root, SUFFIX) == []
    server = slapd.directory("server")
    record = server.claim(a_ve())
    leased = replace(record.spec, lease_end=1_800_000_000.0, lease_action=LeaseAction.DELETE, lease_grace=60)
    assert server.change_ve(record, job=record.job, spec=leased).spec == leased
    with pytest.raises(ldap.CONSTRAINT_VIOLATION):
        root.modify_s(TREE.ve(record.project, record.name), [(ldap.MOD_REPLACE, "vmcLeaseAction", [b"explode"])])


def test_assertions_are_evaluated_with_the_writers_rights(slapd: Slapd) -> None:
    web = link(slapd, "web")
    with pytest.raises((ldap.ASSERTION_FAILED, ldap.INSUFFICIENT_ACCESS)):
        web.modify_ext_s(
            TREE.service("server"),
            [(ldap.MOD_REPLACE, "description", [b"x"])],
            serverctrls=[AssertionControl(True, "(userPassword=*)")],
        )


def test_a_backup_restores_into_an_empty_folder(slapd: Slapd) -> None:
    record = slapd.directory("server").claim(a_ve())
    home = slapd.folder / "slapd.d"
    saved = {
        part: subprocess.run(["/usr/sbin/slapcat", "-F", str(home), *which], capture_output=True, check=True, timeout=30).stdout
        for part, which in (("config", ["-n", "0"]), ("data", ["-b", SUFFIX]))
    }
    slapd.stop()
    for name in ("slapd.d", "db", "accesslog"):
        shutil.rmtree(slapd.folder / name)
        (slapd.folder / name).mkdir(mode=0o700)
    for part, which in (("config", ["-n", "0"]), ("data", ["-w", "-b", SUFFIX])):
        arguments = ["/usr/sbin/slapadd", "-F", str(home), *which]
        subprocess.run(arguments, input=saved[part], check=True, capture_output=True, timeout=30)
    slapd.start()
    assert slapd.directory("server").ve(record.ve) == record
