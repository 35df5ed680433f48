"""One limit for each value: whatever a node may say can be written to the directory, read from it, and held by every database."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmcloud.directory import codec
from vmcloud.domain import wire
from vmcloud.domain.errors import Invalid
from vmcloud.domain.messages import Digest, Mark, Sighting, parse
from vmcloud.domain.records import NodeRecord, Observation, StrayRecord, VERecord
from vmcloud.domain.spec import Spec
from vmcloud.domain.vocabulary import Desired, Kind, Observed

pytestmark = pytest.mark.unit

TREE = codec.Tree("dc=vmcloud,dc=internal")
VE = UUID(int=1)
EDGES = (0, 1, (1 << 15) - 1, (1 << 31) - 1, 1 << 31, 10**15 - 1, 10**15, 1 << 62, 1 << 63)
"""Numbers at which one of the parts gives up: columns, the codec's digits, JSON."""
numbers = st.one_of(st.integers(0, 4096), st.sampled_from(EDGES))
texts = st.text(max_size=300)
addresses = st.one_of(st.ip_addresses().map(str), st.sampled_from(["FE80::1", "fe80::1", "fe80::1%eth0", "x", "\N{SNOWMAN}"]))
macs = st.sampled_from(["", "02:00:00:00:00:01", "02:AA:00:00:00:01", "0" * 20, "zz"])
snapshots = st.fixed_dictionaries({"name": st.sampled_from(["one", "two"]), "job": numbers, "at": st.floats(0, 3e11)})
guests = st.fixed_dictionaries(
    {
        "native": st.one_of(texts, st.just("web-1")),
        "kind": st.sampled_from(["lxc", "simulated"]),
        "state": st.sampled_from(list(Observed)),
        "ve": st.sampled_from([None, str(VE)]),
        "generation": numbers,
        "addresses": st.lists(addresses, max_size=4),
        "mac": macs,
        "since": st.floats(0, 3e11),
        "vcpus": numbers,
        "memory_mib": numbers,
        "error": texts,
        "snapshots": st.lists(snapshots, max_size=3),
    }
)
facts = st.fixed_dictionaries(
    {
        "kinds": st.lists(st.sampled_from(["lxc", "simulated"]), max_size=3),
        "cpus": numbers,
        "memory_mib": numbers,
        "disk_mib": numbers,
        "version": texts,
        "address": st.one_of(st.just(""), addresses),
    }
)
marks = st.tuples(numbers, numbers).map(list)


def said(**fields: Any) -> Sighting | None:
    """The sighting as it is read from the wire; None where it is refused as a whole."""
    message = {"v": 1, "type": "sighting", "node": "n1", "at": 1.0, "full": True, "guests": [], "gone": [], **fields}
    try:
        read = parse(json.loads(json.dumps(message)))
    except Invalid:
        return None
    assert isinstance(read, Sighting)
    return read


def unlike(attributes: codec.Attributes, *names: str) -> None:
    """No attribute has two values that its matching rule takes for one."""
    for name in names:
        values = [value.lower() for value in attributes.get(name, [])]
        assert len(values) == len(set(values)), (name, values)


def fits(record: Any) -> None:
    """The record's row is within its columns, of PostgreSQL too: SQLite would take anything."""
    from django.db import models

    from vmcloud.fleet import database
    from vmcloud.fleet.server.projection import row_of

    row = row_of(record)
    texts_before = {each.attname: getattr(row, each.attname) for each in row._meta.concrete_fields}
    database.fit(row)
    for field in row._meta.concrete_fields:
        value = getattr(row, field.attname)
        if isinstance(field, models.CharField) and not isinstance(field, models.TextField):
            assert value == texts_before[field.attname], f"{field.attname} had to be cut"
        if isinstance(field, models.BigIntegerField):
            assert abs(value) < 1 << 63
        elif isinstance(field, models.IntegerField):
            assert abs(value) < 1 << 31, field.attname


@given(facts, marks)
def test_what_a_node_may_say_of_itself_is_written_read_and_kept(web_once: None, facts: dict[str, Any], mark: list[int]) -> None:
    sighting = said(facts=facts, mark=mark)
    if sighting is None:
        return
    assert sighting.facts is not None
    attributes = {**codec.encode_node(NodeRecord("n1")), **codec.facts_attributes(sighting.facts, sighting.mark)}
    unlike(attributes, "vmcOfferedKind", "ipHostNumber")
    assert all(value.isascii() for value in attributes["ipHostNumber"]), "IA5"
    read = codec.decode(TREE.node("n1"), codec._present(attributes))
    assert isinstance(read, NodeRecord) and read.facts is not None
    assert (read.facts.cpus, read.facts.disk_mib, read.mark) == (facts["cpus"], facts["disk_mib"], Mark(*mark))
    fits(read)


