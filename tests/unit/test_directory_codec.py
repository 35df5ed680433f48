"""Entries to values and back, and the files of the schema; no server."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest

from ldap_schema import access, config, convert, tree
from vmcloud.directory import codec
from vmcloud.domain import wire
from vmcloud.domain.errors import Invalid
from vmcloud.domain.messages import Mark, Snapshot
from vmcloud.domain.records import Observation, VERecord
from vmcloud.domain.spec import Spec
from vmcloud.domain.vocabulary import Desired, Kind, Observed

pytestmark = pytest.mark.unit
TREE = codec.Tree("dc=vmcloud,dc=internal")
RECORD = VERecord(
    UUID(int=1), "web-1", "main", "alice", Spec(kind=Kind.LXC, image="busybox"), Desired.RUNNING, generation=1, job=2
)
DN = TREE.ve("main", "web-1")
SEEN = {
    name: values
    for name, values in codec.observed_attributes(Observation(Observed.RUNNING, "n1", Mark(1, 1), 1)).items()
    if values
}


def test_the_files_of_the_schema_agree() -> None:
    schema = convert.SCHEMA.read_text()
    assert convert.LDIF.read_text() == convert.to_ldif(schema)
    assert convert.OIDS.read_text() == convert.to_markdown(schema)


def test_no_number_and_no_name_is_used_twice() -> None:
    definitions = convert.parse(convert.SCHEMA.read_text())
    assert len({each.oid for each in definitions}) == len({each.name for each in definitions}) == len(definitions) > 40
    assert all(each.name.startswith("vmc") for each in definitions)


def test_every_attribute_named_in_the_rules_exists() -> None:
    standard = {"description", "ipHostNumber", "macAddress"}
    names = {each.name for each in convert.parse(convert.SCHEMA.read_text())} | standard
    for group in (access.CLAIM, access.OPTIONAL, access.DESIRED, access.BOOKKEEPING, access.OBSERVED, access.NODE_FACTS):
        assert set(group) <= names


def test_every_claim_holds_what_the_web_may_add_and_nothing_else() -> None:
    claim = set(codec.encode_ve(RECORD)) - {"objectClass", "cn"}
    assert set(access.CLAIM) <= claim <= {*access.CLAIM, *access.OPTIONAL}


def test_no_superuser_has_a_password(tmp_path_factory: pytest.TempPathFactory) -> None:
    rendered = config.render(config.Settings(tmp_path_factory.mktemp("d"), TREE.suffix))
    assert "olcRootPW" not in rendered


def test_base_entries_hold_only_hashes() -> None:
    made = dict(tree.entries(TREE.suffix, {"web": "secret"}))
    [stored] = made[TREE.service("web")]["userPassword"]
    assert stored.startswith("{SSHA}")
    assert "userPassword" not in made[TREE.service("server")]
    with pytest.raises(ValueError):
        tree.entries(TREE.suffix, {"nobody": "x"})


def test_unknown_attributes_and_entries_are_ignored() -> None:
    entry = {**codec.encode_ve(RECORD), "serialNumber": [b"1"], "jpegPhoto": [b"\xff"]}
    assert codec.decode(DN, entry) == RECORD
    assert codec.decode("ou=ves,dc=x", {"objectClass": [b"organizationalUnit"]}) is None


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("vmcUUID", [b"12"]),
        ("vmcUUID", []),
        ("vmcKind", [b"docker"]),
        ("vmcVCPUs", [b"many"]),
        ("vmcVCPUs", [b"1", b"2"]),
        ("vmcPrivileged", [b"perhaps"]),
        ("vmcOwner", [b"\xff"]),
        ("vmcProject", [b"other"]),
        ("vmcObservedState", [b"running"]),
        *(
            ("vmcSnapshot", [value])
            for value in (
                b"",
                b"a",
                b"a 1",
                b"a  1 20260101000000Z",
                b"A_ 1 20260101000000Z",
                b"a -1 20260101000000Z",
                b"a 1 now",
            )
        ),
    ],
)
def test_a_malformed_entry_is_named(name: str, values: list[bytes]) -> None:
    with pytest.raises(Invalid) as refused:
        shown = SEEN if name == "vmcSnapshot" else {}
        codec.decode(DN, {**codec.encode_ve(RECORD), **shown, name: values})
    assert refused.value.problem.where == DN


def test_snapshots_are_written_once_each_and_read_in_the_order_of_their_names() -> None:
    kept = Snapshot("b", 7, 1763700000.25), Snapshot("a", 9, 0.0), Snapshot("b", 7, 1763700000.25)
    seen = Observation(Observed.RUNNING, "n1", Mark(1, 1), 1, snapshots=kept)
    written = codec.observed_attributes(seen)
    assert written["vmcSnapshot"] == [b"b 7 20251121044000.250000Z", b"a 9 19700101000000.000000Z"]
    found = codec.decode(DN, {**codec.encode_ve(RECORD), **{name: values for name, values in written.items() if values}})
    assert isinstance(found, VERecord) and found.observed is not None
    assert found.observed.snapshots == (kept[1], kept[0])


@pytest.mark.parametrize("name", ["a,b", 'q"uote', "plus+equals=", "#hash", " space ", "back\\slash", "nul\x00", "ümlaut"])
def test_names_of_foreign_guests_survive(name: str) -> None:
    assert codec.rdns(TREE.stray("n1", name))[:2] == [name, "n1"]


def test_times_keep_their_microseconds() -> None:
    for seconds in (0.000001, 1763700000.25, 1763700000.999999):
        assert codec.decode_time(codec.encode_time(seconds)) == seconds
    assert codec.decode_time("20260101000000Z") == 1767225600.0
    for text in ("20260101000000", "2026", "20260101000000.xZ"):
        with pytest.raises(ValueError):
            codec.decode_time(text)


def test_long_errors_are_cut() -> None:
    seen = Observation(Observed.CRASHED, "n1", Mark(1, 1), 1, error="x" * 5000)
    assert len(codec.observed_attributes(seen)["vmcLastError"][0]) == wire.TEXT_MAX
    refused = replace(RECORD, refusal="x" * 5000)
    assert len(codec.encode_ve(refused)["vmcRefusal"][0]) == wire.TEXT_MAX
