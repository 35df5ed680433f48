"""Steps about snapshots: what they do, what they undo, and that they touch no other job's snapshot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.worker_kit import NATIVE, VE, order
from vmcloud.domain.messages import Seen, Snapshot
from vmcloud.domain.vocabulary import Kind, Observed, StepVerb
from workers.drivers.base import BadRequest, CannotLook, NoSuchGuest, Report, Snapshotter, ToolFailed, silent
from workers.plans import Tools, Work
from workers.steps import Ended, carry_out, take_back

pytestmark = pytest.mark.unit
NEW = Snapshot("a", 5, 100.0)
OTHER = Snapshot("a", 3, 50.0)


class Kept(Snapshotter):
    """One guest with snapshots, as its driver promises it; ``calls`` is all that was done. ``fail`` makes a call fail, after its
    effect where it is in ``late``."""

    kind = Kind.SIMULATED

    def __init__(self, *snapshots: Snapshot, state: Observed = Observed.RUNNING) -> None:
        self.guest: Seen | None = Seen(NATIVE, Kind.SIMULATED, state, VE, snapshots=snapshots)
        self.calls: list[str] = []
        self.fail: dict[str, Exception] = {}
        self.late: set[str] = set()

    def _do(self, name: str, effect: Callable[[], None]) -> None:
        self.calls.append(name)
        if name not in self.late and (error := self.fail.pop(name, None)):
            raise error
        effect()
        if error := self.fail.pop(name, None):
            raise error

    def _set(self, **changes: Any) -> Callable[[], None]:
        def effect() -> None:
            if self.guest is None:
                raise NoSuchGuest("fake", "no guest")
            self.guest = replace(self.guest, **changes)

        return effect

    @property
    def snapshots(self) -> tuple[Snapshot, ...]:
        return self.guest.snapshots if self.guest else ()

    def inspect(self, native: str) -> Seen | None:
        if error := self.fail.get("inspect"):
            raise error
        return self.guest

    def start(self, native: str) -> None:
        self._do("start", self._set(state=Observed.RUNNING))

    def stop(self, native: str, *, force: bool = False, grace: float = 30.0) -> None:
        assert force
        self._do("stop", self._set(state=Observed.STOPPED))

    def snapshot(self, native: str, snapshot: Snapshot, report: Report = silent) -> None:
        there = next((each for each in self.snapshots if each.name == snapshot.name), None)
        if there is not None and there.job != snapshot.job:
            raise BadRequest("snapshot", "the name is taken")
        self._do("snapshot", self._set(snapshots=(*(each for each in self.snapshots if each != there), snapshot)))

    def revert(self, native: str, name: str, report: Report = silent) -> None:
        assert self.guest is not None and self.guest.state is Observed.STOPPED
        self._do("revert", lambda: None)

    def delete_snapshot(self, native: str, name: str) -> None:
        self._do("delete", self._set(snapshots=tuple(each for each in self.snapshots if each.name != name)))


def tools(driver: Kept, found: list[str]) -> Tools:
    images: Any = None
    given: Any = driver
    return Tools(given, images, lambda name, percent: None, lambda: None, found.append)


def work(verb: StepVerb, snapshot: Snapshot = NEW, before: str = "") -> Work:
    return Work(order(5, verb=verb, snapshot=snapshot.to_json()), before=before)


def run(driver: Kept, verb: StepVerb, snapshot: Snapshot = NEW, before: str = "") -> Ended:
    return carry_out(work(verb, snapshot, before), tools(driver, []))


def test_a_snapshot_is_taken_once_however_often_its_step_starts() -> None:
    driver = Kept()
    for _ in range(2):
        ended = run(driver, StepVerb.SNAPSHOT)
        assert ended.error is None and ended.seen is not None and ended.seen.snapshots == (NEW,)


@pytest.mark.parametrize("late", [False, True])
def test_a_snapshot_that_fails_leaves_none(late: bool) -> None:
    driver = Kept()
    driver.fail, driver.late = {"snapshot": ToolFailed("snapshot", "no")}, {"snapshot"} if late else set()
    ended = run(driver, StepVerb.SNAPSHOT)
    assert ended.error is not None and ended.undone
    assert driver.snapshots == () and driver.calls == ["snapshot", "delete"], "also what a half-made one left is removed"


def test_a_snapshot_whose_name_is_taken_leaves_the_other_alone() -> None:
    driver = Kept(OTHER)
    ended = run(driver, StepVerb.SNAPSHOT)
    assert ended.error is not None and ended.error.code == "bad-request"
    assert driver.snapshots == (OTHER,) and driver.calls == []
    assert take_back(work(StepVerb.SNAPSHOT), tools(driver, [])).undone
    assert driver.snapshots == (OTHER,) and driver.calls == []


def test_a_snapshot_that_was_cancelled_is_removed() -> None:
    driver = Kept(NEW)
    assert take_back(work(StepVerb.SNAPSHOT), tools(driver, [])).undone and driver.snapshots == ()


def test_what_can_not_be_looked_at_is_not_undone_blindly() -> None:
    driver = Kept(NEW)
    driver.fail = {"inspect": CannotLook("inspect", "no")}
    ended = take_back(work(StepVerb.SNAPSHOT), tools(driver, []))
    assert not ended.undone and driver.calls == [] and ended.seen is not None and ended.seen.state is Observed.UNKNOWN


def test_of_a_guest_that_is_gone_there_is_nothing_to_undo() -> None:
    driver = Kept()
    driver.guest = None
    ended = run(driver, StepVerb.SNAPSHOT)
    assert ended.error is not None and ended.error.code == "no-such-guest" and ended.undone


def test_a_running_guest_is_stopped_reverted_and_started() -> None:
    driver, found = Kept(NEW), list[str]()
    ended = carry_out(work(StepVerb.REVERT), tools(driver, found))
    assert ended.error is None and driver.calls == ["stop", "revert", "start"] and found == ["running"]
    assert ended.seen is not None and ended.seen.state is Observed.RUNNING and ended.seen.snapshots == (NEW,)


def test_a_revert_that_begins_again_after_its_death_starts_what_it_had_stopped() -> None:
    driver = Kept(NEW, state=Observed.STOPPED)
    assert run(driver, StepVerb.REVERT, before="running").error is None
    assert driver.calls == ["stop", "revert", "start"]


def test_a_stopped_guest_stays_stopped() -> None:
    driver = Kept(NEW, state=Observed.STOPPED)
    assert run(driver, StepVerb.REVERT).error is None and driver.calls == ["revert"]


@pytest.mark.parametrize("failing", ["stop", "revert"])
def test_a_revert_that_fails_starts_what_ran(failing: str) -> None:
    driver = Kept(NEW)
    driver.fail = {failing: ToolFailed(failing, "no")}
    ended = run(driver, StepVerb.REVERT)
    assert ended.error is not None and driver.calls[-1] == "start"
    assert ended.seen is not None and ended.seen.state is Observed.RUNNING


def test_a_revert_that_was_killed_starts_what_ran_and_only_that() -> None:
    for before, calls in (("running", ["start"]), ("stopped", [])):
        driver = Kept(NEW, state=Observed.STOPPED)
        take_back(work(StepVerb.REVERT, before=before), tools(driver, []))
        assert driver.calls == calls


@pytest.mark.parametrize("there", [(), (OTHER,)])
def test_a_revert_to_what_is_gone_does_not_even_stop_the_guest(there: tuple[Snapshot, ...]) -> None:
    driver = Kept(*there)
    ended = run(driver, StepVerb.REVERT)
    assert ended.error is not None and ended.error.code == "bad-request" and driver.calls == []


def test_a_suspended_guest_is_not_reverted() -> None:
    driver = Kept(NEW, state=Observed.SUSPENDED)
    ended = run(driver, StepVerb.REVERT)
    assert ended.error is not None and "suspended" in ended.error.what and driver.calls == []


def test_a_late_delete_touches_no_snapshot_that_was_taken_since() -> None:
    driver = Kept(NEW)
    assert run(driver, StepVerb.DELETE_SNAPSHOT).error is None and driver.snapshots == ()
    driver = Kept(OTHER)
    assert run(driver, StepVerb.DELETE_SNAPSHOT).error is None and driver.snapshots == (OTHER,)


def test_an_order_without_a_good_snapshot_is_refused_and_a_driver_without_the_power_says_so() -> None:
    bad = Work(order(5, verb=StepVerb.SNAPSHOT, snapshot={"name": "../x", "job": 1, "at": 0}))
    ended = carry_out(bad, tools(Kept(), []))
    assert ended.error is not None and ended.error.code == "bad-request"

    class Plain:
        kind = Kind.SIMULATED

        def inspect(self, native: str) -> Seen | None:
            return None

    plain: Any = Plain()
    ended = carry_out(work(StepVerb.SNAPSHOT), tools(plain, []))
    assert ended.error is not None and ended.error.code == "unsupported"
