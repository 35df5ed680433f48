"""Memory that changes only if the transaction around it is committed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytestmark = pytest.mark.unit

KEYS = st.integers(0, 4)
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("set"), KEYS, KEYS),
        st.tuples(st.just("del"), KEYS),
        st.tuples(st.just("pop"), KEYS),
        st.tuples(st.just("default"), KEYS, KEYS),
        st.tuples(st.just("add"), KEYS),
        st.tuples(st.just("discard"), KEYS),
        st.tuples(st.just("append"), KEYS),
        st.tuples(
            st.just("take"),
        ),
        st.tuples(
            st.just("clear"),
        ),
        st.tuples(st.just("scalar"), KEYS),
        st.tuples(st.just("new set"), KEYS),
    ),
    max_size=12,
)


class Memory:
    """One of each sort."""

    def __init__(self) -> None:
        from vmcloud.fleet.server import memory

        class Thing(memory.Kept):
            def __init__(self) -> None:
                self.number = 0
                self.set = memory.Set[int]([1, 2])

        self.dict, self.list, self.thing = memory.Dict[int, int]({1: 1, 2: 2}), memory.List[int]([1, 2]), Thing()

    def change(self, what: str, *args: int) -> None:
        match what:
            case "set":
                self.dict[args[0]] = args[1]
            case "del" if args[0] in self.dict:
                del self.dict[args[0]]
            case "pop":
                self.dict.pop(args[0], None)
            case "default":
                self.dict.setdefault(*args)
            case "add":
                self.thing.set.add(args[0])
            case "discard":
                self.thing.set.discard(args[0])
            case "append":
                self.list += [args[0]]
            case "take" if self.list:
                self.list.pop()
            case "clear":
                self.dict.clear()
                self.thing.set.clear()
                self.list.clear()
            case "scalar":
                self.thing.number = args[0]
            case "new set":
                from vmcloud.fleet.server import memory

                self.thing.set = memory.Set(args)

    @property
    def state(self) -> Any:
        return dict(self.dict), list(self.list), set(self.thing.set), self.thing.number


@given(CHANGES, CHANGES, CHANGES)
def test_nothing_of_a_block_that_failed_is_left_and_all_of_one_that_did_not(before: Any, inner: Any, after: Any) -> None:
    from vmcloud.fleet.server import memory

    it, like = Memory(), Memory()
    for change in before:
        it.change(*change)
        like.change(*change)
    begun = it.state
    with pytest.raises(KeyError), memory.undoing():
        for change in inner:
            it.change(*change)
        with memory.undoing():
            for change in after:
                it.change(*change)
        raise KeyError
    assert it.state == begun == like.state, "what an inner block has changed is undone with the outer one"
    with memory.undoing():
        for change in after:
            it.change(*change)
            like.change(*change)
        with pytest.raises(KeyError), memory.undoing():
            for change in inner:
                it.change(*change)
            raise KeyError
        assert it.state == like.state, "and an inner one alone"
    assert it.state == like.state
