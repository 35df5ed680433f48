"""The checker of the fault campaigns finds what it is there to find: a good state, and one change of it for each of its words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from benchmarks.checker import rules
from benchmarks.checker.facts import Accepted, Entry, Facts, Guest, Job, Known, Request, Shown, Step, Told

pytestmark = pytest.mark.unit

WEB, OLD = "11111111-0000-4000-8000-000000000001", "22222222-0000-4000-8000-000000000002"
NATIVE, BURIED = "web-11111111", "old-22222222"


def good() -> Facts:
    """One VE that runs, one that was deleted, a stop that was cancelled before it began, and a request that was refused."""
    lane, old = f"ve:{WEB}", f"ve:{OLD}"
    return Facts(
        requests=(
            Request("k1", "create", "web", "taken", 1),
            Request("k2", "create", "old", "unknown"),
            Request("k3", "delete", "old", "taken", 3),
            Request("k4", "stop", "web", "taken", 4),
            Request("k5", "start", "nobody", "refused"),
        ),
        jobs=(
            Job(1, "create", WEB, "web", "C", "ok", "k1", started=1.0, ended=2.0),
            Job(2, "create", OLD, "old", "C", "ok", "k2", started=1.0, ended=2.0),
            Job(3, "delete", OLD, "old", "C", "ok", "k3", started=3.0, ended=4.0),
            Job(4, "stop", WEB, "web", "C", "cancelled", "k4", ended=4.0, result={"never_ran": True}),
            Job(5, "start", WEB, "web", "C", "ok", origin="reconcile:R1", started=5.0, ended=6.0),
        ),
        steps=(
            Step(1, 1, "n1", lane, "done", "ok", 1, 1.1, 1.9),
            Step(2, 1, "n2", old, "done", "ok", 1, 1.1, 1.9),
            Step(3, 1, "n2", old, "done", "ok", 1, 3.1, 3.9),
            Step(5, 1, "n1", lane, "done", "ok", 1, 5.1, 5.9),
        ),
        shown=(Shown(WEB, "web", "n1", "running", "running", 64, 2, frozenset({"one"})),),
        entries=(Entry(WEB, "web", "n1", "running", "running", "n1", 64, 64, 2, 5, frozenset({"one"})),),
        accepted=(Accepted(WEB, 2, "running"),),
        guests=(Guest("n1", NATIVE, "running", 64, frozenset({"one"})),),
        told=(
            Told("n1", 1, 1, 1, "done", "ok", 1, "create"),
            Told("n2", 2, 1, 1, "done", "ok", 1, "create"),
            Told("n2", 3, 1, 1, "done", "ok", 1, "delete"),
            Told("n1", 4, 1, 1, "done", "cancelled", 0),
            Told("n1", 5, 1, 1, "done", "ok", 2, "start"),
        ),
        known=(Known("n1", WEB, NATIVE, "present", "10.0.0.2/16"), Known("n2", OLD, BURIED, "deleted", "10.0.0.2/16")),
        tombstones=frozenset({OLD}),
        effects={("n1", NATIVE, "define"): 1, ("n2", BURIED, "define"): 1, ("n1", NATIVE, "start"): 7},
        lists={"node.n1": 0, "queue of somebody else": 3},
        outbox={"n1": 0, "n2": 0},
    )


def change(name: str, number: int, **changes: Any) -> Facts:
    """The good state with one value of one row changed."""
    facts = good()
    rows = list(getattr(facts, name))
    rows[number] = replace(rows[number], **changes)
    return replace(facts, **{name: tuple(rows)})


def drop(name: str, number: int) -> Facts:
    """The good state without one row."""
    facts = good()
    rows = list(getattr(facts, name))
    del rows[number]
    return replace(facts, **{name: tuple(rows)})


def more(name: str, *rows: Any) -> Facts:
    """The good state and more."""
    facts = good()
    return replace(facts, **{name: (*getattr(facts, name), *rows)})


def test_a_good_state_has_no_violation() -> None:
    assert rules.violations(good()) == rules.violations(with_array()) == []


def with_array(**changes: Any) -> Facts:
    """The good state and an array of two, of which something is changed."""
    parts = [Job(7 + each, "stop", WEB, "web", "C", "ok", ended=7.0, array=6, index=each) for each in range(2)]
    array = Job(6, "stop", "", "web", "C", "ok", ended=8.0, size=2)
    return more("jobs", replace(array, **changes), *parts)


CASES: list[tuple[str, str, Facts]] = [
    ("what_was_taken_is_there", "which is not there", drop("jobs", 3)),
    ("what_was_taken_is_there", "asked for was stop web (k4)", change("jobs", 3, key="k9")),
    ("what_was_taken_is_there", "job 4 is start web", change("jobs", 3, verb="start")),
    (
        "what_was_refused_left_nothing",
        "was refused, and is job 6",
        more("jobs", Job(6, "start", "", "x", "C", "ok", "k5", ended=1.0)),
    ),
    ("no_request_is_there_twice", "2 jobs have the key k2", change("jobs", 4, key="k2")),
    ("every_job_has_one_end", "is R", change("jobs", 4, state="R")),
    ("every_job_has_one_end", "outcome ''", change("jobs", 4, outcome="")),
    ("every_job_has_one_end", "ended 2 times", change("jobs", 4, ends=2)),
    ("every_job_has_one_end", "ended 0 times", change("jobs", 0, ends=0)),
    ("what_failed_says_why", "failed with code ''", change("jobs", 4, outcome="failed")),
    ("what_failed_says_why", "with code 'internal'", change("jobs", 4, outcome="failed", error="internal")),
    ("an_array_is_its_parts", "array 6 of 3 has parts [0, 1]", with_array(size=3)),
    ("an_array_is_its_parts", "array 6 is failed; its parts are ok, ok", with_array(outcome="failed", error="parts")),
    ("an_array_is_its_parts", "ended before its last part", with_array(ended=6.0)),
    ("an_array_is_its_parts", "parts of array 6, which is not there", with_array(size=0)),
    ("what_was_cancelled_before_it_began_never_ran", "began its step 1 1 times", change("told", 3, starts=1)),
    ("what_was_cancelled_before_it_began_never_ran", "began its step", change("jobs", 4, started=None)),
    ("what_ended_well_was_done", "there: None", drop("told", 0)),
    ("what_ended_well_was_done", "ended ok on n1", change("told", 0, outcome="failed")),
    ("what_ended_well_was_done", "attempt 1", change("told", 0, attempt=2)),
    ("no_step_is_open", "step 5.1 on n1 is sent", change("steps", 3, state="sent")),
    ("no_step_is_open", "the journal of n1 has step 5.1 as running", change("told", 4, state="running")),
    ("one_step_at_a_time_in_a_lane", "steps 1.1 and 5.1 overlap", change("steps", 3, sent=1.5)),
    ("no_guest_was_made_twice", "web-11111111 was made 2 times", replace(good(), effects={("n1", NATIVE, "define"): 2})),
    ("no_guest_is_there_twice", "web-11111111 is on n1, n2", more("guests", Guest("n2", NATIVE, "running", 64))),
    ("no_guest_is_there_twice", "2 guests are called web", more("guests", Guest("n2", "web-33333333", "running"))),
    ("no_guest_is_half_made", "half made", more("guests", Guest("n2", "db-44444444", "stopped", whole=False))),
    ("what_was_made_is_there_and_what_was_deleted_is_gone", "is lost", replace(good(), entries=(), shown=())),
    ("what_was_made_is_there_and_what_was_deleted_is_gone", "was deleted by job 3 and is recorded", change("entries", 0, ve=OLD)),
    ("what_was_made_is_there_and_what_was_deleted_is_gone", "no job made it", change("jobs", 0, outcome="failed")),
    ("what_was_made_is_there_and_what_was_deleted_is_gone", "and is on n2", more("guests", Guest("n2", BURIED, "stopped"))),
    ("what_was_made_is_there_and_what_was_deleted_is_gone", "no tombstone", replace(good(), tombstones=frozenset())),
    ("the_directory_is_what_is_real", "is nowhere", replace(good(), guests=())),
    ("the_directory_is_what_is_real", "not recorded", more("guests", Guest("n2", "db-44444444", "running"))),
    ("the_directory_is_what_is_real", "recorded on n1, seen on n1", change("guests", 0, node="n2")),
    ("the_directory_is_what_is_real", "is stopped; the directory says running", change("guests", 0, state="stopped")),
    ("the_directory_is_what_is_real", "has 96 MiB", change("guests", 0, memory=96)),
    ("the_directory_is_what_is_real", "has snapshots []", change("guests", 0, snapshots=frozenset())),
    ("the_directory_is_what_is_real", "stray cn=x", replace(good(), strays=("cn=x",))),
    ("what_is_wanted_is_so", "is wanted stopped and running", change("entries", 0, desired="stopped")),
    ("what_is_wanted_is_so", "is wanted absent", change("entries", 0, desired="absent")),
    ("what_is_wanted_is_so", "is wanted with 96 MiB", change("entries", 0, memory=96)),
    ("the_read_model_is_the_directory", "recorded and not shown", replace(good(), shown=())),
    ("the_read_model_is_the_directory", "shown and not recorded", replace(good(), entries=())),
    ("the_read_model_is_the_directory", "observed is shown as 'stopped'", change("shown", 0, observed="stopped")),
    ("the_read_model_is_the_directory", "accepted is None", replace(good(), accepted=())),
    ("the_read_model_is_the_directory", "writing=True", change("accepted", 0, writing=True)),
    ("the_read_model_is_the_directory", "is accepted and not recorded", more("accepted", Accepted(OLD, 1, "stopped"))),
    ("journals_know_their_guests", "is not present in its journal", replace(good(), known=())),
    ("journals_know_their_guests", "and is not there", change("known", 1, presence="present")),
    ("journals_know_their_guests", "2 times on n1", more("known", Known("n1", OLD, BURIED, "present", "10.0.0.2/16"))),
    ("nothing_is_left_over", "node.n1 has 2 items", replace(good(), lists={"node.n1": 2})),
    ("nothing_is_left_over", "unacked.monitor has 1", replace(good(), lists={"unacked.monitor": 1})),
    ("nothing_is_left_over", "node n2 keeps 4 reports", replace(good(), outbox={"n2": 4})),
    ("nothing_is_left_over", "a budget of", replace(good(), budgets=frozenset({OLD}))),
    ("nothing_is_left_over", "counted as missing", replace(good(), misses=frozenset({WEB}))),
    ("nothing_is_left_over", "process 7", replace(good(), left=("process 7",))),
    ("one_server_leads", "none", replace(good(), leaders=())),
    ("one_server_leads", "a, b", replace(good(), leaders=("a", "b"))),
]


@pytest.mark.parametrize(("rule", "words", "facts"), CASES, ids=[f"{rule}: {words}" for rule, words, _ in CASES])
def test_a_violation_is_found(rule: str, words: str, facts: Facts) -> None:
    found = [each for each in rules.violations(facts) if each.startswith(f"{rule}: ")]
    assert any(words in each for each in found), rules.violations(facts)


def test_every_rule_has_a_case() -> None:
    assert {rule.__name__ for rule in rules.RULES} == {rule for rule, _, _ in CASES}


def test_what_a_rule_reports_excuses_a_difference() -> None:
    crashed = replace(change("entries", 0, observed="crashed"), findings={WEB: "tried 5 times"})
    assert not [each for each in rules.violations(crashed) if each.startswith("what_is_wanted_is_so")]
