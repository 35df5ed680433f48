"""The lease: one server leads, whatever the clocks say; who was deposed writes nothing more."""

from __future__ import annotations

from typing import Any

import pytest

from tests.web import Web, web

__all__ = ["web"]
pytestmark = pytest.mark.unit
TERM, DAY = 3.0, 86400.0


class Clocks:
    """A wall clock that can be set, and a steady one that can not."""

    def __init__(self) -> None:
        self.off, self.passed = 0.0, 0.0

    def wall(self) -> float:
        return 1e9 + self.off + self.passed

    def steady(self) -> float:
        return self.passed


def server(name: str, clocks: Clocks) -> Any:
    from vmcloud.fleet.server.leader import Leader

    return Leader(name, TERM, clocks.wall, clocks.steady)


def test_one_leads_until_its_lease_has_run_out(web: Web) -> None:
    clocks = Clocks()
    one, other = server("one", clocks), server("other", clocks)
    assert one.campaign() and not other.campaign()
    clocks.passed += TERM - 1
    with one.transaction():
        pass
    clocks.passed += TERM - 1
    assert not other.campaign(), "it was renewed"
    clocks.passed += 2
    assert other.campaign() and other.epoch == one.epoch + 1


def test_who_was_deposed_writes_nothing(web: Web) -> None:
    from vmcloud.fleet.models import Misses
    from vmcloud.fleet.server.leader import Deposed

    clocks = Clocks()
    one, other = server("one", clocks), server("other", clocks)
    assert one.campaign()
    clocks.passed += TERM + 1
    assert other.campaign()
    with pytest.raises(Deposed), one.transaction():
        Misses.objects.create(ve="00000000-0000-4000-8000-000000000001", node="n")
    assert not Misses.objects.exists()
    one.resign()
    assert not one.campaign(), "who does not lead gives nothing away"


@pytest.mark.parametrize("by", [-DAY, DAY])
def test_a_clock_that_is_set_does_not_depose_who_leads(web: Web, by: float) -> None:
    clocks = Clocks()
    one = server("one", clocks)
    assert one.campaign()
    clocks.off += by
    with one.transaction():
        pass
    assert not server("other", clocks).campaign()


def test_a_lease_that_ends_tomorrow_by_a_clock_that_was_wrong_is_taken_after_a_term_without_renewal(web: Web) -> None:
    """The leader's clock was a day ahead when it died, or this machine's was set back since."""
    ahead, clocks = Clocks(), Clocks()
    ahead.off = DAY
    assert server("one", ahead).campaign()
    other = server("other", clocks)
    assert not other.campaign()
    clocks.passed += TERM - 0.5
    assert not other.campaign()
    clocks.passed += 1
    assert other.campaign()


def test_a_lease_that_is_renewed_by_a_clock_that_is_ahead_is_left_alone(web: Web) -> None:
    ahead, clocks = Clocks(), Clocks()
    ahead.off = DAY
    one, other = server("one", ahead), server("other", clocks)
    assert one.campaign()
    for _ in range(5):
        clocks.passed += TERM - 1
        ahead.passed += TERM - 1
        assert not other.campaign()
        with one.transaction():
            pass
