"""A real worker process behind a real broker, with simulated guests: what it does, what it says, and what it survives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from tests.worker_kit import NATIVE, ROOT, VE, Desk, order
from vmcloud import faults
from vmcloud.dispatch.envelope import new_keypair, private_key, seal
from vmcloud.domain.errors import POISON
from vmcloud.domain.messages import Accepted, CancelOrder, Digest, Progress, Refused, RelistOrder, Result, Sighting
from vmcloud.domain.vocabulary import Observed, Outcome, StepVerb
from workers import agent  # noqa: F401 - declares the worker's fault points
from workers.drivers.simulated import effects, outside, plan_fault

pytestmark = pytest.mark.integration

POINTS = sorted(name for name in faults.POINTS if name.startswith("worker.") and name != "worker.undo")


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.close()


def create(job: int = 1, **more: object) -> object:
    return order(job, verb=StepVerb.CREATE, **more)  # type: ignore[arg-type]


def test_an_order_is_done_shown_and_answered_in_this_order(desk: Desk) -> None:
    desk.up()
    result = desk.done(order(verb=StepVerb.CREATE))
    shown = desk.wait(Sighting, lambda each: not each.full)
    assert result.outcome is Outcome.OK and result.mark == shown.mark
    (guest,) = shown.guests
    assert guest == result.seen
    assert (guest.ve, guest.state, guest.generation, guest.addresses) == (VE, Observed.RUNNING, 1, ("10.86.0.2",))
    assert guest.mac.startswith("02:")


def test_every_verb_does_what_it_says(desk: Desk) -> None:
    desk.up()
    desk.done(order(1, verb=StepVerb.CREATE, power="stopped"))
    spec = {"kind": "simulated", "image": "x", "vcpus": 2, "memory_mib": 512}
    expected = [
        (StepVerb.START, {}, Observed.RUNNING),
        (StepVerb.SUSPEND, {}, Observed.SUSPENDED),
        (StepVerb.RESUME, {}, Observed.RUNNING),
        (StepVerb.RESTART, {"force": True}, Observed.RUNNING),
        (StepVerb.RESIZE, {"spec": spec}, Observed.RUNNING),
        (StepVerb.STOP, {"grace": 1}, Observed.STOPPED),
    ]
    for number, (verb, args, state) in enumerate(expected, 2):
        result = desk.done(order(number, verb=verb, generation=number, **args))
        assert result.outcome is Outcome.OK and result.seen is not None, result
        assert (result.seen.state, result.seen.generation) == (state, number)
    assert result.seen is not None and (result.seen.vcpus, result.seen.memory_mib) == (2, 512)
    gone = desk.done(order(20, verb=StepVerb.DELETE, generation=20))
    assert gone.outcome is Outcome.OK and gone.seen is None
    assert desk.wait(Sighting, lambda each: each.mark == gone.mark).gone == (VE,)
    desk.send(order(21, generation=21))
    assert desk.wait(Refused).code == "gone"
    assert desk.done(order(22, verb=StepVerb.DELETE, generation=22)).outcome is Outcome.OK


@pytest.mark.parametrize("point", POINTS)
def test_killed_anywhere_and_asked_again_it_has_one_effect_and_one_result(desk: Desk, point: str) -> None:
    desk.up()
    desk.done(order(1, verb=StepVerb.CREATE, power="stopped"))
    desk.listen(0.1)
    desk.fail_at(point)
    start = order(2, generation=2)
    desk.send(start)
    assert desk.worker is not None and desk.worker.wait(10) == -signal.SIGKILL
    desk.up()
    result = desk.done(start)
    assert result.outcome is Outcome.OK and result.seen is not None and result.seen.state is Observed.RUNNING
    assert effects(desk.guests) == {(NATIVE, "define"): 1, (NATIVE, "start"): 1}
    assert desk.done(start) == result
    latest = max(each.mark for each in desk.heard if isinstance(each, Sighting))
    assert latest >= result.mark


def test_killed_in_the_middle_of_undo_it_undoes_after_the_restart(desk: Desk) -> None:
    desk.up()
    plan_fault(desk.guests, "start", "error", 1)
    desk.fail_at("worker.undo")
    desk.send(order(1, verb=StepVerb.CREATE))
    assert desk.worker is not None and desk.worker.wait(10) == -signal.SIGKILL
    desk.up()
    assert desk.done(order(1, verb=StepVerb.CREATE)).outcome is Outcome.OK  # carried out again, and the fault is used up
    assert effects(desk.guests)[NATIVE, "define"] == 1


def test_a_create_that_fails_leaves_nothing(desk: Desk) -> None:
    desk.up()
    plan_fault(desk.guests, "start", "error", 1)
    result = desk.done(order(1, verb=StepVerb.CREATE))
    assert (result.outcome, result.undone, result.seen, result.retryable) == (Outcome.FAILED, True, None, True)
    assert result.error is not None and result.error.code == "tool-failed"
    other = uuid4()
    again = desk.done(order(2, verb=StepVerb.CREATE, ve=other))
    assert again.seen is not None and again.seen.addresses == ("10.86.0.2",)  # the address is free again


def test_a_hundred_duplicates_have_one_effect(desk: Desk) -> None:
    desk.up()
    each = order(1, verb=StepVerb.CREATE)
    desk.send(*[each] * 100)
    desk.result(1)
    desk.listen(1.0)
    answers = [heard for heard in desk.heard if isinstance(heard, Accepted | Result)]
    assert {each.job for each in answers} == {1} and len({each for each in answers if isinstance(each, Result)}) == 1
    assert effects(desk.guests) == {(NATIVE, "define"): 1, (NATIVE, "start"): 1}


def test_forged_foreign_and_late_orders_are_not_carried_out(desk: Desk) -> None:
    desk.up()
    now = time.time()
    forged, _ = new_keypair()
    mine = private_key(desk.key)
    each = order(1, verb=StepVerb.CREATE)
    sender = desk.sender._sender
    sender.envelopes(("node.n1", seal(each, private_key(forged), now=now, lifetime=60)))
    sender.envelopes(("node.n1", "nonsense"))
    sender.envelopes(("node.n1", seal(replace(each, node="n2"), mine, now=now, lifetime=60)))
    sender.envelopes(("node.n1", seal(replace(each, job=2), mine, now=now - 1000, lifetime=60)))
    sender.envelopes(("node.n1", seal(replace(each, job=3), mine, now=now + 1000, lifetime=60)))
    desk.wait(Refused, lambda heard: heard.job == 3)
    assert [heard.code for heard in desk.heard if isinstance(heard, Refused)] == ["wrong-node", "expired", "clock"]
    assert effects(desk.guests) == {}


def test_relist_and_changes_from_outside_are_said(desk: Desk) -> None:
    desk.up()
    desk.done(order(1, verb=StepVerb.CREATE))
    desk.heard.clear()
    outside(desk.guests, NATIVE, Observed.CRASHED)
    outside(desk.guests, "stranger", Observed.RUNNING)
    crashed = desk.wait(Sighting, lambda each: any(guest.state is Observed.CRASHED for guest in each.guests), 4)
    assert not crashed.full
    desk.wait(Sighting, lambda each: any(guest.native == "stranger" and guest.ve is None for guest in each.guests), 4)
    outside(desk.guests, NATIVE, None)
    desk.send(RelistOrder("n1"))
    digest = desk.wait(Digest)
    assert (digest.count, digest.missing) == (1, (VE,))


def test_a_node_that_can_not_look_says_that_it_lives_and_nothing_of_its_guests(desk: Desk) -> None:
    desk.up()
    desk.wait(Digest)
    desk.heard.clear()
    plan_fault(desk.guests, "list", "look", 1)
    desk.send(RelistOrder("n1"))
    digest = desk.wait(Digest)
    assert not digest.full and digest.missing == () and desk.heard == [digest]
    desk.send(RelistOrder("n1"))
    desk.wait(Digest, lambda each: each.full)


def test_what_waits_is_cancelled_at_once_what_runs_is_stopped_and_undone(tmp_path: Path) -> None:
    desk = Desk(tmp_path, node={"executors": 1})
    try:
        desk.up()
        plan_fault(desk.guests, "start", "hang", 1)
        waiting = uuid4()
        desk.send(order(1, verb=StepVerb.CREATE), order(2, verb=StepVerb.CREATE, ve=waiting))
        desk.wait(Progress, lambda each: each.name == "start")
        desk.send(CancelOrder(2, 1, 1, "n1"))
        assert desk.result(2).outcome is Outcome.CANCELLED
        desk.send(CancelOrder(1, 1, 1, "n1"))
        stopped = desk.result(1, seconds=3)
        assert (stopped.outcome, stopped.undone, stopped.seen) == (Outcome.CANCELLED, True, None)
        desk.send(CancelOrder(3, 1, 1, "n1"), order(3, verb=StepVerb.CREATE, ve=uuid4()))
        desk.listen(0.5)
        assert {each.outcome for each in desk.heard if isinstance(each, Result) and each.job == 3} == {Outcome.CANCELLED}
        assert effects(desk.guests) == {(NATIVE, "define"): 1, (NATIVE, "delete"): 1}
    finally:
        desk.close()


def test_a_step_that_hangs_ends_in_time_and_holds_up_only_its_lane(desk: Desk) -> None:
    desk.up()
    desk.done(order(1, verb=StepVerb.CREATE))
    plan_fault(desk.guests, "stop", "hang", 1)
    desk.send(order(2, verb=StepVerb.STOP, generation=2, timeout=2))
    desk.listen(0.3)
    assert desk.done(order(3, verb=StepVerb.CREATE, ve=uuid4()), seconds=1).outcome is Outcome.OK
    late = desk.result(2, seconds=4)
    assert (late.outcome, late.retryable) == (Outcome.TIMED_OUT, True)
    assert late.error is not None and late.error.code == "timed-out"
    assert late.seen is not None and late.seen.state is Observed.RUNNING


def test_a_step_that_kills_its_worker_three_times_is_poison(desk: Desk) -> None:
    desk.start()
    desk.fail_at("worker.execute.before-driver")
    desk.send(order(1, verb=StepVerb.CREATE))
    for _ in range(3):
        assert desk.worker is not None and desk.worker.wait(10) == -signal.SIGKILL
        desk.fail_at("worker.execute.before-driver")
        desk.start()
    result = desk.result(1)
    assert result.outcome is Outcome.FAILED and result.error is not None and result.error.code == POISON
    assert result.error.where == "step 1.1 on node n1" and result.error.why == "its worker died with it (3x)"
    assert result.undone and result.seen is None and not result.retryable
    assert desk.done(order(1, verb=StepVerb.CREATE)) == result  # and a later question is answered from the journal


def test_a_step_whose_undo_kills_its_worker_as_well_is_given_up(desk: Desk) -> None:
    desk.start()
    each = order(1, verb=StepVerb.CREATE)
    desk.fail_at("worker.execute.before-driver")
    desk.send(each)
    for number in range(6):
        assert desk.worker is not None and desk.worker.wait(10) == -signal.SIGKILL
        desk.fail_at("worker.execute.before-driver" if number < 2 else "worker.undo")
        desk.start()
    result = desk.result(1)
    assert result.error is not None and (result.error.code, result.undone) == (POISON, False)
    (desk.faults / "worker.undo").unlink()
    assert desk.done(order(2, verb=StepVerb.CREATE, ve=uuid4())).outcome is Outcome.OK


def test_work_goes_on_without_the_broker_and_is_said_when_it_is_back(desk: Desk) -> None:
    desk.up()
    desk.done(order(1, verb=StepVerb.CREATE))
    plan_fault(desk.guests, "stop", "hang", 1)
    desk.send(order(2, verb=StepVerb.STOP, generation=2, timeout=1.5))
    desk.wait(Accepted, lambda each: each.job == 2)
    desk.broker.kill()
    time.sleep(3)
    outside(desk.guests, NATIVE, Observed.STOPPED)
    time.sleep(2)
    assert desk.worker is not None and desk.worker.poll() is None
    desk.heard.clear()
    desk.broker.start()
    assert desk.result(2, seconds=20).outcome is Outcome.TIMED_OUT
    desk.wait(Sighting, lambda each: each.full and each.guests[0].state is Observed.STOPPED)
    marks = [each.mark for each in desk.heard if isinstance(each, Sighting)]
    assert marks == sorted(marks)
    assert desk.done(order(3, generation=3), seconds=30).outcome is Outcome.OK


def test_changes_while_the_broker_is_away_are_kept_on_disk_and_said_in_order(desk: Desk) -> None:
    """Also by the next worker, where this one is killed meanwhile."""
    desk.up()
    states = [Observed.RUNNING, Observed.CRASHED, Observed.RUNNING, Observed.SUSPENDED, Observed.STOPPED, Observed.RUNNING]
    outside(desk.guests, "theirs", Observed.STOPPED)
    desk.wait(Sighting, lambda each: [seen.state for seen in each.guests] == [Observed.STOPPED])
    desk.broker.kill()
    for number, state in enumerate(states):
        outside(desk.guests, "theirs", state)
        time.sleep(0.6)  # one that is seen on its own: changes from outside are looked for twice in a second
        if number == 3:
            desk.kill()
            desk.start()
            time.sleep(2)
    desk.heard.clear()
    desk.broker.start()

    def told() -> list[Observed]:
        words = [
            seen.state for each in desk.heard if isinstance(each, Sighting) for seen in each.guests if seen.native == "theirs"
        ]
        return [word for number, word in enumerate(words) if words[number - 1 : number] != [word]]

    desk.wait(Sighting, lambda each: told()[-1:] == [Observed.RUNNING] and Observed.STOPPED in told(), 30)
    assert told() == states


def test_told_to_end_it_ends_well_and_the_next_takes_up_its_work(desk: Desk) -> None:
    desk.up()
    desk.done(order(1, verb=StepVerb.CREATE))
    plan_fault(desk.guests, "stop", "hang", 1)
    desk.send(order(2, verb=StepVerb.STOP, generation=2))
    desk.wait(Accepted, lambda each: each.job == 2)
    assert desk.worker is not None
    desk.worker.terminate()
    assert desk.worker.wait(12) == 0
    desk.up()
    result = desk.result(2)
    assert result.outcome is Outcome.OK and result.seen is not None and result.seen.state is Observed.STOPPED


def test_a_second_worker_does_not_start(desk: Desk) -> None:
    desk.up()
    first = desk.worker
    desk.start()
    assert desk.worker is not None and desk.worker.wait(10) == 1
    desk.worker = first
    assert "another worker" in (desk.data / "worker.log").read_text()


def test_one_process_stands_for_many_nodes(tmp_path: Path) -> None:
    desk = Desk(tmp_path, simulate=20)
    try:
        desk.start()
        for number, name in enumerate(desk.nodes, 1):
            desk.send(order(number, verb=StepVerb.CREATE, ve=uuid4(), node=name))
        for number, name in enumerate(desk.nodes, 1):
            result = desk.result(number)
            assert (result.node, result.outcome) == (name, Outcome.OK)
        facts = desk.wait(Digest).facts
        assert facts.simulated and (facts.cpus, facts.memory_mib) == (64, 262144)
        assert desk.worker is not None
        desk.worker.terminate()
        assert desk.worker.wait(10) == 0
    finally:
        desk.close()


def test_a_worker_knows_no_django_settings(desk: Desk) -> None:
    desk.up()
    code = "import sys\nfrom vmcloud.dispatch.app import base_app\nfrom vmcloud.config import Config\n"
    code += "import workers.agent\nbase_app(Config.load(), 'node-n1').loader\nassert 'django.conf' not in sys.modules"
    env = {**os.environ, "VMCLOUD_DATA": str(desk.data), "DJANGO_SETTINGS_MODULE": "vmcloud.site.settings"}
    subprocess.run([sys.executable, "-c", code], env=env, cwd=ROOT, check=True, timeout=30)
