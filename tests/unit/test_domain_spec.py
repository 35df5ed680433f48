"""Specs, names and kinds: what is taken, what is refused and in which words."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmcloud.domain import verbs
from vmcloud.domain.errors import Impossible, Invalid
from vmcloud.domain.kinds import KINDS, Capability, Support, check
from vmcloud.domain.names import check_label, check_ve_name, native_name
from vmcloud.domain.spec import CreateRequest, Spec
from vmcloud.domain.vocabulary import Desired, Kind

pytestmark = pytest.mark.unit

GOOD = {"name": "web-1", "image": "busybox"}


def test_the_smallest_request_gets_safe_defaults() -> None:
    request = CreateRequest.parse(GOOD)
    assert (request.project, request.power) == ("main", Desired.RUNNING)
    assert request.spec == Spec(kind=Kind.LXC, image="busybox")
    assert request.spec.privileged is False


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"name": "../etc"}, "name"),
        ({"name": "a;reboot"}, "name"),
        ({"name": "a b"}, "name"),
        ({"name": "Web"}, "name"),
        ({"name": "-a"}, "name"),
        ({"name": "a-"}, "name"),
        ({"name": ""}, "name"),
        ({"name": None}, "name"),
        ({"name": 7}, "name"),
        ({"name": "ä"}, "name"),
        ({"name": "a\n"}, "name"),
        ({"name": "a" * 51}, "name"),
        ({"project": "../main"}, "project"),
        ({"image": "../../etc/passwd"}, "image"),
        ({"image": None}, "image"),
        ({"kind": "docker"}, "kind"),
        ({"vcpus": 0}, "vcpus"),
        ({"vcpus": 1.5}, "vcpus"),
        ({"vcpus": True}, "vcpus"),
        ({"vcpus": "2"}, "vcpus"),
        ({"memory_mib": 7}, "memory_mib"),
        ({"memory_mib": 10**30}, "memory_mib"),
        ({"memory_mib": -1}, "memory_mib"),
        ({"disk_mib": -1}, "disk_mib"),
        ({"restart": "sometimes"}, "restart"),
        ({"drift": "maybe"}, "drift"),
        ({"privileged": "yes"}, "privileged"),
        ({"description": "\x00"}, "description"),
        ({"description": "x" * 1001}, "description"),
        ({"power": "suspended"}, "power"),
        ({"node": "n1;"}, "node"),
        ({"memmory_mib": 64}, "memmory_mib"),
    ],
)
def test_a_wrong_field_is_named(change: dict[str, object], where: str) -> None:
    with pytest.raises(Invalid) as caught:
        CreateRequest.parse({**GOOD, **change})
    assert caught.value.problem.where == where
    assert caught.value.problem.what


@pytest.mark.parametrize("data", [None, [], "x", 3, [GOOD]])
def test_what_is_no_object_is_refused(data: object) -> None:
    with pytest.raises(Invalid):
        CreateRequest.parse(data)


def test_a_spec_survives_the_way_to_json_and_back() -> None:
    spec = CreateRequest.parse({**GOOD, "vcpus": 2, "memory_mib": 64, "restart": "always", "description": "two\nlines"}).spec
    assert Spec.parse(spec.to_json()) == spec


def test_resized_changes_sizes_and_nothing_else() -> None:
    spec = CreateRequest.parse(GOOD).spec
    assert spec.resized({"memory_mib": 256}).memory_mib == 256
    with pytest.raises(Invalid, match="not a size"):
        spec.resized({"image": "other"})
    with pytest.raises(Invalid, match="no new size"):
        spec.resized({})


@given(st.text(max_size=80))
def test_a_label_is_safe_in_paths_argv_and_directory_names(text: str) -> None:
    try:
        label = check_label(text, where="name")
    except Invalid:
        return
    assert label == text
    assert set(label) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert not label.startswith("-") and not label.endswith("-") and 1 <= len(label) <= 63


def test_native_names_of_the_longest_names_are_labels_too() -> None:
    name = check_ve_name("a" * 50)
    check_label(native_name(name, UUID(int=2**127)), where="native")


def test_a_disk_size_that_nothing_would_enforce_is_refused() -> None:
    check(Spec(Kind.LXC, "x", disk_mib=0))
    check(Spec(Kind.SIMULATED, "x", disk_mib=100))
    with pytest.raises(Impossible, match="no limit"):
        check(Spec(Kind.LXC, "x", disk_mib=100))


def test_a_no_needs_an_upstream_reference_and_anything_but_yes_a_reason() -> None:
    with pytest.raises(ValueError, match="upstream"):
        Capability(Support.NO, "it can not")
    with pytest.raises(ValueError, match="reason"):
        Capability(Support.LATER)


def test_kinds_without_a_driver_refuse_in_words() -> None:
    with pytest.raises(Impossible, match="no driver for kind kvm"):
        verbs.check_able(Kind.KVM, verbs.of("create"))
    for info in KINDS.values():
        assert info.driver == bool(verbs.able(info.kind))
