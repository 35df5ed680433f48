"""Looking: absent, there, and "could not look" are three answers."""

from __future__ import annotations

import threading

import pytest

from vmcloud.domain.vocabulary import Observed
from workers.drivers.base import CannotLook, Guest

from .bench import Bench
from .talk import found

pytestmark = pytest.mark.contract

ROUNDS, COMERS = 12, 3


def test_a_driver_that_cannot_look_says_so_and_never_that_nothing_is_there(bench: Bench, made: Guest) -> None:
    with bench.blind(made):
        with pytest.raises(CannotLook) as caught:
            bench.driver.list()
        assert caught.value.retryable
        with pytest.raises(CannotLook):
            bench.driver.inspect(made.native)
    assert found(bench, made) in bench.driver.list()


def test_a_list_while_guests_come_and_go_is_whole(bench: Bench, running: Guest) -> None:
    """Never an error, never half a guest, never without one that stays."""
    done, wrong = threading.Event(), list[object]()

    def come_and_go(number: int) -> None:
        try:
            for _ in range(ROUNDS):
                guest = bench.guest(f"comer{number}")
                bench.driver.define(guest)
                bench.driver.start(guest.native)
                bench.driver.stop(guest.native, force=True)
                bench.driver.delete(guest.native)
                if done.is_set():
                    return
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=come_and_go, args=(number,)) for number in range(COMERS)]
    for thread in threads:
        thread.start()
    lists = 0
    try:
        while any(thread.is_alive() for thread in threads):
            listed = bench.driver.list()
            lists += 1
            (stays,) = [seen for seen in listed if seen.native == running.native]
            assert stays.state is Observed.RUNNING
            for seen in listed:
                assert seen.ve is not None and seen.vcpus and seen.memory_mib and seen.addresses and seen.mac, seen
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert not wrong, wrong
    assert lists > 3
    assert not [seen for seen in bench.driver.list() if seen.native.startswith("comer")]


def test_an_unknown_name_is_just_not_there(bench: Bench) -> None:
    assert bench.driver.inspect("nobody-00000000") is None
