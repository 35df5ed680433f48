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


@pytest.fixture(autouse=True)
def nobody_leads(web: Web) -> None:
    from vmcloud.fleet.models import Lease

    Lease.objects.all().delete()


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


class Loss:
    """Counts how often it was told that the server leads no more."""

    def __init__(self) -> None:
        self.told = 0

    def __call__(self) -> None:
        self.told += 1


def renewal(leader: Any, patience: float = 40.0) -> tuple[Any, Loss]:
    from vmcloud.fleet.server.leader import Renewal

    loss = Loss()
    return Renewal(leader, patience, loss), loss


def test_a_turn_may_take_longer_than_the_lease(web: Web) -> None:
    """In one that computes for ten seconds and writes nothing, the thread beside it renews the lease."""
    clocks = Clocks()
    one, other = server("one", clocks), server("other", clocks)
    assert one.campaign()
    beside, loss = renewal(one)
    for _ in range(20):
        clocks.passed += 0.5
        assert beside.look() and not other.campaign()
    with one.transaction():
        pass
    assert loss.told == 0


def test_an_idle_leader_renews_thrice_a_term_and_one_that_writes_not_at_all(web: Web) -> None:
    clocks = Clocks()
    one = server("one", clocks)
    assert one.campaign()
    beside, _ = renewal(one)
    renewed = []
    original = one.renew
    one.renew = lambda: renewed.append(clocks.passed) or original()
    for _ in range(300):
        clocks.passed += 0.1
        one.begin_stage()
        beside.look()
    assert 25 <= len(renewed) <= 30, "30 s are ten terms"
    renewed.clear()
    for _ in range(300):
        clocks.passed += 0.1
        one.begin_stage()
        with one.transaction():
            pass
        beside.look()
    assert not renewed


def test_a_turn_that_hangs_loses_the_lease_and_nothing_is_written_after_it(web: Web) -> None:
    from vmcloud.fleet.server.leader import Deposed

    clocks = Clocks()
    one, other = server("one", clocks), server("other", clocks)
    assert one.campaign()
    beside, loss = renewal(one, patience=40.0)
    one.begin_stage()
    while beside.look():
        clocks.passed += 0.5
        assert clocks.passed < 50
    assert 40 < clocks.passed < 42 and loss.told == 1, "what listens for it is told to stop"
    with pytest.raises(Deposed, match="takes longer than 40 s"), one.transaction():
        pytest.fail("its turn went on after all")
    with pytest.raises(Deposed):
        one.begin_stage()
    clocks.passed += TERM + 1
    assert other.campaign()
    clocks.passed += TERM + 1
    assert one.campaign(), "it begins anew"
    with one.transaction():
        pass


def test_each_part_of_a_turn_has_the_whole_time(web: Web) -> None:
    clocks = Clocks()
    one = server("one", clocks)
    assert one.campaign()
    beside, loss = renewal(one, patience=40.0)
    for _ in range(200):
        clocks.passed += 0.5
        assert beside.look()
        if int(clocks.passed) % 30 == 0:
            one.begin_stage()
    assert loss.told == 0


def test_who_finds_another_leader_while_renewing_stops_at_once(web: Web) -> None:
    from vmcloud.fleet.models import Lease
    from vmcloud.fleet.server.leader import Deposed

    clocks = Clocks()
    one, other = server("one", clocks), server("other", clocks)
    assert one.campaign()
    beside, loss = renewal(one)
    clocks.passed += TERM + 1
    assert other.campaign()
    assert not beside.look() and loss.told == 1
    with pytest.raises(Deposed, match="another server leads now"):
        one.check()
    one.resign()
    assert Lease.objects.get(name="server").holder == "other"


def test_a_long_transaction_ends_with_a_whole_term(web: Web) -> None:
    """Its lease was renewed as it began; others see that only when it is committed."""
    clocks = Clocks()
    one, other = server("one", clocks), server("other", clocks)
    assert one.campaign()
    with one.transaction():
        clocks.passed += TERM + 1
    assert not other.campaign()
    assert one.due_in > 0


def test_what_fails_within_a_transaction_fails_alone_and_does_not_ask_again_who_leads(web: Web) -> None:
    from vmcloud.fleet.models import Misses

    clocks = Clocks()
    one = server("one", clocks)
    assert one.campaign()
    uuids = [f"00000000-0000-4000-8000-00000000000{number}" for number in range(2)]
    with one.transaction():
        Misses.objects.create(ve=uuids[0], node="n")
        with pytest.raises(KeyError), one.transaction():
            Misses.objects.create(ve=uuids[1], node="n")
            raise KeyError
    assert [str(ve) for ve in Misses.objects.values_list("ve", flat=True)] == uuids[:1]


def test_a_database_that_is_away_costs_a_renewal_and_not_the_thread(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    from django.db import OperationalError

    one = server("one", Clocks())
    assert one.campaign()
    beside, loss = renewal(one)

    def away() -> None:
        raise OperationalError("gone")

    monkeypatch.setattr(one, "renew", away)
    one._renewed = -TERM
    assert beside._look() is True and loss.told == 0 and not one.lost
