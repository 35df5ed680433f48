"""Terms of a job, and whether it may begin."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmcloud.domain.admission import Admission, Applicant, Link, admit, cycle, retry_pause
from vmcloud.domain.arrays import JobRef
from vmcloud.domain.errors import Invalid
from vmcloud.domain.terms import Depend, Dependency, Hold, Terms, depend_text, parse_depend
from vmcloud.domain.vocabulary import JobState, Outcome

pytestmark = pytest.mark.unit
NOW = 1_800_000_000.0
ENDS = [None, *Outcome]


def test_terms_are_read_and_written() -> None:
    said = {"priority": -5, "hold": True, "depend": "afterok:3:4,on:2,beforeany:9", "retries": 2, "walltime": 60}
    terms = Terms.parse({**said, "not_before": "2030-01-01T00:00:00+01:00"}, NOW)
    assert terms.not_before == 1893452400.0 and terms.walltime == 60.0 and terms.hold
    assert terms.depends == (
        Dependency(Depend.AFTER_OK, JobRef(3)),
        Dependency(Depend.AFTER_OK, JobRef(4)),
        Dependency(Depend.BEFORE_ANY, JobRef(9)),
    )
    assert depend_text(terms.depends, terms.awaits) == "afterok:3,afterok:4,beforeany:9,on:2"
    assert Terms.parse({}, NOW) == Terms()


@pytest.mark.parametrize(
    ("data", "where"),
    [
        ([], "job"),
        ({"priority": 1024}, "job.priority"),
        ({"priority": "high"}, "job.priority"),
        ({"priority": True}, "job.priority"),
        ({"not_before": "yesterday"}, "job.not_before"),
        ({"not_before": "2020-01-01"}, "job.not_before"),
        ({"not_before": "9999-01-01"}, "job.not_before"),
        ({"not_before": 7}, "job.not_before"),
        ({"hold": "u"}, "job.hold"),
        ({"depend": "afterok"}, "job.depend"),
        ({"depend": "afterok:"}, "job.depend"),
        ({"depend": "afterok:x"}, "job.depend"),
        ({"depend": "afterok:0"}, "job.depend"),
        ({"depend": "with:3"}, "job.depend"),
        ({"depend": "afterok:-1"}, "job.depend"),
        ({"depend": 3}, "job.depend"),
        ({"depend": "on:0"}, "job.depend"),
        ({"depend": "afterok:" + ":".join(map(str, range(1, 1003)))}, "job.depend"),
        ({"depend": "afterok:99999999999999999"}, "job.depend"),
        ({"walltime": 0}, "job.walltime"),
        ({"walltime": float("nan")}, "job.walltime"),
        ({"retries": 21}, "job.retries"),
        ({"color": "red"}, "job.color"),
    ],
)
def test_terms_that_cannot_be_are_refused_where_they_are(data: Any, where: str) -> None:
    with pytest.raises(Invalid) as caught:
        Terms.parse(data, NOW)
    assert caught.value.problem.where == where and caught.value.problem.what


def test_only_what_is_said_is_altered() -> None:
    terms = Terms.parse({"priority": 3, "depend": "afterok:3"}, NOW)
    assert terms.altered({"priority": 4}, NOW) == Terms(priority=4, depends=terms.depends)
    assert terms.altered({"depend": ""}, NOW) == Terms(priority=3)
    for wrong in ({}, {"hold": True}, {"queue": "x"}):
        with pytest.raises(Invalid):
            terms.altered(wrong, NOW)


@given(st.lists(st.sampled_from(list(Depend)), max_size=5), st.integers(0, 5))
def test_a_dependency_list_survives_its_text(types: list[Depend], awaits: int) -> None:
    found = tuple(
        dict.fromkeys(Dependency(each, JobRef(number + 1, whole=each.counts_parts)) for number, each in enumerate(types))
    )
    assert parse_depend(depend_text(found, awaits)) == (found, awaits)


def test_what_before_means_is_after_from_the_other_side() -> None:
    for each in Depend:
        if each.is_before:
            assert not each.turned.is_before and each.turned.value.removeprefix("after") == each.value.removeprefix("before")


@pytest.mark.parametrize("outcome", ENDS)
@pytest.mark.parametrize("began", [False, True])
@pytest.mark.parametrize("type", [Depend.AFTER, Depend.AFTER_OK, Depend.AFTER_NOT_OK, Depend.AFTER_ANY])
def test_each_dependency_in_each_state_of_the_other_job(type: Depend, began: bool, outcome: Outcome | None) -> None:
    verdict = admit(Applicant(links=(Link(type, 7, began, outcome),)), NOW).admission
    ok, bad = outcome is Outcome.OK, outcome not in (None, Outcome.OK)
    wanted = {
        Depend.AFTER: Admission.READY if began else Admission.NEVER if outcome else Admission.HELD,
        Depend.AFTER_OK: Admission.READY if ok else Admission.NEVER if bad else Admission.HELD,
        Depend.AFTER_NOT_OK: Admission.READY if bad else Admission.NEVER if ok else Admission.HELD,
        Depend.AFTER_ANY: Admission.READY if outcome else Admission.HELD,
    }
    assert verdict is wanted[type]


def test_a_job_that_is_known_no_more_dooms_all_who_cared_how_it_ended() -> None:
    for type, wanted in ((Depend.AFTER_OK, Admission.NEVER), (Depend.AFTER_ANY, Admission.READY)):
        assert admit(Applicant(links=(Link(type, 7, known=False),)), NOW).admission is wanted


def test_every_reason_names_who_or_what_is_waited_for() -> None:
    held = admit(Applicant(holds=frozenset({Hold.SYSTEM, Hold.USER})), NOW)
    assert (held.state, held.reason) == (JobState.HELD, "held by its user and the system")
    links = tuple(Link(Depend.AFTER_OK, number) for number in range(1, 8))
    assert admit(Applicant(links=links), NOW).reason.endswith("job 5 (afterok) and 2 more")
    doomed = admit(Applicant(links=(Link(Depend.AFTER_OK, 3, True, Outcome.FAILED),)), NOW)
    assert doomed.reason == "job 3, which it was to follow (afterok), ended failed"
    later = admit(Applicant(not_before=NOW + 1), NOW)
    assert (later.state, admit(Applicant(not_before=NOW), NOW).admission) == (JobState.WAITING, Admission.READY)


def test_a_count_waits_for_as_many_and_not_for_those_that_failed_it() -> None:
    def after(*outcomes: Outcome | None) -> Admission:
        links = tuple(Link(Depend.AFTER_OK, n, outcome=each, counted=True) for n, each in enumerate(outcomes, 1))
        return admit(Applicant(links=links, awaits=2), NOW).admission

    assert after(Outcome.OK, None) is Admission.HELD
    assert after(Outcome.OK, Outcome.FAILED, None) is Admission.HELD
    assert after(Outcome.OK, Outcome.FAILED, Outcome.OK) is Admission.READY


@given(st.dictionaries(st.integers(0, 8), st.sets(st.integers(0, 8), max_size=4), max_size=9))
def test_a_cycle_is_found_exactly_where_there_is_one(graph: dict[int, set[int]]) -> None:
    def reachable(start: int) -> set[int]:
        found, todo = set[int](), [start]
        while todo:
            for each in graph.get(todo.pop(), ()):
                if each not in found:
                    found.add(each)
                    todo.append(each)
        return found

    for start in range(9):
        way = cycle(start, graph)
        assert bool(way) is (start in reachable(start))
        assert all(after in graph[before] for before, after in pairwise(way))


def test_retries_come_slower_and_slower() -> None:
    assert [retry_pause(tries) for tries in (1, 2, 3, 20)] == [5.0, 10.0, 20.0, 300.0]
