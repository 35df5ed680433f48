"""Placement: filter, score, name; and why not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmcloud.domain.placement import Candidate, impossible, place
from vmcloud.domain.spec import Spec
from vmcloud.domain.vocabulary import Kind, NodeState

pytestmark = pytest.mark.unit

LXC = frozenset({Kind.LXC})


def node(name: str, memory: int = 4096, used: int = 0, **more: object) -> Candidate:
    fields = {"state": NodeState.UP, "kinds": LXC, "cpus": 4, **more}
    return Candidate(name=name, memory_mib=memory, used_mib=used, **fields)  # type: ignore[arg-type]


def spec(**sizes: object) -> Spec:
    return Spec(kind=Kind.LXC, image="busybox", **sizes)  # type: ignore[arg-type]


def test_the_emptiest_node_is_chosen_and_names_break_ties() -> None:
    assert place(spec(), [node("b"), node("a"), node("c", used=1000)]).node == "a"
    assert place(spec(), [node("b"), node("a", used=1)]).node == "b"


def test_each_node_says_why_not() -> None:
    placement = place(
        spec(memory_mib=2048),
        [
            node("down", state=NodeState.DOWN),
            node("cord", cordoned=True),
            node("care", maintenance=True),
            node("full", used=3000),
            node("vms", kinds=frozenset({Kind.KVM})),
            node("tiny", memory=1024),
        ],
    )
    assert placement.node == ""
    assert placement.reasons["full"] == "1.18 GiB short"
    assert (
        "down: down; cord: cordoned; care: in maintenance; full: 1.18 GiB short; vms: does not run kind lxc; tiny: 2048 MiB asked"
        in (placement.why_not())
    )


def test_impossible_is_only_what_no_node_could_ever_hold() -> None:
    assert impossible(spec(), [node("a", state=NodeState.DOWN, cordoned=True, used=4096)]) == ""
    assert "MiB in all" in impossible(spec(memory_mib=1 << 20), [node("a")])
    assert "vcpus" in impossible(spec(vcpus=64), [node("a")])
    assert "node b was asked for" in impossible(spec(node="b"), [node("a")])
    assert "no node is known" in impossible(spec(), [])


@given(st.lists(st.tuples(st.integers(300, 9000), st.integers(0, 9000)), max_size=6), st.integers(8, 9000))
def test_a_chosen_node_has_the_room_and_order_does_not_matter(sizes: list[tuple[int, int]], memory: int) -> None:
    nodes = [node(f"n{i}", total, used) for i, (total, used) in enumerate(sizes)]
    placement = place(spec(memory_mib=memory), nodes)
    assert placement.node == place(spec(memory_mib=memory), nodes[::-1]).node
    if placement.node:
        chosen = next(each for each in nodes if each.name == placement.node)
        assert chosen.usable_mib - chosen.used_mib >= memory
    else:
        assert len(placement.reasons) == len(nodes)


def test_only_nodes_with_all_labels_are_chosen() -> None:
    nodes = [node("bare"), node("fast", labels=frozenset({"ssd"})), node("best", labels=frozenset({"ssd", "gpu"}))]
    assert place(spec(), nodes, ("gpu", "ssd")).node == "best"
    assert place(spec(), nodes[:2], ("gpu", "ssd")).reasons == {"bare": "has no label gpu, ssd", "fast": "has no label gpu"}
