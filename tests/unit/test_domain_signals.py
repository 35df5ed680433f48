"""Signals: which names are known, and what each does to a job."""

from __future__ import annotations

import pytest

from vmcloud.domain.errors import Conflict, Invalid
from vmcloud.domain.signals import KNOWN, Effect, effect, parse
from vmcloud.domain.vocabulary import SESSIONS, JobState, Verb

pytestmark = pytest.mark.unit


def test_names_and_numbers_of_signals() -> None:
    said = {"TERM": "TERM", "sigterm": "TERM", "15": "TERM", " 9 ": "KILL", "SIGHUP": "HUP", "Suspend": "suspend", "19": "STOP"}
    assert {text: parse(text) for text in said} == said
    assert all(parse(name) == name for name in KNOWN)
    for bad in ("", "FOO", "SIG", "999", "-9", "TERM KILL", "²", "None"):
        with pytest.raises(Invalid) as caught:
            parse(bad)
        assert "TERM" in caught.value.problem.todo


@pytest.mark.parametrize("verb", [Verb.STOP, Verb.CREATE, Verb.EXEC, Verb.CONSOLE])
def test_what_each_signal_does_to_a_job_that_runs(verb: Verb) -> None:
    session = verb in SESSIONS
    for name in ("TERM", "INT", "HUP", "QUIT"):
        assert effect(7, name, verb, JobState.RUNNING) is Effect.CANCEL
    assert effect(7, "KILL", verb, JobState.RUNNING) is (Effect.CANCEL if session else Effect.KICK)
    for name, word in (("suspend", "vmcloud ve suspend"), ("CONT", "vmcloud job hold"), ("USR1", "vmcloud job cancel 7")):
        with pytest.raises(Conflict) as caught:
            effect(7, name, verb, JobState.RUNNING)
        assert word in caught.value.problem.todo and caught.value.problem.code == "signal"


@pytest.mark.parametrize("state", [state for state in JobState if state is not JobState.RUNNING])
def test_signals_are_for_jobs_that_run(state: JobState) -> None:
    for name in KNOWN:
        with pytest.raises(Conflict):
            effect(7, name, Verb.STOP, state)