@given(guests, marks)
def test_what_a_node_may_say_of_a_guest_is_written_read_and_kept(web_once: None, guest: dict[str, Any], mark: list[int]) -> None:
    sighting = said(guests=[guest], mark=mark)
    if sighting is None:
        return
    [seen] = sighting.guests
    stray = StrayRecord("n1", seen, sighting.mark)
    attributes = codec.encode_stray(stray)
    unlike(attributes, "ipHostNumber", "vmcSnapshot")
    for name in ("ipHostNumber", "macAddress"):
        assert all(value.isascii() for value in attributes.get(name, [])), "IA5"
    read = codec.decode(TREE.stray("n1", seen.native), attributes)
    assert isinstance(read, StrayRecord)
    assert (read.seen.native, read.seen.memory_mib, read.seen.error) == (seen.native, seen.memory_mib, seen.error)
    fits(read)
    observed = codec.stray_observation(stray)
    record = VERecord(VE, "web-1", "main", "ann", Spec(Kind.LXC, "busybox"), Desired.RUNNING, 1, 2)
    entry = {**codec.encode_ve(record), **codec._present(codec.observed_attributes(observed))}
    shown = codec.decode(TREE.ve("main", "web-1"), entry)
    assert isinstance(shown, VERecord) and isinstance(shown.observed, Observation)
    fits(shown)


@pytest.fixture(scope="module")
def web_once() -> None:
    """Django, for the tables' columns; no database."""
    from tests import web as kit

    kit._setup()


def test_the_disk_of_the_attack_is_refused_before_it_is_written() -> None:
    """2^62 MiB passed the wire and not the codec: the node's entry could not be read any more."""
    good = {"kinds": ["lxc"], "cpus": 2, "memory_mib": 2048, "disk_mib": 9000, "version": "0.1.0"}
    assert said(facts=good, mark=[1, 1]) is not None
    assert said(facts={**good, "disk_mib": 1 << 62}, mark=[1, 1]) is None
    assert said(facts={**good, "cpus": 1 << 31}, mark=[1, 1]) is None


def test_a_guest_with_very_many_addresses_does_not_silence_its_node() -> None:
    many = [f"2001:db8::{number:x}" for number in range(5000)]
    guest = {"native": "web-1", "kind": "lxc", "state": "running", "addresses": many}
    sighting = said(guests=[guest], mark=[1, 1])
    assert sighting is not None and len(sighting.guests[0].addresses) == wire.KEPT_MAX


def test_an_error_is_cut_where_the_directory_would_cut_it() -> None:
    """The monitor compared what it was told with what it had written, and wrote the same error again with each list."""
    guest = {"native": "web-1", "kind": "lxc", "state": "crashed", "error": "e" * 4000}
    sighting = said(guests=[guest], mark=[1, 1])
    assert sighting is not None
    [seen] = sighting.guests
    [stored] = codec.observed_attributes(codec.stray_observation(StrayRecord("n1", seen, sighting.mark)))["vmcLastError"]
    assert stored.decode() == seen.error


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("vmcCapacityCPUs", wire.CPUS_MAX),
        ("vmcCapacityMemoryMiB", wire.MEMORY_MIB_MAX),
        ("vmcCapacityDiskMiB", wire.DISK_MIB_MAX),
        ("vmcObservedSequence", wire.WHOLE_MAX),
    ],
)
def test_a_number_that_no_node_may_say_is_not_read_either(name: str, most: int) -> None:
    """An integer column of PostgreSQL would not have held it: the read model stood still."""
    entry = {**codec.encode_node(NodeRecord("n1")), "vmcObservedEpoch": [b"1"], "vmcObservedSequence": [b"1"]}
    assert codec.decode(TREE.node("n1"), {**entry, name: [str(most).encode()]}) is not None
    with pytest.raises(Invalid):
        codec.decode(TREE.node("n1"), {**entry, name: [str(most + 1).encode()]})


def test_usage_counts_bytes_beyond_what_the_directory_holds() -> None:
    """A guest that reads a gigabyte a second passes 10^15 bytes within two weeks."""
    usage = {"ve": str(VE), "cpu_seconds": 1.0, "memory_bytes": 1, "memory_peak_bytes": 1, "disk_read_bytes": 10**16}
    usage |= {"disk_written_bytes": 0, "received_bytes": 0, "sent_bytes": 0, "processes": 1}
    facts = {"kinds": ["lxc"], "cpus": 2, "memory_mib": 2048, "disk_mib": 9000, "version": "0.1.0"}
    message = {"v": 1, "type": "digest", "node": "n1", "mark": [1, 1], "at": 1.0, "count": 1, "facts": facts, "usage": [usage]}
    digest = parse(message)
    assert isinstance(digest, Digest) and digest.usage[0].disk_read_bytes == 10**16
