"""Many simulated nodes share as few processes as can be."""

from __future__ import annotations

import pytest

from workers.many import NODES_EACH, shares

pytestmark = pytest.mark.unit


def names(count: int) -> list[str]:
    return [f"n-{number:04}" for number in range(1, count + 1)]


def test_few_nodes_are_one_process() -> None:
    assert shares(names(NODES_EACH)) == [list(enumerate(names(NODES_EACH), 1))]


@pytest.mark.parametrize("count", [NODES_EACH + 1, 2000, 2001])
def test_more_nodes_are_more_processes_and_each_node_is_in_one_with_its_own_number(count: int) -> None:
    found = shares(names(count))
    assert sorted(node for share in found for node in share) == list(enumerate(names(count), 1))
    assert len(found) == -(-count // NODES_EACH)
    assert max(map(len, found)) <= NODES_EACH and max(map(len, found)) - min(map(len, found)) <= 1
