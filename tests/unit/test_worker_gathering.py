"""Changes that follow each other fast become few words: the first at once, the last always, none out of order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmcloud.domain.messages import Seen
from vmcloud.domain.vocabulary import Kind, Observed
from workers.gathering import KEPT, Gathering

pytestmark = pytest.mark.unit


def seen(state: Observed, native: str = "a") -> Seen:
    return Seen(native, Kind.LXC, state)


def test_a_burst_is_its_first_and_its_last_change() -> None:
    gathering = Gathering(0.02)
    assert gathering.first(seen(Observed.STOPPING), 1.0)
    assert not gathering.first(seen(Observed.STOPPED), 1.001)
    assert not gathering.first(seen(Observed.STARTING), 1.005)
    assert not gathering.first(seen(Observed.RUNNING), 1.012)
    assert gathering.next_in(1.012) == pytest.approx(0.008)
    assert gathering.due(1.019) == ()
    assert gathering.due(1.021) == (seen(Observed.RUNNING),)
    assert gathering.next_in(1.021) is None


def test_what_comes_after_the_moment_is_said_at_once_again() -> None:
    gathering = Gathering(0.02)
    assert gathering.first(seen(Observed.STOPPED), 1.0)
    assert gathering.first(seen(Observed.RUNNING), 1.021)


def test_a_guest_that_never_rests_is_spoken_of_all_the_same() -> None:
    gathering = Gathering(0.02)
    said = 0
    for step in range(1000):
        now = 1.0 + step * 0.001
        said += gathering.first(seen(Observed.RUNNING if step % 2 else Observed.STOPPED), now)
        said += len(gathering.due(now))
    assert 45 <= said <= 55


def test_one_guests_haste_delays_no_other() -> None:
    gathering = Gathering(0.02)
    assert gathering.first(seen(Observed.STOPPED), 1.0)
    assert not gathering.first(seen(Observed.RUNNING), 1.001)
    assert gathering.first(seen(Observed.STOPPED, "b"), 1.002)


def test_what_is_held_of_a_guest_that_is_gone_is_not_said() -> None:
    gathering = Gathering(0.02)
    gathering.first(seen(Observed.STOPPING), 1.0)
    gathering.first(seen(Observed.STOPPED), 1.001)
    gathering.drop("a")
    assert gathering.due(2.0) == ()


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from(list(Observed)), st.floats(0.0, 0.03)),
        max_size=60,
    )
)
def test_the_last_change_of_every_guest_is_said_last_and_none_is_said_twice(changes: list[tuple[str, Observed, float]]) -> None:
    gathering, now, said, last = Gathering(0.02), 100.0, [], {}
    for native, state, pause in changes:
        end = now + pause
        while (wait := gathering.next_in(now)) is not None and now + wait <= end:
            now += wait + 1e-9
            said += gathering.due(now)
        now = max(now, end)
        last[native] = seen(state, native)
        if gathering.first(last[native], now):
            said.append(last[native])
    said += gathering.due(now + 1.0)
    assert gathering.next_in(now) is None
    assert len(said) <= len(changes)
    for native, wanted in last.items():
        assert [each for each in said if each.native == native][-1] == wanted


def test_what_comes_right_after_a_steps_look_waits_for_the_steps_word() -> None:
    gathering = Gathering(0.02)
    gathering.spoken("a", 1.0)
    assert not gathering.first(seen(Observed.RUNNING), 1.001)
    assert gathering.due(1.021) == (seen(Observed.RUNNING),)


def test_what_is_held_is_said_also_where_many_others_are_spoken_of() -> None:
    gathering = Gathering(0.02)
    gathering.first(seen(Observed.STOPPING), 1.0)
    gathering.first(seen(Observed.STOPPED), 1.001)
    for number in range(KEPT):
        gathering.spoken(f"b{number}", 1.1)
    assert gathering.due(1.1) == (seen(Observed.STOPPED),)
