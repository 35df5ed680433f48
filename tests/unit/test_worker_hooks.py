"""Prologue and epilogue of a node: what they are told, and what their ends mean for a step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from tests.executor_kit import Node, eventually
from tests.worker_kit import NATIVE, VE, order
from vmcloud.domain.vocabulary import Outcome, StepVerb
from workers.drivers.simulated import effects, plan_fault
from workers.hooks import NOT_HOOKED, Occasion, clock

pytestmark = pytest.mark.unit


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path)
    yield made
    made.close()


def put(node: Node, name: str, text: str, mode: int = 0o755) -> None:
    """A hook that writes down that it was called, and then does ``text``."""
    path = node.hooks / name
    path.write_text(f'#!/bin/sh\necho $0 $VMCLOUD_START "$@" >> {node.hooks}/.calls\n{text}\n')
    path.chmod(mode)


def calls(node: Node) -> list[str]:
    """``name start`` of each call."""
    kept = node.hooks / ".calls"
    lines = kept.read_text().splitlines() if kept.exists() else []
    return [" ".join(line.split()[:2]).rpartition("/")[2] for line in lines]


def test_both_are_called_as_torque_calls_them() -> None:
    each = replace(order(7, verb=StepVerb.CREATE, timeout=90.0), owner="ann", project="main", queue="batch")
    about = Occasion(each, "cloud", 1, {"vcpus": 2, "memory_mib": 512})
    limits = "neednodes=n1,walltime=00:01:30"
    assert about.prologue() == ["7.cloud", "ann", "main", "a", limits, "batch", ""]
    assert replace(about, order=replace(each, args={})).limits() == "mem=512mb,ncpus=2,neednodes=n1,walltime=00:01:30"
    used = ["walltime=01:01:01", "batch", ""]
    first = ["7.cloud", "ann", "main", "a", "0", limits]
    assert about.epilogue(Outcome.OK, 3661.2, retryable=False) == [*first, *used, "0"]
    codes = [about.epilogue(outcome, 1, retryable=False)[-1] for outcome in Outcome]
    assert codes == ["0", "-1", "271", "-11"] and about.epilogue(Outcome.FAILED, 1, retryable=True)[-1] == "-3"
    assert clock(-5) == "00:00:00"


def test_the_environment_is_clean_and_says_what_it_is_about(node: Node) -> None:
    put(node, "epilogue", "env | sort")
    node.take(replace(order(1, verb=StepVerb.CREATE), owner="ann", project="main", queue="batch"))
    (note,) = node.result(1).notes
    told = dict(line.split("=", 1) for line in note.splitlines()[1:])
    expected = {"HOOK": "epilogue", "JOB": "1", "STEP": "1", "ATTEMPT": "1", "START": "1", "VERB": "create", "NODE": "n1"}
    expected |= {"VE": "a", "VE_ID": str(VE), "NATIVE": NATIVE, "KIND": "simulated", "OWNER": "ann", "PROJECT": "main"}
    expected |= {"QUEUE": "batch", "OUTCOME": "ok", "ERROR": "", "STATE": "running"}
    assert {name.removeprefix("VMCLOUD_"): value for name, value in told.items() if name.startswith("VMCLOUD_")} == expected
    assert {name for name in told if not name.startswith("VMCLOUD_")} <= {"HOME", "LANG", "PATH", "PWD", "SHLVL", "_", "OLDPWD"}


def test_a_prologue_that_ends_well_lets_the_step_go_on_and_its_words_are_kept(node: Node) -> None:
    put(node, "prologue", "echo ready")
    put(node, "epilogue", "exit 3")
    node.take(order(1, verb=StepVerb.CREATE))
    result = node.result(1)
    assert result.outcome is Outcome.OK and effects(node.guests)[NATIVE, "start"] == 1
    before, after = result.notes
    assert before.startswith("prologue on node n1 ended with exit status 0 after") and before.endswith("its output:\nready")
    assert after.startswith("epilogue on node n1 ended with exit status 3")
    assert calls(node) == ["prologue 1", "epilogue 1"]


@pytest.mark.parametrize(
    ("text", "mode", "code", "why", "retryable"),
    [
        ("echo no; echo not today; exit 1", 0o755, "prologue", "exit status 1: not today", False),
        ("exit 2", 0o755, "requeue", "exit status 2", True),
        ("kill -9 $$", 0o755, "requeue", "was killed by SIGKILL", True),
        ("", 0o777, "requeue", "may be written by others", True),
        ("", 0o644, "requeue", "may not be executed", True),
        ("sleep 1000", 0o755, "requeue", "did not end in 2 s", True),
    ],
)
def test_a_prologue_that_does_not_end_well_keeps_the_step_from_beginning(
    node: Node, text: str, mode: int, code: str, why: str, retryable: bool
) -> None:
    put(node, "prologue", text, mode)
    put(node, "epilogue", "")
    node.take(order(1, verb=StepVerb.CREATE))
    result = node.result(1)
    assert result.error is not None and (result.outcome, result.error.code) == (Outcome.FAILED, code)
    assert why in result.error.why and result.retryable is retryable
    assert (result.undone, result.seen) == (True, None) and (NATIVE, "define") not in effects(node.guests)
    assert calls(node)[-1] == "epilogue 1"


def test_a_session_and_a_fetch_have_no_hooks(node: Node) -> None:
    put(node, "prologue", "exit 1")
    fetch = order(1, verb=StepVerb.FETCH, sha256="ab" * 32, size=1, url="http://a", ticket="x")
    node.take(replace(fetch, ve=None, lane="image:1@n1"))
    assert node.result(1).outcome is Outcome.OK and calls(node) == []


def test_a_migration_that_has_begun_is_refused_by_no_prologue(node: Node) -> None:
    """It has to come to its end, or back; its target and its source are asked at its beginning."""
    asked = {verb for verb in StepVerb if verb.startswith("migrate-") and verb not in NOT_HOOKED}
    assert asked == {StepVerb.MIGRATE_PREPARE, StepVerb.MIGRATE_SEND}
    node.take(order(1, verb=StepVerb.CREATE))
    assert node.result(1).outcome is Outcome.OK
    node.take(order(2, verb=StepVerb.MIGRATE_SEND, generation=2))
    assert node.result(2).outcome is Outcome.OK
    put(node, "prologue", "exit 1")
    node.take(order(3, verb=StepVerb.MIGRATE_KEEP, generation=2))
    assert node.result(3).outcome is Outcome.OK
    node.take(order(4, verb=StepVerb.MIGRATE_SEND, generation=2))
    assert node.result(4).outcome is Outcome.FAILED


def test_a_cancel_stops_a_prologue_and_nothing_is_done(node: Node) -> None:
    put(node, "prologue", "exec sleep 1000")
    node.take(order(1, verb=StepVerb.CREATE))
    assert eventually(lambda: calls(node))
    node.executor.cancel((1, 1))
    assert node.result(1).outcome is Outcome.CANCELLED and (NATIVE, "define") not in effects(node.guests)


def test_a_cancel_during_the_epilogue_comes_too_late(node: Node) -> None:
    put(node, "epilogue", f"while [ ! -e {node.hooks}/.go ]; do sleep 0.02; done")
    node.take(order(1, verb=StepVerb.CREATE))
    assert eventually(lambda: calls(node))
    node.executor.cancel((1, 1))
    (node.hooks / ".go").touch()
    assert node.result(1).outcome is Outcome.OK and calls(node) == ["epilogue 1"]


def test_the_epilogue_runs_after_a_failure_too(node: Node) -> None:
    put(node, "epilogue", "echo $VMCLOUD_OUTCOME $VMCLOUD_STATE")
    plan_fault(node.guests, "start", "error", 1)
    node.take(order(1, verb=StepVerb.CREATE))
    result = node.result(1)
    assert result.outcome is Outcome.FAILED and result.notes[0].endswith("\nfailed gone")


def test_a_worker_that_ends_in_the_epilogue_runs_that_again_and_not_the_work(tmp_path: Path) -> None:
    node = Node(tmp_path)
    put(node, "prologue", "")
    put(node, "epilogue", '[ -e "$0.done" ] || { touch "$0.done"; exec sleep 1000; }')
    node.take(order(1, verb=StepVerb.CREATE))
    assert eventually(lambda: "epilogue 1" in calls(node))
    node.executor.stop(0.0)
    row = node.journal.step((1, 1))
    assert row is not None and row.result is not None and row.result.outcome is Outcome.OK
    node.close()
    again = Node(tmp_path)
    result = again.result(1)
    assert result.outcome is Outcome.OK and result.seen is not None and result.mark.sequence > 0
    assert calls(again) == ["prologue 1", "epilogue 1", "epilogue 1"]
    assert effects(again.guests) == {(NATIVE, "define"): 1, (NATIVE, "start"): 1}
    again.close()


def test_a_hook_that_hangs_holds_up_no_other_guest(node: Node) -> None:
    put(node, "prologue", f"[ $VMCLOUD_JOB = 2 ] && exit 0; while [ ! -e {node.hooks}/.go ]; do sleep 0.02; done")
    node.take(order(1, verb=StepVerb.CREATE))
    assert eventually(lambda: calls(node))
    other = replace(order(2, verb=StepVerb.CREATE), ve=UUID(int=5), lane="ve:5", native="b-00000000")
    node.take(other)
    assert node.result(2).outcome is Outcome.OK
    (node.hooks / ".go").touch()
    assert node.result(1).outcome is Outcome.OK
